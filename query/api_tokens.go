package query

import (
	"context"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// apiTokenService makes the tokens by which programs come in.
type apiTokenService struct {
	apiv1.UnimplementedApiTokenServiceServer
	resources
}

func newAPITokenService(deps Deps) *apiTokenService {
	return &apiTokenService{resources: resources{catalog: deps.Catalog, directory: deps.Directory, kind: access.TokenKind, noun: "API token", timeout: changeTimeout}}
}

// maxTokenLife is how long a token is good (FEATURES.md TOK-02).
const maxTokenLife = 366 * 24 * time.Hour

func (s *apiTokenService) ListApiTokens(ctx context.Context, req *apiv1.ListApiTokensRequest) (*apiv1.ListApiTokensResponse, error) { //nolint:revive,staticcheck // named by the proto, after its path
	page, link, next, err := s.list(ctx, req.GetMaxpagesize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListApiTokensResponse{NextLink: link, NextPageToken: next}
	for _, r := range page {
		resp.Value = append(resp.Value, toAPIToken(r))
	}
	return resp, nil
}

func (s *apiTokenService) GetApiToken(ctx context.Context, req *apiv1.GetApiTokenRequest) (*apiv1.ApiToken, error) { //nolint:revive,staticcheck // named by the proto, after its path
	r, err := s.get(ctx, req.GetApiTokenId())
	if err != nil {
		return nil, err
	}
	return toAPIToken(r), nil
}

func (s *apiTokenService) PutApiToken(ctx context.Context, req *apiv1.PutApiTokenRequest) (*apiv1.ApiToken, error) { //nolint:revive,staticcheck // named by the proto, after its path
	asked, id := req.GetApiToken(), req.GetApiTokenId()
	if err := sameID(asked.GetId(), id); err != nil {
		return nil, err
	}
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	expiry, err := expiryOf(asked.GetExpiry(), time.Now())
	if err != nil {
		return nil, err
	}
	token, hash := access.NewToken(p.Tenant, id, expiry)
	r, err := s.edit(ctx, id, "", func(current *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		if current != nil {
			return status.Errorf(codes.AlreadyExists, "API token %q already exists, and a token is shown once: delete it first, or choose another id", id)
		}
		roles := fromAssignments(asked.GetRoles())
		ev.Change = &eventsv1.CatalogEvent_ApiToken{ApiToken: &eventsv1.ApiToken{Roles: roles, Expiry: timestamppb.New(expiry), Hash: hash}}
		return s.mayGrant(p, roles)
	})
	if err != nil {
		return nil, err
	}
	made := toAPIToken(r)
	made.Token = &token
	return made, nil
}

func (s *apiTokenService) DeleteApiToken(ctx context.Context, req *apiv1.DeleteApiTokenRequest) (*emptypb.Empty, error) { //nolint:revive,staticcheck // named by the proto, after its path
	return &emptypb.Empty{}, s.remove(ctx, req.GetApiTokenId())
}

// expiryOf is when a token ends, in whole milliseconds.
func expiryOf(asked *timestamppb.Timestamp, now time.Time) (time.Time, error) {
	latest := now.Add(maxTokenLife)
	if asked == nil {
		return now.AddDate(1, 0, 0).Truncate(time.Millisecond), nil
	}
	at := asked.AsTime().Truncate(time.Millisecond)
	if asked.CheckValid() != nil || !at.After(now) || at.After(latest) {
		return at, badField("expiry", "expiry must be in the future, and before %s", latest.UTC().Format(time.RFC3339))
	}
	return at, nil
}

func toAPIToken(r *catalog.Resource) *apiv1.ApiToken {
	t := r.Body.(*eventsv1.ApiToken)
	return &apiv1.ApiToken{Id: r.ID, Roles: toAssignments(t.GetRoles()), Expiry: t.GetExpiry()}
}
