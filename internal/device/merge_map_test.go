package device

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// The merge patch over maps: what [MergePatch] and [DiffPatch] are compared with.

func mergePatchOfMaps(object, patch []byte) ([]byte, error) {
	merged, _, err := mergeMaps(object, patch)
	return merged, err
}

func mergeMaps(object, patch []byte) (merged []byte, changes map[string]any, err error) {
	target := map[string]any{}
	if len(object) > 0 {
		if target, err = decodeObject(object); err != nil {
			return nil, nil, err
		}
	}
	if changes, err = parseObject(patch); err != nil {
		return nil, nil, err
	}
	merge(target, changes)
	merged, err = encodeObject(target)
	return merged, changes, err
}

func diffPatchOfMaps(from, to []byte) ([]byte, error) {
	before, after := map[string]any{}, map[string]any{}
	var err error
	if len(from) > 0 {
		if before, err = decodeObject(from); err != nil {
			return nil, err
		}
	}
	if len(to) > 0 {
		if after, err = decodeObject(to); err != nil {
			return nil, err
		}
	}
	return encodeObject(diffMaps(before, after))
}

func merge(target, changes map[string]any) {
	for key, value := range changes {
		inner, isObject := value.(map[string]any)
		switch {
		case value == nil:
			delete(target, key)
		case isObject:
			below, ok := target[key].(map[string]any)
			if !ok {
				below = map[string]any{}
			}
			merge(below, inner)
			target[key] = below
		default:
			target[key] = value
		}
	}
}

func diffMaps(before, after map[string]any) map[string]any {
	patch := map[string]any{}
	for key := range before {
		if _, kept := after[key]; !kept {
			patch[key] = nil
		}
	}
	for key, value := range after {
		old, had := before[key]
		inner, isObject := value.(map[string]any)
		oldInner, wasObject := old.(map[string]any)
		switch {
		case isObject && wasObject:
			if below := diffMaps(oldInner, inner); len(below) > 0 {
				patch[key] = below
			}
		case !had || !equal(old, value):
			patch[key] = value
		}
	}
	return patch
}

func equal(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// parseObject reads an object that a device or a person sent, within the bounds
// of a twin.
func parseObject(raw []byte) (map[string]any, error) {
	if len(raw) > maxSectionBytes {
		return nil, fmt.Errorf("properties have %d bytes: send at most %d", len(raw), maxSectionBytes)
	}
	object, err := decodeObject(raw)
	if err != nil {
		return nil, err
	}
	return object, checkMap(object, 1)
}

func decodeObject(raw []byte) (map[string]any, error) {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var object map[string]any
	if err := decoder.Decode(&object); err != nil {
		return nil, fmt.Errorf("properties are not a JSON object: %w", err)
	}
	if _, err := decoder.Token(); object == nil || !errors.Is(err, io.EOF) {
		return nil, errors.New("properties are not one JSON object")
	}
	return object, nil
}

// encodeObject writes an object with sorted keys and without spaces.
func encodeObject(object map[string]any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(object); err != nil {
		return nil, fmt.Errorf("encode properties: %w", err)
	}
	return bytes.TrimSuffix(out.Bytes(), []byte{'\n'}), nil
}

func checkMap(object map[string]any, depth int) error {
	if depth > maxPropertyDepth {
		return fmt.Errorf("properties are nested deeper than %d objects", maxPropertyDepth)
	}
	for key, value := range object {
		if key == "" || len(key) > maxPropertyKey || strings.IndexFunc(key, func(r rune) bool { return r <= ' ' || strings.ContainsRune(".$\x7f", r) }) >= 0 {
			return fmt.Errorf("property name %q is not valid: use up to %d bytes without control characters, '.', '$' or spaces", clip(key), maxPropertyKey)
		}
		if err := checkMapValue(value, depth); err != nil {
			return fmt.Errorf("property %s: %w", clip(key), err)
		}
	}
	return nil
}

func checkMapValue(value any, depth int) error {
	switch v := value.(type) {
	case map[string]any:
		return checkMap(v, depth+1)
	case []any:
		if depth >= maxPropertyDepth {
			return fmt.Errorf("nested deeper than %d", maxPropertyDepth)
		}
		for _, element := range v {
			if err := checkMapValue(element, depth+1); err != nil {
				return err
			}
		}
	case string:
		if len(v) > maxPropertyValue {
			return fmt.Errorf("has %d bytes: at most %d", len(v), maxPropertyValue)
		}
	case json.Number:
		if n, err := v.Int64(); err == nil && (n > maxPropertyInt || n < -maxPropertyInt) {
			return fmt.Errorf("integer %s is beyond ±%d: send it as a string", v, int64(maxPropertyInt))
		}
		if _, err := v.Float64(); err != nil {
			return fmt.Errorf("number %s is out of range", clip(v.String()))
		}
	}
	return nil
}
