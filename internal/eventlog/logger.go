package eventlog

import (
	"log/slog"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/plugin/kslog"
)

// clientLogger takes the Kafka client's messages. What the client calls
// information is how it works, step by step, and of use only to someone who
// debugs it.
type clientLogger struct{ *kslog.Logger }

func newClientLogger(l *slog.Logger) clientLogger { return clientLogger{kslog.New(l)} }

// Log passes warnings and errors on as they are.
func (c clientLogger) Log(level kgo.LogLevel, msg string, keyvals ...any) {
	if level >= kgo.LogLevelInfo {
		level = kgo.LogLevelDebug
	}
	c.Logger.Log(level, msg, keyvals...)
}
