package dtdl

import (
	"regexp"
	"strconv"
	"strings"
)

// Rules of ids, DTDL v2 §Digital Twin Model Identifier; v3 also has versions with
// a minor part and ids without one.
const (
	maxIDBytes          = 2048
	maxInterfaceIDBytes = 128
)

var (
	idV2 = regexp.MustCompile(`^dtmi:[A-Za-z](?:[A-Za-z0-9_]*[A-Za-z0-9])?(?::[A-Za-z_](?:[A-Za-z0-9_]*[A-Za-z0-9])?)*;[1-9][0-9]{0,8}$`)
	idV3 = regexp.MustCompile(`^dtmi:[A-Za-z_](?:[A-Za-z0-9_]*[A-Za-z0-9])?(?::[A-Za-z_](?:[A-Za-z0-9_]*[A-Za-z0-9])?)*(?:;[1-9][0-9]{0,8}(?:\.[1-9][0-9]{0,5})?)?$`)
)

// ValidID reports whether the text is the id of something people model, in the
// given version of the language.
func ValidID(id string, version int) bool {
	if len(id) > maxIDBytes {
		return false
	}
	if version == 3 {
		return idV3.MatchString(id)
	}
	return idV2.MatchString(id)
}

// reserved reports whether an id has a segment that only the system may use.
func reserved(id string) bool {
	return strings.Contains(id, ":_")
}

// Version splits an id into what names the model and its version, 0 when it has
// none.
func Version(id string) (model string, version int) {
	model, digits, _ := strings.Cut(id, ";")
	version, err := strconv.Atoi(digits)
	if err != nil {
		return model, 0
	}
	return model, version
}

// childID is the id of an element that has none of its own (FEATURES.md DTDL-04).
func childID(parent string, steps ...string) string {
	model, version, found := strings.Cut(parent, ";")
	for _, s := range steps {
		model += ":" + s
	}
	if !found {
		return model
	}
	return model + ";" + version
}

// WithVersion is the id with another version.
func WithVersion(id string, version int) string {
	model, _, _ := strings.Cut(id, ";")
	return model + ";" + strconv.Itoa(version)
}
