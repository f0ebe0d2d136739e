package https

import (
	"net"
	"sync"
)

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
