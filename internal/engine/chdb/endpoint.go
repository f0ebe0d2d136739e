package chdb

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/sqltext"
)

const (
	// maxHeader bounds a request's line and headers; statements may come in
	// the URL.
	maxHeader = 1 << 20
	// shutdownGrace is how long Serve waits for running requests.
	shutdownGrace = 5 * time.Second
)

// Serve answers requests on listener, which must be a loopback address, until
// ctx ends; then it lets running requests finish for five seconds and returns
// nil. It closes the listener. The Engine stays open.
func (e *Engine) Serve(ctx context.Context, listener net.Listener) error {
	if address, ok := listener.Addr().(*net.TCPAddr); ok && !address.IP.IsLoopback() {
		return errors.Join(
			fmt.Errorf("the embedded ClickHouse has no passwords and must listen on loopback, not on %s", address), listener.Close())
	}
	server := &http.Server{
		Handler:           e.Handler(),
		ReadHeaderTimeout: 10 * time.Second,
		MaxHeaderBytes:    maxHeader,
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownGrace)
		defer cancel()
		err := server.Shutdown(grace)
		if errors.Is(err, context.DeadlineExceeded) {
			err = server.Close()
		}
		stopped <- err
	})
	err := server.Serve(listener)
	if stop() {
		return fmt.Errorf("serve the embedded ClickHouse: %w", err)
	}
	if err := <-stopped; err != nil {
		return fmt.Errorf("stop the embedded ClickHouse's endpoint: %w", err)
	}
	return nil
}

// Handler is ClickHouse's HTTP interface: statements at /, /ping and
// /replicas_status. See https://clickhouse.com/docs/interfaces/http.
func (e *Engine) Handler() http.Handler {
	mux := http.NewServeMux()
	ok := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=UTF-8")
		_, _ = io.WriteString(w, "Ok.\n")
	}
	mux.HandleFunc("/ping", ok)
	mux.HandleFunc("/replicas_status", ok)
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodGet && r.URL.RawQuery == "" {
			ok(w, r)
			return
		}
		e.answer(w, r)
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.Error(w, "There is no "+r.URL.Path+" here; statements go to /, the health check is /ping.", http.StatusNotFound)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := refuseForeign(r); err != nil {
			fail(w, err)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func (e *Engine) answer(w http.ResponseWriter, r *http.Request) {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		w.Header().Set("Allow", "GET, HEAD, POST")
		fail(w, &Error{Code: codeNotImplemented, Name: "NOT_IMPLEMENTED", Message: "use GET to read, POST for anything"})
		return
	}
	q, err := readRequest(r)
	if err != nil {
		fail(w, err)
		return
	}
	if q.queryID != "" {
		w.Header().Set("X-ClickHouse-Query-Id", q.queryID)
	}
	if err := q.check(); err != nil {
		fail(w, err)
		return
	}
	s, err := e.open(r.Context())
	if err != nil {
		fail(w, err)
		return
	}
	defer e.release(s)
	if err := s.prepare(q); err != nil {
		fail(w, err)
		return
	}
	defer e.watch(r.Context(), s)()
	if q.insert {
		insertRows(w, s, q)
		return
	}
	respond(w, s, q)
}

// check refuses what the engine would accept but must not.
func (q *request) check() error {
	if q.several {
		return &Error{Code: codeSyntax, Name: "SYNTAX_ERROR", Message: "Multi-statements are not allowed."}
	}
	if q.files {
		return badRequest("INTO OUTFILE and FROM INFILE are for clickhouse-client; over HTTP the rows are the request's or the answer's body")
	}
	for _, setting := range q.settings {
		if sqltext.OutsideSetting(setting.name) {
			return denied("the setting " + setting.name + " cannot be changed here: it reaches outside of ClickHouse")
		}
	}
	if q.role == AnalystRole {
		if err := sqltext.Analyst(q.statement, q.database); err != nil {
			return denied(err.Error())
		}
	}
	if err := sqltext.Outside(q.statement); err != nil {
		return denied(err.Error())
	}
	if q.input {
		return &Error{Code: codeNotImplemented, Name: "NOT_IMPLEMENTED",
			Message: "the embedded ClickHouse cannot INSERT ... SELECT FROM input(): insert the rows as they are and compute with DEFAULT or EPHEMERAL columns, or through a materialized view"}
	}
	return nil
}

// prepare brings a new session into the request's settings, database and role, in
// this order: a role may not change settings, and settings that only read may not
// change the role.
func (s *session) prepare(q *request) error {
	var statements []string
	if settings := s.settings(q); len(settings) > 0 {
		statements = append(statements, "SET "+strings.Join(settings, ", "))
	}
	if q.database != "" {
		statements = append(statements, "USE "+quoteName(q.database))
	}
	if q.role != "" {
		statements = append(statements, "SET ROLE "+quoteName(q.role))
	}
	if q.readOnly > 0 {
		statements = append(statements, "SET readonly = "+strconv.Itoa(q.readOnly))
	}
	for _, statement := range statements {
		if err := s.exec(statement); err != nil {
			return err
		}
	}
	return nil
}

// settings are the request's, as SET has them.
func (s *session) settings(q *request) []string {
	settings := make([]string, 0, len(q.settings))
	for _, setting := range q.settings {
		switch setting.name {
		case "readonly":
			if setting.value == "1" || q.readOnly == 0 && setting.value != "0" {
				q.readOnly = 1
			}
			continue
		case "log_comment":
			setting.value += " " + s.tag
		}
		settings = append(settings, setting.name+" = "+quoteText(setting.value))
	}
	return settings
}

func denied(message string) error {
	return &Error{Code: codeAccessDenied, Name: "ACCESS_DENIED", Message: message}
}

var textEscapes = strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\x00", `\0`)
var nameEscapes = strings.NewReplacer(`\`, `\\`, "`", "\\`", "\x00", `\0`)

func quoteText(value string) string { return "'" + textEscapes.Replace(value) + "'" }
func quoteName(value string) string { return "`" + nameEscapes.Replace(value) + "`" }

// watch kills the session's statement when the client goes away. The returned
// function ends the watch.
func (e *Engine) watch(ctx context.Context, s *session) func() {
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		e.kill(s)
	})
	return func() {
		if !stop() {
			<-done
		}
	}
}

func insertRows(w http.ResponseWriter, s *session, q *request) {
	written, err := s.insert(q.statement, q.text.format, q.parameters, q.body)
	if err != nil {
		fail(w, err)
		return
	}
	w.Header().Set("X-ClickHouse-Summary", written.summary())
	w.Header().Set("Content-Type", contentType("TabSeparated"))
	w.WriteHeader(http.StatusOK)
}
