package registry

import (
	"bytes"
	"strings"
	"sync"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/tidwall/btree"
	"google.golang.org/protobuf/encoding/protowire"
)

// view is all devices in memory. It holds each state as it is on the log and
// decodes it for who asks: a node has every device and looks at few of them, and a
// decoded state takes some five times the memory.
type view struct {
	mu       sync.RWMutex
	states   btree.Map[string, []byte] // encoded DeviceState by record key; never changed in place
	children btree.Set[string]         // tenant/parent/child
}

// set replaces a state and returns the one before, nil when there was none, and
// whether the device has changed between the two: a refused change leaves it as it
// was.
func (v *view) set(key string, state []byte) (before []byte, changed bool, err error) {
	after, err := glance(state)
	if err != nil {
		return nil, false, err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	before, _ = v.states.Set(key, state)
	was, _ := glance(before) // it was read when it came
	if !bytes.Equal(was.parent, after.parent) {
		v.move(key, was.parent, after.parent)
	}
	return before, after.revision > was.revision, nil
}

// move takes a device from one parent to another; v.mu is held.
func (v *view) move(key string, from, to []byte) {
	tenant, child, _ := strings.Cut(key, "/")
	if len(from) > 0 {
		v.children.Delete(family(tenant, string(from)) + child)
	}
	if len(to) > 0 {
		v.children.Insert(family(tenant, string(to)) + child)
	}
}

// family is what the children of a device have in common in the index.
func family(tenant, parent string) string { return tenant + "/" + parent + "/" }

// newest is a state, that of a device which was deleted too; nil for none.
func (v *view) newest(key string) []byte {
	v.mu.RLock()
	defer v.mu.RUnlock()
	state, _ := v.states.Get(key)
	return state
}

// get is a state there is; nil when the device does not exist.
func (v *view) get(key string) []byte {
	v.mu.RLock()
	defer v.mu.RUnlock()
	state, _ := v.states.Get(key)
	if g, err := glance(state); err != nil || !g.exists {
		return nil
	}
	return state
}

// list is up to limit states of devices that exist, whose ids sort after the
// given one.
func (v *view) list(tenant, after string, limit int) [][]byte {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var page [][]byte
	first, pivot := tenant+"/", string(eventlog.Key(tenant, after))
	v.states.Ascend(pivot, func(key string, state []byte) bool {
		if !strings.HasPrefix(key, first) {
			return false
		}
		if g, err := glance(state); key != pivot && err == nil && g.exists {
			page = append(page, state)
		}
		return len(page) < limit
	})
	return page
}

// childrenOf is up to limit states of a device's children, whose ids sort after
// the given one.
func (v *view) childrenOf(tenant, parent, after string, limit int) [][]byte {
	v.mu.RLock()
	defer v.mu.RUnlock()
	var page [][]byte
	kin := family(tenant, parent)
	v.children.Ascend(kin+after, func(entry string) bool {
		child, ok := strings.CutPrefix(entry, kin)
		if !ok {
			return false
		}
		if child != after {
			state, _ := v.states.Get(string(eventlog.Key(tenant, child)))
			page = append(page, state)
		}
		return len(page) < limit
	})
	return page
}

func (v *view) len() int {
	v.mu.RLock()
	defer v.mu.RUnlock()
	return v.states.Len()
}

// Numbers of the fields that are read without decoding (device.proto).
const (
	stateVersion  protowire.Number = 3
	stateDeleted  protowire.Number = 4
	stateRevision protowire.Number = 30
	stateParent   protowire.Number = 36
)

// glimpse is what the view must know of a state that it does not decode.
type glimpse struct {
	exists   bool
	revision uint64
	parent   []byte // of a device that exists; aliases the state
}

// glance reads over a state's fields. It does not look into them.
func glance(state []byte) (glimpse, error) {
	var g glimpse
	var version, deleted uint64
	err := fields(state, func(number protowire.Number, kind protowire.Type, value []byte) {
		switch {
		case number == stateVersion && kind == protowire.VarintType:
			version, _ = protowire.ConsumeVarint(value)
		case number == stateDeleted && kind == protowire.VarintType:
			deleted, _ = protowire.ConsumeVarint(value)
		case number == stateRevision && kind == protowire.VarintType:
			g.revision, _ = protowire.ConsumeVarint(value)
		case number == stateParent && kind == protowire.BytesType:
			g.parent, _ = protowire.ConsumeBytes(value)
		}
	})
	if g.exists = version > 0 && deleted == 0; !g.exists {
		g.parent = nil
	}
	return g, err
}

// fields calls f for each field of an encoded message.
func fields(message []byte, f func(number protowire.Number, kind protowire.Type, value []byte)) error {
	for len(message) > 0 {
		number, kind, n := protowire.ConsumeTag(message)
		if n < 0 {
			return protowire.ParseError(n)
		}
		message = message[n:]
		if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 {
			return protowire.ParseError(n)
		}
		f(number, kind, message[:n])
		message = message[n:]
	}
	return nil
}
