package operations

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// inFlight bounds the changes of devices that wait for their decision.
	inFlight = 64
	// windowRows and windowTime bound what is done between two signs of life.
	windowRows = 1000
	windowTime = 2 * time.Second
)

// importDevices registers the devices of the file from where the operation is.
//
// It goes by windows of rows. The time of a window's events is written down before
// the window begins: when it has to be done again, after a crash, a device that was
// registered at that very time (in nanoseconds) is known as this operation's own.
func (w *work) importDevices(ctx context.Context) error {
	if err := w.count(ctx); err != nil {
		return err
	}
	file, err := w.shelf.open(ctx, w.tenant, w.id, inputFile)
	if err != nil {
		return err
	}
	defer file.Close()
	rows, err := newRowReader(file)
	if err != nil {
		return fmt.Errorf("input of device operation %s: %w", w.id, err)
	}
	for range w.body.GetSettled() {
		if _, _, err := rows.next(); err != nil {
			return fmt.Errorf("input of device operation %s: %w", w.id, err)
		}
	}
	for w.body.GetSettled() < w.body.GetTotal() {
		if err := w.window(ctx, rows); err != nil {
			return err
		}
	}
	return nil
}

// count learns how many rows there are, once, and begins the first window.
func (w *work) count(ctx context.Context) error {
	if w.body.GetWindow() != nil {
		return nil
	}
	file, err := w.shelf.open(ctx, w.tenant, w.id, inputFile)
	if err != nil {
		return err
	}
	defer file.Close()
	total, err := countRows(file)
	var header *problem
	if errors.As(err, &header) {
		if err := w.keep(ctx, []*problem{header}); err != nil {
			return err
		}
		if err := w.save(ctx, func(o *eventsv1.DeviceOperation) { o.ErrorParts++ }); err != nil {
			return err
		}
		return &failedError{header}
	}
	if err != nil {
		return err
	}
	return w.save(ctx, func(o *eventsv1.DeviceOperation) { o.Total, o.Window = total, timestamppb.Now() })
}

// countRows is how many rows the file has, those with a problem among them.
func countRows(file io.Reader) (uint32, error) {
	rows, err := newRowReader(file)
	if err != nil {
		return 0, err
	}
	for total := uint32(0); ; total++ {
		switch _, _, err := rows.next(); {
		case errors.Is(err, io.EOF):
			return total, nil
		case err != nil:
			return 0, err
		case total == maxRows:
			return 0, &failedError{fmt.Errorf("the file has more than %d rows: import it in pieces", maxRows)}
		}
	}
}

// window does the next rows and writes down what became of them.
func (w *work) window(ctx context.Context, rows *rowReader) error {
	done, problems, err := w.settle(ctx, rows)
	if err != nil {
		return err
	}
	if err := w.keep(ctx, problems); err != nil {
		return err
	}
	return w.save(ctx, func(o *eventsv1.DeviceOperation) {
		failed := uint32(len(problems))
		o.Settled, o.Succeeded, o.Failed = o.GetSettled()+done, o.GetSucceeded()+done-failed, o.GetFailed()+failed
		o.Window = timestamppb.Now()
		if failed > 0 {
			o.ErrorParts++
		}
	})
}

// keep writes the part of the error report that the next sign of life counts.
func (w *work) keep(ctx context.Context, problems []*problem) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortFunc(problems, func(a, b *problem) int { return a.line - b.line })
	return w.shelf.put(ctx, w.tenant, w.id, errorsPart(w.body.GetErrorParts()), func(to io.Writer) error { return writeProblems(to, problems) })
}

