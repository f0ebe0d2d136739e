package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/fleetlog/fleetlog/internal/auditchain"
	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// auditCommand is what can be done with the record of who changed what.
type auditCommand struct {
	Verify verifyCommand `cmd:"" help:"Check that nobody has changed the record of who changed what."`
}

// verifyCommand is `fleetlog audit verify`.
type verifyCommand struct {
	DataDir     string   `help:"Directory of a running 'fleetlog run', to find the log by." default:"fleetlog-data" type:"path" placeholder:"DIR"`
	Kafka       []string `help:"Addresses of Kafka brokers, instead of a running node's." placeholder:"HOST:PORT"`
	TopicPrefix string   `help:"Prefix of the topics' names."`
	Tenant      string   `help:"Check this tenant alone; all when empty."`
	Head        []string `help:"Heads that an earlier verification has printed: they must still be on the chain." placeholder:"HASH"`
}

// Help is shown by `fleetlog audit verify --help`.
func (*verifyCommand) Help() string {
	return `
Every change of a resource or a device, and every refused call, is an event on the log.
The platform appends hashes over them to the topic audit-chain, each over the one before.
This command reads all of it once more: a record that was changed, removed, put in or
moved makes it end with status 1 and say where.

Who can write to all topics could make the chain anew as well. Note down the heads that
are printed, somewhere else, and give them with --head the next time: then he cannot.`
}

// Run verifies and prints what was found.
func (c *verifyCommand) Run(ctx context.Context, logger *slog.Logger) error {
	brokers, err := c.brokers()
	if err != nil {
		return err
	}
	log, err := eventlog.Open(ctx, eventlog.Config{Brokers: brokers, Prefix: c.TopicPrefix, Logger: logger})
	if err != nil {
		return err
	}
	defer log.Close()
	found, heads, err := auditchain.Verify(ctx, log, c.Tenant, func(topic eventlog.Topic, partition int32, records uint64) {
		fmt.Fprintf(os.Stderr, "read %d records of %s/%d\n", records, topic, partition)
	})
	if err != nil {
		return err
	}
	return c.tell(os.Stdout, found, heads)
}

// brokers are those given, or a running node's.
func (c *verifyCommand) brokers() ([]string, error) {
	if len(c.Kafka) > 0 {
		return c.Kafka, nil
	}
	content, err := os.ReadFile(filepath.Join(c.DataDir, "endpoints.json"))
	if err != nil {
		return nil, fmt.Errorf("no running node in %s: start 'fleetlog run', name its --data-dir, or give --kafka: %w", c.DataDir, err)
	}
	var at endpoints
	if err := json.Unmarshal(content, &at); err != nil {
		return nil, fmt.Errorf("read endpoints.json in %s: %w", c.DataDir, err)
	}
	return strings.Split(at.Kafka, ","), nil
}

// tell prints what was found, a line for each chain.
func (c *verifyCommand) tell(out io.Writer, found []*auditchain.Verification, heads map[string]bool) error {
	broken := 0
	for _, v := range found {
		at := fmt.Sprintf("%s %s/%d", v.Tenant, v.Topic, v.Partition)
		if v.Broken != "" {
			broken++
			fmt.Fprintf(out, "BROKEN  %s: %s\n", at, v.Broken)
			continue
		}
		fmt.Fprintf(out, "ok      %s: %d records, %d links, head %s", at, v.Records, v.Links, v.Head)
		if v.Unchained > 0 {
			fmt.Fprintf(out, ", %d newer records not in the chain yet", v.Unchained)
		}
		if v.Gone > 0 {
			fmt.Fprintf(out, ", %d links over records that the log no longer keeps", v.Gone)
		}
		fmt.Fprintln(out)
	}
	for _, head := range c.Head {
		if !heads[strings.ToLower(strings.TrimSpace(head))] {
			broken++
			fmt.Fprintf(out, "BROKEN  head %.70s is on no chain: what it stood for was changed, or it is of another tenant or installation\n", head)
		}
	}
	switch {
	case broken > 0:
		return fmt.Errorf("%d of the chains are broken: the log is not what was written", broken)
	case len(found) == 0:
		return errors.New("nothing to verify: the tenant has changed nothing, or there is no such tenant")
	}
	return nil
}
