package query

import (
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/sqltext"
)

// sqlLimits bound one analyst's statements. ClickHouse enforces all but the last three.
type sqlLimits struct {
	// resultRows, resultBytes bound an answer; readRows, readBytes what is read for it.
	resultRows, resultBytes, readRows, readBytes int64
	memory                                       int64 // bytes
	time                                         time.Duration
	// running is how many statements a tenant may have at once on one node, runningInAll
	// how many all may: fewer than the embedded engine runs, which Fleetlog itself needs
	// too. Others wait so long.
	running, runningInAll int64
	wait                  time.Duration
}

// analystLimits are those of everybody, until there are roles.
var analystLimits = sqlLimits{
	resultRows: 10_000_000, resultBytes: 4 << 30, readRows: 10_000_000_000, readBytes: 200 << 30, memory: 1 << 30, time: time.Minute, running: 3, runningInAll: 4, wait: 30 * time.Second,
}

// settings are the limits as ClickHouse has them.
func (l sqlLimits) settings() map[string]int64 {
	return map[string]int64{
		"max_result_rows": l.resultRows, "max_result_bytes": l.resultBytes, "max_rows_to_read": l.readRows, "max_bytes_to_read": l.readBytes,
		"max_memory_usage": l.memory, "max_execution_time": int64(l.time / time.Second),
	}
}

// Settings that a client may send: how answers look.
var (
	sqlSettings = map[string]bool{
		"date_time_output_format": true, "session_timezone": true, "join_use_nulls": true, "extremes": true, "max_block_size": true,
		"enable_http_compression": true, "wait_end_of_query": true, "client_protocol_version": true, "group_by_use_nulls": true,
		"format_csv_delimiter": true, "format_csv_null_representation": true, "format_tsv_null_representation": true,
		"cast_keep_nullable": true, "union_default_mode": true, "limit": true, "offset": true,
	}
	// Those that clients send of themselves and that mean nothing here: there are no
	// sessions, and the door sets its own.
	ignoredSQLSettings = map[string]bool{
		"user": true, "password": true, "quota_key": true, "role": true, "readonly": true, "log_comment": true, "query_id": true, "stacktrace": true,
		"buffer_size": true, "session_id": true, "session_timeout": true, "session_check": true, "close_session": true, "compress": true,
		"send_progress_in_http_headers": true, "http_headers_progress_interval_ms": true, "cancel_http_readonly_queries_on_client_close": true,
		"network_compression_method": true, "http_zlib_compression_level": true, "max_threads": true, "max_query_size": true, "send_logs_level": true,
		"date_time_input_format": true, "output_format_native_use_flattened_dynamic_and_json_serialization": false, "http_write_exception_in_output_format": true,
		"max_insert_threads": true, "insert_quorum": true, "allow_experimental_object_type": true, "allow_experimental_json_type": true,
		"allow_experimental_variant_type": true, "allow_experimental_dynamic_type": true, "result_overflow_mode": true, "read_overflow_mode": true, "timeout_overflow_mode": true,
	}
)

// maxSQL bounds a statement in bytes.
const maxSQL = 1 << 20

// sqlRequest is a request in ClickHouse's terms.
type sqlRequest struct {
	statement string
	format    string
	zip       bool
	values    url.Values
}

// readSQL reads a request: the statement is the parameter query, a line end, the body.
func readSQL(r *http.Request, database string) (*sqlRequest, error) {
	if r.Method != http.MethodGet && r.Method != http.MethodPost {
		return nil, badSQL("use GET or POST")
	}
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil || len(values) > maxSQLParameters {
		return nil, badSQL("the URL's parameters are not well formed, or more than %d", maxSQLParameters)
	}
	asked := &sqlRequest{values: values, format: r.Header.Get("X-ClickHouse-Format"), zip: strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")}
	for _, name := range []string{values.Get("database"), r.Header.Get("X-ClickHouse-Database")} {
		if name != "" && name != "default" && name != database {
			return nil, &sqlError{http.StatusNotFound, 81, "UNKNOWN_DATABASE", fmt.Sprintf("there is no database %.100q for you: yours is %s", name, database)}
		}
	}
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		return nil, badSQL("multipart/form-data is not taken: send the statement as the body, and parameters in the URL")
	}
	body, err := unzipped(r)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(io.LimitReader(body, maxSQL+1))
	if err != nil {
		return nil, badSQL("the body cannot be read: %s", "it is too large, broken off, or not what Content-Encoding says")
	}
	asked.statement = values.Get("query")
	if asked.statement != "" && len(content) > 0 {
		asked.statement += "\n"
	}
	asked.statement += string(content)
	if len(asked.statement) > maxSQL {
		return nil, &sqlError{http.StatusRequestEntityTooLarge, 307, "QUERY_IS_TOO_LARGE", fmt.Sprintf("the statement is longer than %d bytes", maxSQL)}
	}
	if strings.TrimSpace(asked.statement) == "" {
		return nil, badSQL("the statement is empty")
	}
	return asked, nil
}

const maxSQLParameters = 500

// parameters are what is forwarded beside the statement: its parameters, the settings
// a client may send, and the limits, which a client can only lower.
func (q *sqlRequest) parameters(limits sqlLimits) (url.Values, error) {
	forward := url.Values{}
	bounds := limits.settings()
	for name, most := range bounds {
		forward.Set(name, strconv.FormatInt(most, 10))
	}
	if q.format != "" {
		forward.Set("default_format", q.format)
	}
	for name := range q.values {
		value := q.values.Get(name)
		most, bounded := bounds[name]
		switch {
		case name == "query", name == "database", ignoredSQLSettings[name]:
		case bounded:
			if lowered, ok := lower(value, most); ok {
				forward.Set(name, lowered)
			}
		case sqltext.OutsideSetting(name):
			return nil, unchangeable(name)
		case name == "default_format", strings.HasPrefix(name, "param_"), strings.HasPrefix(name, "output_format_"), sqlSettings[name]:
			forward.Set(name, value)
		case name == "decompress" && value == "1":
			return nil, badSQL("ClickHouse's own compression is not taken: turn it off, or use gzip")
		case name == "decompress":
		default:
			return nil, unchangeable(name)
		}
	}
	return forward, nil
}

func unchangeable(setting string) error {
	return &sqlError{http.StatusForbidden, 452, "SETTING_CONSTRAINT_VIOLATION", fmt.Sprintf("the setting %.60q cannot be changed here", setting)}
}

// lower is a limit that the client asks for, if it is one below the most; 0 means
// none to ClickHouse.
func lower(value string, most int64) (string, bool) {
	asked, ok := new(big.Rat).SetString(value)
	if !ok || len(value) > 20 || strings.ContainsAny(value, "eEpP/xX_") || asked.Sign() <= 0 || asked.Cmp(new(big.Rat).SetInt64(most)) >= 0 {
		return "", false
	}
	return value, true
}
