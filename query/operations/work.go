package operations

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/deviceoperation"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
)

const (
	// leaseTime is how long the others leave an operation to its node after its last
	// sign of life.
	leaseTime = 30 * time.Second
	// settleTime bounds what is done between two of them; the rest of the lease is
	// for writing it down.
	settleTime = 20 * time.Second
	// saveTime bounds how long the catalog may take to decide.
	saveTime = 5 * time.Second
)

// errOver is returned when the operation is not this node's any more: it was
// cancelled, deleted or taken over.
var errOver = errors.New("the operation is over, or another node has it")

// failedError ends the operation as failed: another attempt would fail likewise.
type failedError struct{ cause error }

func (e *failedError) Error() string { return e.cause.Error() }

func (e *failedError) Unwrap() error { return e.cause }

// work is an operation that this node does.
type work struct {
	*Runner
	tenant, id string
	version    uint64
	body       *eventsv1.DeviceOperation
}

// save writes down how far the operation is and renews the lease. It is only
// accepted if nobody else has changed the operation since: errOver otherwise.
func (w *work) save(ctx context.Context, edit func(*eventsv1.DeviceOperation)) error {
	next := proto.CloneOf(w.body)
	edit(next)
	next.Node, next.Lease = w.deps.Node, timestamppb.New(time.Now().Add(leaseTime))
	if deviceoperation.Ended(next) && next.GetEndedAt() == nil {
		next.EndedAt = timestamppb.Now()
	}
	err := w.write(ctx, next)
	if !overtaken(err) {
		return err
	}
	if err := w.account(ctx, edit); err != nil {
		return err
	}
	return errOver
}

// account adds what was done to an operation that was cancelled meanwhile.
func (w *work) account(ctx context.Context, edit func(*eventsv1.DeviceOperation)) error {
	r := w.deps.Catalog.Get(w.tenant, deviceoperation.KindName, w.id)
	if r == nil {
		return errOver
	}
	was := deviceoperation.Of(r)
	if was.GetStatus() != eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_CANCELLED || was.GetNode() != w.deps.Node {
		return errOver
	}
	next := proto.CloneOf(was)
	edit(next)
	next.Status = was.GetStatus()
	w.version = r.Version
	return w.write(ctx, next)
}

func (w *work) write(ctx context.Context, next *eventsv1.DeviceOperation) error {
	ctx, cancel := context.WithTimeout(ctx, saveTime)
	defer cancel()
	r, err := w.deps.Catalog.Change(ctx, &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: w.tenant, Kind: deviceoperation.KindName, Resource: w.id, Time: timestamppb.Now(), Actor: next.GetActor(),
		Precondition: &eventsv1.Precondition{Version: &w.version},
		Change:       &eventsv1.CatalogEvent_DeviceOperation{DeviceOperation: next},
	})
	if err != nil {
		return fmt.Errorf("write down how far device operation %s is: %w", w.id, err)
	}
	w.version, w.body = r.Version, deviceoperation.Of(r)
	return nil
}

// overtaken reports whether a change was refused because another came before it.
func overtaken(err error) bool {
	var rejected *catalog.RejectedError
	return errors.As(err, &rejected)
}

// end writes down how the operation ended.
func (w *work) end(ctx context.Context, status eventsv1.DeviceOperationStatus, failure string) error {
	return w.save(ctx, func(o *eventsv1.DeviceOperation) { o.Status, o.Failure = status, failure })
}
