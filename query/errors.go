package query

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
)

// This file is the one place where what went wrong becomes a gRPC status, an
// HTTP status and IoT Central's error code.

// toStatus is the gRPC status of a domain error. What a caller can do nothing
// about keeps its details for the log: the caller gets the request id.
func toStatus(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := status.FromError(err); ok {
		return err
	}
	var rejected *registry.RejectedError
	var refused *catalog.RejectedError
	var denied *access.DeniedError
	switch {
	case errors.As(err, &rejected):
		return rejection("device", rejected.Reason, rejected.Message)
	case errors.As(err, &refused):
		return rejection("resource", refused.Reason, refused.Message)
	case errors.As(err, &denied):
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.Is(err, access.ErrUnauthenticated):
		return status.Error(codes.Unauthenticated, err.Error())
	case errors.Is(err, registry.ErrNotReady), errors.Is(err, registry.ErrUndecided), errors.Is(err, catalog.ErrNotReady):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the caller went away")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	return &internalError{cause: err}
}

// changeFailure is the status of a change that did not come back decided. What is
// left beside refusals is the log's: whether it took the change is not known.
func changeFailure(err error) error {
	st := toStatus(err)
	var fault *internalError
	if errors.As(st, &fault) || status.Code(st) == codes.DeadlineExceeded {
		return &unavailableError{err, "the log has not decided on the change: read the device to see what became of it, and try again"}
	}
	return st
}

// queryFailure is the status of a statement that ClickHouse did not answer. The
// numbers are of ClickHouse's ErrorCodes.cpp.
func queryFailure(ctx context.Context, err error) error {
	code, answered := clickhouse.ErrorCode(err)
	switch {
	case errors.Is(context.Cause(ctx), context.Canceled): // whatever the connection says of it
		return toStatus(context.Canceled)
	case code == 159, code == 160, errors.Is(err, context.DeadlineExceeded): // TIMEOUT_EXCEEDED, TOO_SLOW
		return status.Error(codes.ResourceExhausted, "the query takes too long: ask for a shorter span or fewer names")
	case code == 241: // MEMORY_LIMIT_EXCEEDED
		return status.Error(codes.ResourceExhausted, "the query needs too much memory: ask for a shorter span or fewer names")
	case code == 60, code == 81: // UNKNOWN_TABLE, UNKNOWN_DATABASE: the projection makes them
		return &unavailableError{err, "the projection has not begun yet: try again in a moment"}
	case !answered, code == 202: // TOO_MANY_SIMULTANEOUS_QUERIES
		return &unavailableError{err, "ClickHouse does not answer: try again in a moment"}
	}
	return toStatus(err)
}

// unavailableError is a fault of an engine that trying again may cure: the caller
// learns what to do, the log learns why.
type unavailableError struct {
	cause   error
	message string
}

func (e *unavailableError) Error() string { return e.cause.Error() }

func (e *unavailableError) Unwrap() error { return e.cause }

// GRPCStatus is what the caller sees.
func (e *unavailableError) GRPCStatus() *status.Status {
	return status.New(codes.Unavailable, e.message)
}

// internalError is a fault of ours: the caller learns that it happened, the log
// learns what.
type internalError struct{ cause error }

func (e *internalError) Error() string { return e.cause.Error() }

func (e *internalError) Unwrap() error { return e.cause }

// GRPCStatus is what the caller sees.
func (e *internalError) GRPCStatus() *status.Status {
	return status.New(codes.Internal, "something went wrong on our side; the log has it under the request id")
}

// rejection is a fold's refusal, with the part of the request it is about.
func rejection(subject string, reason eventsv1.RejectionReason, message string) error {
	code := rejectionCode(reason)
	if code == codes.FailedPrecondition {
		return detailed(code, message, &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{
			{Type: "ETAG", Subject: subject, Description: message},
		}})
	}
	return status.Error(code, message)
}

func rejectionCode(r eventsv1.RejectionReason) codes.Code {
	switch r {
	case eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND:
		return codes.NotFound
	case eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH:
		return codes.FailedPrecondition
	case eventsv1.RejectionReason_REJECTION_REASON_ALREADY_EXISTS, eventsv1.RejectionReason_REJECTION_REASON_CONFLICT:
		return codes.AlreadyExists
	case eventsv1.RejectionReason_REJECTION_REASON_INVALID:
		return codes.InvalidArgument
	case eventsv1.RejectionReason_REJECTION_REASON_LIMIT:
		return codes.ResourceExhausted
	case eventsv1.RejectionReason_REJECTION_REASON_STALE:
		return codes.Aborted
	default:
		return codes.Internal
	}
}

// restError is a status as REST tells it.
type restError struct {
	status int
	code   string
}

func toREST(code codes.Code) restError {
	switch code {
	case codes.InvalidArgument, codes.OutOfRange:
		return restError{http.StatusBadRequest, "BadRequest"}
	case codes.Unauthenticated:
		return restError{http.StatusUnauthorized, "Unauthorized"}
	case codes.PermissionDenied:
		return restError{http.StatusForbidden, "Forbidden"}
	case codes.NotFound:
		return restError{http.StatusNotFound, "NotFound"}
	case codes.AlreadyExists:
		return restError{http.StatusConflict, "Conflict"}
	case codes.FailedPrecondition, codes.Aborted:
		return restError{http.StatusPreconditionFailed, "PreconditionFailed"}
	case codes.ResourceExhausted:
		return restError{http.StatusTooManyRequests, "TooManyRequests"}
	case codes.Unimplemented:
		return restError{http.StatusMethodNotAllowed, "MethodNotAllowed"}
	case codes.Unavailable:
		return restError{http.StatusServiceUnavailable, "ServiceUnavailable"}
	case codes.DeadlineExceeded:
		return restError{http.StatusGatewayTimeout, "Timeout"}
	case codes.Canceled:
		return restError{499, "ClientClosedRequest"}
	default:
		return restError{http.StatusInternalServerError, "InternalServerError"}
	}
}

// badField is the error of a field, parameter or header of a request that is not
// as it must be; the message says how it must be.
func badField(field, format string, args ...any) error {
	message := fmt.Sprintf(format, args...)
	return detailed(codes.InvalidArgument, message, &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{
		{Field: field, Description: message},
	}})
}

// detailed is a status with a detail that programs can read.
func detailed(code codes.Code, message string, detail protoadapt.MessageV1) error {
	st, err := status.New(code, message).WithDetails(detail)
	if err != nil { // only for codes.OK
		return status.Error(code, message)
	}
	return st.Err()
}

func notFound(format string, args ...any) error {
	return status.Errorf(codes.NotFound, format, args...)
}
