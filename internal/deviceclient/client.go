// Package deviceclient is a device's end of MQTT as IoT Hub has it: how it says who
// it is, and how it comes back when its connection is lost. The simulators are made
// of it.
package deviceclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/cenkalti/backoff/v5"
	paho "github.com/eclipse/paho.mqtt.golang"
	"github.com/fleetlog/fleetlog/internal/sas"
)

const (
	tokenLife    = time.Hour
	keepAlive    = 4 * time.Minute
	dialTimeout  = 20 * time.Second
	writeTimeout = 10 * time.Second
	// QuiesceMS is how long Disconnect waits for the DISCONNECT packet, in milliseconds.
	QuiesceMS = 100
)

// Device is a device that connects with a symmetric key.
type Device struct {
	ID  string
	Key []byte
	// Model is the DTMI it announces; empty: none.
	Model  string
	Broker *url.URL    // as ParseBroker gives it
	Trust  *tls.Config // for ssl; nil: the system's
}

// Options are those of a paho client for one connection, which gets a token signed
// at the time. A connection that is lost is not made again: see Keep.
func (d Device) Options(at time.Time, lost func(error)) *paho.ClientOptions {
	host := d.Broker.Hostname()
	user := host + "/" + d.ID + "/?api-version=2021-04-12"
	if d.Model != "" {
		user += "&model-id=" + url.QueryEscape(d.Model)
	}
	o := paho.NewClientOptions()
	o.Servers = []*url.URL{d.Broker}
	o.SetProtocolVersion(4) // MQTT 3.1.1
	o.SetClientID(d.ID)
	o.SetUsername(user)
	o.SetPassword(sas.Sign(host+"/devices/"+d.ID, d.Key, at.Add(tokenLife), ""))
	o.SetTLSConfig(d.Trust)
	o.SetKeepAlive(keepAlive)
	o.SetConnectTimeout(dialTimeout)
	o.SetWriteTimeout(writeTimeout)
	o.SetOrderMatters(false)
	// A connection that is lost is a new session, made here, with a new token.
	o.SetAutoReconnect(false)
	o.SetConnectRetry(false)
	o.SetConnectionLostHandler(func(_ paho.Client, err error) { lost(err) })
	return o
}

// TelemetryTopic is where a device publishes JSON, for a component of it if one is
// given.
func TelemetryTopic(id, component string) string {
	topic := "devices/" + id + "/messages/events/$.ct=application%2Fjson&$.ce=utf-8"
	if component != "" {
		topic += "&$.sub=" + url.QueryEscape(component)
	}
	return topic
}

// Keep runs sessions one after the other until ctx ends, with pauses that grow, with
// jitter, while none comes about. A session reports whether it did.
func Keep(ctx context.Context, session func(context.Context) bool) {
	pause := backoff.NewExponentialBackOff() // jittered
	pause.InitialInterval, pause.MaxInterval = time.Second, 30*time.Second
	for ctx.Err() == nil {
		if session(ctx) {
			pause.Reset()
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause.NextBackOff()):
		}
	}
}

// ParseBroker takes an MQTT address with or without its scheme.
func ParseBroker(address string) (*url.URL, error) {
	if !strings.Contains(address, "://") {
		address = "tcp://" + address
	}
	broker, err := url.Parse(address)
	if err != nil || broker.Port() == "" {
		return nil, fmt.Errorf("MQTT address %q is not valid: write it like tcp://127.0.0.1:1883 or ssl://127.0.0.1:8883", address)
	}
	switch broker.Scheme {
	case "mqtt":
		broker.Scheme = "tcp"
	case "mqtts":
		broker.Scheme = "ssl"
	case "tcp", "ssl":
	default:
		return nil, fmt.Errorf("MQTT address %q has an unknown scheme: use tcp:// or ssl://", address)
	}
	return broker, nil
}

// TrustFile trusts the CA of a PEM file.
func TrustFile(path string) (*tls.Config, error) {
	pem, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read the CA to trust: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no PEM certificate", path)
	}
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, nil
}
