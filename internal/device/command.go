package device

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

const (
	// MaxCommandPayload bounds what a command carries, either way (FEATURES.md HUB-04).
	MaxCommandPayload = 128 << 10
	// maxMethodBytes has room for `component*command`, names of DTDL v2.
	maxMethodBytes = 160
	// maxPending bounds the commands, and the messages, that wait for one identity
	// (FEATURES.md HUB-05).
	maxPending = 50
	// maxPendingBytes bounds what they hold together: every snapshot of the state
	// carries them.
	maxPendingBytes = 256 << 10
)

func validateRequest(c *eventsv1.CommandRequested) error {
	if c.GetMethod() == "" || len(c.GetMethod()) > maxMethodBytes || strings.ContainsFunc(c.GetMethod(), forbiddenInMethod) {
		return fmt.Errorf("command name %q is not valid: use 1 to %d printable characters without '/', '?', '#', '+' or spaces", clip(c.GetMethod()), maxMethodBytes)
	}
	if c.GetDeadline() == nil || c.GetConnectBy() == nil {
		return fmt.Errorf("command has no deadline")
	}
	return validateCommandPayload(c.GetPayload())
}

func forbiddenInMethod(r rune) bool {
	return r <= ' ' || r == 0x7f || strings.ContainsRune("/?#+", r) || r == '\uFFFD'
}

func validateCommandPayload(payload []byte) error {
	if len(payload) > MaxCommandPayload {
		return fmt.Errorf("command payload has %d bytes: send at most %d", len(payload), MaxCommandPayload)
	}
	if len(payload) > 0 && !json.Valid(payload) {
		return fmt.Errorf("command payload is not JSON")
	}
	if deeper(payload, maxPayloadDepth) {
		return fmt.Errorf("command payload is nested deeper than %d", maxPayloadDepth)
	}
	return nil
}

// maxPayloadDepth is far below what readers of JSON give up at.
const maxPayloadDepth = 64

// deeper reports whether valid JSON is nested deeper than that.
func deeper(text []byte, most int) bool {
	depth, quoted := 0, false
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			if depth++; depth > most {
				return true
			}
		case c == '}', c == ']':
			depth--
		}
	}
	return false
}

func request(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, c *eventsv1.CommandRequested) *eventsv1.Rejection {
	if len(i.GetCommands()) >= maxPending || pendingBytes(i)+len(c.GetPayload()) > maxPendingBytes {
		return full(ev.GetDevice(), "commands")
	}
	i.Commands = append(slices.Clone(i.GetCommands()), &eventsv1.Command{
		Id: ev.GetId(), Method: c.GetMethod(), Payload: c.GetPayload(), ConnectBy: c.GetConnectBy(), Deadline: c.GetDeadline(),
	})
	return nil
}

func full(id, what string) *eventsv1.Rejection {
	return rejection(eventsv1.RejectionReason_REJECTION_REASON_LIMIT, "device %q has no room for more %s: at most %d of each and %d KiB together wait for it", id, what, maxPending, maxPendingBytes>>10)
}

func pendingBytes(i *eventsv1.Identity) int {
	n := 0
	for _, c := range i.GetCommands() {
		n += len(c.GetPayload())
	}
	for _, m := range i.GetMessages() {
		n += messageBytes(m.GetMessage())
	}
	return n
}

func answer(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, a *eventsv1.CommandAnswered, outcome *eventsv1.Outcome) *eventsv1.Rejection {
	at := ev.GetTime().AsTime()
	known := slices.ContainsFunc(i.GetCommands(), func(c *eventsv1.Command) bool { return c.GetId() == a.GetCommand() && !commandOver(c, at) })
	if !known {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_STALE, "no command of device %q waits for this answer any more", ev.GetDevice())
	}
	endCommand(i, a.GetCommand())
	outcome.Results = append(outcome.Results, &eventsv1.CommandResult{Command: a.GetCommand(), Answer: a, At: ev.GetTime()})
	return nil
}

func giveUp(i *eventsv1.Identity, ev *eventsv1.DeviceEvent, e *eventsv1.CommandExpired, outcome *eventsv1.Outcome) *eventsv1.Rejection {
	if !slices.ContainsFunc(i.GetCommands(), func(c *eventsv1.Command) bool { return c.GetId() == e.GetCommand() }) {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_STALE, "the command of device %q has ended already", ev.GetDevice())
	}
	endCommand(i, e.GetCommand())
	outcome.Results = append(outcome.Results, &eventsv1.CommandResult{Command: e.GetCommand(), At: ev.GetTime()})
	return nil
}

func endCommand(i *eventsv1.Identity, id string) {
	i.Commands = without(i.GetCommands(), func(c *eventsv1.Command) bool { return c.GetId() == id })
}

// commandOver reports whether nobody waits for the command's answer any more.
func commandOver(c *eventsv1.Command, at time.Time) bool { return at.After(c.GetDeadline().AsTime()) }

// CommandDue reports whether a command may still be given to the device: it
// connected in time, and an answer still counts.
func CommandDue(c *eventsv1.Command, connected, at time.Time) bool {
	return !connected.After(c.GetConnectBy().AsTime()) && !commandOver(c, at)
}
