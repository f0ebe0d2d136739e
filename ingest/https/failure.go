package https

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// failure is an answer other than success, as IoT Hub gives it.
type failure struct {
	status  int
	code    string // IoT Hub's name of the error; it counts it in the metrics
	message string
}

func (f *failure) Error() string { return f.code + ": " + f.message }

// The failures. Nothing else is answered.
var (
	failArgument  = &failure{http.StatusBadRequest, "ArgumentInvalid", "the request is not valid"}
	failToken     = &failure{http.StatusUnauthorized, "IotHubUnauthorizedAccess", "send a SAS token for {host}/devices/{deviceId} in the Authorization header, signed with a key of the device"}
	failExpired   = &failure{http.StatusUnauthorized, "IotHubUnauthorizedAccess", "the SAS token has expired: sign a new one and check the device's clock"}
	failDisabled  = &failure{http.StatusUnauthorized, "IotHubUnauthorizedAccess", "the device is disabled"}
	failUploads   = &failure{http.StatusForbidden, "DeviceMaximumActiveFileUploadLimitExceeded", "403006: at most 10 uploads at one time; end one with a notification first"}
	failDevice    = &failure{http.StatusNotFound, "DeviceNotFound", "there is no such device"}
	failModule    = &failure{http.StatusNotFound, "ModuleNotFound", "the device has no such module"}
	failPath      = &failure{http.StatusNotFound, "InvalidPath", "this door has telemetry at /devices/{deviceId}/messages/events, messages to the device at …/messages/devicebound, file uploads at /devices/{deviceId}/files and MQTT over WebSocket at " + webSocketPath}
	failLength    = &failure{http.StatusLengthRequired, "MissingContentLengthHeader", "say how long the body is with Content-Length"}
	failLock      = &failure{http.StatusPreconditionFailed, "DeviceMessageLockLost", "the message is not in the queue any more, or its lock is over"}
	failTooLarge  = &failure{http.StatusRequestEntityTooLarge, "MessageTooLarge", "a message, or a batch of them, has at most 256 KiB with its properties"}
	failThrottled = &failure{http.StatusTooManyRequests, "ThrottlingException", "too many requests: try again in a second"}
	failProtocol  = &failure{http.StatusBadRequest, "ProtocolNotSupported", "WebSocket is for MQTT here: ask for the sub-protocol mqtt"}
	failInternal  = &failure{http.StatusInternalServerError, "ServerError", "something went wrong here: try again"}
	failBusy      = &failure{http.StatusServiceUnavailable, "ServiceUnavailable", "the platform is busy or still starting: try again in a moment"}
)

// because is the failure with what exactly is wrong, for a person to read.
func because(f *failure, err error) error {
	return &failure{f.status, f.code, err.Error()}
}

// within is the failure whose cause only the log may know.
func within(f *failure, cause error) error { return fmt.Errorf("%w (%w)", f, cause) }

// failureOf finds the failure in an error.
func failureOf(err error) *failure {
	var f *failure
	if errors.As(err, &f) {
		return f
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return failTooLarge
	}
	return failInternal
}

// answer writes the failure in the shape that Azure's SDKs read:
// `{"Message":"ErrorCode:{code};{message}"}`.
func (f *failure) answer(w http.ResponseWriter) {
	id := eventlog.NewID()
	body := struct {
		Message          string
		ExceptionMessage string
	}{"ErrorCode:" + f.code + ";" + f.message, "Tracking ID:" + id + "-TimeStamp:" + time.Now().UTC().Format(time.RFC3339)}
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h["iothub-errorcode"] = []string{f.code}
	switch f.status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", "1")
	case http.StatusRequestEntityTooLarge, http.StatusLengthRequired, http.StatusUnauthorized:
		h.Set("Connection", "close") // what the device still sends is not read
	}
	w.WriteHeader(f.status)
	_ = json.NewEncoder(w).Encode(body) // the device may be gone
}
