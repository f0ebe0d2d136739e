package query

import (
	"context"
	"encoding/json"
	"fmt"
	"github.com/fleetlog/fleetlog/internal/access"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	chconn "github.com/fleetlog/fleetlog/internal/clickhouse"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// telemetryService answers from the telemetry table.
type telemetryService struct {
	apiv1.UnimplementedTelemetryServiceServer
	identities

	db *chconn.Conn
}

func (s *telemetryService) GetLatestTelemetry(ctx context.Context, req *apiv1.GetLatestTelemetryRequest) (*apiv1.TelemetryValue, error) {
	tenant, mine, err := s.sender(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	p, err := planLatest(tenant, req)
	if err != nil {
		return nil, err
	}
	p = p.ofScope(access.ScopeOf(ctx))
	var found *apiv1.TelemetryValue
	err = ask(ctx, s.db, p.sql, p.parameters, func(rows driver.Rows) error {
		var at time.Time
		var value *string
		if err := rows.Scan(&at, &value); err != nil {
			return err
		}
		v, err := jsonValue(value)
		found = &apiv1.TelemetryValue{Timestamp: timestamppb.New(at), Value: v}
		return err
	})
	switch {
	case err != nil:
		return nil, err
	case found == nil && !mine:
		return nil, notFound("device %q does not exist", req.GetDeviceId())
	case found == nil:
		return nil, notFound("device %q has never sent telemetry %q", req.GetDeviceId(), req.GetName())
	}
	return found, nil
}

func (s *telemetryService) ListTelemetry(ctx context.Context, req *apiv1.ListTelemetryRequest) (*apiv1.ListTelemetryResponse, error) {
	tenant, mine, err := s.sender(ctx, req.GetDeviceId(), req.GetModule())
	if err != nil {
		return nil, err
	}
	p, at, err := planList(tenant, req, time.Now())
	if err != nil {
		return nil, err
	}
	p = p.ofScope(access.ScopeOf(ctx))
	resp := &apiv1.ListTelemetryResponse{}
	more := false
	err = ask(ctx, s.db, p.sql, p.parameters, func(rows driver.Rows) error {
		if more = len(resp.GetValue()) == p.size; more {
			return nil
		}
		row, err := p.scan(rows, &at)
		resp.Value = append(resp.Value, row)
		return err
	})
	if err != nil {
		return nil, err
	}
	if !mine && len(resp.GetValue()) == 0 && req.GetPageToken() == "" {
		return nil, notFound("device %q does not exist", req.GetDeviceId())
	}
	if more {
		resp.NextLink, resp.NextPageToken = nextPage(ctx, encodeToken(at))
	}
	return resp, nil
}

// sender finds the device, and whether it is the caller's now. What it sent while it was
// the caller's stays his, so for one with organizations it is not an error when it is
// not; nor is it one that there is no such device, until nothing is found of it.
func (s *telemetryService) sender(ctx context.Context, id, module string) (tenant string, mine bool, err error) {
	state, _, err := s.get(ctx, id, module)
	if err == nil {
		return state.GetTenant(), true, nil
	}
	if status.Code(err) != codes.NotFound || access.ScopeOf(ctx).Everywhere() {
		return "", false, err
	}
	p, err := s.caller(ctx)
	return p.Tenant, false, err
}

// scan reads a row and notes where it stands.
func (p plan) scan(rows driver.Rows, at *telemetryToken) (*apiv1.TelemetryRow, error) {
	var texts []*string
	var when time.Time
	if p.windowed {
		if err := rows.Scan(&at.Before, &texts); err != nil {
			return nil, err
		}
		when = time.UnixMilli(at.Before)
	} else {
		if err := rows.Scan(&when, &at.Partition, &at.Offset, &texts); err != nil {
			return nil, err
		}
		at.Before = when.UnixMilli()
	}
	values, err := p.values(texts)
	return &apiv1.TelemetryRow{Timestamp: timestamppb.New(when), Values: values}, err
}

// values gives each text its name; without names the one text is the whole body.
func (p plan) values(texts []*string) (*structpb.Struct, error) {
	if p.names == nil {
		whole, err := jsonValue(texts[0])
		return whole.GetStructValue(), err
	}
	values := &structpb.Struct{Fields: make(map[string]*structpb.Value, len(texts))}
	for i, text := range texts {
		if text == nil || *text == "null" {
			continue
		}
		v, err := jsonValue(text)
		if err != nil {
			return nil, err
		}
		values.Fields[p.names[i]] = v
	}
	return values, nil
}

func jsonValue(text *string) (*structpb.Value, error) {
	var v any
	if text != nil {
		if err := json.Unmarshal([]byte(*text), &v); err != nil {
			return nil, fmt.Errorf("value of telemetry: %w", err)
		}
	}
	return structpb.NewValue(v)
}
