// Package device is the device as the domain knows it: its identity rules, the
// pure fold of its events into its state, its etag and its derived keys.
//
// In go events and states, out come states and decisions. The fold has no clock,
// no randomness and does no I/O, so every node and every replay decide alike.
package device

import (
	"fmt"
	"regexp"
	"unicode/utf8"
)

// Limits of a device's fields, as IoT Central has them.
const (
	MaxIDLength          = 128
	MaxDisplayNameLength = 148
	maxTemplateLength    = 2048 // a user's DTMI, DTDL v2
	maxOrganizationID    = 48
)

var organizationPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9\-]*$`)

// ValidateID checks a device id. The error says what an id may hold.
func ValidateID(id string) error {
	if id == "" || len(id) > MaxIDLength || !idCharacters(id) {
		return fmt.Errorf("device id %q is not valid: use 1 to %d letters, digits, '-', '.', '_' or ':', ending in a letter, a digit or '-'", clip(id), MaxIDLength)
	}
	return nil
}

// idCharacters is what IoT Central's device bridge accepts, wider than its own
// documentation: FEATURES.md DEV-01. Every event of the log is checked by it.
func idCharacters(id string) bool {
	for i := range len(id) {
		switch c := id[i]; {
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-':
		case (c == '.' || c == '_' || c == ':') && i < len(id)-1:
		default:
			return false
		}
	}
	return true
}

func validateDisplayName(name string) error {
	if n := utf8.RuneCountInString(name); n > MaxDisplayNameLength {
		return fmt.Errorf("displayName has %d characters: use at most %d", n, MaxDisplayNameLength)
	}
	if !utf8.ValidString(name) {
		return fmt.Errorf("displayName is not UTF-8")
	}
	return nil
}

// ValidateModelID checks the id of a model; empty is none.
func ValidateModelID(id string) error {
	if versioned, valid := dtmi(id); id != "" && (!valid || !versioned) {
		return fmt.Errorf("%q is not a digital twin model id: write it like dtmi:contoso:Thermostat;1", clip(id))
	}
	return nil
}

// ValidateTemplateID checks the id of a device template; empty is none. IoT Central
// does not insist on its version.
func ValidateTemplateID(id string) error { return validateTemplate(id) }

func validateTemplate(id string) error {
	if _, valid := dtmi(id); id != "" && !valid {
		return fmt.Errorf("template %q is not a digital twin model id: write it like dtmi:contoso:Thermostat;1", clip(id))
	}
	return nil
}

func validateOrganizations(ids []string) error {
	if len(ids) > 1 {
		return fmt.Errorf("organizations has %d entries: a device belongs to at most one", len(ids))
	}
	for _, id := range ids {
		if len(id) > maxOrganizationID || !organizationPattern.MatchString(id) {
			return fmt.Errorf("organization id %q is not valid: use 1 to %d lower-case letters, digits and '-'", clip(id), maxOrganizationID)
		}
	}
	return nil
}

// clip shortens what a caller sent before it is quoted back.
func clip(s string) string {
	end := 64
	if len(s) <= end {
		return s
	}
	for end > 0 && !utf8.RuneStart(s[end]) { // half a character cannot be written down
		end--
	}
	return s[:end] + "…"
}
