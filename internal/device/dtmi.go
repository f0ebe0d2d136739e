package device

import "strings"

// dtmi reports whether an id is a digital twin model id (DTDL v2), and whether it has
// a version. Most events carry one, and the log is checked by it: a pattern would take
// ten times as long.
func dtmi(id string) (versioned, valid bool) {
	path, isDTMI := strings.CutPrefix(id, "dtmi:")
	if !isDTMI || len(id) > maxTemplateLength {
		return false, false
	}
	path, version, versioned := strings.Cut(path, ";")
	for more := true; more; {
		var segment string
		if segment, path, more = strings.Cut(path, ":"); !dtmiSegment(segment) {
			return versioned, false
		}
	}
	return versioned, !versioned || dtmiVersion(version)
}

// dtmiSegment begins with a letter and does not end in an underscore.
func dtmiSegment(segment string) bool {
	for i := range len(segment) {
		switch c := segment[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
		case i > 0 && (c >= '0' && c <= '9' || c == '_' && i < len(segment)-1):
		default:
			return false
		}
	}
	return segment != ""
}

// dtmiVersion is a number of up to nine digits.
func dtmiVersion(version string) bool {
	for i := range len(version) {
		if c := version[i]; c < '0' || c > '9' || i == 0 && c == '0' {
			return false
		}
	}
	return version != "" && len(version) <= 9
}
