package deviceoperation_test

import (
	"strings"
	"testing"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/deviceoperation"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
)

const (
	imports   = eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_IMPORT
	exports   = eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_EXPORT
	pending   = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_PENDING
	running   = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_RUNNING
	completed = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_COMPLETED
	cancelled = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_CANCELLED
)

// view is a tenant's operations; List gives as many as it has.
type view struct {
	known map[string]*eventsv1.DeviceOperation
	count int
}

func (v view) Get(tenant, kind, id string) *catalog.Resource {
	if o := v.known[id]; o != nil {
		return &catalog.Resource{Tenant: tenant, Kind: kind, ID: id, Version: 1, Body: o}
	}
	return nil
}

func (v view) Count(_, _ string) int { return v.count }

func (v view) List(_, _, _ string, limit int) []*catalog.Resource {
	return make([]*catalog.Resource, min(limit, v.count))
}

func TestWhatHasEndedStaysAsItEnded(t *testing.T) {
	at := func(kind eventsv1.DeviceOperationKind, status eventsv1.DeviceOperationStatus) *eventsv1.DeviceOperation {
		return &eventsv1.DeviceOperation{Kind: kind, Status: status}
	}
	for _, tc := range []struct {
		name     string
		was, now *eventsv1.DeviceOperation
		others   int
		says     string
	}{
		{"a new one", nil, at(imports, pending), 0, ""},
		{"it begins", at(imports, pending), at(imports, running), 0, ""},
		{"it is cancelled", at(imports, running), at(imports, cancelled), 0, ""},
		{"what was done is counted after that", at(imports, cancelled), at(imports, cancelled), 0, ""},
		{"it does not begin again", at(imports, completed), at(imports, running), 0, "has ended"},
		{"it is not cancelled afterwards", at(imports, completed), at(imports, cancelled), 0, "has ended"},
		{"it becomes no other", at(imports, running), at(exports, running), 0, "stays what it is"},
		{"too many", nil, at(imports, pending), 1100, "already"},
		{"too many do not stop one that runs", at(imports, running), at(imports, completed), 2000, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := deviceoperation.Kind().Admit(view{map[string]*eventsv1.DeviceOperation{"o": tc.was}, tc.others}, "default", "o", tc.now)
			if tc.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.says)
		})
	}
}

func TestOperationsAreChecked(t *testing.T) {
	for _, tc := range []struct {
		name string
		body *eventsv1.DeviceOperation
		says string
	}{
		{"fine", &eventsv1.DeviceOperation{Kind: exports, Status: pending}, ""},
		{"no kind", &eventsv1.DeviceOperation{Status: pending}, "import or an export"},
		{"no status", &eventsv1.DeviceOperation{Kind: imports}, "status"},
		{"a long name", &eventsv1.DeviceOperation{Kind: imports, Status: pending, DisplayName: strings.Repeat("ä", 149)}, "148"},
		{"a long failure", &eventsv1.DeviceOperation{Kind: imports, Status: pending, Failure: strings.Repeat("x", 2001)}, "2000"},
		{"a long filter", &eventsv1.DeviceOperation{Kind: exports, Status: pending, Filter: strings.Repeat("x", 65537)}, "65536"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := deviceoperation.Kind().Validate("default", "o", tc.body)
			if tc.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.says)
		})
	}
}
