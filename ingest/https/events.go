package https

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"time"

	"github.com/fleetlog/fleetlog/ingest/telemetry"
	"github.com/twmb/franz-go/pkg/kgo"
)

// appendTimeout bounds how long a device waits for the log.
const appendTimeout = 30 * time.Second

// maxBodiesBytes bounds what all requests of telemetry hold together.
const maxBodiesBytes = 64 << 20

// postEvents takes in telemetry, one message or a batch, and answers 204 once the
// log has all of it. On any other answer the device sends it again.
func (d *Door) postEvents(w http.ResponseWriter, r *http.Request, c caller) error {
	weight := int64(maxBatchBytes)
	if r.ContentLength >= 0 && r.ContentLength < weight {
		weight = r.ContentLength
	}
	if !d.bodies.TryAcquire(weight) {
		return failBusy
	}
	defer d.bodies.Release(weight)
	messages, err := readMessages(w, r, c)
	if err != nil {
		return eventFailure(err)
	}
	made := sizeOf(messages)
	if made > maxBodiesBytes { // it would never fit, however often it comes
		return failTooLarge
	}
	if !d.bodies.TryAcquire(made) {
		return failBusy
	}
	defer d.bodies.Release(made)
	arrived := time.Now()
	records := make([]*kgo.Record, len(messages))
	for i, m := range messages {
		m.Tenant, m.Device, m.Module, m.Arrived = c.tenant, c.device, c.module, arrived
		if records[i], err = m.Record(d.topic); err != nil {
			return eventFailure(err)
		}
	}
	if err := d.append(r.Context(), records); err != nil {
		return within(failBusy, err)
	}
	d.metrics.messages.Add(float64(len(records)))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func eventFailure(err error) error {
	var gone *http.MaxBytesError
	switch {
	case errors.Is(err, telemetry.ErrTooLarge), errors.As(err, &gone):
		return failTooLarge
	case errors.Is(err, telemetry.ErrProperties), errors.Is(err, errBatch), errors.Is(err, telemetry.ErrBatch):
		return because(failArgument, err)
	case errors.Is(err, failTooLarge):
		return err
	}
	return within(failArgument, err) // the body did not come
}

// readMessages reads the request's body, bounded: one message, or one that is a
// batch by its Content-Type or iothub-contenttype, or IoT Hub's own kind of batch.
func readMessages(w http.ResponseWriter, r *http.Request, c caller) ([]telemetry.Message, error) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	limit := int64(telemetry.MaxBytes)
	if kind == batchType {
		limit = maxBatchBytes
	}
	body, err := readBody(w, r, limit)
	if err != nil {
		return nil, err
	}
	if kind == batchType {
		messages, err := parseBatch(body)
		if err != nil {
			return nil, err
		}
		return split(messages)
	}
	properties, err := propertiesOf(r.Header, c.path()+"/messages/events")
	if err != nil {
		return nil, err
	}
	if kind == telemetry.BatchType && !slices.ContainsFunc(properties, isContentType) {
		properties = append(properties, telemetry.Property{Name: telemetry.ContentType, Value: kind})
		sortBag(properties)
	}
	m := telemetry.Message{Payload: body, Properties: properties}
	if m.Size() > telemetry.MaxBytes { // the whole batch, as by MQTT
		return nil, telemetry.ErrTooLarge
	}
	return split([]telemetry.Message{m})
}

// split takes apart those of the messages that are batches themselves.
func split(messages []telemetry.Message) ([]telemetry.Message, error) {
	events := make([]telemetry.Message, 0, len(messages))
	for _, m := range messages {
		parts, err := m.Split()
		if err != nil {
			return nil, err
		}
		if events = append(events, parts...); len(events) > telemetry.MaxBatch {
			return nil, fmt.Errorf("%w; this request has more than %d events", telemetry.ErrBatch, telemetry.MaxBatch)
		}
	}
	return events, nil
}

func isContentType(p telemetry.Property) bool { return p.Name == telemetry.ContentType }

// sizeOf is what the messages hold together: those of a batch have its properties
// each.
func sizeOf(messages []telemetry.Message) (n int64) {
	for _, m := range messages {
		n += int64(m.Size())
	}
	return n
}

func readBody(w http.ResponseWriter, r *http.Request, limit int64) ([]byte, error) {
	if r.ContentLength > limit {
		return nil, failTooLarge
	}
	return io.ReadAll(http.MaxBytesReader(w, r.Body, limit))
}

// append hands the records to the log and waits until it has all of them. A
// device that goes away does not change what becomes of them.
func (d *Door) append(ctx context.Context, records []*kgo.Record) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), appendTimeout)
	defer cancel()
	done := make(chan error, len(records))
	for _, record := range records {
		d.deps.Log.Append(ctx, record, func(_ *kgo.Record, err error) { done <- err })
	}
	var errs []error
	for range records {
		errs = append(errs, <-done)
	}
	return errors.Join(errs...)
}
