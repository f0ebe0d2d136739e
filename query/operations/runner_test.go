package operations

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceoperation"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/files"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	tenant    = access.DefaultTenant
	running   = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_RUNNING
	completed = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_COMPLETED
	failed    = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_FAILED
	cancelled = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_CANCELLED
)

// site is what the nodes of a platform share.
type site struct {
	t    testing.TB
	log  *eventlog.Log
	keys *device.MasterKey
	dir  string // of the files
}

func newSite(t testing.TB) *site {
	t.Helper()
	broker := enginetest.EmbeddedLog(t)
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(log.Close)
	enginetest.FoldDevices(t, log)
	keys, err := device.OpenMasterKey(filepath.Join(t.TempDir(), "master.key"))
	require.NoError(t, err)
	return &site{t: t, log: log, keys: keys, dir: t.TempDir()}
}

// node is one that has the API.
type node struct {
	*Runner
	t    testing.TB
	stop func() // kills the runner, and the node's views
}

// start starts a node; without a runner it only looks on.
func (s *site) start(id string, runs bool) *node {
	s.t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	devices, resources := registry.New(s.log, quiet), catalog.New(s.log, quiet, enrollment.Kind(), deviceoperation.Kind())
	store, err := files.Open(s.t.Context(), "file://"+s.dir)
	require.NoError(s.t, err)
	runner, err := New(Deps{Registry: devices, Catalog: resources, Groups: enrollment.New(resources, s.keys, quiet), Templates: template.New(resources, quiet), Keys: s.keys, Files: store, Node: id, Logger: quiet})
	require.NoError(s.t, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.t.Context()))
	parts := []func(context.Context) error{devices.Run, resources.Run}
	if runs {
		parts = append(parts, runner.Run)
	}
	ends := make(chan error, len(parts))
	for _, run := range parts {
		go func() { ends <- run(ctx) }()
	}
	stopped := false
	n := &node{Runner: runner, t: s.t, stop: func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		for range parts {
			require.NoError(s.t, <-ends)
		}
		require.NoError(s.t, store.Close())
	}}
	s.t.Cleanup(n.stop)
	require.Eventually(s.t, func() bool { return devices.Ready() == nil && resources.Ready() == nil }, 10*time.Second, time.Millisecond)
	return n
}

// begin asks for an operation as the API does.
func (n *node) begin(o *eventsv1.DeviceOperation, input string) string {
	n.t.Helper()
	id := eventlog.NewID()
	if input != "" {
		o.Input = Input
		require.NoError(n.t, n.Bring(n.t.Context(), tenant, id, strings.NewReader(input)))
	}
	o.Status, o.Actor = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_PENDING, &eventsv1.Actor{Principal: "token:admin"}
	n.Own(o)
	n.put(id, o)
	return id
}

func (n *node) put(id string, o *eventsv1.DeviceOperation) {
	n.t.Helper()
	_, err := n.deps.Catalog.Change(n.t.Context(), &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: tenant, Kind: deviceoperation.KindName, Resource: id, Time: timestamppb.Now(),
		Change: &eventsv1.CatalogEvent_DeviceOperation{DeviceOperation: o},
	})
	require.NoError(n.t, err)
}

func (n *node) operation(id string) *eventsv1.DeviceOperation {
	return deviceoperation.Of(n.deps.Catalog.Get(tenant, deviceoperation.KindName, id))
}

// wait waits until the operation ends and its input is gone.
func (n *node) wait(id string) *eventsv1.DeviceOperation {
	n.t.Helper()
	require.Eventually(n.t, func() bool {
		o := n.operation(id)
		return deviceoperation.Ended(o) && o.GetInput() == ""
	}, time.Minute, 5*time.Millisecond)
	return n.operation(id)
}

// errorRows is the error report without its header.
func (n *node) errorRows(id string) [][]string {
	n.t.Helper()
	var report bytes.Buffer
	require.NoError(n.t, n.WriteErrors(n.t.Context(), &report, n.deps.Catalog.Get(tenant, deviceoperation.KindName, id)))
	rows, err := csv.NewReader(&report).ReadAll()
	require.NoError(n.t, err)
	require.Equal(n.t, reportHeader, rows[0])
	return rows[1:]
}

func (n *node) resultRows(id string) [][]string {
	n.t.Helper()
	var result bytes.Buffer
	require.NoError(n.t, n.WriteResult(n.t.Context(), &result, n.deps.Catalog.Get(tenant, deviceoperation.KindName, id)))
	rows, err := csv.NewReader(&result).ReadAll()
	require.NoError(n.t, err)
	require.Equal(n.t, resultHeader, rows[0])
	return rows[1:]
}

// registrations counts how often each device was registered on the log.
func (s *site) registrations() map[string]int {
	s.t.Helper()
	accepted, count := map[string]bool{}, map[string]int{}
	for partition := range s.log.Partitions(eventlog.DeviceState) {
		require.NoError(s.t, s.log.ReadPartition(s.t.Context(), eventlog.DeviceState, partition, func(r *kgo.Record) {
			var snapshot eventsv1.DeviceSnapshot
			require.NoError(s.t, proto.Unmarshal(r.Value, &snapshot))
			for _, outcome := range snapshot.GetOutcomes() {
				accepted[outcome.GetEventId()] = outcome.GetRejection() == nil
			}
		}))
	}
	for partition := range s.log.Partitions(eventlog.Devices) {
		require.NoError(s.t, s.log.ReadPartition(s.t.Context(), eventlog.Devices, partition, func(r *kgo.Record) {
			var ev eventsv1.DeviceEvent
			require.NoError(s.t, proto.Unmarshal(r.Value, &ev))
			if ev.GetRegistered() != nil && accepted[ev.GetId()] {
				count[ev.GetDevice()]++
			}
		}))
	}
	return count
}

// fleet is a file of rows of which each brokenEvery-th cannot be imported.
func fleet(rows, brokenEvery int) (file string, broken int) {
	var b strings.Builder
	b.WriteString("\ufeffIOTC_DEVICEID,IOTC_DEVICENAME,TAG_site\r\n")
	for i := range rows {
		if brokenEvery > 0 && i%brokenEvery == brokenEvery/2 {
			broken++
			switch broken % 3 {
			case 0:
				fmt.Fprintf(&b, "d %d,bad id,\r\n", i)
			case 1:
				fmt.Fprintf(&b, "d-%05d,too few\r\n", i)
			case 2:
				b.WriteString("d-00000,again,\r\n")
			}
			continue
		}
		fmt.Fprintf(&b, "d-%05d,Device %d,hall %d\r\n", i, i, i%7)
	}
	return b.String(), broken
}

func imports() *eventsv1.DeviceOperation {
	return &eventsv1.DeviceOperation{Kind: eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_IMPORT}
}

func exports() *eventsv1.DeviceOperation {
	return &eventsv1.DeviceOperation{Kind: eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_EXPORT}
}

func TestAllButTheBrokenRowsAreImported(t *testing.T) {
	s := newSite(t)
	n := s.start("a", true)
	file, broken := fleet(10_000, 333)
	require.Equal(t, 30, broken)
	asked := imports()
	asked.Template, asked.Organization = "dtmi:contoso:Thermostat;1", "berlin"
	began := time.Now()
	id := n.begin(asked, file)
	o := n.wait(id)
	t.Logf("%.0f rows/s", 10_000/time.Since(began).Seconds())
	require.Equal(t, completed, o.GetStatus(), o.GetFailure())
	require.Equal(t, []uint32{10_000, 9_970, 30}, []uint32{o.GetTotal(), o.GetSucceeded(), o.GetFailed()})
	require.NotNil(t, o.GetEndedAt())
	errors := n.errorRows(id)
	require.Len(t, errors, 30)
	require.Equal(t, []string{"168", "d-00166", codeColumns, "the row has 2 columns, the header 3"}, errors[0])
	require.Equal(t, []string{"501", "d-00000", codeTwice, "the device is in line 2 already"}, errors[1])
	require.Equal(t, codeID, errors[2][2])
	d := n.deps.Registry.Get(tenant, "d-09999")
	require.Equal(t, "Device 9999", d.GetDisplayName())
	require.Equal(t, "dtmi:contoso:Thermostat;1", d.GetTemplate())
	require.Equal(t, []string{"berlin"}, d.GetOrganizations())
	require.JSONEq(t, `{"site":"hall 3"}`, string(d.GetTags()))
	require.True(t, d.GetEnabled())

	count := s.registrations()
	require.Len(t, count, 9_970)
	versions := n.deps.Catalog.Get(tenant, deviceoperation.KindName, id).Version
	require.Less(t, versions, uint64(30), "an event for each window, not for each device")
}

