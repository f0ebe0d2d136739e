package query

import (
	"context"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// identities reads and changes what a device or a module of one has: the part
// that the services of twins, commands, messages and modules share.
type identities struct {
	registry  *registry.Registry
	templates *template.Templates
	directory *access.Directory
	history   *deviceHistory
	// timeout bounds how long a change waits for the fold's decision.
	timeout time.Duration
}

// get is the device and its identity; module "" is the device's own.
func (s *identities) get(ctx context.Context, id, module string) (*eventsv1.DeviceState, *eventsv1.Identity, error) {
	p, err := s.caller(ctx)
	if err != nil {
		return nil, nil, err
	}
	if err := device.ValidateID(id); err != nil {
		return nil, nil, badField("deviceId", "%s", err)
	}
	state := inScope(ctx, s.registry.Get(p.Tenant, id))
	if state == nil {
		return nil, nil, notFound("device %q does not exist", id)
	}
	identity := device.IdentityOf(state, module)
	if identity == nil {
		return nil, nil, notFound("device %q has no module %q", id, module)
	}
	return state, identity, nil
}

// caller is who asks, once there is something to answer from.
func (s *identities) caller(ctx context.Context) (access.Principal, error) {
	p, err := access.FromContext(ctx)
	if err == nil {
		err = s.registry.Ready()
	}
	return p, toStatus(err)
}

// change appends the event about a device or module that exists and gives the
// device as the fold left it.
func (s *identities) change(ctx context.Context, id, module string, ev *eventsv1.DeviceEvent) (*eventsv1.DeviceState, error) {
	p, err := s.caller(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.admitChange(ctx, p.Tenant, id, ev); err != nil {
		return nil, err
	}
	ev.Module = module
	sign(ctx, p, id, ev)
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	state, err := s.registry.Change(ctx, ev)
	if err != nil {
		return nil, changeFailure(err)
	}
	return state, nil
}
