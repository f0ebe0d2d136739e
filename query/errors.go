package query

import (
	"context"
	"errors"
	"net/http"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
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
	switch {
	case errors.As(err, &rejected):
		return status.Error(rejectionCode(rejected.Reason), rejected.Message)
	case errors.Is(err, access.ErrUnauthenticated):
		return status.Error(codes.Unauthenticated, err.Error())
	case errors.Is(err, registry.ErrNotReady):
		return status.Error(codes.Unavailable, err.Error())
	case errors.Is(err, context.Canceled):
		return status.Error(codes.Canceled, "the caller went away")
	case errors.Is(err, context.DeadlineExceeded):
		return status.Error(codes.DeadlineExceeded, err.Error())
	}
	if code, ok := clickhouse.ErrorCode(err); ok {
		switch code {
		case 159, 160: // TIMEOUT_EXCEEDED, TOO_SLOW
			return status.Error(codes.ResourceExhausted, "the query takes too long: ask for a shorter span or fewer names")
		case 241: // MEMORY_LIMIT_EXCEEDED
			return status.Error(codes.ResourceExhausted, "the query needs too much memory: ask for a shorter span or fewer names")
		}
	}
	return &internalError{cause: err}
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

func rejectionCode(r eventsv1.RejectionReason) codes.Code {
	switch r {
	case eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND:
		return codes.NotFound
	case eventsv1.RejectionReason_REJECTION_REASON_VERSION_MISMATCH:
		return codes.FailedPrecondition
	case eventsv1.RejectionReason_REJECTION_REASON_ALREADY_EXISTS:
		return codes.AlreadyExists
	case eventsv1.RejectionReason_REJECTION_REASON_INVALID:
		return codes.InvalidArgument
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

func badRequest(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

func notFound(format string, args ...any) error {
	return status.Errorf(codes.NotFound, format, args...)
}
