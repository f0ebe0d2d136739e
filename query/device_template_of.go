package query

import (
	"context"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
)

// initial is what a device gets with a template: the template must be published
// (FEATURES.md VER-02). Without one there is nothing.
func (s *deviceService) initial(ctx context.Context, id string) ([]byte, error) {
	if id == "" {
		return nil, nil
	}
	if err := device.ValidateModelID(id); err != nil {
		return nil, badField("template", "%s", err)
	}
	p, err := access.FromContext(ctx)
	if err == nil {
		err = s.templates.Ready()
	}
	if err != nil {
		return nil, toStatus(err)
	}
	t := s.templates.Get(p.Tenant, id)
	if t == nil {
		return nil, badField("template", "there is no published device template %q: publish it with PUT /api/deviceTemplates/%s, or leave template out", id, id)
	}
	return t.Initial(), nil
}
