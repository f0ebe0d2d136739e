package query

import (
	"context"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	chconn "github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/registry"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/fleetlog/fleetlog/query/history"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// deviceHistory answers what devices were at a time: the fold of all their events
// up to the last one made then or before. It reads them from the projection, from
// the nearest checkpoint on, and waits for a projection that does not have yet what
// this node knows to have happened.
type deviceHistory struct {
	registry *registry.Registry
	db       *chconn.Conn
	// patience bounds the waiting.
	patience time.Duration
}

const (
	historyPatience = 5 * time.Second
	// historyPause is how long to wait before the projection is asked again.
	historyPause = 25 * time.Millisecond
	// maxSkew is how far apart the clocks of nodes may be: once an event is projected
	// that was made so much later than the asked time, no more of that time will come.
	maxSkew = time.Minute
)

// always is later than any event: what there is now.
var always = time.Date(2261, 12, 31, 0, 0, 0, 0, time.UTC)

// timeOf reads the time of a request's field; times that have not come yet are
// always.
func timeOf(field string, t *timestamppb.Timestamp) (time.Time, error) {
	if err := t.CheckValid(); err != nil {
		return time.Time{}, badField(field, "%s is not a time: %s", field, err)
	}
	if at := t.AsTime(); at.Before(time.Now()) {
		return at, nil
	}
	return always, nil
}

// caller is who asks, once there is something to answer from.
func (h *deviceHistory) caller(ctx context.Context, id string) (tenant string, err error) {
	p, err := access.FromContext(ctx)
	if err == nil {
		err = h.registry.Ready()
	}
	if err != nil {
		return "", toStatus(err)
	}
	if err := device.ValidateID(id); err != nil {
		return "", badField("deviceId", "%s", err)
	}
	return p.Tenant, nil
}

// get is the device as it was at the time, with the identity of it or of its
// module. It is an error of the caller's when it was not there.
func (h *deviceHistory) get(ctx context.Context, id, module string, at *timestamppb.Timestamp) (*eventsv1.DeviceState, error) {
	tenant, err := h.caller(ctx, id)
	if err != nil {
		return nil, err
	}
	when, err := timeOf("at", at)
	if err != nil {
		return nil, err
	}
	state, err := h.at(ctx, tenant, id, when)
	if err != nil {
		return nil, err
	}
	if state != nil && inScope(ctx, state) == nil {
		return nil, notFound("device %q has never existed", id)
	}
	said := at.AsTime().Format(time.RFC3339Nano)
	switch {
	case state.GetVersion() == 0:
		return nil, notFound("device %q did not exist yet at %s", id, said)
	case !device.Exists(state):
		return nil, notFound("device %q was deleted at %s", id, said)
	case device.IdentityOf(state, module) == nil:
		return nil, notFound("device %q had no module %q at %s", id, module, said)
	}
	return state, nil
}

// at is the device's state at the time; nil when it did not exist yet.
func (h *deviceHistory) at(ctx context.Context, tenant, id string, when time.Time) (state *eventsv1.DeviceState, err error) {
	known := h.registry.Revision(tenant, id)
	err = h.await(ctx, func() (complete bool, err error) {
		p, err := h.position(ctx, tenant, id, when)
		if err != nil {
			return false, err
		}
		states, revisions, err := h.states(ctx, tenant, []position{p}, when)
		if err != nil {
			return false, err
		}
		state = states[0]
		return p.settled(when) || revisions[0] >= known, nil
	})
	return state, err
}

// settled reports whether the projection surely has all events of the time.
func (p position) settled(at time.Time) bool { return p.newestAt.After(at.Add(maxSkew)) }

// states are the devices at their positions. Of those that are not settled it says
// too how far the projection has come with them: their newest revision.
func (h *deviceHistory) states(ctx context.Context, tenant string, positions []position, at time.Time) (states []*eventsv1.DeviceState, revisions []uint64, err error) {
	states, revisions = make([]*eventsv1.DeviceState, len(positions)), make([]uint64, len(positions))
	runs, err := h.nearest(ctx, tenant, positions, func(p position) bool { return !p.settled(at) })
	if err != nil {
		return nil, nil, err
	}
	index := make(map[string]int, len(positions))
	for i, r := range runs {
		states[i], index[r.device] = r.states[r.stretches[0].After], i
	}
	newest, err := h.fold(ctx, tenant, runs, func(device string, step history.Step) {
		if i := index[device]; step.Offset <= positions[i].upTo {
			states[i] = step.After
		}
	})
	if err != nil {
		return nil, nil, err
	}
	for i, state := range newest {
		revisions[i] = state.GetRevision()
	}
	return states, revisions, nil
}

// await tries again until what it got is complete.
func (h *deviceHistory) await(ctx context.Context, try func() (complete bool, err error)) error {
	began := time.Now()
	pause := time.NewTicker(historyPause)
	defer pause.Stop()
	for {
		complete, err := try()
		switch {
		case complete || err != nil:
			return err
		case time.Since(began) > h.patience:
			return status.Error(codes.Unavailable, "the projection of device events lags behind the log: try again in a moment, or ask for an earlier time; fleetlog_projection_lag_records says how far behind it is")
		}
		select {
		case <-pause.C:
		case <-ctx.Done():
			return toStatus(context.Cause(ctx))
		}
	}
}

func (s *deviceService) getAt(ctx context.Context, req *apiv1.GetDeviceRequest) (*apiv1.Device, error) {
	state, err := s.history.get(ctx, req.GetDeviceId(), "", req.GetAt())
	if err != nil {
		return nil, err
	}
	return answer(ctx, state), nil
}
