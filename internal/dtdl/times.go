package dtdl

import (
	"regexp"
	"strings"
	"time"
)

// A duration of ISO 8601 has its parts from years to seconds in this order; weeks
// stand alone. Any part may have a fraction.
var isoDuration = regexp.MustCompile(strings.ReplaceAll(
	`^[+-]?P(?:#W|(?:#Y)?(?:#M)?(?:#D)?(?:T(?:#H)?(?:#M)?(?:#S)?)?)$`, "#", `[0-9]+(?:[.,][0-9]+)?`))

// badText says how a value of that kind is written, when this one is not; empty when
// it is. Dates and times are those of RFC 3339 (DTDL §Primitive schema); a time alone
// may leave out the offset.
func badText(kind SchemaKind, s string) string {
	var err error
	want := ""
	switch kind {
	case Date:
		want = "write it like 2020-05-17"
		_, err = time.Parse(time.DateOnly, s)
	case DateTime:
		want = "write it like 2020-08-30T19:16:13.853Z, with an offset"
		_, err = time.Parse(time.RFC3339, strings.ToUpper(s))
	case Time:
		want = "write it like 19:16:13.853Z"
		if _, err = time.Parse("15:04:05Z07:00", strings.ToUpper(s)); err != nil {
			_, err = time.Parse("15:04:05", s)
		}
	case Duration:
		if isDuration(s) {
			return ""
		}
		return "write it like PT10H24M6.17S"
	}
	if err != nil {
		return want
	}
	return ""
}

func isDuration(s string) bool {
	return isoDuration.MatchString(s) && strings.ContainsAny(s, "0123456789") && !strings.HasSuffix(s, "T")
}
