package seal

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSealedOpensOnlyInItsPlaceAndUnderItsKey(t *testing.T) {
	s, err := New(bytes.Repeat([]byte{7}, 64))
	require.NoError(t, err)
	secret := []byte("a group's key")
	sealed := s.Seal("default/enrollmentGroups/g/primary", secret)
	require.NotContains(t, string(sealed), "group")
	require.NotEqual(t, sealed, s.Seal("default/enrollmentGroups/g/primary", secret), "nobody sees that two keys are the same")
	opened, err := s.Open("default/enrollmentGroups/g/primary", sealed)
	require.NoError(t, err)
	require.Equal(t, secret, opened)

	other, err := New(bytes.Repeat([]byte{8}, 64))
	require.NoError(t, err)
	_, err = other.Open("default/enrollmentGroups/g/primary", sealed)
	require.ErrorIs(t, err, ErrOpen)
	_, err = s.Open("other/enrollmentGroups/g/primary", sealed)
	require.ErrorIs(t, err, ErrOpen)
	for i := range sealed {
		broken := bytes.Clone(sealed)
		broken[i] ^= 1
		_, err = s.Open("default/enrollmentGroups/g/primary", broken)
		require.ErrorIs(t, err, ErrOpen, "byte %d", i)
		_, err = s.Open("default/enrollmentGroups/g/primary", sealed[:i])
		require.ErrorIs(t, err, ErrOpen, "%d bytes", i)
	}
	_, err = New([]byte("short"))
	require.Error(t, err)
}