func TestDevicesThatExistAreErrorsOrUpdated(t *testing.T) {
	s := newSite(t)
	n := s.start("a", true)
	first := n.begin(imports(), "IOTC_DEVICEID,IOTC_DEVICENAME,TAG_a,TAG_b\nd-1,one,1,2\n")
	require.Equal(t, completed, n.wait(first).GetStatus())

	again := n.begin(imports(), "IOTC_DEVICEID,IOTC_DEVICENAME\nd-1,uno\nd-2,two\n")
	o := n.wait(again)
	require.Equal(t, []uint32{2, 1, 1}, []uint32{o.GetTotal(), o.GetSucceeded(), o.GetFailed()})
	require.Equal(t, codeExists, n.errorRows(again)[0][2])
	require.Equal(t, "one", n.deps.Registry.Get(tenant, "d-1").GetDisplayName())

	update := imports()
	update.Update = true
	o = n.wait(n.begin(update, "IOTC_DEVICEID,IOTC_DEVICENAME,TAG_a\nd-1,uno,3\nd-2,,\nd-3,three,\n"))
	require.Equal(t, []uint32{3, 3, 0}, []uint32{o.GetTotal(), o.GetSucceeded(), o.GetFailed()})
	require.Equal(t, "uno", n.deps.Registry.Get(tenant, "d-1").GetDisplayName())
	require.JSONEq(t, `{"a":"3","b":"2"}`, string(n.deps.Registry.Get(tenant, "d-1").GetTags()), "what the file does not say is kept")
	require.Equal(t, "two", n.deps.Registry.Get(tenant, "d-2").GetDisplayName())
	require.NotNil(t, n.deps.Registry.Get(tenant, "d-3"))

	tooMuch := n.begin(imports(), "IOTC_DEVICEID,TAG_a\nd-4,"+strings.Repeat("x", 9000)+"\n")
	require.EqualValues(t, 1, n.wait(tooMuch).GetFailed())
	require.Equal(t, codeRejected, n.errorRows(tooMuch)[0][2])

	nonsense := n.begin(imports(), "hello\n")
	o = n.wait(nonsense)
	require.Equal(t, failed, o.GetStatus())
	require.Contains(t, o.GetFailure(), "IOTC_DEVICEID")
	require.Equal(t, codeHeader, n.errorRows(nonsense)[0][2])
}

// TestAKilledImportGoesOn kills the node again and again, and then has another one
// take over when the lease is over.
func TestAKilledImportGoesOn(t *testing.T) {
	s := newSite(t)
	looking := s.start("looking", false)
	file, broken := fleet(6_000, 100)
	n := s.start("a", true)
	_, err := n.deps.Registry.Change(t.Context(), &eventsv1.DeviceEvent{
		Id: eventlog.NewID(), Tenant: tenant, Device: "d-04000", Time: timestamppb.Now(), Change: &eventsv1.DeviceEvent_Registered{Registered: &eventsv1.DeviceRegistered{}},
	})
	require.NoError(t, err)
	id := n.begin(imports(), file)
	for kills := 1; kills <= 3; kills++ {
		// In the middle of a window: devices are there that no event counts yet.
		require.Eventually(t, func() bool {
			return looking.deps.Registry.Get(tenant, fmt.Sprintf("d-%05d", kills*1000+401)) != nil
		}, time.Minute, 100*time.Microsecond)
		n.stop()
		o := looking.operation(id)
		require.Equal(t, running, o.GetStatus())
		if kills == 3 {
			o = proto.CloneOf(o)
			o.Lease = timestamppb.New(time.Now().Add(-time.Second)) // as if the time had passed
			looking.put(id, o)
			n = s.start("b", true)
			break
		}
		n = s.start("a", true)
	}
	o := n.wait(id)
	require.Equal(t, completed, o.GetStatus(), o.GetFailure())
	require.Equal(t, "b", o.GetNode())
	want := uint32(broken + 1) // and the one that was there
	require.Equal(t, []uint32{6_000, 6_000 - want, want}, []uint32{o.GetTotal(), o.GetSucceeded(), o.GetFailed()})
	lines := map[string]bool{}
	for _, row := range n.errorRows(id) {
		require.False(t, lines[row[0]], "line %s is there twice", row[0])
		lines[row[0]] = true
		if row[1] == "d-04000" {
			require.Equal(t, codeExists, row[2])
		}
	}
	require.Len(t, lines, int(want))
	count := s.registrations()
	require.Len(t, count, 6_000-broken)
	for device, times := range count {
		require.Equal(t, 1, times, device)
	}
}

