package clickhouse

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2"
)

var (
	identifier  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	clusterName = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9_-]{0,63}$`)
)

// options turns the address into the client's options. Its errors never quote
// the address, which may hold a password.
func options(cfg Config) (clickhouse.Options, error) {
	addr := cfg.Addr
	if !strings.Contains(addr, "://") {
		addr = "http://" + addr
	}
	u, err := url.Parse(addr)
	if err != nil { // its text would quote the address
		return clickhouse.Options{}, errors.New("ClickHouse address is not a URL: write it as http://host:8123 or https://user:password@host:8443, with special characters percent-encoded")
	}
	if u.Hostname() == "" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "" {
		return clickhouse.Options{}, errors.New("ClickHouse address must be a scheme, a host and a port only: write it as http://host:8123; the database is a setting of its own")
	}
	opts := clickhouse.Options{
		Protocol: clickhouse.HTTP,
		// One client-side name for Fleetlog in system.query_log.
		ClientInfo:   clickhouse.ClientInfo{Products: []struct{ Name, Version string }{{Name: "fleetlog"}}},
		DialTimeout:  dialTimeout,
		ReadTimeout:  answerTimeout,
		MaxOpenConns: maxConns,
		MaxIdleConns: maxIdle,
	}
	port := u.Port()
	switch u.Scheme {
	case "http":
		if port == "" {
			port = "8123"
		}
	case "https":
		if port == "" {
			port = "8443"
		}
		opts.TLS = cfg.TLS
		if opts.TLS == nil {
			opts.TLS = &tls.Config{MinVersion: tls.VersionTLS12}
		}
	default:
		return clickhouse.Options{}, fmt.Errorf("ClickHouse address has scheme %q: use ClickHouse's HTTP port, http://host:8123 or https://host:8443", u.Scheme)
	}
	opts.Addr = []string{net.JoinHostPort(u.Hostname(), port)}
	if u.User != nil {
		opts.Auth.Username = u.User.Username()
		opts.Auth.Password, _ = u.User.Password()
	}
	if !isLoopback(u.Hostname()) {
		opts.Compression = &clickhouse.Compression{Method: clickhouse.CompressionLZ4}
	}
	return opts, nil
}

// isLoopback tells an address where compression costs more than it saves.
func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
