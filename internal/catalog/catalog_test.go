package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const tenant = "default"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func openLog(t *testing.T) *eventlog.Log {
	t.Helper()
	broker := enginetest.EmbeddedLog(t)
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(log.Close)
	return log
}

// node runs a catalog as a node does.
func node(t *testing.T, log *eventlog.Log) *catalog.Catalog {
	t.Helper()
	c := catalog.New(log, slog.New(slog.DiscardHandler), enrollment.Kind())
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	require.Eventually(t, func() bool { return c.Ready() == nil }, 10*time.Second, time.Millisecond)
	return c
}

func put(id, name string, p *eventsv1.Precondition) *eventsv1.CatalogEvent {
	ev := remove(id, p)
	ev.Change = &eventsv1.CatalogEvent_EnrollmentGroup{EnrollmentGroup: &eventsv1.EnrollmentGroup{
		DisplayName: name, Enabled: true, Type: eventsv1.EnrollmentGroupType_ENROLLMENT_GROUP_TYPE_IOT,
		Attestation: &eventsv1.EnrollmentGroup_SymmetricKey{SymmetricKey: &eventsv1.SealedKeys{Primary: []byte("p"), Secondary: []byte("s")}},
	}}
	return ev
}

func remove(id string, p *eventsv1.Precondition) *eventsv1.CatalogEvent {
	return &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: tenant, Kind: enrollment.KindName, Resource: id, Time: timestamppb.Now(), Precondition: p,
		Change: &eventsv1.CatalogEvent_Deleted{Deleted: &eventsv1.CatalogDeleted{}},
	}
}

func at(version uint64) *eventsv1.Precondition { return &eventsv1.Precondition{Version: &version} }
func exists(yes bool) *eventsv1.Precondition   { return &eventsv1.Precondition{Exists: &yes} }
func name(r *catalog.Resource) string          { return r.Body.(*eventsv1.EnrollmentGroup).GetDisplayName() }

func reason(err error) eventsv1.RejectionReason {
	var rejected *catalog.RejectedError
	if errors.As(err, &rejected) {
		return rejected.Reason
	}
	return eventsv1.RejectionReason_REJECTION_REASON_UNSPECIFIED
}

func TestChangesAreDecidedInLogOrder(t *testing.T) {
	log := openLog(t)
	c := node(t, log)
	r, err := c.Change(t.Context(), put("a", "one", exists(false)))
	require.NoError(t, err)
	require.Equal(t, uint64(1), r.Version)
	require.Equal(t, "one", name(c.Get(tenant, enrollment.KindName, "a")), "a change that returned is read at once")
	r, err = c.Change(t.Context(), put("a", "two", at(1)))
	require.NoError(t, err)
	require.Equal(t, uint64(2), r.Version)
	const (
		mismatch = eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH
		already  = eventsv1.RejectionReason_REJECTION_REASON_ALREADY_EXISTS
		notFound = eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND
		invalid  = eventsv1.RejectionReason_REJECTION_REASON_INVALID
		conflict = eventsv1.RejectionReason_REJECTION_REASON_CONFLICT
	)
	for _, tc := range []struct {
		name  string
		event *eventsv1.CatalogEvent
		want  eventsv1.RejectionReason
	}{
		{"an older version", put("a", "three", at(1)), mismatch},
		{"create what exists", put("a", "three", exists(false)), already},
		{"replace what does not exist", put("b", "three", exists(true)), mismatch},
		{"a version of what does not exist", put("b", "three", at(1)), mismatch},
		{"delete what does not exist", remove("b", nil), notFound},
		{"delete what every tenant has", remove("SAS-IoT-Devices", nil), conflict},
		{"an id that cannot be", put("a/b", "three", nil), invalid},
		{"a body that cannot be", put("a", "", nil), invalid},
	} {
		_, err := c.Change(t.Context(), tc.event)
		require.Error(t, err, tc.name)
		require.Equal(t, tc.want, reason(err), "%s: %s", tc.name, err)
	}
	_, err = c.Change(t.Context(), remove("a", at(2)))
	require.NoError(t, err)
	require.Nil(t, c.Get(tenant, enrollment.KindName, "a"))
	r, err = c.Change(t.Context(), put("a", "again", nil))
	require.NoError(t, err)
	require.Equal(t, uint64(4), r.Version, "an etag from before the deletion never matches")

	r, err = c.Change(t.Context(), put("SAS-IoT-Devices", "Default", at(1)))
	require.NoError(t, err, "what every tenant has begins at version 1")
	require.Equal(t, uint64(2), r.Version)
}

