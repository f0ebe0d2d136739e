package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"
)

// certificate is the server's, read again when its files change: connections that begin
// then get the new one, those that are there go on.
type certificate struct {
	certFile, keyFile string
	logger            *slog.Logger
	// every is how long a change may go unseen.
	every   time.Duration
	current atomic.Pointer[tls.Certificate]
	seen    [2]time.Time
}

// certificateInterval bounds how long a new certificate waits. Tools that renew them do
// so days ahead.
const certificateInterval = 10 * time.Second

func openCertificate(certFile, keyFile string, logger *slog.Logger) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile, logger: logger, every: certificateInterval}
	c.seen = c.changed()
	return c, c.read()
}

func (c *certificate) read() error {
	pair, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return fmt.Errorf("--tls-cert: %w", err)
	}
	c.current.Store(&pair)
	return nil
}

// changed is when the files were changed last; zero for one that is not there.
func (c *certificate) changed() (at [2]time.Time) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if stat, err := os.Stat(name); err == nil {
			at[i] = stat.ModTime()
		}
	}
	return at
}

// get is for tls.Config.
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// run looks at the files until ctx ends. A pair that does not fit, as between the writing
// of its two files, leaves the one there was, and is tried again.
func (c *certificate) run(ctx context.Context) error {
	tick := time.NewTicker(c.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now := c.changed()
		if now == c.seen {
			continue
		}
		if err := c.read(); err != nil {
			c.logger.Error("the new certificate cannot be used, the one before stays", "file", c.certFile, "error", err)
			continue
		}
		c.seen = now
		c.logger.Info("certificate read anew", "file", c.certFile, "expires", c.current.Load().Leaf.NotAfter)
	}
}
