package query

import (
	"context"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/template"
)

// initialOf is what a device gets with a template: the template must be published
// (FEATURES.md VER-02). Without one there is nothing.
func initialOf(templates *template.Templates, tenant, id string) ([]byte, error) {
	if id == "" {
		return nil, nil
	}
	if err := device.ValidateTemplateID(id); err != nil {
		return nil, badField("template", "%s", err)
	}
	if err := templates.Ready(); err != nil {
		return nil, toStatus(err)
	}
	t := templates.Get(tenant, id)
	if t == nil {
		return nil, badField("template", "there is no published device template %q: publish it with PUT /api/deviceTemplates/%s, or leave template out", id, id)
	}
	return t.Initial(), nil
}

func (s *deviceService) initial(ctx context.Context, id string) ([]byte, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	return initialOf(s.templates, p.Tenant, id)
}