// settle does rows until the window is full and waits for all of them.
func (w *work) settle(ctx context.Context, rows *rowReader) (done uint32, problems []*problem, err error) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	var mu sync.Mutex
	note := func(p *problem) {
		if p != nil {
			mu.Lock()
			defer mu.Unlock()
			problems = append(problems, p)
		}
	}
	group, running := errgroup.WithContext(ctx)
	group.SetLimit(inFlight)
	for began := time.Now(); done < windowRows && time.Since(began) < windowTime && running.Err() == nil; done++ {
		one, bad, err := rows.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return 0, nil, errors.Join(fmt.Errorf("input of device operation %s: %w", w.id, err), group.Wait())
		}
		if bad != nil {
			note(bad)
			continue
		}
		group.Go(func() error {
			p, err := w.register(running, one)
			note(p)
			return err
		})
	}
	return done, problems, group.Wait()
}

// errAgain is returned for a row whose device came or went meanwhile.
var errAgain = errors.New("the device has changed meanwhile")

// register does one row; it tries again while the log does not decide.
func (w *work) register(ctx context.Context, one row) (*problem, error) {
	return backoff.Retry(ctx, func() (*problem, error) {
		p, err := w.registerOnce(ctx, one)
		var rejected *registry.RejectedError
		if !errors.As(err, &rejected) {
			return p, err
		}
		switch rejected.Reason {
		case eventsv1.RejectionReason_REJECTION_REASON_ALREADY_EXISTS, eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH,
			eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND:
			return nil, errAgain
		}
		return &problem{line: one.line, device: one.id, code: codeRejected, message: rejected.Message}, nil
	}, backoff.WithMaxElapsedTime(settleTime))
}

func (w *work) registerOnce(ctx context.Context, one row) (*problem, error) {
	switch known := w.deps.Registry.Get(w.tenant, one.id); {
	case known == nil:
		return nil, w.change(ctx, one, false, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Registered{Registered: w.registration(one)}})
	case known.GetRegisteredAt().AsTime().Equal(w.body.GetWindow().AsTime()):
		return nil, nil // by this operation, before it was interrupted
	case !w.body.GetUpdate() || !w.mine(known):
		return &problem{line: one.line, device: one.id, code: codeExists, message: "the device exists already: import with update=true to change it"}, nil
	}
	return nil, w.change(ctx, one, true, &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Updated{Updated: w.update(one)}})
}

func (w *work) change(ctx context.Context, one row, exists bool, ev *eventsv1.DeviceEvent) error {
	ev.Id, ev.Tenant, ev.Device, ev.Time, ev.Actor = eventlog.NewID(), w.tenant, one.id, timestamppb.Now(), w.body.GetActor()
	if !exists { // by this the operation knows its own devices again
		ev.Time = w.body.GetWindow()
	}
	ev.Precondition = &eventsv1.Precondition{Exists: &exists}
	_, err := w.deps.Registry.Change(ctx, ev)
	return err
}

func (w *work) registration(one row) *eventsv1.DeviceRegistered {
	return &eventsv1.DeviceRegistered{
		DisplayName: one.name, Template: w.body.GetTemplate(), Enabled: true, Organizations: w.organizations(), Tags: one.tags,
		Initial: w.initial(),
	}
}

// update changes what the row, or who asked for the import, says anything about.
func (w *work) update(one row) *eventsv1.DeviceUpdated {
	u := &eventsv1.DeviceUpdated{}
	if one.name != "" {
		u.DisplayName = &one.name
	}
	if one.tags != nil {
		u.Tags = one.tags
	}
	if w.body.GetTemplate() != "" {
		u.Template, u.Initial = proto.String(w.body.GetTemplate()), w.initial()
	}
	if ids := w.organizations(); ids != nil {
		u.Organizations = &eventsv1.Organizations{Ids: ids}
	}
	return u
}

// initial is what devices get with the template, if that is still there.
func (w *work) initial() []byte {
	if t := w.deps.Templates.Get(w.tenant, w.body.GetTemplate()); t != nil {
		return t.Initial()
	}
	return nil
}

func (w *work) organizations() []string {
	if w.body.GetOrganization() == "" {
		return nil
	}
	return []string{w.body.GetOrganization()}
}
