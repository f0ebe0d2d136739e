package clickhouse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2"
)

// forwarder sends statements as they are, for answers that are handed on as they are.
type forwarder struct {
	client         *http.Client
	address        url.URL
	user, password string
}

func newForwarder(opts clickhouse.Options) *forwarder {
	f := &forwarder{address: url.URL{Scheme: "http", Host: opts.Addr[0], Path: "/"}, user: opts.Auth.Username, password: opts.Auth.Password}
	if opts.TLS != nil {
		f.address.Scheme = "https"
	}
	f.client = &http.Client{Transport: &http.Transport{
		TLSClientConfig: opts.TLS, DisableCompression: true, MaxIdleConnsPerHost: maxIdle, IdleConnTimeout: time.Minute,
		ResponseHeaderTimeout: answerTimeout, TLSHandshakeTimeout: dialTimeout,
	}}
	return f
}

// ErrUnreachable is the error of a ClickHouse that does not answer. It does not say
// where it is.
var ErrUnreachable = errors.New("ClickHouse does not answer: try again in a moment")

// Forward sends one statement by ClickHouse's HTTP interface, with these URL
// parameters, and returns the answer, whatever its status; the caller closes its
// body. zip lets the answer be gzip. When ctx ends ClickHouse stops.
func (c *Conn) Forward(ctx context.Context, statement string, values url.Values, zip bool) (*http.Response, error) {
	address := c.forward.address
	address.RawQuery = values.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address.String(), strings.NewReader(statement))
	if err != nil {
		return nil, fmt.Errorf("send a statement to ClickHouse: %w", ErrUnreachable)
	}
	if c.forward.user != "" {
		request.Header.Set("X-ClickHouse-User", c.forward.user)
		request.Header.Set("X-ClickHouse-Key", c.forward.password)
	}
	if zip {
		request.Header.Set("Accept-Encoding", "gzip")
	}
	answer, err := c.forward.client.Do(request)
	if err != nil {
		return nil, errors.Join(ErrUnreachable, ctx.Err())
	}
	return answer, nil
}

// Close ends all connections.
func (c *Conn) Close() error {
	c.forward.client.CloseIdleConnections()
	return c.Conn.Close()
}
