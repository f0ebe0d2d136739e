package devicegroup

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fleetlog/fleetlog/internal/catalog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
)

func TestValidate(t *testing.T) {
	const filter = `SELECT * FROM devices WHERE $provisioned = true`
	for _, tc := range []struct {
		name, id string
		change   func(*eventsv1.DeviceGroup)
		says     string
	}{
		{"good", "a_b-C9", func(*eventsv1.DeviceGroup) {}, ""},
		{"id", "a.b", func(*eventsv1.DeviceGroup) {}, "id is not valid"},
		{"no name", "g", func(g *eventsv1.DeviceGroup) { g.DisplayName = "" }, "displayName"},
		{"long name", "g", func(g *eventsv1.DeviceGroup) { g.DisplayName = strings.Repeat("ü", 149) }, "displayName"},
		{"long description", "g", func(g *eventsv1.DeviceGroup) { g.Description = strings.Repeat("ü", 1025) }, "description"},
		{"two organizations", "g", func(g *eventsv1.DeviceGroup) { g.Organizations = []string{"a", "b"} }, "at most one"},
		{"organization", "g", func(g *eventsv1.DeviceGroup) { g.Organizations = []string{"A"} }, "organization"},
		{"no filter", "g", func(g *eventsv1.DeviceGroup) { g.Filter = "" }, "SELECT * FROM devices"},
		{"filter", "g", func(g *eventsv1.DeviceGroup) { g.Filter += " AND" }, "expected a field"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			g := &eventsv1.DeviceGroup{DisplayName: "G", Filter: filter, Organizations: []string{"north"}}
			tc.change(g)
			err := validate(tc.id, g)
			if tc.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.says)
		})
	}
}

// full is a tenant that has so many groups.
type full int

func (n full) Get(_, _, id string) *catalog.Resource {
	if id == "there" {
		return &catalog.Resource{ID: id}
	}
	return nil
}

func (n full) Count(_, _ string) int { return int(n) }

func (n full) List(_, _, _ string, limit int) []*catalog.Resource {
	return make([]*catalog.Resource, min(int(n), limit))
}

func TestGroupsAreBounded(t *testing.T) {
	require.NoError(t, admit(full(MaxGroups-1), "t", "new", nil))
	require.ErrorContains(t, admit(full(MaxGroups), "t", "new", nil), "delete one first")
	require.NoError(t, admit(full(MaxGroups), "t", "there", nil), "one that is there can be changed")
}

func TestForTemplate(t *testing.T) {
	id, ok := ForTemplate("dtmi:contoso:Thermostat_2;1")
	require.True(t, ok)
	require.Equal(t, "dtmi-contoso-Thermostat_2-1", id)
	for _, none := range []string{"", "thermostat", "dtmi:a b;1", "dtmi:" + strings.Repeat("a", 260) + ";1"} {
		_, ok := ForTemplate(none)
		require.False(t, ok, none)
	}
	g := AllDevices("dtmi:contoso:Thermostat;1", "Thermostat")
	require.Equal(t, "Thermostat - All devices", g.GetDisplayName())
	require.NoError(t, validate("g", g))
	require.Nil(t, Kind().Body(&eventsv1.CatalogEvent{}))
	require.True(t, proto.Equal(g, Kind().Body(&eventsv1.CatalogEvent{Change: &eventsv1.CatalogEvent_DeviceGroup{DeviceGroup: g}})), fmt.Sprint(g))
}
