package https

import (
	"context"
	"sync"
	"time"

	"github.com/fleetlog/fleetlog/internal/files"
	lru "github.com/hashicorp/golang-lru/v2"
)

const (
	// uploadLife is how long a device has for an upload (FEATURES.md FILE-01).
	uploadLife = time.Hour
	// maxDeviceUploads is how many one device may have at one time (FILE-04),
	// maxUploads how many all of them.
	maxDeviceUploads = 10
	maxUploads       = 64 << 10
	// maxBlocks bounds the pieces of one file.
	maxBlocks = 5000
	// uploadRate is how many a second one device may begin.
	uploadRate = 10
	// sweepEvery is how often what was given up is cleared away.
	sweepEvery = 10 * time.Minute
)

// uploads are the ones under way that this node knows of. It counts them; what is
// allowed is in their signatures.
type uploads struct {
	mu       sync.Mutex
	total    int
	byDevice map[string]map[files.Upload]time.Time // expiry, by record key of the device
	staged   map[files.Upload]*stage
	// ended are those that have ended, the newest of them: they end once.
	ended *lru.Cache[files.Upload, struct{}]
}

// stage is what is known of an upload's blocks.
type stage struct {
	mu      sync.Mutex
	counted bool
	blocks  int
	bytes   int64
	expires time.Time
}

func newUploads() *uploads {
	ended, _ := lru.New[files.Upload, struct{}](maxUploads) // fails only for a size below one
	return &uploads{byDevice: map[string]map[files.Upload]time.Time{}, staged: map[files.Upload]*stage{}, ended: ended}
}

// begin counts an upload among its device's; false when there are too many.
func (u *uploads) begin(device string, up upload, now time.Time) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.expire(device, now)
	own := u.byDevice[device]
	if len(own) >= maxDeviceUploads || u.total >= maxUploads {
		return false
	}
	if own == nil {
		own = map[files.Upload]time.Time{}
		u.byDevice[device] = own
	}
	own[up.id] = up.expires
	u.total++
	return true
}

// end forgets an upload; what had ended before is remembered for a while.
func (u *uploads) end(device string, id files.Upload) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.forget(device, id)
	delete(u.staged, id)
	u.ended.Add(id, struct{}{})
}

func (u *uploads) forget(device string, id files.Upload) {
	own := u.byDevice[device]
	if _, known := own[id]; !known {
		return
	}
	delete(own, id)
	u.total--
	if len(own) == 0 {
		delete(u.byDevice, device)
	}
}

func (u *uploads) expire(device string, now time.Time) {
	for id, expires := range u.byDevice[device] {
		if !now.Before(expires) {
			u.forget(device, id)
		}
	}
}

// sweep forgets every upload whose time is over.
func (u *uploads) sweep(now time.Time) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for device := range u.byDevice {
		u.expire(device, now)
	}
	for id, s := range u.staged {
		if !now.Before(s.expires) {
			delete(u.staged, id)
		}
	}
}

// stage is what is known of the upload's blocks; nil when there are too many
// uploads.
func (u *uploads) stage(up upload) *stage {
	u.mu.Lock()
	defer u.mu.Unlock()
	s := u.staged[up.id]
	if s == nil && len(u.staged) < maxUploads {
		s = &stage{expires: up.expires}
		u.staged[up.id] = s
	}
	return s
}

// take reserves room for one more block; false when the file would get too large.
// A node that does not know the upload yet asks the store what there is.
func (s *stage) take(ctx context.Context, store *files.Store, id files.Upload, bytes, limit int64) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.counted {
		var err error
		if s.blocks, s.bytes, err = store.Blocks(ctx, id); err != nil {
			return false, err
		}
		s.counted = true
	}
	if s.blocks >= maxBlocks || s.bytes+bytes > limit {
		return false, nil
	}
	s.blocks, s.bytes = s.blocks+1, s.bytes+bytes
	return true, nil
}

// giveBack is for a block that did not come.
func (s *stage) giveBack(bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks, s.bytes = s.blocks-1, s.bytes-bytes
}

// sweepUploads clears away, now and then, what devices have given up.
func (d *Door) sweepUploads(ctx context.Context) error {
	every := time.NewTicker(sweepEvery)
	defer every.Stop()
	for {
		if err := d.deps.Files.Sweep(ctx, time.Now().Add(-2*uploadLife)); err != nil && ctx.Err() == nil {
			d.warn("cannot clear away unfinished uploads", "error", err)
		}
		select {
		case now := <-every.C:
			d.uploads.sweep(now)
		case <-ctx.Done():
			return nil
		}
	}
}
