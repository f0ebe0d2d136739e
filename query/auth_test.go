package query

import (
	"context"
	"fmt"
	"log/slog"
	"testing"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

// TestOneCallerDoesNotTakeAll: who calls too often is told to wait, and nobody else.
func TestOneCallerDoesNotTakeAll(t *testing.T) {
	const method = "/fleetlog.api.v1.DeviceService/ListDevices"
	g := newGate(access.Any{access.NewAdminToken("a", "a"), access.NewAdminToken("b", "b")}, newRefusals(nil, slog.New(slog.DiscardHandler)), 0.001)
	n, declared := declaredNeed(method)
	require.True(t, declared)
	g.needs[method] = n
	call := func(token string) error {
		_, err := g.admit(metadata.NewIncomingContext(t.Context(), metadata.Pairs("authorization", token)), method)
		return err
	}
	require.NoError(t, call("a"))
	err := call("a")
	require.Equal(t, codes.ResourceExhausted, status.Code(err))
	require.IsType(t, new(errdetails.RetryInfo), status.Convert(err).Details()[0])
	require.NoError(t, call("b"))
	require.Equal(t, codes.Unauthenticated, status.Code(call("c")))
}

// TestRefusalsAreBounded: refused calls are counted together, and who is refused in many
// ways fills nothing.
func TestRefusalsAreBounded(t *testing.T) {
	r := newRefusals(nil, slog.New(slog.DiscardHandler))
	for i := range 3 * maxRefusals {
		g := newGate(access.NewAdminToken("a", "a"), r, 0)
		_, err := g.admit(context.WithValue(t.Context(), methodContextKey{}, fmt.Sprint(i)), "")
		require.Error(t, err)
	}
	total := uint64(0)
	for _, ev := range r.pending {
		total += ev.GetRefused().GetCount()
	}
	require.EqualValues(t, 3*maxRefusals, total, "each is counted")
	require.Len(t, r.pending, maxRefusals+1)
}
