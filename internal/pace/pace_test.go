package pace

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEachHasALimitOfItsOwn(t *testing.T) {
	l := New(0.001)
	require.True(t, l.Allow("a"))
	require.False(t, l.Allow("a"))
	require.True(t, l.Allow("b"))
}

func TestTheTableIsBounded(t *testing.T) {
	l := New(1)
	for i := range maxKeys + 100 {
		l.Allow(fmt.Sprint(i))
	}
	require.Equal(t, maxKeys, l.table.Len())
}
