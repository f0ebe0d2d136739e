package query

import "sync"

// turnstile bounds how many questions each tenant has running on this node.
type turnstile struct {
	most int

	mu      sync.Mutex
	running map[string]int
}

func newTurnstile(most int) *turnstile { return &turnstile{most: most, running: map[string]int{}} }

// enter lets one more in; ok is false when there are enough.
func (t *turnstile) enter(tenant string) (leave func(), ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.running[tenant] >= t.most {
		return nil, false
	}
	t.running[tenant]++
	return func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.running[tenant]--; t.running[tenant] == 0 {
			delete(t.running, tenant)
		}
	}, true
}
