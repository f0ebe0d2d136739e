package simulation

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/fleetlog/fleetlog/internal/deviceclient"
)

// inboxSize has room for all that can wait for a device at once.
const inboxSize = 256

// Topics of IoT Hub (FEATURES.md 3.2).
const (
	twinAnswers   = "$iothub/twin/res/"
	twinDesired   = "$iothub/twin/PATCH/properties/desired/"
	twinReported  = "$iothub/twin/PATCH/properties/reported/?$rid=report"
	twinGet       = "$iothub/twin/GET/?$rid=" + twinRequest
	twinRequest   = "twin"
	methodCalls   = "$iothub/methods/POST/"
	methodAnswers = "$iothub/methods/res/"
)

// device is one simulated device on this node.
type device struct {
	client   deviceclient.Device
	imitates *imitation
	every    time.Duration
	now      func() time.Time
	metrics  *metrics
	logger   *slog.Logger

	warned bool // that it cannot connect, since it last could
}

// run lives until ctx ends.
func (d *device) run(ctx context.Context) { deviceclient.Keep(ctx, d.connect) }

// connect is one connection from its start to its end; it reports whether it came
// about.
func (d *device) connect(ctx context.Context) bool {
	ctx, end := context.WithCancelCause(ctx)
	inbox := make(chan paho.Message, inboxSize)
	options := d.client.Options(d.now(), func(err error) { end(fmt.Errorf("connection lost: %w", err)) })
	options.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) {
		select {
		case inbox <- m:
		case <-ctx.Done():
		}
	})
	s := &session{device: d, mqtt: paho.NewClient(options), inbox: inbox}
	defer s.mqtt.Disconnect(deviceclient.QuiesceMS) // also after a failed Connect: it ends what paho has started
	defer end(nil)
	if err := s.open(ctx); err != nil {
		if ctx.Err() == nil && !d.warned {
			d.warned = true
			d.logger.Warn("simulated device cannot connect, trying again", "error", err)
		}
		return false
	}
	d.warned = false
	d.metrics.connected.Inc()
	defer d.metrics.connected.Dec()
	s.serve(ctx)
	return true
}

// session is a connection that has come about.
type session struct {
	*device

	mqtt  paho.Client
	inbox <-chan paho.Message
	// behind: the platform did not take a report or did not give the twin; it is
	// asked for again.
	behind bool
	sent   []paho.Token // the newest telemetry
}

// open connects, listens to all there is for a device, and asks for its twin.
func (s *session) open(ctx context.Context) error {
	if err := await(ctx, s.mqtt.Connect()); err != nil {
		return err
	}
	filters := map[string]byte{
		twinAnswers + "#": 0, twinDesired + "#": 0, methodCalls + "#": 0,
		"devices/" + s.client.ID + "/messages/devicebound/#": 1,
	}
	if err := await(ctx, s.mqtt.SubscribeMultiple(filters, nil)); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	s.publish(twinGet, nil)
	return nil
}

func await(ctx context.Context, token paho.Token) error {
	select {
	case <-token.Done():
		return token.Error()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// serve is the device's life while it is connected.
func (s *session) serve(ctx context.Context) {
	tick := time.NewTicker(s.every)
	defer tick.Stop()
	s.measure()
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-s.inbox:
			if err := s.take(m.Topic(), m.Payload()); err != nil {
				s.logger.Warn("simulated device does not understand what it got", "topic", m.Topic(), "error", err)
			}
		case <-tick.C:
			s.measure()
			if s.behind {
				s.behind = false
				s.publish(twinGet, nil)
			}
		}
	}
}

// measure sends telemetry, unless what was sent last is not acknowledged yet: the
// platform sets the pace.
func (s *session) measure() {
	for _, token := range s.sent {
		select {
		case <-token.Done():
		default:
			return
		}
	}
	s.sent = s.sent[:0]
	messages, err := s.imitates.measure(s.now())
	if err != nil {
		s.logger.Warn("simulated device has nothing to say", "error", err)
		return
	}
	for _, m := range messages {
		s.sent = append(s.sent, s.mqtt.Publish(deviceclient.TelemetryTopic(s.client.ID, m.component), 1, false, m.body))
		s.metrics.messages.Inc()
	}
}

// take acts on a message of the platform. Cloud-to-device messages, durable commands
// among them, are taken and that is all.
func (s *session) take(topic string, payload []byte) error {
	path, query, _ := strings.Cut(topic, "?")
	path = strings.TrimSuffix(path, "/")
	if status, ok := strings.CutPrefix(path, twinAnswers); ok {
		return s.takeTwin(status, query, payload)
	}
	if strings.HasPrefix(topic, twinDesired) {
		patch, err := s.imitates.acknowledge(payload)
		s.report(patch)
		return err
	}
	if method, ok := strings.CutPrefix(path, methodCalls); ok {
		status, body, err := s.imitates.answer(s.now(), method)
		if err != nil {
			return err
		}
		s.publish(methodAnswers+strconv.Itoa(status)+"/?"+query, body) // the request id goes back as it came
	}
	return nil
}

// takeTwin acts on the answer to a twin operation.
func (s *session) takeTwin(status, query string, payload []byte) error {
	code, err := strconv.Atoi(status)
	if err != nil {
		return fmt.Errorf("status of the answer: %w", err)
	}
	about, err := url.ParseQuery(query)
	switch {
	case err != nil:
		return fmt.Errorf("topic of the answer: %w", err)
	case code == http.StatusTooManyRequests || code >= http.StatusInternalServerError:
		s.behind = true
	case code >= http.StatusBadRequest:
		return fmt.Errorf("refused with %d: %s", code, payload)
	case about.Get("$rid") == twinRequest:
		patch, err := s.imitates.introduce(s.now(), payload)
		s.report(patch)
		return err
	}
	return nil
}

func (s *session) report(patch []byte) {
	if patch != nil {
		s.publish(twinReported, patch)
	}
}

// publish sends with QoS 0: twin operations and methods have answers of their own.
func (s *session) publish(topic string, payload []byte) { s.mqtt.Publish(topic, 0, false, payload) }
