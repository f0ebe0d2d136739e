package query

import (
	"context"
	"slices"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/dashboard"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
)

// dashboardService answers reads from the node's catalog and makes changes events;
// what the tiles show it has from the tables.
type dashboardService struct {
	apiv1.UnimplementedDashboardServiceServer
	resources

	tiles *tiles
}

func newDashboardService(deps Deps, t *tiles) *dashboardService {
	return &dashboardService{
		resources: resources{catalog: deps.Catalog, directory: deps.Directory, kind: dashboard.KindName, noun: dashboard.Kind().Noun, timeout: changeTimeout},
		tiles:     t,
	}
}

func (s *dashboardService) ListDashboards(ctx context.Context, req *apiv1.ListDashboardsRequest) (*apiv1.ListDashboardsResponse, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	page, link, next, err := s.list(ctx, req.GetMaxpagesize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListDashboardsResponse{NextLink: link, NextPageToken: next}
	for _, r := range page {
		resp.Value = append(resp.Value, toDashboard(r, p.ID))
	}
	return resp, nil
}

func (s *dashboardService) GetDashboard(ctx context.Context, req *apiv1.GetDashboardRequest) (*apiv1.Dashboard, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.get(ctx, req.GetDashboardId())
	if err != nil {
		return nil, err
	}
	return toDashboard(r, p.ID), nil
}

func (s *dashboardService) PutDashboard(ctx context.Context, req *apiv1.PutDashboardRequest) (*apiv1.Dashboard, error) {
	d := req.GetDashboard()
	if id := d.GetId(); id != "" && id != req.GetDashboardId() {
		return nil, badField("id", "the body's id is %q, the path's %q: leave it out of the body", id, req.GetDashboardId())
	}
	if d.GetPersonal() {
		return nil, badField("personal", "a personal dashboard cannot be made by the API: leave personal out")
	}
	return s.editDashboard(ctx, req.GetDashboardId(), d.GetEtag(), func(current *eventsv1.Dashboard, caller string) (*eventsv1.Dashboard, error) {
		return &eventsv1.Dashboard{
			DisplayName: d.GetDisplayName(), Tiles: fromTiles(d.GetTiles()), Organizations: d.GetOrganizations(),
			FavoriteOf: favorites(current.GetFavoriteOf(), caller, d.GetFavorite()),
		}, nil
	})
}

func (s *dashboardService) UpdateDashboard(ctx context.Context, req *apiv1.UpdateDashboardRequest) (*apiv1.Dashboard, error) {
	d, id := req.GetDashboard(), req.GetDashboardId()
	if d == nil {
		return nil, badField("dashboard", "the body is empty: send the fields to change")
	}
	return s.editDashboard(ctx, id, d.GetEtag(), func(current *eventsv1.Dashboard, caller string) (*eventsv1.Dashboard, error) {
		if current == nil {
			return nil, notFound("dashboard %q does not exist", id)
		}
		next := proto.CloneOf(current)
		if d.DisplayName != nil {
			next.DisplayName = d.GetDisplayName()
		}
		if len(d.GetTiles()) > 0 {
			next.Tiles = fromTiles(d.GetTiles())
		}
		if d.Favorite != nil {
			next.FavoriteOf = favorites(current.GetFavoriteOf(), caller, d.GetFavorite())
		}
		if len(d.GetOrganizations()) > 0 {
			next.Organizations = d.GetOrganizations()
		}
		return next, nil
	})
}

func (s *dashboardService) DeleteDashboard(ctx context.Context, req *apiv1.DeleteDashboardRequest) (*emptypb.Empty, error) {
	if _, err := s.get(ctx, req.GetDashboardId()); err != nil {
		return nil, err
	}
	if err := s.remove(ctx, req.GetDashboardId()); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (s *dashboardService) GetDashboardData(ctx context.Context, req *apiv1.GetDashboardDataRequest) (*apiv1.DashboardData, error) {
	r, err := s.get(ctx, req.GetDashboardId())
	if err != nil {
		return nil, err
	}
	when, err := lookedAt(req.GetTo())
	if err != nil {
		return nil, err
	}
	shown, err := s.tiles.all(ctx, r.Tenant, dashboardOf(r).GetTiles(), when)
	if err != nil {
		return nil, err
	}
	return &apiv1.DashboardData{Tiles: shown}, nil
}

// editDashboard changes a dashboard: edit makes the new one of the one there is
// (nil: none), which it must leave as it is.
func (s *dashboardService) editDashboard(ctx context.Context, id, tag string, edit func(current *eventsv1.Dashboard, caller string) (*eventsv1.Dashboard, error)) (*apiv1.Dashboard, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	r, err := s.edit(ctx, id, tag, func(current *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		next, err := edit(dashboardOf(current), p.ID)
		ev.Change = &eventsv1.CatalogEvent_Dashboard{Dashboard: next}
		return err
	})
	if err != nil {
		return nil, err
	}
	return toDashboard(r, p.ID), nil
}

// favorites are the principals whose favourite it is after the caller has said
// whether it is his.
func favorites(of []string, caller string, favorite bool) []string {
	others := slices.DeleteFunc(slices.Clone(of), func(id string) bool { return id == caller })
	if favorite {
		return append(others, caller)
	}
	return others
}

func dashboardOf(r *catalog.Resource) *eventsv1.Dashboard {
	if r == nil {
		return nil
	}
	return r.Body.(*eventsv1.Dashboard)
}

func toDashboard(r *catalog.Resource, caller string) *apiv1.Dashboard {
	d := dashboardOf(r)
	out := &apiv1.Dashboard{
		Id: r.ID, Etag: device.ETag(r.Version), DisplayName: d.GetDisplayName(), Organizations: d.GetOrganizations(),
		Favorite: slices.Contains(d.GetFavoriteOf(), caller),
	}
	for _, t := range d.GetTiles() {
		out.Tiles = append(out.Tiles, &apiv1.Tile{
			Id: t.GetId(), DisplayName: t.GetDisplayName(), Configuration: t.GetConfiguration(), X: t.GetX(), Y: t.GetY(), Width: t.GetWidth(), Height: t.GetHeight(),
		})
	}
	return out
}

// fromTiles gives an id to each tile that has none.
func fromTiles(tiles []*apiv1.Tile) (out []*eventsv1.DashboardTile) {
	for _, t := range tiles {
		id := t.GetId()
		if id == "" {
			id = eventlog.NewID()
		}
		out = append(out, &eventsv1.DashboardTile{
			Id: id, DisplayName: t.GetDisplayName(), Configuration: t.GetConfiguration(), X: t.GetX(), Y: t.GetY(), Width: t.GetWidth(), Height: t.GetHeight(),
		})
	}
	return out
}
