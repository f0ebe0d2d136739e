package mqtt

import (
	"context"
	"sync"
	"time"
)

// retryInterval is how soon a device that has not read yet is tried again.
const retryInterval = 20 * time.Millisecond

// courier delivers to devices whose state has changed, one connection after the
// other. It keeps the work off the registry's goroutine; each connection waits at
// most once, however much has changed for it meanwhile.
type courier struct {
	mu      sync.Mutex
	waiting []*connection
	wake    chan struct{}
}

func newCourier() *courier { return &courier{wake: make(chan struct{}, 1)} }

// call has the connection brought up to its device's state. It never blocks.
func (d *courier) call(c *connection) {
	if c.session.queued.Swap(true) {
		return
	}
	d.mu.Lock()
	d.waiting = append(d.waiting, c)
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// run delivers until ctx ends.
func (d *courier) run(ctx context.Context) {
	var batch, unread []*connection
	retry := time.NewTimer(retryInterval)
	defer retry.Stop()
	for ctx.Err() == nil {
		d.mu.Lock()
		batch, d.waiting = d.waiting, batch[:0]
		d.mu.Unlock()
		for i, c := range batch {
			c.session.queued.Store(false)
			if c.deliver(ctx) {
				unread = append(unread, c)
			}
			batch[i] = nil
		}
		var again <-chan time.Time
		if len(unread) > 0 {
			retry.Reset(retryInterval)
			again = retry.C
		}
		select {
		case <-d.wake:
		case <-again:
			for i, c := range unread {
				d.call(c)
				unread[i] = nil
			}
			unread = unread[:0]
		case <-ctx.Done():
		}
	}
}
