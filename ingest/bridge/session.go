package bridge

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/eclipse/paho.mqtt.golang/packets"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/twmb/franz-go/pkg/kgo"
)

// quiesceMS is how long the client library may take to say goodbye.
const quiesceMS = 250

var (
	errNotAuthorized = errors.New("not authorized")
	errSubscription  = errors.New("the broker refused the subscription: let the bridge's user read the topic, and if it is a shared one ($share/…) make sure that the broker has those, or leave out `group`")
)

// session is one connection to the broker. Its state at the broker outlives it:
// what was not acknowledged comes again with the next one.
type session struct {
	*bridge
	// taking ends when no more messages may be taken; appending, later, when
	// the log has had its time.
	taking    context.Context
	appending context.Context
	fail      context.CancelCauseFunc // ends taking

	connected func() bool // the MQTT handshake is over; nil without a connection

	inflight chan *delivery // in the order of their arrival
	mu       sync.Mutex     // held while a message is taken
	closed   bool           // no message is taken any more
}

// delivery is one message between its arrival and its acknowledgement.
type delivery struct {
	message paho.Message
	dead    string
	done    chan error // the log's answer
}

// session connects, subscribes and takes messages until ctx ends or something
// fails.
func (b *bridge) session(ctx context.Context) error {
	taking, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	appending, giveUp := outlasting(ctx, eventlog.FlushTimeout)
	defer giveUp()
	s := &session{bridge: b, taking: taking, appending: appending, fail: fail, inflight: make(chan *delivery, b.cfg.Inflight)}
	options, err := s.options()
	if err != nil {
		return err
	}
	acknowledged := make(chan struct{})
	go func() {
		defer close(acknowledged)
		s.acknowledge()
	}()
	client := paho.NewClient(options)
	err = s.connect(client)
	if err == nil {
		b.metrics.connected.Set(1)
		b.logger.Info("bridge is connected", "group", b.cfg.Group)
		<-taking.Done()
		b.metrics.connected.Set(0)
		err = context.Cause(taking)
	}
	fail(err)
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	close(s.inflight)
	<-acknowledged
	client.Disconnect(quiesceMS) // also after a failed Connect: it ends what paho has started
	return err
}

// outlasting is a context that ends a time after ctx does.
func outlasting(ctx context.Context, by time.Duration) (context.Context, context.CancelFunc) {
	longer, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(by, cancel) })
	return longer, func() { stop(); cancel() }
}

// connect returns nil once the broker has granted every subscription.
func (s *session) connect(client paho.Client) error {
	token := client.Connect() // takes at most connectTimeout
	<-token.Done()
	if s.connected != nil {
		s.connected()
	}
	if err := token.Error(); err != nil {
		if errors.Is(err, packets.ErrorRefusedBadUsernameOrPassword) || errors.Is(err, packets.ErrorRefusedNotAuthorised) {
			err = errNotAuthorized
		}
		return s.explain(fmt.Errorf("connect: %w", err))
	}
	subscribed := client.SubscribeMultiple(s.cfg.filters(), nil)
	select {
	case <-subscribed.Done():
	case <-s.taking.Done():
		return context.Cause(s.taking)
	case <-time.After(connectTimeout):
		return errors.New("subscribe: the broker does not answer")
	}
	if err := subscribed.Error(); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	for filter, granted := range subscribed.(*paho.SubscribeToken).Result() {
		if granted > 2 {
			return fmt.Errorf("subscribe to %s: %w", filter, errSubscription)
		}
	}
	return nil
}

