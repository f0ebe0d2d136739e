package eventlog_test

import (
	"context"
	"fmt"
	"maps"
	"sync"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
)

// owners is who has which partition by what they were told; two at one time is an
// error.
type owners struct {
	mu    sync.Mutex
	of    map[int32]string
	wrong []string
}

func (o *owners) held(node string) func(map[int32]bool) {
	return func(partitions map[int32]bool) {
		o.mu.Lock()
		defer o.mu.Unlock()
		maps.DeleteFunc(o.of, func(p int32, owner string) bool { return owner == node && !partitions[p] })
		for p := range partitions {
			if owner, taken := o.of[p]; taken && owner != node {
				o.wrong = append(o.wrong, fmt.Sprintf("partition %d of %s was given to %s", p, owner, node))
			}
			o.of[p] = node
		}
	}
}

func (o *owners) counts() map[string]int {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := map[string]int{}
	for _, owner := range o.of {
		n[owner]++
	}
	return n
}

// TestNodesShareEachPartitionOnce has nodes come and go; a partition is never two
// nodes' at one time, and none is left over.
func TestNodesShareEachPartitionOnce(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		log := open(t, broker)
		all := &owners{of: map[int32]string{}}
		partitions := int(log.Partitions(eventlog.DeviceState))
		join := func(node string) (stop func()) {
			ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
			done := make(chan error, 1)
			go func() { done <- log.Share(ctx, "share-test", node, eventlog.DeviceState, all.held(node)) }()
			stop = sync.OnceFunc(func() {
				cancel()
				require.NoError(t, <-done)
			})
			t.Cleanup(stop)
			return stop
		}
		waitFor := func(nodes ...string) {
			require.Eventually(t, func() bool {
				counts, sum := all.counts(), 0
				for _, node := range nodes {
					if counts[node] == 0 {
						return false
					}
					sum += counts[node]
				}
				return sum == partitions
			}, 30*time.Second, 5*time.Millisecond, "%v", nodes)
		}
		stopOne := join("one")
		waitFor("one")
		join("two")
		waitFor("one", "two")
		stopOne()
		waitFor("two")
		require.Empty(t, all.wrong)
	})
}

func TestPartitionOfIsWhereRecordsAre(t *testing.T) {
	enginetest.EachLog(t, func(t *testing.T, broker enginetest.Log) {
		log := open(t, broker)
		for n := range 50 {
			key := eventlog.Key("default", fmt.Sprintf("d-%d", n))
			r := &kgo.Record{Topic: log.Name(eventlog.DeviceState), Key: key, Value: []byte("x")}
			require.NoError(t, log.AppendSync(t.Context(), r))
			require.Equal(t, r.Partition, log.PartitionOf(eventlog.DeviceState, key))
		}
	})
}