// TestNodesAgreeAndNoUpdateIsLost has two nodes count in one resource at once,
// and a third one come later.
func TestNodesAgreeAndNoUpdateIsLost(t *testing.T) {
	log := openLog(t)
	nodes := []*catalog.Catalog{node(t, log), node(t, log)}
	const each = 20
	var wg sync.WaitGroup
	for _, c := range nodes {
		wg.Go(func() {
			for done := 0; done < each; {
				p, count := exists(false), 0
				if r := c.Get(tenant, enrollment.KindName, "counter"); r != nil {
					p = at(r.Version)
					_, _ = fmt.Sscanf(name(r), "%d", &count)
				}
				if _, err := c.Change(t.Context(), put("counter", fmt.Sprint(count+1), p)); err == nil {
					done++
				}
			}
		})
	}
	wg.Wait()
	want := fmt.Sprint(2 * each)
	for i, c := range append(nodes, node(t, log)) {
		require.Eventually(t, func() bool { return name(c.Get(tenant, enrollment.KindName, "counter")) == want }, 10*time.Second, time.Millisecond, "node %d", i)
		require.Equal(t, uint64(2*each), c.Get(tenant, enrollment.KindName, "counter").Version)
	}
}

func TestListInOrderWithWhatEveryTenantHas(t *testing.T) {
	c := node(t, openLog(t))
	for _, id := range []string{"z", "A", "m"} {
		_, err := c.Change(t.Context(), put(id, id, nil))
		require.NoError(t, err)
	}
	_, err := c.Change(t.Context(), remove("m", nil))
	require.NoError(t, err)
	ids := func(after string, limit int) (ids []string) {
		for _, r := range c.List(tenant, enrollment.KindName, after, limit) {
			ids = append(ids, r.ID)
		}
		return ids
	}
	require.Equal(t, []string{"A", "SAS-IoT-Devices", "z"}, ids("", 10))
	require.Equal(t, []string{"A"}, ids("", 1))
	require.Equal(t, []string{"SAS-IoT-Devices", "z"}, ids("A", 10))
	require.Equal(t, []string{"z"}, ids("SAS-IoT-Devices", 1))
	require.Len(t, c.List("other", enrollment.KindName, "", 10), 1, "another tenant has its own")
	require.Equal(t, 2, c.Count(tenant, enrollment.KindName), "without what every tenant has")
	_, err = c.Change(t.Context(), put("m", "m", nil))
	require.NoError(t, err)
	require.Equal(t, 3, c.Count(tenant, enrollment.KindName))
	require.Zero(t, c.Count("other", enrollment.KindName))
}

// TestWhatCannotBeReadIsLeftOut keeps a record of a stranger from stopping a node.
func TestWhatCannotBeReadIsLeftOut(t *testing.T) {
	log := openLog(t)
	forged, err := proto.Marshal(put("a", "forged", nil))
	require.NoError(t, err)
	for _, value := range [][]byte{[]byte("nonsense"), nil, forged} {
		r := eventlog.CloudEvent(log.Name(eventlog.Catalog), "x", "/test", eventlog.TypeCatalogEvent, time.Now(), "", []byte("other/enrollmentGroups/a"), value)
		require.NoError(t, log.AppendSync(t.Context(), r))
	}
	c := node(t, log)
	require.Nil(t, c.Get(tenant, enrollment.KindName, "a"))
	_, err = c.Change(t.Context(), put("a", "real", nil))
	require.NoError(t, err)
	_, err = c.Change(t.Context(), &eventsv1.CatalogEvent{Kind: "nothing"})
	require.ErrorContains(t, err, "no such kind")
}
