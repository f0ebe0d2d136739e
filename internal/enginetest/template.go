package enginetest

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// PublishTemplate gives the default tenant a device template, whose model has
// telemetry temperature and a writable property targetTemperature that is 21 at first.
func PublishTemplate(t testing.TB, c *catalog.Catalog, id, model string) {
	t.Helper()
	document := fmt.Appendf(nil, `{"@id":%q,"@type":["ModelDefinition","DeviceModel"],"displayName":"Thermostat","capabilityModel":{"@id":%q,"@type":"Interface","contents":[
		{"@type":"Telemetry","name":"temperature","schema":"double"},
		{"@type":["Property","Initialized"],"name":"targetTemperature","schema":"double","writable":true,"initialValue":21}]}}`, id, model)
	_, err := template.Parse(document)
	require.NoError(t, err)
	_, err = c.Change(t.Context(), &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: access.DefaultTenant, Kind: template.KindName, Resource: id, Time: timestamppb.Now(),
		Change: &eventsv1.CatalogEvent_DeviceTemplate{DeviceTemplate: &eventsv1.DeviceTemplate{Published: document, PublishedAt: timestamppb.Now()}},
	})
	require.NoError(t, err)
}
