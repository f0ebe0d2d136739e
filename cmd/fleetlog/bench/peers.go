package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	mochi "github.com/mochi-mqtt/server/v2"
	"github.com/mochi-mqtt/server/v2/hooks/auth"
	"github.com/mochi-mqtt/server/v2/listeners"
)

// mosquittoPath finds Debian's package, whose directory users don't have in PATH.
func mosquittoPath() string {
	if path, err := exec.LookPath("mosquitto"); err == nil {
		return path
	}
	return "/usr/sbin/mosquitto"
}

// startMosquitto starts Mosquitto without what would slow it down: no limits on
// messages in flight, no persistence, no log, no authentication.
func (b *bench) startMosquitto(ctx context.Context) (*process, string, error) {
	address, err := freeAddress(ctx)
	if err != nil {
		return nil, "", err
	}
	_, port, _ := net.SplitHostPort(address)
	config := filepath.Join(b.work, "mosquitto.conf")
	text := strings.Join([]string{
		"listener " + port + " 127.0.0.1",
		"allow_anonymous true",
		"persistence false",
		"max_inflight_messages 0",
		"max_queued_messages 0",
		"set_tcp_nodelay true",
		"log_type none",
		"user root", // or it looks for a user of its own when started by root
		"",
	}, "\n")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return nil, "", err
	}
	p, err := b.start(mosquittoPath(), "-c", config)
	if err != nil {
		return nil, "", fmt.Errorf("%w; install it with `apt-get install mosquitto`", err)
	}
	return p, address, p.until(ctx, accepts(address))
}

// freeAddress is a loopback address nobody listened on a moment ago.
func freeAddress(ctx context.Context) (string, error) {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

func accepts(address string) func(context.Context) bool {
	return func(ctx context.Context) bool {
		socket, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return false
		}
		_ = socket.Close()
		return true
	}
}

// startMochi starts this command again as a mochi-mqtt broker.
func (b *bench) startMochi(ctx context.Context) (*process, string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, "", err
	}
	p, err := b.start(self, "-serve-mochi")
	if err != nil {
		return nil, "", err
	}
	var address string
	return p, address, p.until(ctx, func(context.Context) bool {
		lines := strings.Fields(p.tail())
		if len(lines) > 0 {
			address = lines[len(lines)-1]
		}
		return address != ""
	})
}

// serveMochi is mochi-mqtt as its README starts it, without authentication. It
// writes its address to w and serves until ctx ends.
func serveMochi(ctx context.Context, w io.Writer) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	broker := mochi.New(&mochi.Options{Logger: slog.New(slog.DiscardHandler)})
	if err := broker.AddHook(new(auth.AllowHook), nil); err != nil {
		return err
	}
	if err := broker.AddListener(listeners.NewNet("tcp", listener)); err != nil {
		return err
	}
	if err := broker.Serve(); err != nil {
		return err
	}
	if _, err := fmt.Fprintln(w, listener.Addr()); err != nil {
		return err
	}
	<-ctx.Done()
	return broker.Close()
}
