package operations

import (
	"bufio"
	"context"
	"encoding/csv"
	"io"
	"time"

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
		if state == nil {
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

// chosen are the ids of the devices to export: those that were named, else all.
func (w *work) chosen(ctx context.Context) ([]string, error) {
	if w.body.GetInput() == "" {
		return w.everyDevice(), nil
	}
	file, err := w.shelf.open(ctx, w.tenant, w.id, inputFile)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	var ids []string
	for lines := bufio.NewScanner(file); ; {
		if !lines.Scan() {
			return ids, lines.Err()
		}
		ids = append(ids, lines.Text())
	}
}

func (w *work) everyDevice() []string {
	var ids []string
	for after := ""; ; after = ids[len(ids)-1] {
		page := w.deps.Registry.List(w.tenant, after, windowRows)
		for _, state := range page {
			ids = append(ids, state.GetDevice())
		}
		if len(page) < windowRows {
			return ids
		}
	}
}

func writeRow(to io.Writer, cells []string) error {
	w := csv.NewWriter(to)
	_ = w.Write(cells) // the error stays
	w.Flush()
	return w.Error()
}
