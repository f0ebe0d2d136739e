package mqtt

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/url"
	"slices"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// deliverCommands sends each command that is due once over this connection. The
// request id is the command's id, so that an answer finds its command whichever
// connection it comes by. False: something has to wait.
func (c *connection) deliverCommands(d *downlink, i *eventsv1.Identity) bool {
	maps.DeleteFunc(d.commands, func(id string, _ struct{}) bool {
		return !slices.ContainsFunc(i.GetCommands(), func(c *eventsv1.Command) bool { return c.GetId() == id })
	})
	if d.granted[methodCalls] == 0 {
		return true
	}
	connected := i.GetConnection().GetSince().AsTime()
	for _, command := range i.GetCommands() {
		if _, given := d.commands[command.GetId()]; given || !device.CommandDue(command, connected, now()) {
			continue
		}
		packet := c.encodeCommand(command)
		if !c.out.room(len(packet)) {
			return false
		}
		c.out.send(packet...)
		c.gateway.metrics.delivered.WithLabelValues("command").Inc()
		if d.commands == nil {
			d.commands = map[string]struct{}{}
		}
		d.commands[command.GetId()] = struct{}{}
	}
	return true
}

// encodeCommand makes a command a method call. SDKs parse the body even when
// there is none, so none is null.
func (c *connection) encodeCommand(command *eventsv1.Command) []byte {
	payload := command.GetPayload()
	if len(payload) == 0 {
		payload = []byte("null")
	}
	return c.encodePublish(nil, "$iothub/methods/POST/"+command.GetMethod()+"/?$rid="+url.PathEscape(command.GetId()), 0, 0, nil, payload)
}

// answerCommand puts the device's answer on the log. One that nobody waits for is
// no fault of the device's.
func (c *connection) answerCommand(ctx context.Context, op operation, payload []byte) {
	id, err := url.PathUnescape(op.rid)
	if err != nil { // parseOperation has seen to it
		return
	}
	ev := c.event()
	ev.Change = &eventsv1.DeviceEvent_CommandAnswered{CommandAnswered: &eventsv1.CommandAnswered{
		Command: id, Status: op.status, Payload: bytes.Clone(payload),
	}}
	c.gateway.registry.Submit(ctx, ev, func(_ *eventsv1.DeviceState, err error) {
		var refused *registry.RejectedError
		if err == nil || errors.As(err, &refused) && refused.Reason == eventsv1.RejectionReason_REJECTION_REASON_STALE {
			return
		}
		c.gateway.warn("a command's answer was not taken: whoever asked does not get it", "device", c.device, "command", clip(id), "error", err)
	})
}
