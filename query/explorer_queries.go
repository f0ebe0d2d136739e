package query

import (
	"context"
	"time"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/dashboard"
	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// explorerQueryService is the data explorer: saved questions, and their answers.
type explorerQueryService struct {
	apiv1.UnimplementedExplorerQueryServiceServer
	resources

	tiles *tiles
}

func newExplorerQueryService(deps Deps, t *tiles) *explorerQueryService {
	return &explorerQueryService{
		resources: resources{catalog: deps.Catalog, directory: deps.Directory, kind: dashboard.QueryKindName, noun: dashboard.QueryKind().Noun, timeout: changeTimeout},
		tiles:     t,
	}
}

func (s *explorerQueryService) ListExplorerQueries(ctx context.Context, req *apiv1.ListExplorerQueriesRequest) (*apiv1.ListExplorerQueriesResponse, error) {
	page, link, next, err := s.list(ctx, req.GetMaxpagesize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListExplorerQueriesResponse{NextLink: link, NextPageToken: next}
	for _, r := range page {
		resp.Value = append(resp.Value, toExplorerQuery(r))
	}
	return resp, nil
}

func (s *explorerQueryService) GetExplorerQuery(ctx context.Context, req *apiv1.GetExplorerQueryRequest) (*apiv1.ExplorerQuery, error) {
	r, err := s.get(ctx, req.GetQueryId())
	if err != nil {
		return nil, err
	}
	return toExplorerQuery(r), nil
}

func (s *explorerQueryService) PutExplorerQuery(ctx context.Context, req *apiv1.PutExplorerQueryRequest) (*apiv1.ExplorerQuery, error) {
	q := req.GetQuery()
	if id := q.GetId(); id != "" && id != req.GetQueryId() {
		return nil, badField("id", "the body's id is %q, the path's %q: leave it out of the body", id, req.GetQueryId())
	}
	r, err := s.edit(ctx, req.GetQueryId(), q.GetEtag(), func(_ *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		ev.Change = &eventsv1.CatalogEvent_ExplorerQuery{ExplorerQuery: &eventsv1.ExplorerQuery{
			DisplayName: q.GetDisplayName(), Description: q.GetDescription(), Configuration: q.GetConfiguration(), Organizations: q.GetOrganizations(),
		}}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return toExplorerQuery(r), nil
}

func (s *explorerQueryService) DeleteExplorerQuery(ctx context.Context, req *apiv1.DeleteExplorerQueryRequest) (*emptypb.Empty, error) {
	if _, err := s.get(ctx, req.GetQueryId()); err != nil {
		return nil, err
	}
	if err := s.remove(ctx, req.GetQueryId()); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (s *explorerQueryService) GetExplorerQueryData(ctx context.Context, req *apiv1.GetExplorerQueryDataRequest) (*apiv1.TileData, error) {
	r, err := s.get(ctx, req.GetQueryId())
	if err != nil {
		return nil, err
	}
	return s.explore(ctx, explorerQueryOf(r).GetConfiguration(), req.GetTo())
}

func (s *explorerQueryService) Explore(ctx context.Context, req *apiv1.ExploreRequest) (*apiv1.TileData, error) {
	if _, err := s.reader(ctx); err != nil {
		return nil, err
	}
	return s.explore(ctx, req.GetConfiguration(), req.GetTo())
}

func (s *explorerQueryService) explore(ctx context.Context, configuration *structpb.Struct, to *timestamppb.Timestamp) (*apiv1.TileData, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	asked, err := dashboard.ReadQuery(configuration)
	if err != nil {
		return nil, badField("configuration", "configuration.%s", err)
	}
	when, err := lookedAt(to)
	if err != nil {
		return nil, err
	}
	return s.tiles.show(ctx, p.Tenant, asked, when)
}

// moment is when something is looked at.
type moment struct {
	at   time.Time
	past bool // somebody asked for that time
}

func lookedAt(to *timestamppb.Timestamp) (moment, error) {
	if to == nil {
		return moment{at: time.Now()}, nil
	}
	if err := to.CheckValid(); err != nil {
		return moment{}, badField("to", "to is not a time: %s", err)
	}
	at := time.UnixMilli(storable(to.AsTime().UnixMilli()))
	return moment{at: at, past: at.Before(time.Now())}, nil
}

func explorerQueryOf(r *catalog.Resource) *eventsv1.ExplorerQuery {
	return r.Body.(*eventsv1.ExplorerQuery)
}

func toExplorerQuery(r *catalog.Resource) *apiv1.ExplorerQuery {
	q := explorerQueryOf(r)
	return &apiv1.ExplorerQuery{
		Id: r.ID, Etag: device.ETag(r.Version), DisplayName: q.GetDisplayName(), Description: q.GetDescription(), Configuration: q.GetConfiguration(), Organizations: q.GetOrganizations(),
	}
}
