// Package deviceoperation is the import or export of devices as a resource: its
// rules, which the catalog's fold applies on every node alike (FEATURES.md DEV-42).
//
// The resource holds how far the work is and who does it. It is pure: the work
// itself is done in query/operations.
package deviceoperation

import (
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/internal/catalog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// KindName is the catalog's name of device operations.
const KindName = "deviceOperations"

const (
	// MaxKept bounds a tenant's operations. What ended first goes first.
	MaxKept = 1000
	// maxPresent leaves room for what is asked for before the oldest are gone.
	maxPresent = MaxKept + 100

	maxNameLength    = 148
	maxFailureLength = 2000
	maxFilterBytes   = 64 << 10
)

// Kind is the device operation as the catalog needs to know it.
func Kind() catalog.Kind {
	return catalog.Kind{
		Name: KindName,
		Noun: "device operation",
		Body: func(ev *eventsv1.CatalogEvent) proto.Message {
			if o := ev.GetDeviceOperation(); o != nil {
				return o
			}
			return nil
		},
		Validate: func(_, _ string, body proto.Message) error { return validate(body.(*eventsv1.DeviceOperation)) },
		Admit: func(others catalog.View, tenant, id string, body proto.Message) error {
			return admit(others, tenant, id, body.(*eventsv1.DeviceOperation))
		},
	}
}

// Of is the operation that a resource is.
func Of(r *catalog.Resource) *eventsv1.DeviceOperation { return r.Body.(*eventsv1.DeviceOperation) }

// Ended reports whether nothing more will be done for the operation.
func Ended(o *eventsv1.DeviceOperation) bool {
	switch o.GetStatus() {
	case eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_COMPLETED,
		eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_FAILED,
		eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_CANCELLED:
		return true
	}
	return false
}

func validate(o *eventsv1.DeviceOperation) error {
	switch {
	case o.GetKind() != eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_IMPORT && o.GetKind() != eventsv1.DeviceOperationKind_DEVICE_OPERATION_KIND_EXPORT:
		return errors.New("a device operation is an import or an export")
	case o.GetStatus() == eventsv1.DeviceOperationStatus_DEVICE_OPERATION_STATUS_UNSPECIFIED:
		return errors.New("a device operation has a status")
	case utf8.RuneCountInString(o.GetDisplayName()) > maxNameLength || !utf8.ValidString(o.GetDisplayName()):
		return fmt.Errorf("displayName is not valid: use at most %d characters", maxNameLength)
	case len(o.GetFailure()) > maxFailureLength:
		return fmt.Errorf("the failure has %d bytes: at most %d are kept", len(o.GetFailure()), maxFailureLength)
	case len(o.GetFilter()) > maxFilterBytes:
		return fmt.Errorf("the filter has %d bytes: use at most %d", len(o.GetFilter()), maxFilterBytes)
	}
	return nil
}

// Failure shortens what is said of a failure to what is kept.
func Failure(err error) string {
	text := err.Error()
	return strings.ToValidUTF8(text[:min(len(text), maxFailureLength)], "")
}

// admit keeps what has ended from beginning again, and a tenant from having any
// number of operations.
func admit(others catalog.View, tenant, id string, o *eventsv1.DeviceOperation) error {
	if r := others.Get(tenant, KindName, id); r != nil {
		was := Of(r)
		if Ended(was) && o.GetStatus() != was.GetStatus() {
			return fmt.Errorf("device operation %q has ended: start another one", id)
		}
		if o.GetKind() != was.GetKind() {
			return fmt.Errorf("device operation %q stays what it is", id)
		}
		return nil
	}
	if len(others.List(tenant, KindName, "", maxPresent)) >= maxPresent {
		return fmt.Errorf("there are already %d device operations: delete some that have ended, or wait until others end", maxPresent)
	}
	return nil
}
