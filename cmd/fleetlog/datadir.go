package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/gofrs/flock"
	"github.com/google/renameio/v2"
)

// dataDir is the directory everything is kept in. One process at a time has it.
type dataDir struct {
	path string
	lock *flock.Flock
}

func openDataDir(path string) (*dataDir, error) {
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	lock := flock.New(filepath.Join(path, "lock"))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("lock data directory: %w", err)
	}
	if !locked {
		return nil, fmt.Errorf("data directory %s is in use by another fleetlog: stop it, or choose another one with --data-dir", path)
	}
	d := &dataDir{path: path, lock: lock}
	// What an earlier run announced is not true any more.
	if err := os.Remove(d.file("endpoints.json")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, errors.Join(fmt.Errorf("remove old endpoints.json: %w", err), lock.Unlock())
	}
	return d, nil
}

func (d *dataDir) close() { _ = d.lock.Unlock() }

func (d *dataDir) file(name ...string) string {
	return filepath.Join(append([]string{d.path}, name...)...)
}

// nodeID is this node's name among the nodes of one log, made once.
func (d *dataDir) nodeID() (string, error) {
	path := d.file("node-id")
	content, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		content = []byte(eventlog.NewID())
		err = renameio.WriteFile(path, content, 0o600)
	}
	if err != nil {
		return "", fmt.Errorf("node id: %w", err)
	}
	return strings.TrimSpace(string(content)), nil
}

// endpoints are the addresses in endpoints.json.
type endpoints struct {
	API        string `json:"api,omitempty"`
	GRPC       string `json:"grpc,omitempty"`
	Operations string `json:"operations,omitempty"` // of a node without the API
	MQTT       string `json:"mqtt,omitempty"`
	MQTTS      string `json:"mqtts,omitempty"`
	HTTPS      string `json:"https,omitempty"`
	Kafka      string `json:"kafka"`
	ClickHouse string `json:"clickhouse,omitempty"`
}

func (d *dataDir) writeEndpoints(e endpoints) error {
	content, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return fmt.Errorf("encode endpoints: %w", err)
	}
	if err := renameio.WriteFile(d.file("endpoints.json"), append(content, '\n'), 0o644); err != nil {
		return fmt.Errorf("write endpoints: %w", err)
	}
	return nil
}
