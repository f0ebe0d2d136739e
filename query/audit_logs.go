package query

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/access"
	chconn "github.com/fleetlog/fleetlog/internal/clickhouse"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// auditSpan is what is looked at when nobody says (FEATURES.md AUD-04).
const auditSpan = 30 * 24 * time.Hour

const maxAuditText = 256

// auditLogService tells who changed what, from the view audit.
type auditLogService struct {
	apiv1.UnimplementedAuditLogServiceServer

	db *chconn.Conn
}

// auditToken is where a page begins: behind this entry, in the span of the first page.
type auditToken struct {
	To int64  `json:"t"` // Unix microseconds
	At int64  `json:"a"` // Unix microseconds
	ID string `json:"i"`
}

func (s *auditLogService) ListAuditLogs(ctx context.Context, req *apiv1.ListAuditLogsRequest) (*apiv1.ListAuditLogsResponse, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	asked, at, err := planAudit(p.Tenant, req, time.Now())
	if err != nil {
		return nil, err
	}
	resp, more := &apiv1.ListAuditLogsResponse{}, false
	err = ask(ctx, s.db, asked.sql, asked.parameters, func(rows driver.Rows) error {
		if more = len(resp.GetValue()) == asked.size; more {
			return nil
		}
		entry, micros, err := scanAudit(rows)
		resp.Value, at.At, at.ID = append(resp.Value, entry), micros, entry.GetId()
		return err
	})
	if err != nil {
		return nil, err
	}
	if more {
		resp.NextLink, resp.NextPageToken = nextPage(ctx, encodeToken(at))
	}
	return resp, nil
}

// planAudit makes the statement of a page.
func planAudit(tenant string, req *apiv1.ListAuditLogsRequest, now time.Time) (p plan, at auditToken, err error) {
	if p.size, err = pageSize(req.GetMaxpagesize(), defaultResourcesPage, maxResourcesPage); err != nil {
		return p, at, err
	}
	if at, err = decodeToken[auditToken](req.GetPageToken()); err != nil {
		return p, at, err
	}
	to := now
	if req.GetTo() != nil {
		if to, err = timeOf("to", req.GetTo()); err != nil {
			return p, at, err
		}
	} else if at.To != 0 {
		to = time.UnixMicro(at.To)
	}
	from := to.Add(-auditSpan)
	if req.GetFrom() != nil {
		if from, err = timeOf("from", req.GetFrom()); err != nil {
			return p, at, err
		}
	}
	if !from.Before(to) {
		return p, at, badField("from", "from is not before to")
	}
	at.To = to.UnixMicro()
	p.parameters = map[string]string{"tenant": tenant, "from": micros(from), "to": micros(to), "limit": strconv.Itoa(p.size + 1)}
	where := []string{"tenant = {tenant:String}", "at >= fromUnixTimestamp64Micro({from:Int64}, 'UTC')", "at < fromUnixTimestamp64Micro({to:Int64}, 'UTC')"}
	for column, value := range map[string]string{"principal": req.GetActor(), "kind": req.GetKind(), "resource": req.GetResource(), "action": req.GetAction()} {
		if len(value) > maxAuditText {
			return p, at, badField(column, "%s has %d bytes: use at most %d", column, len(value), maxAuditText)
		}
		if value != "" {
			where, p.parameters[column] = append(where, column+" = {"+column+":String}"), escapeText.Replace(value)
		}
	}
	if req.GetPageToken() != "" {
		where = append(where, "(at, id) < (fromUnixTimestamp64Micro({at:Int64}, 'UTC'), {id:String})")
		p.parameters["at"], p.parameters["id"] = strconv.FormatInt(at.At, 10), escapeText.Replace(at.ID)
	}
	p.sql = "SELECT toUnixTimestamp64Micro(at), id, principal, address, request_id, method, kind, resource, action, subject, permission, reason, count, topic, partition, offset " +
		"FROM audit WHERE " + strings.Join(where, " AND ") + " ORDER BY at DESC, id DESC LIMIT {limit:UInt32}"
	return p, at, nil
}

func scanAudit(rows driver.Rows) (*apiv1.AuditLog, int64, error) {
	entry := &apiv1.AuditLog{Actor: &apiv1.AuditActor{}, Position: &apiv1.LogPosition{}}
	var at int64
	var permission, reason string
	var count uint64
	err := rows.Scan(&at, &entry.Id, &entry.Actor.Id, &entry.Actor.Address, &entry.Actor.RequestId, &entry.Actor.Method, &entry.Kind, &entry.Resource, &entry.Action, &entry.Subject,
		&permission, &reason, &count, &entry.Position.Topic, &entry.Position.Partition, &entry.Position.Offset)
	entry.Time = timestamppb.New(time.UnixMicro(at))
	if reason != "" {
		entry.Permission, entry.Reason, entry.Count = proto.String(permission), proto.String(reason), proto.Uint64(count)
	}
	return entry, at, err
}