func (s *session) options() (*paho.ClientOptions, error) {
	password, err := s.cfg.password.read()
	if err != nil {
		return nil, err
	}
	var secure *tls.Config
	if s.cfg.Broker.Scheme == "mqtts" {
		if secure, err = s.cfg.tls.config(); err != nil {
			return nil, err
		}
	}
	o := paho.NewClientOptions()
	o.Servers = []*url.URL{s.cfg.Broker}
	o.SetProtocolVersion(4) // MQTT 3.1.1
	o.SetClientID(s.cfg.ClientID)
	o.SetUsername(s.cfg.Username)
	o.SetPassword(password)
	o.SetCustomOpenConnectionFn(func(*url.URL, paho.ClientOptions) (net.Conn, error) { return s.dial(secure) })
	o.SetConnectTimeout(connectTimeout)
	o.SetKeepAlive(keepAlive)
	o.SetPingTimeout(pingTimeout)
	o.SetCleanSession(false) // the broker keeps what is not acknowledged
	o.SetStore(noStore{})
	o.SetOrderMatters(true)
	o.SetAutoAckDisabled(true)
	o.SetDefaultPublishHandler(func(_ paho.Client, m paho.Message) { s.take(m) })
	// A connection that is lost is a new session, made here.
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { s.fail(fmt.Errorf("connection lost: %w", err)) })
	return o, nil
}

// dial opens the connection. The session's end during the handshakes closes it,
// and so does a broker that does not read what it is sent when all must end.
func (s *session) dial(secure *tls.Config) (net.Conn, error) {
	var conn net.Conn
	var err error
	dialer := &net.Dialer{Timeout: connectTimeout}
	if secure == nil {
		conn, err = dialer.DialContext(s.taking, "tcp", s.cfg.Broker.Host)
	} else {
		conn, err = (&tls.Dialer{NetDialer: dialer, Config: secure}).DialContext(s.taking, "tcp", s.cfg.Broker.Host)
	}
	if err != nil {
		return nil, err
	}
	s.connected = context.AfterFunc(s.taking, func() { _ = conn.Close() })
	context.AfterFunc(s.appending, func() { _ = conn.Close() })
	return newBoundedConn(conn), nil
}

// take hands one message to the log. It blocks while too many wait for the log:
// that is the back-pressure to the broker. A message that is not taken is not
// acknowledged, so it comes again.
func (s *session) take(m paho.Message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.taking.Err() != nil {
		return
	}
	s.metrics.received.Inc()
	v, err := s.decide(s.taking, &message{
		topic: m.Topic(), payload: m.Payload(), packetID: m.MessageID(), qos: m.Qos(),
		retained: m.Retained(), duplicate: m.Duplicate(), received: time.Now(),
	})
	if err != nil {
		s.fail(err)
		return
	}
	d := &delivery{message: m, dead: v.dead, done: make(chan error, 1)}
	select {
	case s.inflight <- d:
		s.metrics.inflight.Inc()
	case <-s.taking.Done():
		return
	}
	if v.record == nil {
		s.metrics.skipped.Inc()
		d.done <- nil
		return
	}
	s.log.Append(s.appending, v.record, func(_ *kgo.Record, err error) {
		s.count(d, err)
		d.done <- err
	})
}

// count notes the log's answer.
func (s *session) count(d *delivery, err error) {
	switch {
	case err != nil:
		s.metrics.appendErrors.Inc()
	case d.dead != "":
		s.metrics.deadLettered.WithLabelValues(d.dead).Inc()
	default:
		s.metrics.appended.Inc()
	}
}

// acknowledge waits for the log's answers and acknowledges to the broker, in the
// order the messages came (MQTT 3.1.1 §4.6). After a message that the log did
// not take it acknowledges none: the broker sends them all again, in order.
func (s *session) acknowledge() {
	failed := false
	for d := range s.inflight {
		var err error
		select {
		case err = <-d.done:
		case <-s.appending.Done():
			err = context.Cause(s.appending)
		}
		s.metrics.inflight.Dec()
		if err != nil && !failed {
			failed = true
			s.fail(fmt.Errorf("the log did not take a message: %w", err))
		}
		if !failed {
			d.message.Ack()
		}
	}
}

// noStore keeps nothing: what is unacknowledged is kept by the broker, and the
// bridge publishes nothing.
type noStore struct{}

func (noStore) Open()                             {}
func (noStore) Put(string, packets.ControlPacket) {}
func (noStore) Get(string) packets.ControlPacket  { return nil }
func (noStore) All() []string                     { return nil }
func (noStore) Del(string)                        {}
func (noStore) Close()                            {}
func (noStore) Reset()                            {}
