package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// component is a part of the platform with a life of its own. run returns nil
// when its context ends.
type component struct {
	name string
	run  func(context.Context) error
}

// runComponents runs all components until ctx ends or one of them fails, and
// then ends them one after the other, the last one first, so that each can still
// use those it was built on.
func runComponents(ctx context.Context, logger *slog.Logger, components ...component) error {
	type ended struct {
		name string
		err  error
	}
	ends := make(chan ended, len(components))
	stops := make([]func(), len(components))
	for i, c := range components {
		// Not a child of ctx: its end comes when its turn does.
		own, cancel := context.WithCancel(context.WithoutCancel(ctx))
		done := make(chan struct{})
		go func() {
			defer close(done)
			err := c.run(own)
			if err == nil && own.Err() == nil {
				err = errors.New("ended by itself")
			}
			if err != nil {
				err = fmt.Errorf("%s: %w", c.name, err)
			}
			ends <- ended{c.name, err}
		}()
		stops[i] = func() {
			began := time.Now()
			cancel()
			<-done
			logger.Debug("stopped", "component", c.name, "took", time.Since(began))
		}
	}
	var errs []error
	select {
	case <-ctx.Done():
	case e := <-ends:
		errs = append(errs, e.err)
	}
	for i := len(stops) - 1; i >= 0; i-- {
		stops[i]()
	}
	close(ends)
	for e := range ends {
		errs = append(errs, e.err)
	}
	return errors.Join(errs...)
}
