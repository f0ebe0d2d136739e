package query

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/access"
	chconn "github.com/fleetlog/fleetlog/internal/clickhouse"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	defaultDeadLettersPage = 25
	maxDeadLettersPage     = 100
	// maxDeadPayload is what a page shows of each payload.
	maxDeadPayload = 4 << 10
	maxStageBytes  = 256
)

// deadLetterService answers from the table dead_letter.
type deadLetterService struct {
	apiv1.UnimplementedDeadLetterServiceServer

	db *chconn.Conn
}

// deadLetterToken is where a page begins: behind this dead letter.
type deadLetterToken struct {
	At        int64  `json:"t"` // Unix milliseconds
	Stage     string `json:"s"`
	Topic     string `json:"k"`
	Partition int32  `json:"p"`
	Offset    int64  `json:"o"`
}

func (s *deadLetterService) ListDeadLetters(ctx context.Context, req *apiv1.ListDeadLettersRequest) (*apiv1.ListDeadLettersResponse, error) {
	p, err := access.FromContext(ctx)
	if err != nil {
		return nil, toStatus(err)
	}
	sql, parameters, size, err := planDeadLetters(p.Tenant, req)
	if err != nil {
		return nil, err
	}
	resp, more, last := &apiv1.ListDeadLettersResponse{}, false, deadLetterToken{}
	err = ask(ctx, s.db, sql, parameters, func(rows driver.Rows) error {
		if more = len(resp.GetValue()) == size; more {
			return nil
		}
		var letter *apiv1.DeadLetter
		letter, last, err = scanDeadLetter(rows)
		resp.Value = append(resp.Value, letter)
		return err
	})
	if err != nil {
		return nil, err
	}
	if more {
		resp.NextLink, resp.NextPageToken = nextPage(ctx, encodeToken(last))
	}
	return resp, nil
}

// planDeadLetters is the statement that reads one dead letter more than the page has.
func planDeadLetters(tenant string, req *apiv1.ListDeadLettersRequest) (sql string, parameters map[string]string, size int, err error) {
	if size, err = pageSize(req.GetMaxpagesize(), defaultDeadLettersPage, maxDeadLettersPage); err != nil {
		return "", nil, 0, err
	}
	if len(req.GetStage()) > maxStageBytes {
		return "", nil, 0, badField("stage", "stage has %d bytes: use at most %d", len(req.GetStage()), maxStageBytes)
	}
	after, err := decodeToken[deadLetterToken](req.GetPageToken())
	if err != nil {
		return "", nil, 0, err
	}
	where, parameters := []string{"tenant = {tenant:String}"}, map[string]string{"tenant": tenant, "limit": strconv.Itoa(size + 1), "payload": strconv.Itoa(maxDeadPayload)}
	add := func(name, value, condition string) {
		where, parameters[name] = append(where, condition), value
	}
	if req.GetStage() != "" {
		add("stage", req.GetStage(), "stage = {stage:String}")
	}
	if from := req.GetFrom(); from != nil {
		add("from", milliseconds(from), "logged_at >= fromUnixTimestamp64Milli({from:Int64}, 'UTC')")
	}
	if to := req.GetTo(); to != nil {
		add("to", milliseconds(to), "logged_at < fromUnixTimestamp64Milli({to:Int64}, 'UTC')")
	}
	if req.GetPageToken() != "" {
		where = append(where, `logged_at <= fromUnixTimestamp64Milli({at:Int64}, 'UTC')`,
			`(logged_at, toString(stage), toString(source_topic), source_partition, source_offset) < (fromUnixTimestamp64Milli({at:Int64}, 'UTC'), {after_stage:String}, {topic:String}, {partition:Int32}, {offset:Int64})`)
		parameters["at"], parameters["after_stage"], parameters["topic"] = strconv.FormatInt(after.At, 10), after.Stage, after.Topic
		parameters["partition"], parameters["offset"] = strconv.Itoa(int(after.Partition)), strconv.FormatInt(after.Offset, 10)
	}
	return fmt.Sprintf(`SELECT stage, reason, source_topic, source_partition, source_offset, logged_at, key, headers, substring(payload, 1, {payload:UInt32}), payload_bytes
		FROM dead_letter FINAL WHERE %s
		ORDER BY logged_at DESC, stage DESC, source_topic DESC, source_partition DESC, source_offset DESC LIMIT {limit:UInt32}`, strings.Join(where, " AND ")), parameters, size, nil
}

func milliseconds(t *timestamppb.Timestamp) string {
	return strconv.FormatInt(t.AsTime().UnixMilli(), 10)
}

func scanDeadLetter(rows driver.Rows) (*apiv1.DeadLetter, deadLetterToken, error) {
	letter := &apiv1.DeadLetter{}
	var at time.Time
	var headers map[string]string
	var payload string
	if err := rows.Scan(&letter.Stage, &letter.Reason, &letter.Topic, &letter.Partition, &letter.Offset, &at, &letter.Key, &headers, &payload, &letter.PayloadBytes); err != nil {
		return nil, deadLetterToken{}, err
	}
	token := deadLetterToken{At: at.UnixMilli(), Stage: letter.GetStage(), Topic: letter.GetTopic(), Partition: letter.GetPartition(), Offset: letter.GetOffset()}
	letter.Time, letter.Payload, letter.Headers = timestamppb.New(at), []byte(payload), make(map[string]string, len(headers))
	letter.Stage, letter.Reason, letter.Topic, letter.Key = readable(letter.GetStage()), readable(letter.GetReason()), readable(letter.GetTopic()), readable(letter.GetKey())
	for name, value := range headers {
		letter.Headers[readable(name)] = readable(value)
	}
	return letter, token, nil
}

// readable is text that gRPC takes: a dead letter may be anything.
func readable(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }
