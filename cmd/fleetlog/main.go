// Command fleetlog is the whole platform in one binary: `fleetlog run` starts
// it, the other subcommands help to work with it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	"github.com/fleetlog/fleetlog/cmd/fleetlog/devices"
	"github.com/fleetlog/fleetlog/cmd/fleetlog/sim"
)

// cli is the command line. Every flag can be set in three ways; the first one
// found counts: the flag, the environment variable FLEETLOG_<FLAG>, the line
// `<flag>: value` in the YAML file given by --config.
type cli struct {
	Config    configFile `help:"YAML file with one 'flag: value' a line. Flags and FLEETLOG_* variables win over it." type:"existingfile" placeholder:"FILE"`
	LogLevel  string     `help:"Least severe level to log: debug, info, warn or error." enum:"debug,info,warn,error" default:"info"`
	LogFormat string     `help:"How to log: text or json." enum:"text,json" default:"text"`

	Run     runCommand      `cmd:"" help:"Run the platform: device gateway, log, processors, projections and API in one process."`
	Ingest  ingestCommand   `cmd:"" help:"Run the device gateway alone, one of many nodes."`
	Process processCommand  `cmd:"" help:"Run the processors alone, one of many nodes."`
	Project projectCommand  `cmd:"" help:"Run the projections alone, one of many nodes."`
	Query   queryCommand    `cmd:"" help:"Run the API alone, one of many nodes."`
	Sim     sim.Command     `cmd:"" help:"Simulate a fleet of devices over MQTT against a running platform."`
	Devices devices.Command `cmd:"" help:"Import and export devices as CSV files."`
	Audit   auditCommand    `cmd:"" help:"Check the record of who changed what."`
	Version versionCommand  `cmd:"" help:"Print the version."`
}

const description = `Fleetlog is a self-hosted IoT platform: devices connect over MQTT, every
message is an event on a Kafka log, and ClickHouse answers questions about it.

Start with 'fleetlog run --demo': it needs nothing else and tells what to do next.

Settings come from flags, then from environment variables FLEETLOG_<FLAG> (for
--api-addr: FLEETLOG_API_ADDR), then from the YAML file of --config, then from
the defaults shown here.`

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := execute(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "fleetlog:", err)
		os.Exit(1)
	}
}

// execute parses the command line and runs the command it names.
func execute(ctx context.Context, args []string) error {
	var c cli
	parser, err := newParser(ctx, &c)
	if err != nil {
		return err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return fmt.Errorf("%w; see 'fleetlog --help'", err)
	}
	return parsed.Run(newLogger(c.LogLevel, c.LogFormat))
}

func newParser(ctx context.Context, c *cli) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("fleetlog"),
		kong.Description(description),
		kong.DefaultEnvars("FLEETLOG"),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true}),
		kong.Configuration(loadConfig),
		kong.BindTo(ctx, (*context.Context)(nil)),
	)
}
