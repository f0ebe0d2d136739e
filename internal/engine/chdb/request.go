package chdb

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/pierrec/lz4/v4"
)

const (
	// maxHead bounds the part of a body that is read to recognise the
	// statement; the head of an insert must fit into it.
	maxHead = 256 << 10
	// maxStatement bounds a statement that is not an insert with rows.
	maxStatement = 8 << 20
	// maxParameters bounds the URL parameters of a request.
	maxParameters = 1000
)

// request is an HTTP request in ClickHouse's terms.
type request struct {
	text
	// body is the rows of an insert.
	body io.Reader

	queryID    string
	database   string
	format     string
	parameters []parameter
	settings   []parameter
	// readOnly is ClickHouse's setting: 1 keeps settings as they are, 2 does not.
	readOnly int
	role     string
	// revision is the protocol revision Native output is wanted in.
	revision uint64
	compress bool
	// whole asks for the complete result before the first byte is sent.
	whole bool
}

// settingName is what may stand in a SET statement unquoted.
var settingName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]{0,127}$`)

func readRequest(r *http.Request) (*request, error) {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, badRequest("the URL's parameters are not well formed: %v", err)
	}
	if len(values) > maxParameters {
		return nil, badRequest("%d URL parameters; at most %d are allowed", len(values), maxParameters)
	}
	q := &request{
		database: r.Header.Get("X-ClickHouse-Database"),
		format:   r.Header.Get("X-ClickHouse-Format"),
	}
	if r.Method != http.MethodPost {
		// 2 keeps SETTINGS within the statement possible, as for a GET in ClickHouse.
		q.readOnly = 2
	}
	var query string
	names := make([]string, 0, len(values))
	for name := range values {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		value := values.Get(name)
		if name == "query" {
			query = value
			continue
		}
		if err := q.take(name, value); err != nil {
			return nil, err
		}
	}
	q.compress = q.compress && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip")
	return q, q.readBody(r, query)
}

// take sorts one URL parameter: what is not known here is a setting.
func (q *request) take(name, value string) error {
	switch name {
	case "user", "password", "quota_key", "stacktrace", "buffer_size", "close_session", "session_check", "network_compression_method":
		// There are no users, quotas or sessions, and buffers have one size.
		return nil
	case "session_id", "session_timeout":
		return badRequest("the embedded ClickHouse has no sessions (%s): leave the parameter out (clickhouse-connect: autogenerate_session_id=False), or use an external ClickHouse server", name)
	case "role":
		q.role = value
	case "compress", "decompress":
		if enabled(value) {
			return badRequest("the embedded ClickHouse does not speak ClickHouse's own compression (%s=1): turn compression off, or use gzip with enable_http_compression=1", name)
		}
		return nil
	case "query_id":
		q.queryID = value
	case "database":
		q.database = value
	case "default_format":
		q.format = value
	case "enable_http_compression":
		q.compress = enabled(value)
	case "wait_end_of_query":
		q.whole = enabled(value)
	case "client_protocol_version":
		revision, err := strconv.ParseUint(value, 10, 32)
		if err != nil {
			return badRequest("client_protocol_version must be a number, not %q", value)
		}
		q.revision = revision
	default:
		return q.takeNamed(name, value)
	}
	return nil
}

func (q *request) takeNamed(name, value string) error {
	if parameterName, ok := strings.CutPrefix(name, "param_"); ok {
		q.parameters = append(q.parameters, parameter{parameterName, value})
		return nil
	}
	if !settingName.MatchString(name) {
		return &Error{Code: 115, Name: "UNKNOWN_SETTING", Message: fmt.Sprintf("Unknown setting %q.", name)}
	}
	q.settings = append(q.settings, parameter{name, value})
	return nil
}

func enabled(value string) bool { return value == "1" || strings.EqualFold(value, "true") }

// readBody finds the statement: the query parameter, a line end, the body.
func (q *request) readBody(r *http.Request, query string) error {
	if strings.HasPrefix(r.Header.Get("Content-Type"), "multipart/form-data") {
		return &Error{Code: codeNotImplemented, Name: "NOT_IMPLEMENTED",
			Message: "the embedded ClickHouse takes no external tables (multipart/form-data): send the statement or the rows as the body"}
	}
	var body io.Reader = r.Body
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
	case "gzip":
		unzipped, err := gzip.NewReader(r.Body)
		if err != nil {
			return badRequest("the body is not gzip, as Content-Encoding says: %v", err)
		}
		body = unzipped
	case "lz4":
		body = lz4.NewReader(r.Body)
	default:
		return badRequest("Content-Encoding %q is not supported by the embedded ClickHouse; use gzip, lz4 or none", encoding)
	}

	head := make([]byte, 0, 1024)
	if query != "" {
		head = append(append(head, query...), '\n')
	}
	head, ended, err := readMore(head, body, len(head)+maxHead)
	if err != nil {
		return err
	}
	if q.text = scan(head); q.insert {
		q.body = io.MultiReader(bytes.NewReader(head[q.rows:]), body)
		return nil
	}
	if !ended {
		if head, ended, err = readMore(head, body, maxStatement); err != nil {
			return err
		}
		if !ended {
			return &Error{Code: codeQueryTooLarge, Name: "QUERY_IS_TOO_LARGE",
				Message: fmt.Sprintf("the statement is longer than %d bytes", maxStatement)}
		}
		if q.text = scan(head); q.insert {
			return badRequest("the INSERT's statement part is longer than %d bytes", maxHead)
		}
	}
	if len(bytes.TrimSpace(head)) == 0 {
		return &Error{Code: codeSyntax, Name: "SYNTAX_ERROR", Message: "Empty query."}
	}
	return nil
}

// readMore reads up to limit bytes in all and says whether that was everything.
func readMore(head []byte, body io.Reader, limit int) ([]byte, bool, error) {
	for len(head) < limit {
		if len(head) == cap(head) {
			head = slices.Grow(head, min(max(len(head), 4096), limit-len(head)))
		}
		n, err := body.Read(head[len(head):min(cap(head), limit)])
		head = head[:len(head)+n]
		switch {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return head, true, nil
		case err != nil:
			return head, false, badRequest("read the request's body: %v", err)
		}
	}
	return head, false, nil
}

// refuseForeign keeps web pages out: a browser that visits one may reach this
// port, by a cross-site request or by a name that now resolves to 127.0.0.1.
func refuseForeign(r *http.Request) error {
	refuse := func(reason string) error {
		return &Error{Code: codeAccessDenied, Name: "ACCESS_DENIED",
			Message: reason + "; this ClickHouse is for programs on this machine only"}
	}
	if r.Header.Get("Origin") != "" {
		return refuse("requests of web pages (Origin header) are refused")
	}
	if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" || site == "same-site" {
		return refuse("requests of web pages (Sec-Fetch-Site header) are refused")
	}
	host := r.Host
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.ToLower(strings.Trim(host, "[]")), ".")
	if address, err := netip.ParseAddr(host); err == nil && address.Unmap().IsLoopback() {
		return nil
	}
	if host == "" || host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return nil
	}
	return refuse(fmt.Sprintf("the Host %q is not a loopback name", host))
}
