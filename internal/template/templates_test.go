package template_test

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/enginetest"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	one, two = "dtmi:contoso:T;1", "dtmi:contoso:T;2"
	model    = "dtmi:contoso:M;1"
)

// node is what a node has of templates.
type node struct {
	*template.Templates
	catalog *catalog.Catalog
}

func startNode(t *testing.T, log *eventlog.Log) node {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	c := catalog.New(log, quiet, template.Kind())
	n := node{template.New(c, quiet), c}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-done) })
	require.Eventually(t, func() bool { return n.Ready() == nil }, 10*time.Second, time.Millisecond)
	return n
}

// change writes a template at a second of a minute.
func (n node) change(t *testing.T, id string, second int, body *eventsv1.DeviceTemplate) error {
	t.Helper()
	body.PublishedAt = timestamppb.New(time.Date(2026, 11, 23, 10, 0, second, 0, time.UTC))
	_, err := n.catalog.Change(t.Context(), &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: access.DefaultTenant, Kind: template.KindName, Resource: id, Time: timestamppb.Now(),
		Change: &eventsv1.CatalogEvent_DeviceTemplate{DeviceTemplate: body},
	})
	return err
}

func document(id, displayName string) []byte {
	return fmt.Appendf(nil, `{"@id":%q,"@type":["DeviceModel"],"displayName":%q,"capabilityModel":{"@id":%q,"@type":"Interface","contents":[]}}`, id, displayName, model)
}

// TestNodesAgreeOnTemplates wants each change on every node, and on one that starts
// later: what is published, and which template a model's devices get.
func TestNodesAgreeOnTemplates(t *testing.T) {
	broker := enginetest.EmbeddedLog(t)
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{broker.Addr}, Prefix: broker.TopicPrefix, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(log.Close)
	nodes := []node{startNode(t, log), startNode(t, log)}
	agree := func(id, displayName, ofModel string) {
		t.Helper()
		for i, n := range nodes {
			require.Eventually(t, func() bool {
				name, of := "", ""
				if got := n.Get(access.DefaultTenant, id); got != nil {
					name = got.DisplayName
				}
				if got := n.ByModel(access.DefaultTenant, model); got != nil {
					of = got.ID
				}
				return name == displayName && of == ofModel
			}, 10*time.Second, time.Millisecond, "node %d", i)
		}
	}
	agree(one, "", "")
	require.NoError(t, nodes[0].change(t, one, 0, &eventsv1.DeviceTemplate{Draft: document(one, "draft")}))
	agree(one, "", "")
	require.NoError(t, nodes[0].change(t, one, 1, &eventsv1.DeviceTemplate{Published: document(one, "first")}))
	agree(one, "first", one)
	require.NoError(t, nodes[1].change(t, one, 1, &eventsv1.DeviceTemplate{Published: document(one, "second"), Draft: document(one, "draft")}))
	agree(one, "second", one)
	require.NoError(t, nodes[1].change(t, two, 2, &eventsv1.DeviceTemplate{Published: document(two, "new")}))
	agree(two, "new", two)
	nodes = append(nodes, startNode(t, log))
	agree(one, "second", two)
	_, err = nodes[0].catalog.Change(t.Context(), &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: access.DefaultTenant, Kind: template.KindName, Resource: two, Time: timestamppb.Now(),
		Change: &eventsv1.CatalogEvent_Deleted{Deleted: &eventsv1.CatalogDeleted{}},
	})
	require.NoError(t, err)
	agree(two, "", one)
	require.Nil(t, nodes[0].Get("another", one))
}

// TestTheFoldRefusesWhatIsNoTemplate wants the bounds that hold for ever.
func TestTheFoldRefusesWhatIsNoTemplate(t *testing.T) {
	large := document(one, string(make([]byte, template.MaxBytes)))
	for name, tc := range map[string]struct {
		id   string
		body *eventsv1.DeviceTemplate
		want string
	}{
		"an id that is none": {"x", &eventsv1.DeviceTemplate{Draft: document("x", "D")}, "id is not valid"},
		"nothing":            {one, &eventsv1.DeviceTemplate{}, "neither published nor a draft"},
		"not an object":      {one, &eventsv1.DeviceTemplate{Published: []byte(`[]`)}, "not a JSON object"},
		"not JSON":           {one, &eventsv1.DeviceTemplate{Draft: []byte(`{`)}, "not a JSON object"},
		"too large":          {one, &eventsv1.DeviceTemplate{Draft: large}, "use at most"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, template.Kind().Validate(access.DefaultTenant, tc.id, tc.body), tc.want)
		})
	}
	require.NoError(t, template.Kind().Validate(access.DefaultTenant, one, &eventsv1.DeviceTemplate{Draft: []byte(`{"anything":true}`)}))
}
