package https

import (
	"net"
	"sync"

	lru "github.com/hashicorp/golang-lru/v2"
	"golang.org/x/time/rate"
)

// maxLimiters bounds a table: beyond it the one unused longest is forgotten,
// which gives its owner a full bucket again.
const maxLimiters = 64 << 10

// limiters is a rate limit for each of many, in bounded memory.
type limiters struct {
	each  rate.Limit
	burst int
	table *lru.Cache[string, *rate.Limiter]
}

func newLimiters(perSecond float64) *limiters {
	table, _ := lru.New[string, *rate.Limiter](maxLimiters) // fails only for a size below one
	return &limiters{each: rate.Limit(perSecond), burst: max(1, int(2*perSecond)), table: table}
}

// allow reports whether one more is within the limit, and counts it.
func (l *limiters) allow(key string) bool {
	limiter, ok := l.table.Get(key)
	if !ok {
		fresh := rate.NewLimiter(l.each, l.burst)
		if before, found, _ := l.table.PeekOrAdd(key, fresh); found {
			fresh = before
		}
		limiter = fresh
	}
	return limiter.Allow()
}

// maxDeviceRequests is how many requests of one device may be under way: Azure's
// storage client has 20 blocks of a file on their way.
const maxDeviceRequests = 32

// underway counts the requests of each device, so that one that is slow on
// purpose does not take all places.
type underway struct {
	mu       sync.Mutex
	requests map[string]int
}

// begin counts one more; false when the device has too many.
func (u *underway) begin(device string) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.requests[device] >= maxDeviceRequests {
		return false
	}
	u.requests[device]++
	return true
}

func (u *underway) end(device string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.requests[device]--; u.requests[device] <= 0 {
		delete(u.requests, device)
	}
}

// hostOf is an address without its port.
func hostOf(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return host
}
