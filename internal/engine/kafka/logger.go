package kafka

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/twmb/franz-go/pkg/kfake"
)

// brokerLogger passes kfake's messages on. kfake's Info is about single
// requests, which is detail here.
type brokerLogger struct{ to *slog.Logger }

func (l brokerLogger) Logf(level kfake.LogLevel, format string, args ...any) {
	to := slog.LevelDebug
	switch level {
	case kfake.LogLevelError:
		to = slog.LevelError
	case kfake.LogLevelWarn:
		to = slog.LevelWarn
	default:
	}
	ctx := context.Background()
	if !l.to.Enabled(ctx, to) {
		return
	}
	l.to.Log(ctx, to, "embedded Kafka broker", "message", fmt.Sprintf(format, args...))
}
