// Package devices is `fleetlog devices`: import and export of devices by CSV files
// from the command line, over the API that everybody has.
package devices

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
)

// Command is `fleetlog devices`.
type Command struct {
	Import ImportCommand `cmd:"" help:"Register the devices of a CSV file."`
	Export ExportCommand `cmd:"" help:"Write devices and their keys to a CSV file."`
}

// ImportCommand is `fleetlog devices import FILE`.
type ImportCommand struct {
	apiFlags

	File         string `arg:"" help:"CSV file; its first row names the columns: IOTC_DEVICEID, IOTC_DEVICENAME, TAG_<name>." type:"existingfile"`
	Template     string `help:"Template the devices get, as dtmi:contoso:Thermostat;1." placeholder:"ID"`
	Organization string `help:"Organization the devices belong to." placeholder:"ID"`
	Update       bool   `help:"Change devices that exist already; without it each of them is an error."`
	Name         string `help:"What the import is called; the file's name by default."`
	Errors       string `help:"Where the report of what failed goes; FILE.errors.csv by default." type:"path" placeholder:"FILE"`
}

// Run imports the file and waits for the end. It fails when a row has failed.
func (c *ImportCommand) Run(ctx context.Context) error {
	return c.RunTo(ctx, os.Stdout, os.Stderr)
}

// RunTo is Run with other places for the answer and the progress.
func (c *ImportCommand) RunTo(ctx context.Context, out, progress io.Writer) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	file, err := os.Open(c.File)
	if err != nil {
		return fmt.Errorf("open the file: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	o, err := api.start(ctx, "/api/devices/import?"+c.parameters(), "text/csv", file)
	if err != nil {
		return err
	}
	if o, err = api.follow(ctx, o, progress); err != nil {
		return err
	}
	fmt.Fprintf(out, "%s: %d of %d devices imported, %d failed\n", o.Status, o.Succeeded, o.Total, o.Failed)
	report := c.Errors
	if report == "" {
		report = strings.TrimSuffix(c.File, ".csv") + ".errors.csv"
	}
	return api.conclude(ctx, o, report, out)
}

func (c *ImportCommand) parameters() string {
	q := url.Values{"displayName": {c.Name}}
	if c.Name == "" {
		q.Set("displayName", filepath.Base(c.File))
	}
	if c.Template != "" {
		q.Set("template", c.Template)
	}
	if c.Organization != "" {
		q.Set("organization", c.Organization)
	}
	if c.Update {
		q.Set("update", strconv.FormatBool(true))
	}
	return q.Encode()
}

// ExportCommand is `fleetlog devices export`.
type ExportCommand struct {
	apiFlags

	IDs    []string `name:"ids" help:"Devices to export; all when nothing says which." placeholder:"ID,…" xor:"which"`
	Group  string   `help:"Export the devices of this device group." placeholder:"ID" xor:"which"`
	Filter string   `help:"Export the devices that this filter of the device list finds, as \"displayName eq 'Lobby'\"." placeholder:"FILTER" xor:"which"`
	Out    string   `help:"Where the devices and their keys go." type:"path" default:"devices.csv" placeholder:"FILE"`
	Name   string   `help:"What the export is called."`
	Errors string   `help:"Where the report of what failed goes; devices.errors.csv beside --out by default." type:"path" placeholder:"FILE"`
}

// Run exports the devices and waits for the end. It fails when a device has failed.
func (c *ExportCommand) Run(ctx context.Context) error {
	return c.RunTo(ctx, os.Stdout, os.Stderr)
}

// RunTo is Run with other places for the answer and the progress.
func (c *ExportCommand) RunTo(ctx context.Context, out, progress io.Writer) error {
	api, err := c.client()
	if err != nil {
		return err
	}
	o, err := api.startExport(ctx, exportRequest{DisplayName: c.Name, DeviceGroup: c.Group, Filter: c.Filter, IDs: c.IDs})
	if err != nil {
		return err
	}
	if o, err = api.follow(ctx, o, progress); err != nil {
		return err
	}
	if o.Status == statusCompleted {
		if err := api.save(ctx, "/api/deviceOperations/"+o.ID+"/result", c.Out); err != nil {
			return err
		}
		fmt.Fprintf(out, "%d devices are in %s, with their keys: keep it safe\n", o.Succeeded, c.Out)
	}
	report := c.Errors
	if report == "" {
		report = strings.TrimSuffix(c.Out, ".csv") + ".errors.csv"
	}
	return api.conclude(ctx, o, report, out)
}

// maxShown bounds the errors that are shown at once; the report has all.
const maxShown = 10

// conclude keeps the error report, shows its beginning, and is the error the
// command ends with.
func (a *client) conclude(ctx context.Context, o operation, report string, out io.Writer) error {
	if o.Failed > 0 || o.Failure != "" {
		if err := a.save(ctx, "/api/deviceOperations/"+o.ID+"/errors", report); err != nil {
			return err
		}
		if err := show(out, report, maxShown); err != nil {
			return err
		}
	}
	switch {
	case o.Failure != "":
		return fmt.Errorf("the %s failed: %s", o.Type, o.Failure)
	case o.Status != statusCompleted:
		return fmt.Errorf("the %s was %s", o.Type, o.Status)
	case o.Failed > 0:
		return fmt.Errorf("%d of %d devices failed: %s says why", o.Failed, o.Total, report)
	}
	return nil
}

// save downloads a file. It is there whole or not at all, and its owner's alone.
func (a *client) save(ctx context.Context, path, to string) error {
	answer, err := a.call(ctx, http.MethodGet, path, "", nil)
	if err != nil {
		return err
	}
	defer answer.Close()
	file, err := renameio.NewPendingFile(to, renameio.WithPermissions(0o600))
	if err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	defer func() { _ = file.Cleanup() }() // does nothing after the replacement
	if _, err := io.Copy(file, answer); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	if err := file.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("write %s: %w", to, err)
	}
	return nil
}

// errDetached is what a person is told who does not wait for the end.
var errDetached = errors.New("not waiting any longer: the operation goes on")
