package dtdl

import (
	"regexp"
	"strings"
)

// Lengths of identifiers (DTDL v2 and v3 §Digital Twin Model Identifier).
const (
	maxInterfaceID = 128
	maxID          = 2048
)

var (
	// A segment starts with a letter or an underscore and does not end with an
	// underscore; those that start with an underscore are the system's own.
	dtmiPath = regexp.MustCompile(`^dtmi:[A-Za-z_](?:[A-Za-z0-9_]*[A-Za-z0-9])?(?::[A-Za-z_](?:[A-Za-z0-9_]*[A-Za-z0-9])?)*$`)
	// The version is a number without leading zero; in version 3 of the language it
	// may have a minor part, or be left out.
	dtmiVersion2 = regexp.MustCompile(`^;[1-9][0-9]{0,8}$`)
	dtmiVersion3 = regexp.MustCompile(`^(?:;[1-9][0-9]{0,8}(?:\.[1-9][0-9]{0,5})?)?$`)
)

// dtmiProblem says what is wrong with an identifier that a document gives or refers
// to; empty when it is a good one (DTDL §Digital Twin Model Identifier).
func dtmiProblem(id string, version, most int) string {
	path, ver := splitDTMI(id)
	switch {
	case len(id) > most:
		return "is longer than the " + itoa(most) + " characters it may have"
	case !strings.HasPrefix(id, "dtmi:"):
		return "is no DTMI: write it like dtmi:com:example:thermostat;1"
	case !dtmiPath.MatchString(path):
		return "is no DTMI: each segment between colons is of letters, digits and underscores, does not start with a digit and does not end with an underscore"
	case version == 2 && !dtmiVersion2.MatchString(ver):
		return "is no DTMI: it ends with a version of 1 to 9 digits that does not start with 0, like ;1"
	case !dtmiVersion3.MatchString(ver):
		return "is no DTMI: its version is like ;1 or ;1.2, the first part of 1 to 9 digits, the second of 1 to 6, none of them starting with 0"
	case strings.Contains(path, ":_"):
		return "has a segment that starts with an underscore, which only assigned identifiers have: rename it"
	case strings.HasPrefix(id, "dtmi:dtdl:") || strings.HasPrefix(id, "dtmi:standard:"):
		return "starts with a prefix that the language keeps for itself: choose your own, like dtmi:com:example:"
	}
	return ""
}

// splitDTMI is the path and the version, with its semicolon.
func splitDTMI(id string) (path, version string) {
	if i := strings.IndexByte(id, ';'); i >= 0 {
		return id[:i], id[i:]
	}
	return id, ""
}

// assign is the identifier of an element that the document gives none: its parent's
// with the segments of the property it stands in (FEATURES.md DTDL-04).
func assign(parent, segments string) string {
	path, version := splitDTMI(parent)
	return path + ":" + segments + version
}

// iris are the prefixes of the language's own identifiers, which may stand in a
// document in place of the terms for them (DTDL §Internationalized Resource
// Identifier).
var iris = []string{
	"dtmi:dtdl:class:", "dtmi:dtdl:instance:Schema:", "dtmi:dtdl:instance:CommandType:",
	"dtmi:standard:class:", "dtmi:standard:unit:", "dtmi:standard:schema:geospatial:",
	"dtmi:iotcentral:class:", "dtmi:iotcentral:schema:",
}

// term is the language's word for a thing, given that or its full identifier.
func term(s string) string {
	if !strings.HasPrefix(s, "dtmi:") {
		return s
	}
	for _, prefix := range iris {
		if rest, ok := strings.CutPrefix(s, prefix); ok {
			path, version := splitDTMI(rest)
			if version == ";2" || version == ";3" {
				return path
			}
		}
	}
	return s
}
