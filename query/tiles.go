package query

import (
	"context"
	"fmt"
	"time"

	chconn "github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/dashboard"
	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// tiles answers what tiles of dashboards show. Curves and totals are read from the
// sums of the projections, ten seconds behind; values as they were sent, from the
// messages.
type tiles struct {
	groups *deviceGroupService
	db     *chconn.Conn
}

func newTiles(deps Deps) *tiles {
	return &tiles{groups: newDeviceGroupService(deps), db: deps.ClickHouse}
}

// tilesAtOnce bounds the questions that one dashboard asks at the same time.
const tilesAtOnce = 4

// all is what the tiles show, each for itself: one that cannot be answered says why.
func (s *tiles) all(ctx context.Context, tenant string, of []*eventsv1.DashboardTile, when moment) ([]*apiv1.TileData, error) {
	shown := make([]*apiv1.TileData, len(of))
	var asking errgroup.Group
	asking.SetLimit(tilesAtOnce)
	for i, t := range of {
		asking.Go(func() error {
			shown[i] = s.one(ctx, tenant, t, when)
			return nil
		})
	}
	_ = asking.Wait() // the questions answer for themselves
	return shown, toStatus(ctx.Err())
}

func (s *tiles) one(ctx context.Context, tenant string, t *eventsv1.DashboardTile, when moment) *apiv1.TileData {
	asked, err := dashboard.ReadTile(t.GetConfiguration())
	var shown *apiv1.TileData
	if err == nil {
		shown, err = s.show(ctx, tenant, asked, when)
	}
	if err != nil {
		shown = &apiv1.TileData{Error: status.Convert(err).Message()}
	}
	shown.TileId = t.GetId()
	return shown
}

// show answers one tile.
func (s *tiles) show(ctx context.Context, tenant string, t *dashboard.Tile, when moment) (*apiv1.TileData, error) {
	switch t.Shows {
	case dashboard.Curves, dashboard.Total, dashboard.Counts:
		return s.aggregates(ctx, tenant, t, when)
	case dashboard.Values, dashboard.Positions:
		return s.values(ctx, tenant, t, when, t.Window(), lastValues)
	case dashboard.Latest:
		return s.latest(ctx, tenant, t, when)
	case dashboard.Properties:
		return s.properties(ctx, tenant, t)
	case dashboard.DeviceCount:
		filter, err := s.groupFilter(ctx, tenant, t.Group)
		if err != nil {
			return nil, err
		}
		var at *time.Time
		if when.past {
			at = &when.at
		}
		n, err := s.groups.count(ctx, tenant, filter, at)
		return &apiv1.TileData{Count: proto.Uint32(uint32(n))}, err
	case dashboard.Saved:
		return s.saved(ctx, tenant, t, when)
	case dashboard.Nothing:
	}
	return &apiv1.TileData{}, nil
}

// saved answers the saved query of a tile, in the tile's time.
func (s *tiles) saved(ctx context.Context, tenant string, t *dashboard.Tile, when moment) (*apiv1.TileData, error) {
	r := s.groups.catalog.Get(tenant, dashboard.QueryKindName, t.Query)
	if r == nil || !visible(ctx, r) {
		return nil, notFound("saved query %q does not exist", t.Query)
	}
	asked, err := dashboard.ReadQuery(explorerQueryOf(r).GetConfiguration())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	if t.QueryRange != nil {
		asked.QueryRange = t.QueryRange
	}
	return s.show(ctx, tenant, asked, when)
}

// groupFilter is the query of a group; without a group it means all devices.
func (s *tiles) groupFilter(ctx context.Context, tenant, id string) (string, error) {
	const everything = "SELECT * FROM devices"
	if id == "" {
		return everything, nil
	}
	r, err := s.groups.group(ctx, id)
	if err != nil {
		return "", err
	}
	if r.Tenant != tenant { // a group is read as the caller, who is of the tenant
		return "", notFound("device group %q does not exist", id)
	}
	return groupOf(r).GetFilter(), nil
}

// properties are shown as they are now, whatever time is looked at.
func (s *tiles) properties(ctx context.Context, tenant string, t *dashboard.Tile) (*apiv1.TileData, error) {
	var states []*eventsv1.DeviceState
	for _, id := range t.Devices {
		if state := inScope(ctx, s.groups.fleet.registry.Get(tenant, id)); state != nil {
			states = append(states, state)
		}
	}
	if len(t.Devices) == 0 {
		filter, err := s.groupFilter(ctx, tenant, t.Group)
		if err != nil {
			return nil, err
		}
		if states, _, err = s.groups.members(ctx, tenant, fleetPage{of: filter}, maxTileDevices, maxTileDevices); err != nil {
			return nil, err
		}
	}
	shown := &apiv1.TileData{}
	for _, state := range states {
		p, err := device.PropertiesOf(state, "")
		if err != nil {
			return nil, toStatus(err)
		}
		values := p.Values()
		for _, c := range t.Capabilities {
			value, err := structpb.NewValue(memberOf(values, c.Path))
			if err != nil {
				return nil, toStatus(fmt.Errorf("property %s of device %s: %w", c.Path, state.GetDevice(), err))
			}
			shown.Series = append(shown.Series, &apiv1.Series{Device: state.GetDevice(), Capability: c.Path, Points: []*apiv1.Point{{Value: value}}})
		}
	}
	return shown, nil
}

// maxTileDevices bounds the devices a tile without a list of them shows one by one.
const maxTileDevices = 100

func point(at time.Time, value *structpb.Value) *apiv1.Point {
	return &apiv1.Point{Timestamp: timestamppb.New(at), Value: value}
}
