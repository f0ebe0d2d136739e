package projections

import (
	"context"
	"log/slog"
	"time"

	"github.com/cenkalti/backoff/v5"
)

// retry tries again for ever, with growing pauses, and says so now and then.
type retry struct {
	logger *slog.Logger
	// first and longest are the pauses between attempts.
	first, longest time.Duration
	// attempt bounds one attempt.
	attempt time.Duration
	retried func()
}

// logEvery is how often an outage that goes on is logged.
const logEvery = 30 * time.Second

// untilDone runs try until it returns nil or ctx ends, whose error it returns.
func (r *retry) untilDone(ctx context.Context, what string, try func(context.Context) error) error {
	pauses := backoff.NewExponentialBackOff()
	pauses.InitialInterval, pauses.MaxInterval = r.first, r.longest
	var began, logged time.Time
	attempts := 0
	_, err := backoff.Retry(ctx, func() (struct{}, error) {
		attempts++
		attemptCtx, cancel := context.WithTimeout(ctx, r.attempt)
		defer cancel()
		return struct{}{}, try(attemptCtx)
	}, backoff.WithBackOff(pauses), backoff.WithMaxElapsedTime(0), backoff.WithNotify(func(err error, wait time.Duration) {
		r.retried()
		now := time.Now()
		if began.IsZero() {
			began = now
		}
		if now.Sub(logged) >= logEvery {
			logged = now
			r.logger.Warn("failed, trying again", "step", what, "error", err, "wait", wait, "attempts", attempts)
		}
	}))
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		return err
	}
	if attempts > 1 {
		r.logger.Info("works again", "step", what, "attempts", attempts, "after", time.Since(began))
	}
	return nil
}
