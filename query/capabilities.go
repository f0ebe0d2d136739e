package query

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fleetlog/fleetlog/internal/dtdl"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// capabilities is what the device's template says of the device, of a component, of
// a module or of a module's component. It is nil when no template speaks of it: the
// device has none, or the template does not have the module. Such a device takes
// everything (FEATURES.md DEV-06).
func (s *identities) capabilities(state *eventsv1.DeviceState, module, component string) (*dtdl.Interface, error) {
	t := s.templates.Get(state.GetTenant(), state.GetTemplate())
	if t == nil {
		return nil, nil //nolint:nilnil // no template is no error
	}
	root := t.Interface("")
	if module != "" {
		root = t.Module(module, "")
	}
	if root == nil || component == "" {
		return root, nil
	}
	if c := root.Find(dtdl.Component, component); c != nil {
		return c.Interface, nil
	}
	return nil, notFound("template %q has no component %q%s", t.ID, component, those(root, dtdl.Component))
}

// named are the names of an interface's contents of that kind, in order.
func named(i *dtdl.Interface, kind dtdl.Kind) []string {
	var names []string
	for _, c := range i.All {
		if c.Kind == kind {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names
}

// those says which names there are instead, for the end of a refusal.
func those(i *dtdl.Interface, kind dtdl.Kind) string {
	const most = 20
	names := named(i, kind)
	switch {
	case len(names) == 0:
		return ": it has none"
	case len(names) > most:
		return fmt.Sprintf(": it has %s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return ": it has " + strings.Join(names, ", ")
}
