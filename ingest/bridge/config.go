package bridge

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"
)

// Defaults and bounds of a bridge's settings.
const (
	defaultInflight = 256
	maxInflight     = 65535 // as many as MQTT has packet ids
)

// Config is one bridge. [Load] makes it.
type Config struct {
	Name     string
	Broker   *url.URL // mqtt:// or mqtts://, with a port
	ClientID string   // made of the node's id and the name when empty
	Username string
	// Group shares the topics with the other bridges of that name; empty
	// subscribes alone.
	Group    string
	QoS      byte
	Inflight int  // messages that may wait for the log
	Register bool // devices that are not known

	password secret
	tls      tlsFiles
	routes   []route
}

// route is one of the bridge's topics.
type route struct {
	template template
	mapping  mapping
}

// route finds the topic's route and the values of its captures; nil without.
func (c *Config) route(topic string) (r *route, values []string) {
	for i := range c.routes {
		if values, ok := c.routes[i].template.match(topic, nil); ok {
			return &c.routes[i], values
		}
	}
	return nil, nil
}

// filters are the topic filters to subscribe to.
func (c *Config) filters() map[string]byte {
	filters := make(map[string]byte, len(c.routes))
	for _, r := range c.routes {
		filter := r.template.filter()
		if c.Group != "" {
			filter = "$share/" + c.Group + "/" + filter
		}
		filters[filter] = c.QoS
	}
	return filters
}

// maxSecretBytes bounds a password (MQTT 3.1.1 §3.1.3.5).
const maxSecretBytes = 65535

// secret is a reference to a password. It is read at every connection, so that
// it can be changed while the bridge runs.
type secret struct{ file, env string }

func (s secret) read() (string, error) {
	switch {
	case s.env != "":
		value, ok := os.LookupEnv(s.env)
		if !ok {
			return "", fmt.Errorf("environment variable %s is not set: set it to the password", s.env)
		}
		return value, nil
	case s.file != "":
		content, err := readBounded(s.file, maxSecretBytes)
		if err != nil {
			return "", fmt.Errorf("read the password: %w", err)
		}
		return strings.TrimRight(string(content), "\r\n"), nil
	}
	return "", nil
}

// tlsFiles are read at every connection, so that certificates can be renewed.
type tlsFiles struct{ ca, cert, key, serverName string }

func (f tlsFiles) config() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: f.serverName}
	if f.ca != "" {
		pool, err := readAuthorities(f.ca)
		if err != nil {
			return nil, err
		}
		config.RootCAs = pool
	}
	if f.cert != "" {
		cert, err := tls.LoadX509KeyPair(f.cert, f.key)
		if err != nil {
			return nil, fmt.Errorf("client certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	return config, nil
}

const (
	connectTimeout = 10 * time.Second
	keepAlive      = 30 * time.Second
	// pingTimeout is long: while the log is slow, the broker's answers wait
	// behind its messages.
	pingTimeout = 2 * time.Minute
)
