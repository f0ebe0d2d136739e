package operations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceoperation"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/files"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/seal"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// Deps is what operations are done with. All fields are needed.
type Deps struct {
	Registry *registry.Registry
	Catalog  *catalog.Catalog
	Groups   *enrollment.Groups
	// Templates are given to imported devices.
	Templates *template.Templates
	Keys      *device.MasterKey
	// Files is the store that all nodes with the API share.
	Files *files.Store
	// Node is this node's id, the same after a restart.
	Node   string
	Logger *slog.Logger
}

// Runner does operations, one at a time, the oldest first. It is safe for
// concurrent use.
type Runner struct {
	deps    Deps
	shelf   shelf
	changed chan struct{}
	tries   map[string]*attempts // of operations that failed for now; Run's own
}

// attempts says when an operation is tried again.
type attempts struct {
	next  time.Time
	pause *backoff.ExponentialBackOff
}

// New makes the runner. It must be made before the catalog runs.
func New(deps Deps) (*Runner, error) {
	sealer, err := seal.New(deps.Keys.Secret(deviceoperation.KindName))
	if err != nil {
		return nil, fmt.Errorf("device operations: %w", err)
	}
	r := &Runner{deps: deps, shelf: shelf{deps.Files, sealer}, changed: make(chan struct{}, 1), tries: map[string]*attempts{}}
	deps.Catalog.OnChange(func(before, after *catalog.Resource) {
		if after.Kind == deviceoperation.KindName && before == nil {
			select {
			case r.changed <- struct{}{}:
			default: // it is awake already
			}
		}
	})
	return r, nil
}

// lookEvery is how often leases are looked at.
const lookEvery = time.Second

// Run does what there is to do until ctx ends, nil then.
func (r *Runner) Run(ctx context.Context) error {
	ticker := time.NewTicker(lookEvery)
	defer ticker.Stop()
	for {
		if r.deps.Catalog.Ready() == nil && r.deps.Registry.Ready() == nil {
			r.round(ctx)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-r.changed:
		case <-ticker.C:
		}
	}
}

// Bring keeps what an operation is to read, before there is the operation.
func (r *Runner) Bring(ctx context.Context, tenant, id string, content io.Reader) error {
	return r.shelf.put(ctx, tenant, id, inputFile, func(to io.Writer) error {
		_, err := io.Copy(to, content)
		return err
	})
}

// Discard removes what was brought for an operation that was not accepted.
func (r *Runner) Discard(ctx context.Context, tenant, id string) error {
	return r.shelf.remove(ctx, tenant, id, inputFile)
}

// Clear removes the files of an operation that was deleted.
func (r *Runner) Clear(ctx context.Context, one *catalog.Resource) error {
	return r.shelf.clear(ctx, one.Tenant, one.ID, deviceoperation.Of(one))
}

// Input is what the operation's body says of the file that was brought.
const Input = inputFile

// Own gives an operation that begins to this node, which has its file.
func (r *Runner) Own(o *eventsv1.DeviceOperation) {
	o.Node, o.Lease = r.deps.Node, timestamppb.New(time.Now().Add(leaseTime))
}

// WriteErrors writes the error report as it is now.
func (r *Runner) WriteErrors(ctx context.Context, to io.Writer, one *catalog.Resource) error {
	if err := writeRow(to, reportHeader); err != nil {
		return err
	}
	for part := range deviceoperation.Of(one).GetErrorParts() {
		err := r.shelf.copyTo(ctx, to, one.Tenant, one.ID, errorsPart(part))
		if err != nil {
			return err
		}
	}
	return nil
}

// WriteResult writes the file that an export has made.
func (r *Runner) WriteResult(ctx context.Context, to io.Writer, one *catalog.Resource) error {
	return r.shelf.copyTo(ctx, to, one.Tenant, one.ID, resultFile)
}

// round does each operation that is due and tidies up after those that ended. There
// is one tenant until tenants have host names.
func (r *Runner) round(ctx context.Context) {
	ended := 0
	for _, one := range slices.Backward(r.all()) { // the newest first
		if !deviceoperation.Ended(deviceoperation.Of(one)) {
			continue
		}
		delete(r.tries, one.ID)
		if ended++; ended > deviceoperation.MaxKept {
			r.report(one, r.forget(ctx, one))
			continue
		}
		r.report(one, r.tidy(ctx, one))
	}
	for _, one := range r.all() {
		if ctx.Err() != nil {
			return
		}
		if r.due(one, time.Now()) {
			r.do(ctx, one)
		}
	}
}

