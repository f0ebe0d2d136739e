package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestComponentsStopInReverseOrder(t *testing.T) {
	var mu sync.Mutex
	var stopped []string
	waits := func(name string) component {
		return component{name, func(ctx context.Context) error {
			<-ctx.Done()
			mu.Lock()
			defer mu.Unlock()
			stopped = append(stopped, name)
			return nil
		}}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.NoError(t, runComponents(ctx, slog.New(slog.DiscardHandler), waits("log"), waits("projection"), waits("gateway")))
	require.Equal(t, []string{"gateway", "projection", "log"}, stopped)
}

func TestOneFailingComponentEndsAll(t *testing.T) {
	fault := errors.New("disk full")
	other := component{"other", func(ctx context.Context) error { <-ctx.Done(); return nil }}
	err := runComponents(t.Context(), slog.New(slog.DiscardHandler), other, component{"log", func(context.Context) error { return fault }})
	require.ErrorIs(t, err, fault)
	require.ErrorContains(t, err, "log")
	err = runComponents(t.Context(), slog.New(slog.DiscardHandler), other, component{"gateway", func(context.Context) error { return nil }})
	require.ErrorContains(t, err, "gateway: ended by itself")
}
