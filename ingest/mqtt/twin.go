package mqtt

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// maxBusy bounds the twin operations and changes of subscriptions of one
// connection that wait for the log.
const maxBusy = 10

// Error codes of IoT Hub in the bodies of refused operations; SDKs look for them.
const (
	codeArgumentInvalid = 400004
	codeThrottled       = 429001
	codeServerError     = 500001
)

// getTwin answers with both sections (FEATURES.md MQTT-12).
func (c *connection) getTwin(rid string) {
	twin := device.IdentityOf(c.gateway.registry.Get(c.tenant, c.device), c.module).GetTwin()
	body := append([]byte(`{"desired":`), versioned(twin.GetDesired(), twin.GetDesiredVersion())...)
	body = append(append(body, `,"reported":`...), versioned(twin.GetReported(), twin.GetReportedVersion())...)
	body = append(body, '}')
	s := &c.session
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.out.room(len(body)) {
		c.respond(rid, http.StatusTooManyRequests, 0, refusalBody(codeThrottled, "read the answers before asking again"))
		return
	}
	c.respond(rid, http.StatusOK, 0, body)
	// A device that does not listen for changes knows what it has read.
	if d := s.down; d != nil && d.granted[twinDesired] == 0 {
		d.desired, d.desiredVersion, d.desiredKnown = twin.GetDesired(), twin.GetDesiredVersion(), true
	}
}

// patchReported merges into the reported section; the answer comes when the fold
// has decided (FEATURES.md MQTT-13).
func (c *connection) patchReported(ctx context.Context, rid string, patch []byte, packetID uint16) {
	s := &c.session
	s.mu.Lock()
	busy := s.busy >= maxBusy
	if busy {
		c.respond(rid, http.StatusTooManyRequests, 0, refusalBody(codeThrottled, "wait for the answers to earlier changes"))
	} else {
		s.busy++
	}
	s.mu.Unlock()
	if busy {
		if packetID != 0 {
			c.acknowledge(packetID)
		}
		return
	}
	ev := c.event()
	ev.Change = &eventsv1.DeviceEvent_PropertiesReported{PropertiesReported: &eventsv1.PropertiesReported{Patch: bytes.Clone(patch)}}
	c.gateway.registry.Submit(ctx, ev, func(state *eventsv1.DeviceState, err error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.busy--
		if s.over {
			return
		}
		if packetID != 0 {
			c.acknowledge(packetID)
		}
		c.respondPatch(rid, state, err)
	})
}

func (c *connection) respondPatch(rid string, state *eventsv1.DeviceState, err error) {
	var refused *registry.RejectedError
	switch {
	case err == nil:
		c.respond(rid, http.StatusNoContent, device.IdentityOf(state, c.module).GetTwin().GetReportedVersion(), nil)
	case errors.As(err, &refused):
		c.respond(rid, http.StatusBadRequest, 0, refusalBody(codeArgumentInvalid, refused.Message))
	default:
		c.gateway.warn("reported properties are not on the log", "device", c.device, "error", err)
		c.respond(rid, http.StatusInternalServerError, 0, refusalBody(codeServerError, "the change is not decided: read the twin to see what became of it"))
	}
}

// respond sends the answer to a twin operation to a device that listens for it;
// the session's lock is held.
func (c *connection) respond(rid string, status int, version uint64, body []byte) {
	if d := c.session.down; d == nil || d.granted[twinResponses] == 0 {
		return
	}
	topic := "$iothub/twin/res/" + strconv.Itoa(status) + "/?$rid=" + rid
	if version > 0 {
		topic += "&$version=" + strconv.FormatUint(version, 10)
	}
	if !c.out.send(c.encodePublish(nil, topic, 0, 0, nil, body)...) {
		c.drop(endSlowReader)
	}
}

// refusalBody is why an operation failed, in the form SDKs read.
func refusalBody(code int, message string) []byte {
	body, err := json.Marshal(struct {
		ErrorCode    int    `json:"errorCode"`
		Message      string `json:"message"`
		TimestampUTC string `json:"timestampUtc"`
	}{code, message, now().UTC().Format(time.RFC3339)})
	if err != nil {
		return nil
	}
	return body
}

// deliverDesired sends what has changed of the desired section since the device
// was last given it, or the whole section when it is not known what it has
// (FEATURES.md MQTT-14). False: it has to wait.
func (c *connection) deliverDesired(d *downlink, i *eventsv1.Identity) bool {
	twin := i.GetTwin()
	version := twin.GetDesiredVersion()
	if d.granted[twinDesired] == 0 || d.desiredKnown && d.desiredVersion == version {
		return true
	}
	patch := twin.GetDesired()
	switch {
	case d.desiredKnown:
		if diff, err := device.DiffPatch(d.desired, twin.GetDesired()); err == nil {
			patch = diff
		}
	case i.GetConnection().GetDesiredDelivered() >= version: // an earlier connection gave it
		d.desired, d.desiredVersion, d.desiredKnown = twin.GetDesired(), version, true
		return true
	}
	packet := c.encodePublish(nil, "$iothub/twin/PATCH/properties/desired/?$version="+strconv.FormatUint(version, 10), 0, 0, nil, versioned(patch, version))
	if !c.out.room(len(packet)) {
		return false
	}
	c.out.send(packet...)
	c.gateway.metrics.delivered.WithLabelValues("desired").Inc()
	d.desired, d.desiredVersion, d.desiredKnown = twin.GetDesired(), version, true
	return true
}

// versioned is a section, an object or empty, with its version.
func versioned(section []byte, version uint64) []byte {
	section = bytes.TrimSuffix(section, []byte{'}'})
	out := make([]byte, 0, len(section)+36)
	out = append(out, section...)
	switch len(section) {
	case 0:
		out = append(out, '{')
	case 1:
	default:
		out = append(out, ',')
	}
	out = append(out, `"$version":`...)
	return append(strconv.AppendUint(out, version, 10), '}')
}
