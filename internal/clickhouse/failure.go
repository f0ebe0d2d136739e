package clickhouse

import (
	"errors"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// ErrorCode is ClickHouse's number for the error (ErrorCodes.cpp), and false
// when the error is not an answer of ClickHouse: then it is unknown whether the
// statement was executed.
func ErrorCode(err error) (code int32, ok bool) {
	var exception *clickhouse.Exception
	if errors.As(err, &exception) {
		return exception.Code, true
	}
	return 0, false
}

// isPermanent tells errors that another attempt to open will not cure.
func isPermanent(err error) bool {
	code, ok := ErrorCode(err)
	switch code {
	case 192, // UNKNOWN_USER
		193, // WRONG_PASSWORD
		194, // REQUIRED_PASSWORD
		497, // ACCESS_DENIED
		516: // AUTHENTICATION_FAILED
		return ok
	}
	return false
}
