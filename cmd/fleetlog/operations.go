package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/fleetlog/fleetlog/query"
	"github.com/prometheus/client_golang/prometheus"
)

// serveOperations answers the health checks and the metrics of a node that has
// no API.
func serveOperations(ctx context.Context, listener net.Listener, metrics *prometheus.Registry, ready map[string]func(context.Context) error) error {
	mux := http.NewServeMux()
	query.Operations(mux, metrics, ready)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
