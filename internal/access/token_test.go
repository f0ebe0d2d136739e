package access

import (
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAdminTokenIsMadeOnceAndTakenInEveryForm(t *testing.T) {
	path := t.TempDir() + "/admin-token"
	admin, created, err := OpenAdminToken(path)
	require.NoError(t, err)
	require.True(t, created)
	stat, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), stat.Mode().Perm())
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	token := string(content)
	require.True(t, strings.HasPrefix(token, "SharedAccessSignature sr="), "the file is the whole header, as IoT Central's tokens are")

	again, created, err := OpenAdminToken(path)
	require.NoError(t, err)
	require.False(t, created)
	bare := strings.TrimPrefix(token, "SharedAccessSignature ")
	for _, header := range []string{token, "Bearer " + token, "bearer " + bare, "SharedAccessSignature " + bare, token + "\n"} {
		for _, known := range []*AdminToken{admin, again} {
			p, err := known.Authenticate(t.Context(), header)
			require.NoError(t, err, header)
			require.Equal(t, Principal{ID: "token:admin", Tenant: DefaultTenant, Grants: Everything()}, p)
		}
	}
	for _, header := range []string{"", "Bearer", "Bearer ", "Basic " + bare, bare + "x", bare[:len(bare)-1], strings.Repeat("x", 5000)} {
		_, err := admin.Authenticate(t.Context(), header)
		require.ErrorIs(t, err, ErrUnauthenticated, header)
	}
}

func TestEmptyTokenFileIsRefused(t *testing.T) {
	path := t.TempDir() + "/admin-token"
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	_, _, err := OpenAdminToken(path)
	require.ErrorContains(t, err, path)
}

func TestContextWithoutPrincipalIsNobody(t *testing.T) {
	_, err := FromContext(t.Context())
	require.ErrorIs(t, err, ErrUnauthenticated)
	require.True(t, ScopeOf(t.Context()).Nowhere())
	p, err := FromContext(WithCaller(t.Context(), Principal{ID: "x", Tenant: "t"}, Scope{}, Scope{}))
	require.NoError(t, err)
	require.Equal(t, "t", p.Tenant)
}
