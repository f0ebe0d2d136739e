package query

import (
	"encoding/base64"
	"encoding/json"
)

// pageSize bounds what a caller asks for.
func pageSize(asked, usual, most int32) (int, error) {
	switch {
	case asked == 0:
		return int(usual), nil
	case asked < 0 || asked > most:
		return 0, badField("maxpagesize", "maxpagesize is %d: use 1 to %d", asked, most)
	}
	return int(asked), nil
}

// maxTokenBytes bounds a page token before it is decoded. The longest holds a
// device's name and template.
const maxTokenBytes = 8 << 10

// encodeToken makes an opaque page token of where the next page begins.
func encodeToken[T any](at T) string {
	content, _ := json.Marshal(at) // the token types hold strings and numbers only
	return base64.RawURLEncoding.EncodeToString(content)
}

// decodeToken reads a page token; "" is the first page.
func decodeToken[T any](token string) (at T, err error) {
	if token == "" {
		return at, nil
	}
	content, err := base64.RawURLEncoding.DecodeString(token)
	if err == nil && len(token) <= maxTokenBytes {
		err = json.Unmarshal(content, &at)
	}
	if err != nil || len(token) > maxTokenBytes {
		return at, badField("pageToken", "pageToken is not one of ours: follow nextLink as it is, or start at the first page")
	}
	return at, nil
}
