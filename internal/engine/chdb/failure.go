package chdb

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
)

// Error is a ClickHouse exception: what a ClickHouse server would send.
type Error struct {
	// Code is ClickHouse's number, as in system.errors; 0 when unknown.
	Code int
	// Name is the code's name, e.g. UNKNOWN_TABLE.
	Name string
	// Message says what happened, without code and name.
	Message string
}

// Error is ClickHouse's own text: Code: 60. DB::Exception: ... (UNKNOWN_TABLE).
func (e *Error) Error() string {
	return fmt.Sprintf("Code: %d. DB::Exception: %s (%s)", e.Code, e.Message, e.Name)
}

// Exceptions that this package raises itself, with their code in ClickHouse's
// ErrorCodes.cpp.
const (
	codeBadArguments   = 36
	codeNotImplemented = 48
	codeSyntax         = 62
	codeTooManyQueries = 202
	codeAccessDenied   = 497
	codeQueryTooLarge  = 552
	codeUnknown        = 1002
)

func badRequest(format string, arguments ...any) *Error {
	return &Error{Code: codeBadArguments, Name: "BAD_ARGUMENTS", Message: fmt.Sprintf(format, arguments...)}
}

var exceptionText = regexp.MustCompile(`(?s)^(?:Code: (\d+)\. DB::Exception: )+(.*?)\.? ?\(([A-Z0-9_]+)\)(?: \(version [^)]*\))?\s*$`)

// parseError reads the text libchdb reports. Exceptions that passed through
// several hands repeat their code; one is enough.
func parseError(text string) *Error {
	if match := exceptionText.FindStringSubmatch(text); match != nil {
		code, _ := strconv.Atoi(match[1])
		return &Error{Code: code, Name: match[3], Message: strings.TrimSpace(match[2]) + "."}
	}
	return &Error{Code: codeUnknown, Name: "UNKNOWN_EXCEPTION", Message: strings.TrimSpace(text)}
}

// status is the HTTP status a ClickHouse server answers with for this error
// (its exceptionCodeToHTTPStatus.cpp), and 403 for writes of a read-only
// request and 503 for overload, where ClickHouse has 500.
func (e *Error) status() int {
	switch e.Name {
	case "BAD_ARGUMENTS", "CANNOT_COMPILE_REGEXP", "CANNOT_PARSE_TEXT", "CANNOT_PARSE_ESCAPE_SEQUENCE",
		"CANNOT_PARSE_QUOTED_STRING", "CANNOT_PARSE_DATE", "CANNOT_PARSE_DATETIME", "CANNOT_PARSE_NUMBER",
		"CANNOT_PARSE_DOMAIN_VALUE_FROM_STRING", "CANNOT_PARSE_IPV4", "CANNOT_PARSE_IPV6",
		"CANNOT_PARSE_INPUT_ASSERTION_FAILED", "CANNOT_PARSE_UUID", "DUPLICATE_COLUMN", "ILLEGAL_COLUMN",
		"UNKNOWN_ELEMENT_IN_AST", "UNKNOWN_TYPE_OF_AST_NODE", "THERE_IS_NO_COLUMN", "TOO_DEEP_AST", "TOO_BIG_AST",
		"UNEXPECTED_AST_STRUCTURE", "SYNTAX_ERROR", "INCORRECT_DATA", "TYPE_MISMATCH",
		"VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE":
		return http.StatusBadRequest
	case "UNKNOWN_TABLE", "UNKNOWN_FUNCTION", "UNKNOWN_IDENTIFIER", "UNKNOWN_TYPE", "UNKNOWN_STORAGE",
		"UNKNOWN_DATABASE", "UNKNOWN_SETTING", "UNKNOWN_DIRECTION_OF_SORTING", "UNKNOWN_AGGREGATE_FUNCTION",
		"UNKNOWN_FORMAT", "UNKNOWN_DATABASE_ENGINE", "UNKNOWN_TYPE_OF_QUERY", "UNKNOWN_ROLE":
		return http.StatusNotFound
	case "READONLY", "ACCESS_DENIED", "UNKNOWN_USER", "WRONG_PASSWORD", "AUTHENTICATION_FAILED", "SET_NON_GRANTED_ROLE":
		return http.StatusForbidden
	case "TIMEOUT_EXCEEDED":
		return http.StatusRequestTimeout
	case "QUERY_IS_TOO_LARGE":
		return http.StatusRequestEntityTooLarge
	case "NOT_IMPLEMENTED":
		return http.StatusNotImplemented
	case "TOO_MANY_SIMULTANEOUS_QUERIES", "CANNOT_SCHEDULE_TASK", "CANNOT_OPEN_FILE", "SOCKET_TIMEOUT":
		return http.StatusServiceUnavailable
	default:
		return http.StatusInternalServerError
	}
}
