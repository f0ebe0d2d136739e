package query

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
)

// maxCommandName bounds what is looked for.
const maxCommandName = 256

// ListCommands lists what the device was asked: commands, and messages that are
// commands to devices that may be offline (FEATURES.md PAY-44). What the fold refused
// was never asked.
func (s *commandService) ListCommands(ctx context.Context, req *apiv1.ListCommandsRequest) (*apiv1.DeviceCommandCollection, error) {
	state, _, err := s.get(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	tenant := state.GetTenant()
	p, err := planCommands(tenant, req)
	if err != nil {
		return nil, err
	}
	if _, err := s.history.at(ctx, tenant, req.GetDeviceId(), always); err != nil { // waits for the projection
		return nil, err
	}
	offsets, err := s.history.offsets(ctx, p)
	if err != nil {
		return nil, err
	}
	page := offsets[:min(p.size, len(offsets))]
	asked, err := s.history.steps(ctx, tenant, req.GetDeviceId(), page)
	if err != nil {
		return nil, err
	}
	var events []*eventsv1.DeviceEvent
	for _, offset := range page {
		if step := asked[offset]; step.Outcome.GetRejection() == nil {
			events = append(events, step.Event)
		}
	}
	answers, err := s.history.answers(ctx, tenant, req.GetDeviceId(), events)
	if err != nil {
		return nil, err
	}
	resp := &apiv1.DeviceCommandCollection{}
	for _, ev := range events {
		command, err := toCommand(ev, answers[ev.GetId()])
		if err != nil {
			return nil, toStatus(err)
		}
		resp.Value = append(resp.Value, command)
	}
	if len(offsets) > p.size {
		resp.NextLink, resp.NextPageToken = nextPage(ctx, encodeToken(eventsToken{Offset: page[len(page)-1]}))
	}
	return resp, nil
}

// planCommands asks for the offsets of a page of requests and one more.
func planCommands(tenant string, req *apiv1.ListCommandsRequest) (p plan, err error) {
	if err := checkComponent(req.GetComponent()); err != nil {
		return p, err
	}
	if len(req.GetCommandName()) > maxCommandName {
		return p, badField("commandName", "command name has %d bytes: at most %d", len(req.GetCommandName()), maxCommandName)
	}
	if p.size, err = pageSize(req.GetMaxpagesize(), defaultEventsPage, maxEventsPage); err != nil {
		return p, err
	}
	behind, err := decodeToken[eventsToken](req.GetPageToken())
	if err != nil {
		return p, err
	}
	method := req.GetCommandName()
	if req.GetComponent() != "" {
		method = req.GetComponent() + "*" + method
	}
	p.parameters = map[string]string{
		"tenant": tenant, "device": req.GetDeviceId(), "module": req.GetModule(), "method": escapeText.Replace(method), "limit": strconv.Itoa(p.size + 1),
	}
	p.sql = "SELECT offset FROM device_events WHERE tenant = {tenant:String} AND device = {device:String} AND module = {module:String} " +
		"AND kind IN ('command_requested', 'message_enqueued') AND subject = {method:String}"
	if req.GetPageToken() != "" {
		p.sql += " AND offset < {behind:Int64}"
		p.parameters["behind"] = strconv.FormatInt(behind.Offset, 10)
	}
	p.sql += " ORDER BY tenant DESC, device DESC, offset DESC LIMIT {limit:UInt32}"
	return p, nil
}

// answers are the first to each of the commands that came before its deadline, by
// the command's id.
func (h *deviceHistory) answers(ctx context.Context, tenant, id string, asked []*eventsv1.DeviceEvent) (map[string]*eventsv1.CommandAnswered, error) {
	commands := map[string]*eventsv1.CommandRequested{}
	var ids []string
	for _, ev := range asked {
		if c := ev.GetCommandRequested(); c != nil {
			commands[ev.GetId()] = c
			ids = append(ids, ev.GetId())
		}
	}
	answers := map[string]*eventsv1.CommandAnswered{}
	if len(ids) == 0 {
		return answers, nil
	}
	const sql = "SELECT event FROM device_events WHERE tenant = {tenant:String} AND device = {device:String} " +
		"AND kind = 'command_answered' AND subject IN {ids:Array(String)} ORDER BY tenant, device, offset"
	err := ask(ctx, h.db, sql, map[string]string{"tenant": tenant, "device": id, "ids": textsParameter(ids)}, func(rows driver.Rows) error {
		var encoded string
		if err := rows.Scan(&encoded); err != nil {
			return err
		}
		ev := new(eventsv1.DeviceEvent)
		if err := proto.Unmarshal([]byte(encoded), ev); err != nil {
			return fmt.Errorf("answer of device %s: %w", id, err)
		}
		a := ev.GetCommandAnswered()
		late := ev.GetTime().AsTime().After(commands[a.GetCommand()].GetDeadline().AsTime())
		if answers[a.GetCommand()] == nil && !late {
			answers[a.GetCommand()] = a
		}
		return nil
	})
	return answers, err
}

// toCommand is a request with its answer; nil: none.
func toCommand(ev *eventsv1.DeviceEvent, answer *eventsv1.CommandAnswered) (*apiv1.DeviceCommand, error) {
	out := &apiv1.DeviceCommand{Id: ev.GetId()}
	var err error
	if c := ev.GetCommandRequested(); c != nil {
		out.Request, err = commandPayload(c.GetPayload())
	} else if body := ev.GetMessageEnqueued().GetBody(); string(body) != noParameter {
		if out.Request, err = commandPayload(body); err != nil { // it is not JSON but text
			out.Request, err = structpb.NewStringValue(strings.ToValidUTF8(string(body), "\uFFFD")), nil
		}
	}
	if err == nil && answer != nil {
		out.ResponseCode = proto.Int32(answer.GetStatus())
		out.Response, err = commandPayload(answer.GetPayload())
	}
	if err != nil {
		return nil, fmt.Errorf("command %s: %w", ev.GetId(), err)
	}
	return out, nil
}

// noParameter is the body of a message that is a command without a request.
const noParameter = "@"

// commandPayload reads JSON; nothing is nil.
func commandPayload(payload []byte) (*structpb.Value, error) {
	if len(payload) == 0 {
		return nil, nil //nolint:nilnil // no payload is no error
	}
	v := new(structpb.Value)
	return v, protojson.Unmarshal(payload, v)
}