func (r *Runner) all() []*catalog.Resource {
	const more = 2 * deviceoperation.MaxKept // than there can be
	return r.deps.Catalog.List(access.DefaultTenant, deviceoperation.KindName, "", more)
}

func (r *Runner) report(one *catalog.Resource, err error) {
	if err != nil && !errors.Is(err, context.Canceled) {
		r.deps.Logger.Warn("cannot tidy up after a device operation, trying again", "operation", one.ID, "error", err)
	}
}

// due reports whether the operation is this node's to do now.
func (r *Runner) due(one *catalog.Resource, now time.Time) bool {
	o := deviceoperation.Of(one)
	if try := r.tries[one.ID]; deviceoperation.Ended(o) || try != nil && now.Before(try.next) {
		return false
	}
	return o.GetNode() == r.deps.Node || now.After(o.GetLease().AsTime())
}

// do does an operation to its end, or as far as it goes now.
func (r *Runner) do(ctx context.Context, one *catalog.Resource) {
	w := &work{Runner: r, tenant: one.Tenant, id: one.ID, version: one.Version, body: deviceoperation.Of(one)}
	err := w.run(ctx)
	switch {
	case ctx.Err() != nil:
		return
	case errors.Is(err, errOver):
		w.tidyUp(ctx)
		return
	case err == nil:
		w.tidyUp(ctx)
		r.deps.Logger.Info("device operation has ended", "operation", w.id, "status", w.body.GetStatus().String(),
			"total", w.body.GetTotal(), "succeeded", w.body.GetSucceeded(), "failed", w.body.GetFailed(), "failure", w.body.GetFailure())
		return
	}
	try := r.tries[w.id]
	if try == nil {
		try = &attempts{pause: backoff.NewExponentialBackOff()}
		r.tries[w.id] = try
	}
	pause := try.pause.NextBackOff()
	try.next = time.Now().Add(pause)
	r.deps.Logger.Warn("device operation cannot go on, trying again", "operation", w.id, "in", pause, "error", err)
}

func (w *work) run(ctx context.Context) error {
	err := w.save(ctx, func(o *eventsv1.DeviceOperation) {
		o.Status = eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_RUNNING
	})
	if err != nil {
		return err
	}
	if w.body.GetKind() == eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_IMPORT {
		err = w.importDevices(ctx)
	} else {
		err = w.exportDevices(ctx)
	}
	var failed *failedError
	switch {
	case errors.As(err, &failed):
		return w.end(ctx, eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_FAILED, deviceoperation.Failure(failed))
	case errors.Is(err, files.ErrNotFound):
		return w.end(ctx, eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_FAILED,
			"its file is not in this node's store: give all nodes with the API the same --files, and start the operation again")
	case errors.Is(err, seal.ErrOpen):
		return w.end(ctx, eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_FAILED, "its file cannot be opened: give all nodes with the API the same --master-key")
	case err != nil:
		return err
	}
	return w.end(ctx, eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_COMPLETED, "")
}

// tidyUp tidies at once, so that a person does not see it happen.
func (w *work) tidyUp(ctx context.Context) {
	if r := w.deps.Catalog.Get(w.tenant, deviceoperation.KindName, w.id); r != nil && deviceoperation.Ended(deviceoperation.Of(r)) {
		w.report(r, w.tidy(ctx, r))
	}
}

// tidy removes the file that an operation was given, once it has ended.
func (r *Runner) tidy(ctx context.Context, one *catalog.Resource) error {
	o := deviceoperation.Of(one)
	if o.GetInput() == "" || o.GetNode() != r.deps.Node && time.Now().Before(o.GetLease().AsTime()) {
		return nil
	}
	if err := r.shelf.remove(ctx, one.Tenant, one.ID, inputFile); err != nil {
		return err
	}
	w := &work{Runner: r, tenant: one.Tenant, id: one.ID, version: one.Version, body: o}
	err := w.save(ctx, func(o *eventsv1.DeviceOperation) { o.Input = "" })
	if errors.Is(err, errOver) {
		return nil
	}
	return err
}

// forget deletes an operation that has ended, with its files.
func (r *Runner) forget(ctx context.Context, one *catalog.Resource) error {
	ctx, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	_, err := r.deps.Catalog.Change(ctx, &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: one.Tenant, Kind: deviceoperation.KindName, Resource: one.ID, Time: timestamppb.Now(),
		Actor:        deviceoperation.Of(one).GetActor(),
		Precondition: &eventsv1.Precondition{Version: &one.Version},
		Change:       &eventsv1.CatalogEvent_Deleted{Deleted: &eventsv1.CatalogDeleted{}},
	})
	if err != nil {
		return err
	}
	return r.Clear(ctx, one)
}
