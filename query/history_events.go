package query

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/fleetlog/fleetlog/query/history"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	defaultEventsPage = 50
	maxEventsPage     = 100
	// maxEventsBytes closes a page of large events.
	maxEventsBytes = 2 << 20
	maxKinds       = 50
)

// historyService tells what happened to devices.
type historyService struct {
	apiv1.UnimplementedDeviceHistoryServiceServer
	*deviceHistory
}

// eventsToken is where a page begins: behind this event.
type eventsToken struct {
	Offset int64 `json:"o"`
}

func (s *historyService) ListDeviceEvents(ctx context.Context, req *apiv1.ListDeviceEventsRequest) (*apiv1.ListDeviceEventsResponse, error) {
	tenant, err := s.caller(ctx, req.GetDeviceId())
	if err != nil {
		return nil, err
	}
	p, to, err := planEvents(tenant, req)
	if err != nil {
		return nil, err
	}
	newest, err := s.at(ctx, tenant, req.GetDeviceId(), to) // waits for the projection
	if err != nil {
		return nil, err
	}
	offsets, err := s.offsets(ctx, p)
	if err != nil {
		return nil, err
	}
	if len(offsets) == 0 && newest == nil && req.GetPageToken() == "" {
		return nil, s.neverExisted(ctx, tenant, req.GetDeviceId())
	}
	more := len(offsets) > p.size
	offsets = offsets[:min(p.size, len(offsets))]
	steps, err := s.steps(ctx, tenant, req.GetDeviceId(), offsets)
	if err != nil {
		return nil, err
	}
	resp, bytes := &apiv1.ListDeviceEventsResponse{}, 0
	for i, offset := range offsets {
		if !stepInScope(ctx, steps[offset]) {
			continue
		}
		event, err := toEvent(steps[offset])
		if err != nil {
			return nil, toStatus(err)
		}
		resp.Value = append(resp.Value, event)
		if bytes += proto.Size(event); bytes > maxEventsBytes && i+1 < len(offsets) {
			more = true
			offsets = offsets[:i+1]
			break
		}
	}
	if more {
		resp.NextLink, resp.NextPageToken = nextPage(ctx, encodeToken(eventsToken{Offset: offsets[len(offsets)-1]}))
	} else if len(resp.GetValue()) == 0 && req.GetPageToken() == "" && !access.ScopeOf(ctx).Everywhere() {
		return nil, notFound("device %q has never existed", req.GetDeviceId())
	}
	return resp, nil
}

// stepInScope reports whether an event is of a time when the device was in the caller's
// scope: before it or after it.
func stepInScope(ctx context.Context, step history.Step) bool {
	for _, state := range []*eventsv1.DeviceState{step.Before, step.After} {
		if device.Exists(state) && inScope(ctx, state) != nil {
			return true
		}
	}
	return access.ScopeOf(ctx).Everywhere()
}

// neverExisted is the answer about a device without a past, nil about one that has
// one.
func (h *deviceHistory) neverExisted(ctx context.Context, tenant, id string) error {
	p, err := h.position(ctx, tenant, id, always)
	if err != nil || p.newest >= 0 {
		return err
	}
	return notFound("device %q has never existed", id)
}

// planEvents asks for the offsets of a page of events and one more.
func planEvents(tenant string, req *apiv1.ListDeviceEventsRequest) (p plan, to time.Time, err error) {
	p.size, err = pageSize(req.GetMaxpagesize(), defaultEventsPage, maxEventsPage)
	if err != nil {
		return p, to, err
	}
	after, err := decodeToken[eventsToken](req.GetPageToken())
	if err != nil {
		return p, to, err
	}
	from, to := time.UnixMilli(minMillis), always
	if req.GetFrom() != nil {
		if from, err = timeOf("from", req.GetFrom()); err != nil {
			return p, to, err
		}
	}
	if req.GetTo() != nil {
		if to, err = timeOf("to", req.GetTo()); err != nil {
			return p, to, err
		}
	}
	if req.GetTo() != nil && !from.Before(to) {
		return p, to, badField("from", "from is not before to")
	}
	p.parameters = map[string]string{
		"tenant": tenant, "device": req.GetDeviceId(), "limit": strconv.Itoa(p.size + 1), "from": micros(from), "to": micros(to),
	}
	p.sql = "SELECT offset FROM device_events WHERE tenant = {tenant:String} AND device = {device:String} " +
		"AND at >= fromUnixTimestamp64Micro({from:Int64}, 'UTC') AND at < fromUnixTimestamp64Micro({to:Int64}, 'UTC')"
	if kinds := req.GetKinds(); len(kinds) > 0 {
		if err := checkKinds(kinds); err != nil {
			return p, to, err
		}
		p.sql += " AND kind IN {kinds:Array(String)}"
		p.parameters["kinds"] = textsParameter(kinds)
	}
	compare, order := "<", "DESC"
	if req.GetOldestFirst() {
		compare, order = ">", "ASC"
	}
	if req.GetPageToken() != "" {
		p.sql += " AND offset " + compare + " {behind:Int64}"
		p.parameters["behind"] = strconv.FormatInt(after.Offset, 10)
	}
	p.sql += " ORDER BY tenant " + order + ", device " + order + ", offset " + order + " LIMIT {limit:UInt32}"
	return p, to, nil
}

