package device

import (
	"bytes"
	"fmt"
	"strconv"
)

// Bounds of a twin's properties (FEATURES.md HUB-02).
const (
	maxPropertyDepth = 10
	maxPropertyKey   = 1 << 10
	maxPropertyValue = 4 << 10
	maxPropertyInt   = 4503599627370496
)

// readPatch reads an object that a device or a person sent, within the bounds of a
// twin.
func readPatch(raw []byte) (value, error) {
	if len(raw) > maxSectionBytes {
		return value{}, fmt.Errorf("properties have %d bytes: send at most %d", len(raw), maxSectionBytes)
	}
	object, err := readObject(raw)
	if err != nil {
		return value{}, err
	}
	return object, checkObject(object, 1)
}

func checkObject(object value, depth int) error {
	if depth > maxPropertyDepth {
		return fmt.Errorf("properties are nested deeper than %d objects", maxPropertyDepth)
	}
	for i := range object.members {
		m := &object.members[i]
		if len(m.name) == 0 || len(m.name) > maxPropertyKey || forbiddenInKey(m.name) {
			return fmt.Errorf("property name %q is not valid: use up to %d bytes without control characters, '.', '$' or spaces", clip(string(m.name)), maxPropertyKey)
		}
		if err := checkValue(m.value, depth); err != nil {
			return fmt.Errorf("property %s: %w", clip(string(m.name)), err)
		}
	}
	return nil
}

func forbiddenInKey(name []byte) bool {
	for _, c := range name {
		if c <= ' ' || c == 0x7f || c == '.' || c == '$' {
			return true
		}
	}
	return false
}

func checkValue(v value, depth int) error {
	switch v.kind {
	case '{':
		return checkObject(v, depth+1)
	case '[':
		if depth >= maxPropertyDepth {
			return fmt.Errorf("nested deeper than %d", maxPropertyDepth)
		}
		for _, element := range v.members {
			if err := checkValue(element.value, depth+1); err != nil {
				return err
			}
		}
	case '"':
		if len(v.text) > maxPropertyValue {
			return fmt.Errorf("has %d bytes: at most %d", len(v.text), maxPropertyValue)
		}
	default:
		return checkNumber(v.text)
	}
	return nil
}

// checkNumber bounds integers, and what no float64 can hold. A short number is in
// no danger.
func checkNumber(text []byte) error {
	const safeDigits = 15 // below maxPropertyInt, whatever they are
	if len(text) <= safeDigits && bytes.IndexByte(text, 'e') < 0 && bytes.IndexByte(text, 'E') < 0 || text[0] >= 'a' {
		return nil
	}
	number := string(text)
	if n, err := strconv.ParseInt(number, 10, 64); err == nil && (n > maxPropertyInt || n < -maxPropertyInt) {
		return fmt.Errorf("integer %s is beyond ±%d: send it as a string", number, int64(maxPropertyInt))
	}
	if _, err := strconv.ParseFloat(number, 64); err != nil {
		return fmt.Errorf("number %s is out of range", clip(number))
	}
	return nil
}
