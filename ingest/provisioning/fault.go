package provisioning

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// Fault is why a request failed, in DPS's classes (FEATURES.md PROV-14).
type Fault struct {
	// Status is the HTTP status, which is the status in an MQTT topic too.
	Status int
	// Code is DPS's own, whose first three digits are the status.
	Code    int
	Message string
	cause   error
}

func (f *Fault) Error() string {
	if f.cause == nil {
		return f.Message
	}
	return fmt.Sprintf("%s: %s", f.Message, f.cause)
}

func (f *Fault) Unwrap() error { return f.cause }

// because adds what exactly happened, for the log; the device learns the class
// only.
func (f *Fault) because(err error) *Fault {
	own := *f
	own.cause = err
	return &own
}

// explained is a fault whose cause the device may know: it is about what it sent.
func (f *Fault) explained(format string, args ...any) *Fault {
	own := *f
	own.Message = fmt.Sprintf(format, args...)
	return &own
}

// The faults.
var (
	faultBody           = &Fault{Status: http.StatusBadRequest, Code: 400004, Message: "The request body is not a registration: send {\"registrationId\":\"…\",\"payload\":{\"modelId\":\"dtmi:…\"}}."}
	faultRegistrationID = &Fault{Status: http.StatusBadRequest, Code: 400004, Message: "The registration id is not valid: use 1 to 128 letters, digits, '-', '.', '_' or ':'."}
	faultTPM            = &Fault{Status: http.StatusBadRequest, Code: 400004, Message: "TPM attestation is not supported: use a symmetric key or an X.509 certificate."}
	faultUnauthorized   = &Fault{Status: http.StatusUnauthorized, Code: 401002, Message: "Unauthorized"}
	faultScope          = &Fault{Status: http.StatusNotFound, Code: 404201, Message: "There is no such id scope: take it from GET /api/devices/{id}/credentials."}
	faultRegistration   = &Fault{Status: http.StatusNotFound, Code: 404201, Message: "The device is not registered."}
	faultOperation      = &Fault{Status: http.StatusNotFound, Code: 404202, Message: "There is no such operation: register again."}
	faultPath           = &Fault{Status: http.StatusNotFound, Code: 404000, Message: "There is nothing at this path."}
	faultThrottled      = &Fault{Status: http.StatusTooManyRequests, Code: 429001, Message: "Too many requests: wait as long as retry-after says."}
	faultNotReady       = &Fault{Status: http.StatusServiceUnavailable, Code: 503001, Message: "The service is starting: try again in a moment."}
	faultUnavailable    = &Fault{Status: http.StatusServiceUnavailable, Code: 503001, Message: "The registration is not decided yet: try again in a moment."}
)

// Throttled is the fault of a device that asks too often.
func Throttled() *Fault { return faultThrottled }

// AsFault is the fault in an error; any other error is an internal one.
func AsFault(err error) *Fault {
	var f *Fault
	if errors.As(err, &f) {
		return f
	}
	return (&Fault{Status: http.StatusInternalServerError, Code: 500000, Message: "Something went wrong on our side."}).because(err)
}

// faultBodyJSON is how DPS writes an error.
type faultBodyJSON struct {
	ErrorCode    int    `json:"errorCode"`
	TrackingID   string `json:"trackingId"`
	Message      string `json:"message"`
	TimestampUTC string `json:"timestampUtc"`
}

// JSON is the fault as the device gets it. The tracking id names it in the log,
// too, when the caller logs it.
func (f *Fault) JSON() []byte {
	return encode(faultBodyJSON{ErrorCode: f.Code, TrackingID: eventlog.NewID(), Message: f.Message, TimestampUTC: utc(time.Now())})
}
