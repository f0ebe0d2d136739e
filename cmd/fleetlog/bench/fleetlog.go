package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/cmd/fleetlog/bench/load"
	"github.com/fleetlog/fleetlog/cmd/fleetlog/sim"
	"github.com/fleetlog/fleetlog/internal/sas"
)

// platform is a running `fleetlog run`.
type platform struct {
	*process
	dir       string
	endpoints struct {
		API        string `json:"api"`
		MQTT       string `json:"mqtt"`
		MQTTS      string `json:"mqtts"`
		Kafka      string `json:"kafka"`
		ClickHouse string `json:"clickhouse"`
	}
	token string
}

// startFleetlog starts the platform in a directory, a new one or one it has used
// before, with its defaults: authentication on, each record on disk before its
// acknowledgement.
func (b *bench) startFleetlog(ctx context.Context, dir string) (*platform, error) {
	p := &platform{dir: dir}
	var err error
	p.process, err = b.start(b.binary, "run", "--data-dir", dir, "--log-level", "warn",
		"--api-addr", "127.0.0.1:0", "--grpc-addr", "127.0.0.1:0", "--mqtt-addr", "127.0.0.1:0",
		"--mqtts-addr", "127.0.0.1:0", "--https-addr", "127.0.0.1:0", "--kafka-addr", "127.0.0.1:0", "--clickhouse-addr", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	err = p.until(ctx, p.ready)
	if err == nil {
		var token []byte
		token, err = os.ReadFile(filepath.Join(dir, "admin-token"))
		p.token = strings.TrimSpace(string(token))
	}
	if err != nil {
		_ = p.stop()
		return nil, err
	}
	return p, nil
}

// announced reports whether the process has written down its addresses, which it
// does when it is ready.
func (p *platform) announced() bool {
	text, err := os.ReadFile(filepath.Join(p.dir, "endpoints.json"))
	return err == nil && json.Unmarshal(text, &p.endpoints) == nil
}

func (p *platform) ready(ctx context.Context) bool {
	if !p.announced() {
		return false
	}
	_, err := get(ctx, p.endpoints.API+"/readyz")
	return err == nil
}

func get(ctx context.Context, address string) (string, error) {
	return call(ctx, http.MethodGet, address, "")
}

func call(ctx context.Context, method, address, body string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, address, strings.NewReader(body))
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	const most = 16 << 20
	answer, err := io.ReadAll(io.LimitReader(response.Body, most))
	if err != nil {
		return "", err
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s: %s", response.Status, strings.TrimSpace(string(answer)))
	}
	return string(answer), nil
}

// query asks ClickHouse and returns tab-separated rows.
func (p *platform) query(ctx context.Context, sql string) (string, error) {
	text, err := get(ctx, p.endpoints.ClickHouse+"/?query="+url.QueryEscape(sql))
	if err != nil {
		return "", fmt.Errorf("query ClickHouse: %w", err)
	}
	return strings.TrimSpace(text), nil
}

// exec runs a statement in ClickHouse.
func (p *platform) exec(ctx context.Context, sql string) error {
	if _, err := call(ctx, http.MethodPost, p.endpoints.ClickHouse, sql); err != nil {
		return fmt.Errorf("ClickHouse: %w", err)
	}
	return nil
}

// rows is how many messages have arrived in ClickHouse.
func (p *platform) rows(ctx context.Context) (int64, error) {
	text, err := p.query(ctx, "SELECT count() FROM fleetlog.telemetry")
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(text, 10, 64)
}

// untilRows waits until at least n messages have arrived, at most for the limit,
// and returns how many have and how long it took.
func (p *platform) untilRows(ctx context.Context, n int64, limit time.Duration) (int64, time.Duration, error) {
	began := time.Now()
	for {
		rows, err := p.rows(ctx)
		took := time.Since(began)
		if err != nil || rows >= n || took > limit {
			return rows, took, err
		}
		select {
		case <-ctx.Done():
			return rows, took, ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// pauseProjection takes the telemetry table away, so that the projection waits as
// it does for a ClickHouse that is down, until resume gives it back.
func (p *platform) pauseProjection(ctx context.Context) (resume func() error, err error) {
	rename := func(ctx context.Context, from, to string) error {
		return p.exec(ctx, "RENAME TABLE fleetlog."+from+" TO fleetlog."+to)
	}
	if err := rename(ctx, "telemetry", "telemetry_away"); err != nil {
		return nil, err
	}
	return func() error { return rename(context.WithoutCancel(ctx), "telemetry_away", "telemetry") }, nil
}

const host = "127.0.0.1"

// devices registers devices and makes what they connect with.
func (p *platform) devices(ctx context.Context, n int) ([]load.Device, error) {
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("bench-%05d", i)
	}
	began := time.Now()
	keys, err := sim.Register(ctx, p.endpoints.API, p.token, ids)
	if err != nil {
		return nil, err
	}
	if took := time.Since(began); took > time.Second {
		say("  %s devices known after %s", thousands(int64(n)), took.Round(100*time.Millisecond))
	}
	all := make([]load.Device, n)
	expiry := time.Now().Add(24 * time.Hour)
	for i, id := range ids {
		all[i] = load.Device{
			ID: id, User: host + "/" + id + "/?api-version=2021-04-12",
			Password: sas.Sign(host+"/devices/"+id, keys[i], expiry, ""),
			Topic:    topic(id),
		}
	}
	return all, nil
}

func topic(id string) string {
	return "devices/" + id + "/messages/events/$.ct=application%2Fjson&$.ce=utf-8"
}

// anonymous are the same devices for a broker without authentication: same topics,
// no user.
func anonymous(devices []load.Device) []load.Device {
	all := make([]load.Device, len(devices))
	for i, d := range devices {
		all[i] = load.Device{ID: d.ID, Topic: d.Topic}
	}
	return all
}

// mqtt is the plain port's host:port.
func (p *platform) mqtt() string {
	if _, rest, found := strings.Cut(p.endpoints.MQTT, "://"); found {
		return rest
	}
	return p.endpoints.MQTT
}
