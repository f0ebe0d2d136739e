package projections

import "github.com/fleetlog/fleetlog/internal/clickhouse"

// isRefusal tells that ClickHouse will never take these rows: the error is about
// what is in them. Everything it does not know is an outage, to be sat out: a
// row is put aside only for a reason that is surely its own. Names are those of
// ClickHouse's ErrorCodes.cpp.
func isRefusal(err error) bool {
	code, ok := clickhouse.ErrorCode(err)
	if !ok {
		return false
	}
	switch code {
	case 6, // CANNOT_PARSE_TEXT
		25,  // CANNOT_PARSE_ESCAPE_SEQUENCE
		26,  // CANNOT_PARSE_QUOTED_STRING
		27,  // CANNOT_PARSE_INPUT_ASSERTION_FAILED
		38,  // CANNOT_PARSE_DATE
		41,  // CANNOT_PARSE_DATETIME
		53,  // TYPE_MISMATCH
		69,  // ARGUMENT_OUT_OF_BOUND
		70,  // CANNOT_CONVERT_TYPE
		72,  // CANNOT_PARSE_NUMBER
		117, // INCORRECT_DATA
		128, // TOO_LARGE_ARRAY_SIZE
		131, // TOO_LARGE_STRING_SIZE
		306, // TOO_DEEP_RECURSION
		321, // VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
		349, // CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
		407, // DECIMAL_OVERFLOW
		467, // CANNOT_PARSE_BOOL
		469: // VIOLATED_CONSTRAINT
		return true
	}
	return false
}

// isTooLarge tells that ClickHouse could take the rows in smaller blocks.
func isTooLarge(err error) bool {
	code, ok := clickhouse.ErrorCode(err)
	return ok && code == 241 // MEMORY_LIMIT_EXCEEDED
}

// isLost tells that it is not known whether the insert was done.
func isLost(err error) bool {
	_, answered := clickhouse.ErrorCode(err)
	return err != nil && !answered
}
