package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
	"github.com/fleetlog/fleetlog/internal/access"
	chconn "github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/devicefilter"
	"github.com/fleetlog/fleetlog/internal/template"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"github.com/fleetlog/fleetlog/query/fleetql"
	"google.golang.org/genproto/googleapis/api/httpbody"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
)

// queryService answers questions in the query language. What ClickHouse makes of them
// is handed on as it comes; nothing is gathered here.
type queryService struct {
	apiv1.UnimplementedQueryServiceServer

	db        *chconn.Conn
	templates *template.Templates
	groups    *deviceGroupService
	limits    sqlLimits
	gate      *turnstile
}

// questionLimits are those of everybody, until there are roles.
var questionLimits = sqlLimits{
	resultRows: 1_000_000, resultBytes: 1 << 30, readRows: 10_000_000_000, readBytes: 200 << 30, memory: maxQueryBytes, time: maxQueryTime, running: 8,
}

const (
	// maxAnswer is how many rows an answer in JSON has without TOP, and a page at most
	// (FEATURES.md QRY-09).
	maxAnswer = 10_000
	// rowsAtOnce is how many rows are in one message.
	rowsAtOnce = 500
)

func newQueryService(deps Deps, limits sqlLimits) *queryService {
	return &queryService{db: deps.ClickHouse, templates: deps.Templates, groups: newDeviceGroupService(deps), limits: limits, gate: newTurnstile(int(limits.running))}
}

// plan makes a plan of a request.
func (s *queryService) plan(ctx context.Context, req *apiv1.QueryRequest, format string) (answerPlan, *question, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return answerPlan{}, nil, toStatus(err)
	}
	parsed, err := fleetql.Parse(req.GetQuery())
	if err != nil {
		return answerPlan{}, nil, badField("query", "%s", err)
	}
	q := &question{Query: parsed, text: req.GetQuery(), now: time.Now(), limit: int(s.limits.resultRows), typed: format == "arrow", filterSQL: filterSQL{parameters: map[string]string{"tenant": p.Tenant}, scope: access.ScopeOf(ctx)}}
	if format == "json" && parsed.Top == 0 {
		q.limit = maxAnswer
	}
	q.group = func(id string) (devicefilter.Expr, error) {
		r, err := s.groups.group(ctx, id)
		if err != nil {
			return nil, err
		}
		return parseGroup(groupOf(r).GetFilter())
	}
	if err := s.templates.Ready(); err != nil {
		return answerPlan{}, nil, toStatus(err)
	}
	for _, source := range parsed.From {
		t := s.templates.Get(p.Tenant, source.Template)
		if t == nil {
			return answerPlan{}, nil, q.errorAt(source.Pos, "there is no published device template %s", source.Template)
		}
		q.templates = append(q.templates, t)
	}
	if err := q.paged(req, format); err != nil {
		return answerPlan{}, nil, err
	}
	answer, err := q.answer()
	return answer, q, err
}

func (s *queryService) ExplainQuery(ctx context.Context, req *apiv1.ExplainQueryRequest) (*apiv1.QueryPlan, error) {
	p, _, err := s.plan(ctx, &apiv1.QueryRequest{Query: req.GetQuery()}, "json")
	if err != nil {
		return nil, err
	}
	return &apiv1.QueryPlan{Sql: p.sql, Parameters: p.parameters, Table: p.table, Notes: p.notes}, nil
}

func (s *queryService) Query(req *apiv1.QueryRequest, stream grpc.ServerStreamingServer[httpbody.HttpBody]) error {
	ctx := stream.Context()
	format := strings.ToLower(req.GetFormat())
	if format == "" {
		format = "json"
	}
	if format != "json" && format != "csv" && format != "arrow" {
		return badField("format", "format %.20q is not one: use json, csv or arrow", req.GetFormat())
	}
	p, q, err := s.plan(ctx, req, format)
	if err != nil {
		return err
	}
	out := &partWriter{stream: stream}
	switch {
	case q.Explain:
		out.kind = "application/json"
		text, err := json.Marshal(map[string]any{"results": []any{map[string]any{"sql": p.sql, "parameters": p.parameters, "table": p.table, "notes": p.notes}}})
		if err != nil {
			return toStatus(err)
		}
		_, err = out.Write(text)
		return err
	case format == "csv":
		out.kind = "text/csv; charset=utf-8"
		return s.stream(ctx, p, "CSVWithNames", func(rows io.Reader) error { _, err := io.CopyBuffer(out, rows, make([]byte, partBytes)); return err })
	case format == "arrow":
		out.kind = "application/vnd.apache.arrow.stream"
		return s.stream(ctx, p, "ArrowStream", func(rows io.Reader) error { _, err := io.CopyBuffer(out, rows, make([]byte, partBytes)); return err })
	}
	out.kind = "application/json"
	if q.page != nil {
		return s.stream(ctx, p, "JSONEachRow", func(rows io.Reader) error { return writePage(out, rows, q) })
	}
	return s.stream(ctx, p, "JSONEachRow", func(rows io.Reader) error { return writeResults(out, rows) })
}