func checkKinds(kinds []string) error {
	if len(kinds) > maxKinds {
		return badField("kinds", "kinds has %d entries: ask for at most %d", len(kinds), maxKinds)
	}
	changes := new(eventsv1.DeviceEvent).ProtoReflect().Descriptor().Oneofs().ByName("change").Fields()
	var known []string
	for i := range changes.Len() {
		known = append(known, string(changes.Get(i).Name()))
	}
	for _, kind := range kinds {
		if !slices.Contains(known, kind) {
			return badField("kinds", "kind %q is none of an event's: use some of %s", kind[:min(len(kind), 64)], strings.Join(known, ", "))
		}
	}
	return nil
}

// offsets are those that the plan's statement gives, each once.
func (h *deviceHistory) offsets(ctx context.Context, p plan) (offsets []int64, err error) {
	err = ask(ctx, h.db, p.sql, p.parameters, func(rows driver.Rows) error {
		var offset int64
		err := rows.Scan(&offset)
		offsets = append(offsets, offset)
		return err
	})
	return slices.Compact(offsets), err
}

// steps are the wanted events of the device, by their offsets, in any order.
func (h *deviceHistory) steps(ctx context.Context, tenant, id string, wanted []int64) (map[int64]history.Step, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	steps := make(map[int64]history.Step, len(wanted))
	for _, offset := range wanted {
		steps[offset] = history.Step{}
	}
	around, err := h.around(ctx, tenant, id, slices.Sorted(slices.Values(wanted)))
	if err != nil {
		return nil, err
	}
	_, err = h.fold(ctx, tenant, []run{around}, func(_ string, step history.Step) {
		if _, want := steps[step.Offset]; want {
			steps[step.Offset] = step
		}
	})
	return steps, err
}

func toEvent(step history.Step) (*apiv1.DeviceHistoryEvent, error) {
	ev := step.Event
	intent, err := structpb.NewStruct(history.Intent(ev))
	if err != nil {
		return nil, fmt.Errorf("intent of event %s: %w", ev.GetId(), err)
	}
	out := &apiv1.DeviceHistoryEvent{
		Id: ev.GetId(), Time: ev.GetTime(), Kind: history.Kind(ev), Module: ev.GetModule(),
		Principal: ev.GetActor().GetPrincipal(), RequestId: ev.GetActor().GetRequestId(), Intent: intent,
		Before: toMoment(step.Before), After: toMoment(step.After), Accepted: step.Outcome.GetRejection() == nil,
	}
	if r := step.Outcome.GetRejection(); r != nil {
		out.Rejection = &apiv1.DeviceEventRejection{Reason: strings.TrimPrefix(r.GetReason().String(), "REJECTION_REASON_"), Message: r.GetMessage()}
	}
	out.Changes, err = toChanges(history.Diff(step.Before, step.After))
	return out, err
}

func toMoment(s *eventsv1.DeviceState) *apiv1.DeviceMoment {
	return &apiv1.DeviceMoment{Exists: device.Exists(s), Version: s.GetVersion(), Revision: s.GetRevision()}
}

func toChanges(changes []history.Change) (out []*apiv1.DeviceChange, err error) {
	for _, c := range changes {
		change := &apiv1.DeviceChange{Path: c.Path, Secret: c.Secret}
		if c.Before != nil {
			if change.Before, err = structpb.NewValue(c.Before); err != nil {
				return nil, fmt.Errorf("change of %s: %w", c.Path, err)
			}
		}
		if c.After != nil {
			if change.After, err = structpb.NewValue(c.After); err != nil {
				return nil, fmt.Errorf("change of %s: %w", c.Path, err)
			}
		}
		out = append(out, change)
	}
	return out, nil
}

func (s *historyService) DiffDevice(ctx context.Context, req *apiv1.DiffDeviceRequest) (*apiv1.DeviceDiff, error) {
	tenant, err := s.caller(ctx, req.GetDeviceId())
	if err != nil {
		return nil, err
	}
	if req.GetFrom() == nil {
		return nil, badField("from", "from is missing: say from when on, ?from=2026-01-31T12:00:00Z")
	}
	var states [2]*eventsv1.DeviceState
	for i, t := range []*timestamppb.Timestamp{req.GetFrom(), req.GetTo()} {
		at := always
		if t != nil {
			if at, err = timeOf([]string{"from", "to"}[i], t); err != nil {
				return nil, err
			}
		}
		if states[i], err = s.at(ctx, tenant, req.GetDeviceId(), at); err != nil {
			return nil, err
		}
		states[i] = inScope(ctx, states[i])
	}
	if states[0] == nil && states[1] == nil {
		if !access.ScopeOf(ctx).Everywhere() {
			return nil, notFound("device %q has never existed", req.GetDeviceId())
		}
		if err := s.neverExisted(ctx, tenant, req.GetDeviceId()); err != nil {
			return nil, err
		}
	}
	changes, err := toChanges(history.Diff(states[0], states[1]))
	return &apiv1.DeviceDiff{From: toMoment(states[0]), To: toMoment(states[1]), Changes: changes}, toStatus(err)
}
