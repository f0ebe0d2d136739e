package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"slices"
	"strings"

	"github.com/alecthomas/kong"
	"gopkg.in/yaml.v3"
)

// configFile makes kong read the file when the flag is met.
type configFile string

// BeforeResolve loads the file among the sources that flags are resolved from.
func (f configFile) BeforeResolve(app *kong.Kong, ctx *kong.Context, trace *kong.Path) error {
	path := string(ctx.FlagValue(trace.Flag).(configFile))
	if path == "" {
		return nil
	}
	resolver, err := app.LoadConfig(path)
	if err != nil {
		return fmt.Errorf("configuration file %s: %w", path, err)
	}
	ctx.AddResolver(resolver)
	return nil
}

// loadConfig reads the YAML file: flag names and values, the same for every
// command. A name no command knows is an error, because it is a typing mistake.
func loadConfig(r io.Reader) (kong.Resolver, error) {
	values := map[string]any{}
	if err := yaml.NewDecoder(r).Decode(&values); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return &configValues{values: values}, nil
}

type configValues struct{ values map[string]any }

// Validate refuses names that no command has a flag for.
func (c *configValues) Validate(app *kong.Application) error {
	known := map[string]bool{}
	var collect func(n *kong.Node)
	collect = func(n *kong.Node) {
		for _, f := range n.Flags {
			known[f.Name] = true
		}
		for _, child := range n.Children {
			collect(child)
		}
	}
	collect(app.Node)
	var unknown []string
	for name := range c.values {
		if !known[name] {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	return fmt.Errorf("configuration file has settings no command knows: %s", strings.Join(unknown, ", "))
}

// Resolve gives the flag its value from the file, unless the environment has
// one: kong asks resolvers after it has read the environment.
func (c *configValues) Resolve(_ *kong.Context, _ *kong.Path, flag *kong.Flag) (any, error) {
	for _, env := range flag.Envs {
		if _, ok := os.LookupEnv(env); ok {
			return nil, nil //nolint:nilnil // kong's way to say "not here"
		}
	}
	return c.values[flag.Name], nil
}

func newLogger(level, format string) *slog.Logger {
	var l slog.Level
	_ = l.UnmarshalText([]byte(level)) // the flag's enum allows nothing else
	opts := &slog.HandlerOptions{Level: l}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}
