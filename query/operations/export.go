package operations

import (
	"bufio"
	"context"
	"encoding/csv"
	"io"
	"slices"
	"time"

	"github.com/fleetlog/fleetlog/internal/devicefilter"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// exportDevices writes the file of the devices. One that was interrupted begins
// again: it has changed nothing.
func (w *work) exportDevices(ctx context.Context) error {
	ids, err := w.chosen(ctx)
	if err != nil {
		return err
	}
	err = w.save(ctx, func(o *eventsv1.DeviceOperation) {
		o.Total, o.Succeeded, o.Failed, o.ErrorParts = uint32(len(ids)), 0, 0, 0
	})
	if err != nil {
		return err
	}
	var missing []*problem
	err = w.shelf.put(ctx, w.tenant, w.id, resultFile, func(to io.Writer) (err error) {
		missing, err = w.writeDevices(ctx, to, ids)
		return err
	})
	if err != nil {
		return err
	}
	if err := w.keep(ctx, missing); err != nil {
		return err
	}
	return w.save(ctx, func(o *eventsv1.DeviceOperation) {
		o.Output, o.Failed = resultFile, uint32(len(missing))
		o.Succeeded = o.GetTotal() - o.GetFailed()
		if len(missing) > 0 {
			o.ErrorParts = 1
		}
	})
}

// writeDevices writes a row for each device there is and gives those there are not.
func (w *work) writeDevices(ctx context.Context, to io.Writer, ids []string) (missing []*problem, err error) {
	if err := writeRow(to, resultHeader); err != nil {
		return nil, err
	}
	out := csv.NewWriter(to)
	told := time.Now()
	for i, id := range ids {
		if i%windowRows == 0 && time.Since(told) > windowTime {
			if err := w.progress(ctx, uint32(i-len(missing)), uint32(len(missing))); err != nil {
				return nil, err
			}
			told = time.Now()
		}
		state := w.deps.Registry.Get(w.tenant, id)
		if state == nil || !w.mine(state) {
			missing = append(missing, &problem{device: id, code: codeMissing, message: "the device does not exist"})
			continue
		}
		cells, err := w.resultRow(state)
		if err != nil {
			return nil, &failedError{err}
		}
		if err := out.Write(cells); err != nil {
			return nil, err
		}
	}
	out.Flush()
	return missing, out.Error()
}

func (w *work) progress(ctx context.Context, succeeded, failed uint32) error {
	return w.save(ctx, func(o *eventsv1.DeviceOperation) { o.Succeeded, o.Failed = succeeded, failed })
}

// chosen are the ids of the devices to export: those that were named, those that the
// filter means now, else all.
func (w *work) chosen(ctx context.Context) ([]string, error) {
	if w.body.GetInput() == "" {
		return w.matching(ctx)
	}
	file, err := w.shelf.open(ctx, w.tenant, w.id, inputFile)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var ids []string
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		ids = append(ids, lines.Text())
	}
	return ids, lines.Err()
}

// Filter reads the text that says which devices to export: a device group's query, or
// the filter of the device list. Empty is all devices.
func Filter(o *eventsv1.DeviceOperation) (devicefilter.Expr, error) {
	switch {
	case o.GetDeviceGroup() != "":
		return devicefilter.ParseGroup(o.GetFilter())
	case o.GetFilter() != "":
		return devicefilter.ParseList(o.GetFilter())
	}
	return devicefilter.And{}, nil
}

// mine reports whether the operation may touch the device.
func (w *work) mine(state *eventsv1.DeviceState) bool {
	allowed := w.body.GetOrganizations()
	if len(allowed) == 0 {
		return true
	}
	outside := func(id string) bool { return !slices.Contains(allowed, id) }
	return len(state.GetOrganizations()) > 0 && !slices.ContainsFunc(state.GetOrganizations(), outside)
}

// matching looks at each device that this node knows: its view is newer than any
// table, and complete while ClickHouse is away.
func (w *work) matching(ctx context.Context) ([]string, error) {
	filter, err := Filter(w.body)
	if err != nil {
		return nil, &failedError{err}
	}
	var ids []string
	everything, told := w.body.GetFilter() == "", time.Now()
	for after := ""; ; {
		page := w.deps.Registry.List(w.tenant, after, windowRows)
		for _, state := range page {
			if after = state.GetDevice(); !w.mine(state) {
				continue
			}
			if !everything {
				d, err := devicefilter.DeviceOf(state)
				if err != nil || !devicefilter.Match(filter, d) {
					continue // what cannot be read matches nothing, as in the device list
				}
			}
			ids = append(ids, after)
		}
		if len(page) < windowRows {
			return ids, nil
		}
		if time.Since(told) > windowTime {
			if err := w.progress(ctx, 0, 0); err != nil {
				return nil, err
			}
			told = time.Now()
		}
	}
}

func writeRow(to io.Writer, cells []string) error {
	w := csv.NewWriter(to)
	_ = w.Write(cells) // the error stays
	w.Flush()
	return w.Error()
}
