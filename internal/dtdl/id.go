package dtdl

import (
	"strconv"
	"strings"
)

// ValidID reports whether the text may be the id of something people model; it needs
// no version.
func ValidID(id string) bool { return dtmiProblem(id, 3, maxID) == "" }

// Version splits an id into what names the model and its version, 0 when it has
// none.
func Version(id string) (model string, version int) {
	model, digits := splitDTMI(id)
	version, err := strconv.Atoi(strings.TrimPrefix(digits, ";"))
	if err != nil {
		return model, 0
	}
	return model, version
}

// WithVersion is the id with another version.
func WithVersion(id string, version int) string {
	model, _ := splitDTMI(id)
	return model + ";" + strconv.Itoa(version)
}
