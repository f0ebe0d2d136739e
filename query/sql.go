package query

import (
	"compress/gzip"
	"context"
	"errors"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/sqltext"
	"golang.org/x/sync/semaphore"
)

// sqlPath is where ClickHouse's HTTP interface is, for analysts.
const sqlPath = "/sql"

// analystRole is the role statements of analysts run with. On a ClickHouse of one's
// own it is made by deploy/clickhouse/analysts.sql.
const analystRole = "fleetlog_analyst"

// sqlDoor answers analysts' SQL: ClickHouse's HTTP interface
// (https://clickhouse.com/docs/interfaces/http) for questions about the caller's
// tenant, without sessions. What it forwards has the role, the database and the limits
// of an analyst, and cannot change them.
type sqlDoor struct {
	db  *clickhouse.Conn
	who access.Authenticator
	// refused is told of callers who are not let in.
	refused *refusals
	limits  sqlLimits
	logger  *slog.Logger

	all     *semaphore.Weighted // statements of all tenants
	mu      sync.Mutex
	checked bool // the role is what it must be
	running map[string]*semaphore.Weighted
}

func newSQLDoor(deps Deps, refused *refusals, limits sqlLimits) *sqlDoor {
	return &sqlDoor{db: deps.ClickHouse, who: deps.Who, refused: refused, limits: limits, logger: deps.Logger,
		all: semaphore.NewWeighted(limits.runningInAll), running: map[string]*semaphore.Weighted{}}
}

func (d *sqlDoor) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == sqlPath+"/ping" || r.Method == http.MethodGet && r.URL.RawQuery == "" {
		w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
		_, _ = io.WriteString(w, "Ok.\n") // the caller may be gone
		return
	}
	if err := d.answer(w, r); err != nil {
		writeSQLError(w, err)
	}
}

// answer is the error that the caller gets, as long as the answer has not begun.
func (d *sqlDoor) answer(w http.ResponseWriter, r *http.Request) error {
	principal, err := d.authenticate(r)
	var denied *access.DeniedError
	if errors.As(err, &denied) {
		d.note(r, principal, eventsv1.AccessRefusal_ACCESS_REFUSAL_DENIED)
		return &sqlError{http.StatusForbidden, 497, "ACCESS_DENIED", "SQL takes a role for the whole tenant: " + err.Error()}
	}
	if err != nil {
		d.note(r, principal, eventsv1.AccessRefusal_ACCESS_REFUSAL_UNAUTHENTICATED)
		return &sqlError{http.StatusUnauthorized, 516, "AUTHENTICATION_FAILED", "send an API token as the password, with any user name"}
	}
	database := clickhouse.TenantDatabase(d.db.Database(), principal.Tenant)
	asked, err := readSQL(r, database)
	if err != nil {
		return err
	}
	values, err := asked.parameters(d.limits)
	if err != nil {
		return err
	}
	if err := sqltext.Analyst(asked.statement, database); err != nil {
		return &sqlError{http.StatusForbidden, 497, "ACCESS_DENIED", err.Error()}
	}
	ctx, cancel := context.WithTimeout(r.Context(), d.limits.wait+d.limits.time+sqlGrace)
	defer cancel()
	if err := d.check(ctx); err != nil {
		return err
	}
	leave, err := d.enter(ctx, principal.Tenant)
	if err != nil {
		return err
	}
	defer leave()
	// The server's own deadline may be shorter than what is left.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(d.limits.time + sqlGrace))
	values.Set("database", database)
	values.Set("role", analystRole)
	values.Set("readonly", "1")
	values.Set("log_comment", clickhouse.TenantComment(database)+principal.ID)
	answer, err := d.db.Forward(ctx, asked.statement, values, asked.zip)
	if err != nil {
		return &sqlError{http.StatusServiceUnavailable, 279, "ALL_CONNECTION_TRIES_FAILED", clickhouse.ErrUnreachable.Error()}
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return theirError(answer, database)
	}
	hand(w, answer)
	return nil
}

// sqlGrace is what an answer may take beside the time of the statement.
const sqlGrace = 30 * time.Second

func (d *sqlDoor) note(r *http.Request, p access.Principal, why eventsv1.AccessRefusal) {
	address, _, _ := net.SplitHostPort(r.RemoteAddr) // "" is as good as none
	d.refused.note(&eventsv1.Actor{Principal: p.ID, Address: address, Method: sqlPath}, p.Tenant, sqlPermission, why)
}

// sqlPermission is what SQL takes, for the whole tenant: the views know no organizations.
const sqlPermission = "explorer.view"

// authenticate takes a token as ClickHouse's clients send a password, or as the API has it.
func (d *sqlDoor) authenticate(r *http.Request) (access.Principal, error) {
	credential := r.Header.Get("Authorization")
	if key := r.Header.Get("X-ClickHouse-Key"); key != "" {
		credential = key
	} else if _, password, ok := r.BasicAuth(); ok {
		credential = password
	}
	p, err := d.who.Authenticate(r.Context(), credential)
	if err != nil {
		return p, err
	}
	permission, err := access.ParsePermission(sqlPermission)
	if err == nil && !p.Scope(permission).Everywhere() {
		err = &access.DeniedError{Permission: permission}
	}
	return p, err
}

