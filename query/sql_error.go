package query

import (
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"

	"github.com/fleetlog/fleetlog/internal/sqltext"
)

// sqlError is an error as ClickHouse's HTTP interface has it. Codes are those of
// ClickHouse's ErrorCodes.cpp.
type sqlError struct {
	status, code  int
	name, message string
}

func (e *sqlError) Error() string {
	return fmt.Sprintf("Code: %d. DB::Exception: %s (%s)", e.code, e.message, e.name)
}

func badSQL(format string, args ...any) error {
	return &sqlError{http.StatusBadRequest, 36, "BAD_ARGUMENTS", fmt.Sprintf(format, args...)}
}

// writeSQLError answers with an error.
func writeSQLError(w http.ResponseWriter, err error) {
	status, code := http.StatusInternalServerError, 1002
	if e, ok := err.(*sqlError); ok { //nolint:errorlint // the door wraps none
		status, code = e.status, e.code
	}
	w.Header().Set("Content-Type", "text/plain; charset=UTF-8")
	w.Header().Set("X-ClickHouse-Exception-Code", strconv.Itoa(code))
	if status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Basic realm="fleetlog"`)
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, err.Error()+"\n") // the caller may be gone
}

// maxSQLError bounds what is read of an error.
const maxSQLError = 64 << 10

var (
	// ClickHouse guesses at names, those of others among them.
	guess = regexp.MustCompile(`(?s)[.:]? ?Maybe you meant.*`)
	// Hosts and ports, as they stand in errors of the network.
	anAddress   = regexp.MustCompile(`\(?(?:[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*|\[[0-9a-fA-F:]+\]):\d{2,5}\b\)?`)
	tenantNames = regexp.MustCompile(sqltext.TenantPrefix + `[A-Za-z0-9_]+`)
	codeOfError = regexp.MustCompile(`^Code: (\d+)`)
)

// theirError is ClickHouse's error without what is nobody's business.
func theirError(answer *http.Response, database string) error {
	content, err := io.ReadAll(io.LimitReader(answer.Body, maxSQLError))
	if err != nil {
		return &sqlError{http.StatusServiceUnavailable, 279, "ALL_CONNECTION_TRIES_FAILED", "ClickHouse's answer broke off: try again in a moment"}
	}
	return told(answer.StatusCode, string(content), database)
}

func told(status int, text, database string) error {
	code := 1001
	if found := codeOfError.FindStringSubmatch(text); found != nil {
		code, _ = strconv.Atoi(found[1])
		_, text, _ = strings.Cut(text, "DB::Exception: ")
	}
	text = strings.TrimSpace(text)
	name := "STD_EXCEPTION"
	if at := strings.LastIndex(text, " ("); at >= 0 && strings.HasSuffix(text, ")") {
		if last := text[at+2 : len(text)-1]; last == strings.ToUpper(last) && !strings.ContainsAny(last, " .") {
			text, name = text[:at], last
		}
	}
	if code == 497 {
		text = "there is no such table for you, or you may not do that: SHOW TABLES lists what you may read"
	}
	text = guess.ReplaceAllString(text, "")
	text = anAddress.ReplaceAllString(text, "…")
	text = tenantNames.ReplaceAllStringFunc(text, func(found string) string {
		if found == database {
			return found
		}
		return "…"
	})
	if status == http.StatusUnauthorized { // of Fleetlog itself
		status = http.StatusServiceUnavailable
	}
	return &sqlError{status, code, name, text}
}
