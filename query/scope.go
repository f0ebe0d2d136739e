package query

import (
	"context"
	"slices"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// This file bounds what callers see and change to the organizations that their roles are
// for. What is outside does not exist for them: the answers are the same.

// inScope is the state if the caller's scope has it, else nil.
func inScope(ctx context.Context, state *eventsv1.DeviceState) *eventsv1.DeviceState {
	if state != nil && access.ScopeOf(ctx).Has(state.GetOrganizations()) {
		return state
	}
	return nil
}

// placed is where something is to be that has been asked to be in these organizations;
// before are those that it is in, if it exists.
func placed(ctx context.Context, directory *access.Directory, tenant string, exists bool, before, asked []string) ([]string, error) {
	scope := access.ScopeOf(ctx)
	if !exists {
		scope = access.CreateScopeOf(ctx)
	}
	if len(asked) == 0 && !scope.Everywhere() {
		if exists {
			return before, nil
		}
		home, err := scope.Home()
		if err != nil {
			return nil, badField("organizations", "%s", err)
		}
		return []string{home}, nil
	}
	if !scope.Has(asked) {
		return nil, status.Errorf(codes.PermissionDenied, "your role is not for the organizations %.48q: use %.480q", asked, scope.Organizations())
	}
	for _, id := range asked {
		if !slices.Equal(asked, before) && !directory.HasOrganization(tenant, id) {
			return nil, badField("organizations", "organization %.48q does not exist: GET /api/organizations lists them", id)
		}
	}
	return asked, nil
}

// admitChange checks that the caller may make the change of the device that is there, or
// is not, and settles which organizations it is in afterwards.
func (s *identities) admitChange(ctx context.Context, tenant, id string, ev *eventsv1.DeviceEvent) error {
	current := s.registry.Get(tenant, id)
	exists := device.Exists(current)
	scope := access.ScopeOf(ctx)
	if exists && !scope.Has(current.GetOrganizations()) {
		return notFound("device %q does not exist", id)
	}
	var err error
	switch change := ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_Registered:
		if !exists && access.CreateScopeOf(ctx).Nowhere() || exists && scope.Nowhere() {
			return status.Errorf(codes.PermissionDenied, "you lack the permission to %s devices: ask an administrator for a role that has it", map[bool]string{true: "update", false: "create"}[exists])
		}
		change.Registered.Organizations, err = placed(ctx, s.directory, tenant, exists, current.GetOrganizations(), change.Registered.GetOrganizations())
	case *eventsv1.DeviceEvent_Updated:
		if o := change.Updated.GetOrganizations(); o != nil {
			o.Ids, err = placed(ctx, s.directory, tenant, exists, current.GetOrganizations(), o.GetIds())
		}
	}
	return err
}

// ofScope is the condition, after others, on rows that are of devices: those whose
// organization was always of the scope and, where the time of the rows is in a column,
// those that were of it at that time. History stays with the organization that had the
// device then (FEATURES.md ORG-08).
func (f *filterSQL) ofScope(time string) string {
	if f.scope.Everywhere() {
		return ""
	}
	mine := "organization IN " + f.parameter("Array(String)", textsParameter(f.scope.Organizations()))
	const versions = "FROM device_versions WHERE tenant = {tenant:String}"
	always := "device IN (SELECT device " + versions + " GROUP BY device HAVING min(" + mine + "))"
	if time == "" {
		return " AND " + always
	}
	// A span for each version of the devices that have come or gone.
	spans := "(SELECT mapFromArrays(groupArray(device), groupArray(spans)) FROM (SELECT device, arraySort(groupArray((offset, at, " + mine + "))) AS v, " +
		"arrayMap((x, next) -> (x.2, next, x.3), v, arrayPushBack(arrayMap(x -> x.2, arrayPopFront(v)), toDateTime64('2299-01-01 00:00:00', 6, 'UTC'))) AS spans " +
		versions + " GROUP BY device HAVING min(" + mine + ") = 0 AND max(" + mine + ") = 1 ORDER BY device LIMIT " + maxMoved + "))"
	return " AND (" + always + " OR arrayExists(s -> s.3 AND " + time + " >= s.1 AND " + time + " < s.2, " + spans + "[device]))"
}

// maxMoved bounds the devices whose change of organization a question looks at; of
// further ones nothing is shown.
const maxMoved = "10000"
