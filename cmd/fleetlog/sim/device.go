package sim

import (
	"context"
	"sync"
	"time"

	paho "github.com/eclipse/paho.mqtt.golang"

	"github.com/fleetlog/fleetlog/internal/deviceclient"
)

const (
	window = 100         // unacknowledged messages a device
	maxLag = time.Second // a device further behind its pace doesn't catch up
)

// device is one simulated device: it connects, publishes at its pace and, when
// the connection is lost, comes back after a pause.
type device struct {
	client   deviceclient.Device
	qos      byte
	payloads payloads
	every    time.Duration
	phase    float64 // 0 to 1: when in `every` its first message is due

	doors chan struct{} // one place for each device that may be connecting
	meter *meter

	buffer []byte
}

// run lives until ctx ends.
func (d *device) run(ctx context.Context) { deviceclient.Keep(ctx, d.session) }

// session is one connection from its start to its end; it reports whether it came
// about.
func (d *device) session(ctx context.Context) bool {
	select {
	case d.doors <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	lost := make(chan struct{})
	client := paho.NewClient(d.client.Options(time.Now(), func(err error) {
		d.meter.connectionFailed(err)
		close(lost)
	}))
	// Also after a failed Connect: it ends what paho has started.
	defer client.Disconnect(deviceclient.QuiesceMS)
	token := client.Connect() // its time is bounded
	select {
	case <-token.Done():
		<-d.doors
	case <-ctx.Done():
		<-d.doors
		return false
	}
	if err := token.Error(); err != nil {
		d.meter.connectionFailed(err)
		return false
	}
	d.meter.connected.Add(1)
	defer d.meter.connected.Add(-1)
	d.publish(ctx, client, lost)
	return true
}

// flight is a message on its way to its acknowledgement.
type flight struct {
	token paho.Token
	at    time.Time
}

// publish sends the device's messages when they are due until the connection or
// ctx ends, and then waits a moment for what is in flight.
func (d *device) publish(ctx context.Context, client paho.Client, lost <-chan struct{}) {
	flights, giveUp := make(chan flight, window), make(chan struct{})
	var acks sync.WaitGroup
	acks.Go(func() { d.await(flights, giveUp) })
	d.send(ctx, client, lost, flights)
	close(flights)
	end := time.AfterFunc(lastAcks, func() { close(giveUp) })
	defer end.Stop()
	acks.Wait()
}

func (d *device) send(ctx context.Context, client paho.Client, lost <-chan struct{}, flights chan<- flight) {
	topic := deviceclient.TelemetryTopic(d.client.ID, "")
	due := time.Now().Add(time.Duration(d.phase * float64(d.every)))
	timer := time.NewTimer(time.Until(due))
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-lost:
			return
		case <-timer.C:
		}
		at := time.Now()
		d.buffer = d.payloads.append(d.buffer[:0], at)
		// A string, because paho keeps what it is given until it is acknowledged.
		token := client.Publish(topic, d.qos, false, string(d.buffer))
		d.meter.sent.Add(1)
		// Blocks when the window is full: the platform sets the pace.
		select {
		case flights <- flight{token, at}:
		case <-ctx.Done():
			d.meter.failed.Add(1)
			return
		case <-lost:
			d.meter.failed.Add(1)
			return
		}
		if due = due.Add(d.every); at.Sub(due) > maxLag {
			due = at
		}
		timer.Reset(time.Until(due))
	}
}

// await counts the outcomes of messages in the order they were sent. paho ends the
// tokens of a lost connection with an error.
func (d *device) await(flights <-chan flight, giveUp <-chan struct{}) {
	for f := range flights {
		select {
		case <-f.token.Done():
		case <-giveUp:
		}
		select {
		case <-f.token.Done():
			if f.token.Error() == nil {
				d.meter.acknowledged(time.Since(f.at))
				continue
			}
		default:
		}
		d.meter.failed.Add(1)
	}
}