// enter waits for one of the statements that may run at once, of the tenant and of all.
func (d *sqlDoor) enter(ctx context.Context, tenant string) (leave func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, d.limits.wait)
	defer cancel()
	own := d.runningOf(tenant)
	full := &sqlError{http.StatusTooManyRequests, 202, "TOO_MANY_SIMULTANEOUS_QUERIES",
		"too many statements are running, of yours or of all: send fewer at once, or try again when one has ended"}
	if own.Acquire(ctx, 1) != nil {
		return nil, full
	}
	if d.all.Acquire(ctx, 1) != nil {
		own.Release(1)
		return nil, full
	}
	return func() { d.all.Release(1); own.Release(1) }, nil
}

func (d *sqlDoor) runningOf(tenant string) *semaphore.Weighted {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.running[tenant] == nil {
		d.running[tenant] = semaphore.NewWeighted(d.limits.running)
	}
	return d.running[tenant]
}

// check makes sure once that ClickHouse has the analysts' role and that it keeps
// Fleetlog's tables shut. Otherwise the door stays shut.
func (d *sqlDoor) check(ctx context.Context) error {
	d.mu.Lock()
	checked := d.checked
	d.mu.Unlock()
	if checked {
		return nil
	}
	roles, _, err := d.tryRole(ctx, "SELECT arrayStringConcat(currentRoles(), ',')")
	if err != nil {
		return err
	}
	_, code, err := d.tryRole(ctx, "SELECT count() FROM "+d.db.Database()+".telemetry")
	if err != nil {
		return err
	}
	if roles != analystRole || code != "497" {
		d.logger.Error("SQL for analysts is shut: in ClickHouse the role is missing, or does not keep Fleetlog's tables shut; run deploy/clickhouse/analysts.sql", "roles", roles, "code", code)
		return &sqlError{http.StatusServiceUnavailable, 48, "NOT_IMPLEMENTED", "SQL for analysts is not set up here: the administrator finds the reason in the log"}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.checked = true
	return nil
}

// tryRole runs a statement with the analysts' role: its answer, or the error's code.
func (d *sqlDoor) tryRole(ctx context.Context, statement string) (text, code string, err error) {
	answer, err := d.db.Forward(ctx, statement, map[string][]string{"role": {analystRole}, "readonly": {"1"}}, false)
	if err != nil {
		return "", "", &sqlError{http.StatusServiceUnavailable, 279, "ALL_CONNECTION_TRIES_FAILED", clickhouse.ErrUnreachable.Error()}
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxSQLError))
	if err != nil {
		return "", "", &sqlError{http.StatusServiceUnavailable, 279, "ALL_CONNECTION_TRIES_FAILED", clickhouse.ErrUnreachable.Error()}
	}
	return strings.TrimSpace(string(content)), answer.Header.Get("X-ClickHouse-Exception-Code"), nil
}

// Headers of ClickHouse's answers that clients need.
var sqlHeaders = []string{"Content-Type", "Content-Encoding", "X-Clickhouse-Query-Id", "X-Clickhouse-Format", "X-Clickhouse-Timezone",
	"X-Clickhouse-Summary", "X-Clickhouse-Exception-Tag"}

// hand streams the answer to the caller. One that breaks off must not look complete.
func hand(w http.ResponseWriter, answer *http.Response) {
	for _, name := range sqlHeaders {
		if value := answer.Header.Get(name); value != "" {
			w.Header().Set(name, value)
		}
	}
	w.Header().Set("X-Clickhouse-Server-Display-Name", "fleetlog")
	w.WriteHeader(http.StatusOK)
	buffer, flush := make([]byte, 64<<10), http.NewResponseController(w)
	for {
		n, err := answer.Body.Read(buffer)
		if n > 0 {
			if _, writing := w.Write(buffer[:n]); writing != nil {
				return // the caller is gone
			}
			if n < len(buffer)/2 {
				_ = flush.Flush() // fails when the caller is gone
			}
		}
		switch {
		case errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF):
			return
		case err != nil:
			panic(http.ErrAbortHandler)
		}
	}
}

// unzipped reads a body as its Content-Encoding says.
func unzipped(r *http.Request) (io.Reader, error) {
	switch encoding := r.Header.Get("Content-Encoding"); encoding {
	case "", "identity":
		return r.Body, nil
	case "gzip":
		body, err := gzip.NewReader(r.Body)
		if err != nil {
			return nil, badSQL("the body is not gzip, as Content-Encoding says")
		}
		return body, nil
	default:
		return nil, badSQL("Content-Encoding %.20q is not supported: use gzip or none", encoding)
	}
}