// stream runs the statement and hands its rows on. When the caller goes away
// ClickHouse stops.
func (s *queryService) stream(ctx context.Context, p answerPlan, format string, hand func(io.Reader) error) error {
	leave, ok := s.gate.enter(p.parameters["tenant"])
	if !ok {
		return detailed(codes.ResourceExhausted, fmt.Sprintf("%d queries of yours are running, which is the most: wait for one to end", s.gate.most),
			&errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)})
	}
	defer leave()
	ctx, cancel := context.WithTimeout(ctx, s.limits.time+time.Second)
	defer cancel()
	answer, err := s.db.Forward(ctx, p.sql, s.values(p, format), false)
	if err != nil {
		return queryFailure(ctx, err)
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return s.failure(ctx, answer)
	}
	if err := hand(answer.Body); err != nil {
		if ctx.Err() != nil {
			return toStatus(ctx.Err())
		}
		if _, ok := status.FromError(err); ok {
			return err
		}
		return &unavailableError{fmt.Errorf("read the answer of ClickHouse: %w", err), "the answer broke off: try again"}
	}
	return nil
}

// values are what goes with the statement: its parameters, the limits, and how the
// answer is to look.
func (s *queryService) values(p answerPlan, format string) url.Values {
	values := url.Values{
		"database": {s.db.Database()}, "default_format": {format}, "date_time_output_format": {"iso"}, "prefer_column_name_to_alias": {"1"},
		"output_format_json_quote_64bit_integers": {"0"}, "output_format_json_quote_denormals": {"0"}, "join_use_nulls": {"0"},
		"cancel_http_readonly_queries_on_client_close": {"1"}, "allow_suspicious_types_in_group_by": {"1"}, "allow_suspicious_types_in_order_by": {"1"}, "optimize_read_in_order": {"1"}, "optimize_aggregation_in_order": {"1"}, "readonly": {"2"},
	}
	for name, value := range s.limits.settings() {
		values.Set(name, strconv.FormatInt(value, 10))
	}
	for name, value := range p.parameters {
		values.Set("param_"+name, value)
	}
	return values
}

// failure is the status of an answer that is none.
func (s *queryService) failure(ctx context.Context, answer *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(answer.Body, 4<<10)) // as much of it as there is
	code, err := strconv.ParseInt(answer.Header.Get("X-ClickHouse-Exception-Code"), 10, 32)
	if err != nil {
		return queryFailure(ctx, fmt.Errorf("ClickHouse answers %s: %s", answer.Status, text))
	}
	switch code {
	case 158, 307, 396: // TOO_MANY_ROWS, TOO_MANY_BYTES, TOO_MANY_ROWS_OR_BYTES
		return status.Error(codes.ResourceExhausted, "the query reads or answers with more than is allowed: ask for a shorter time or fewer devices, or use GROUP BY")
	}
	return queryFailure(ctx, fmt.Errorf("query ClickHouse: %w", &clickhouse.Exception{Code: int32(code), Message: string(text)}))
}

// partWriter sends what is written to it as parts of an answer.
type partWriter struct {
	stream grpc.ServerStreamingServer[httpbody.HttpBody]
	kind   string
}

// Write sends one message.
func (w *partWriter) Write(p []byte) (int, error) {
	if err := w.stream.Send(&httpbody.HttpBody{ContentType: w.kind, Data: p}); err != nil {
		return 0, err
	}
	return len(p), nil
}

// writeResults makes IoT Central's answer of rows of JSON, a line each.
func writeResults(out io.Writer, rows io.Reader) error {
	in, part := make([]byte, partBytes), make([]byte, 0, partBytes+1024)
	part = append(part, `{"results":[`...)
	ended := false // a row, behind which another may come
	for {
		read, err := rows.Read(in)
		for rest := in[:read]; len(rest) > 0; {
			if ended {
				part = append(part, ',')
			}
			var line []byte
			line, rest, ended = bytes.Cut(rest, []byte{'\n'})
			part = append(part, line...)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		if len(part) >= partBytes/2 {
			if _, err := out.Write(part); err != nil {
				return err
			}
			part = part[:0]
		}
	}
	_, err := out.Write(append(part, ']', '}'))
	return err
}

func (s *queryService) StreamQuery(req *apiv1.StreamQueryRequest, stream grpc.ServerStreamingServer[apiv1.QueryRows]) error {
	ctx := stream.Context()
	p, _, err := s.plan(ctx, &apiv1.QueryRequest{Query: req.GetQuery()}, "rows")
	if err != nil {
		return err
	}
	return s.stream(ctx, p, "JSONEachRow", func(rows io.Reader) error {
		lines := json.NewDecoder(rows)
		batch := &apiv1.QueryRows{}
		for {
			var row map[string]any
			err := lines.Decode(&row)
			if err == nil {
				var one *structpb.Struct
				one, err = structpb.NewStruct(row)
				batch.Rows = append(batch.Rows, one)
			}
			if ended := errors.Is(err, io.EOF); err != nil && !ended {
				return err
			} else if len(batch.GetRows()) == rowsAtOnce || ended && len(batch.GetRows()) > 0 {
				if err := stream.Send(batch); err != nil {
					return err
				}
				batch = &apiv1.QueryRows{}
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
		}
	})
}
