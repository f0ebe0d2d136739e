package device

import (
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// dtmiPattern is how DTDL v2 writes it.
var dtmiPattern = regexp.MustCompile(`^dtmi:[A-Za-z](?:[A-Za-z0-9_]*[A-Za-z0-9])?(?::[A-Za-z](?:[A-Za-z0-9_]*[A-Za-z0-9])?)*(;[1-9][0-9]{0,8})?$`)

func requireAsPattern(t require.TestingT, id string) {
	versioned, valid := dtmi(id)
	match := dtmiPattern.FindStringSubmatch(id)
	require.Equal(t, match != nil, valid, "%q", id)
	if valid {
		require.Equal(t, match[1] != "", versioned, "%q", id)
	}
}

func TestModelIDsAreThoseOfThePattern(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		requireAsPattern(t, rapid.StringMatching(`(dtmi:)?([a-zA-Z_0-9é]{0,3}:?){0,3}(;[0-9a]{0,10})?[;:\n]?`).Draw(t, "id"))
	})
}

func FuzzDTMI(f *testing.F) {
	for _, id := range []string{"", "dtmi:", "dtmi:a;1", "dtmi:a_b:C;123456789", "dtmi:a_;1", "dtmi:a;01", "dtmi:a;1;2", "dtmi:a:;1", "dtmi:a\n"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if len(id) <= maxTemplateLength {
			requireAsPattern(t, id)
		}
	})
}