func TestCancelledImportsEndAndSayWhatWasDone(t *testing.T) {
	s := newSite(t)
	n := s.start("a", true)
	file, _ := fleet(20_000, 50)
	id := n.begin(imports(), file)
	require.Eventually(t, func() bool { return n.operation(id).GetSettled() > 0 }, time.Minute, time.Millisecond)
	require.Eventually(t, func() bool { // as the API does: again when a sign of life came between
		r := n.deps.Catalog.Get(tenant, deviceoperation.KindName, id)
		next := proto.CloneOf(deviceoperation.Of(r))
		next.Status = cancelled
		_, err := n.deps.Catalog.Change(t.Context(), &eventsv1.CatalogEvent{
			Id: eventlog.NewID(), Tenant: tenant, Kind: deviceoperation.KindName, Resource: id, Time: timestamppb.Now(),
			Precondition: &eventsv1.Precondition{Version: &r.Version}, Change: &eventsv1.CatalogEvent_DeviceOperation{DeviceOperation: next},
		})
		return err == nil
	}, time.Minute, time.Millisecond)
	o := n.wait(id)
	require.Equal(t, cancelled, o.GetStatus())
	require.Less(t, o.GetSettled(), uint32(20_000))
	require.Equal(t, o.GetSettled(), o.GetSucceeded()+o.GetFailed())
	require.Len(t, n.errorRows(id), int(o.GetFailed()))
	require.Len(t, s.registrations(), int(o.GetSucceeded()), "what was done is counted, the window under way included")
	left, err := filepath.Glob(filepath.Join(s.dir, ".operations", "default", id, "input*"))
	require.NoError(t, err)
	require.Empty(t, left, "the input is gone")
	require.NoError(t, n.Clear(t.Context(), n.deps.Catalog.Get(tenant, deviceoperation.KindName, id)))
	left, err = filepath.Glob(filepath.Join(s.dir, ".operations", "default", id, "*"))
	require.NoError(t, err)
	require.Empty(t, left)
}

func TestExportsHoldKeysAndNoneIsInTheClear(t *testing.T) {
	s := newSite(t)
	n := s.start("a", true)
	file, broken := fleet(2_500, 0)
	require.Zero(t, broken)
	require.Equal(t, completed, n.wait(n.begin(imports(), file+"d-f,\"=cmd|' /C calc'!A0\",\r\n")).GetStatus())

	all := n.begin(exports(), "")
	o := n.wait(all)
	require.Equal(t, completed, o.GetStatus(), o.GetFailure())
	require.Equal(t, []uint32{2_501, 2_501, 0}, []uint32{o.GetTotal(), o.GetSucceeded(), o.GetFailed()})
	rows := n.resultRows(all)
	require.Len(t, rows, 2_501)
	require.Equal(t, []string{"d-f", "'=cmd|' /C calc'!A0"}, rows[2_500][:2])
	require.Len(t, rows[0][2], 44)
	require.NotEqual(t, rows[0][2], rows[0][3])
	require.Empty(t, rows[0][4]+rows[0][5])

	some := n.begin(exports(), "d-00007\nnone\nd-00003\n")
	o = n.wait(some)
	require.Equal(t, []uint32{3, 2, 1}, []uint32{o.GetTotal(), o.GetSucceeded(), o.GetFailed()})
	require.Equal(t, []string{"", "none", codeMissing, "the device does not exist"}, n.errorRows(some)[0])
	two := n.resultRows(some)
	require.Equal(t, []string{"d-00007", "d-00003"}, []string{two[0][0], two[1][0]})
	require.NoError(t, filepath.WalkDir(s.dir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		require.NotContains(t, string(content), two[0][2], path)
		require.NotContains(t, string(content), "d-00007", path)
		return err
	}))
	// What was exported can be imported: names come back as they were.
	var exported bytes.Buffer
	require.NoError(t, n.WriteResult(t.Context(), &exported, n.deps.Catalog.Get(tenant, deviceoperation.KindName, all)))
	again := imports()
	again.Update = true
	o = n.wait(n.begin(again, exported.String()))
	require.Equal(t, []uint32{2_501, 2_501, 0}, []uint32{o.GetTotal(), o.GetSucceeded(), o.GetFailed()})
	require.Equal(t, "=cmd|' /C calc'!A0", n.deps.Registry.Get(tenant, "d-f").GetDisplayName())
}

func TestOnlyTheNewestAreKept(t *testing.T) {
	s := newSite(t)
	looking := s.start("looking", false)
	ids := make([]string, deviceoperation.MaxKept+3)
	for i := range ids {
		o := exports()
		o.Status, ids[i] = completed, eventlog.NewID()
		looking.put(ids[i], o)
	}
	n := s.start("a", true)
	for _, gone := range ids[:3] {
		require.Eventually(t, func() bool {
			return n.deps.Catalog.Get(tenant, deviceoperation.KindName, gone) == nil
		}, time.Minute, 10*time.Millisecond)
	}
	require.NotNil(t, n.deps.Catalog.Get(tenant, deviceoperation.KindName, ids[3]))
}
