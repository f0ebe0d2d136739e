package provisioning

import (
	"encoding/hex"
	"encoding/json"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/google/uuid"
)

// MaxBodyBytes bounds a registration's body. Azure takes 96 KB with a payload
// for custom allocation, which there is none of here; a model id needs a few
// hundred bytes.
const MaxBodyBytes = 32 << 10

// request is what a registration asks for.
type request struct{ modelID string }

// parseRequest reads a registration's body (PROV-02). Unknown fields are none of
// ours and left alone; an empty body registers without a model.
func parseRequest(registrationID string, body []byte) (request, error) {
	var content struct {
		RegistrationID string          `json:"registrationId"`
		TPM            json.RawMessage `json:"tpm"`
		Payload        json.RawMessage `json:"payload"`
	}
	if len(body) > MaxBodyBytes {
		return request{}, faultBody.explained("The request body has %d bytes: send at most %d.", len(body), MaxBodyBytes)
	}
	if strings.TrimSpace(string(body)) == "" {
		return request{}, nil
	}
	if err := json.Unmarshal(body, &content); err != nil {
		return request{}, faultBody.because(err)
	}
	if content.RegistrationID != "" && content.RegistrationID != registrationID {
		return request{}, faultBody.explained("The body's registrationId is not the one of the connection or path.")
	}
	if len(content.TPM) > 0 && string(content.TPM) != "null" {
		return request{}, faultTPM
	}
	model := modelOf(content.Payload)
	if err := device.ValidateModelID(model); err != nil {
		return request{}, faultBody.explained("The payload's modelId is not a digital twin model id: write it like dtmi:contoso:Thermostat;1.")
	}
	return request{modelID: model}, nil
}

// modelOf finds the model id in a payload, which otherwise may be anything: under
// `modelId`, or as older clients have it under `iotcModelId` (PROV-03).
func modelOf(payload json.RawMessage) string {
	var known struct {
		ModelID     json.RawMessage `json:"modelId"`
		IoTCModelID json.RawMessage `json:"iotcModelId"`
	}
	if json.Unmarshal(payload, &known) != nil {
		return ""
	}
	for _, raw := range []json.RawMessage{known.ModelID, known.IoTCModelID} {
		var model string
		if json.Unmarshal(raw, &model) == nil && model != "" {
			return model
		}
	}
	return ""
}

// Status of an operation and of a registration.
type Status string

// The statuses that are used here.
const (
	StatusAssigning Status = "assigning"
	StatusAssigned  Status = "assigned"
	StatusFailed    Status = "failed"
)

// Operation is what has become of a registration (PROV-04).
type Operation struct {
	ID           string        `json:"operationId"`
	Status       Status        `json:"status"`
	Registration *Registration `json:"registrationState,omitempty"`
}

// JSON is the operation as the device gets it.
func (o Operation) JSON() []byte { return encode(o) }

// Registration is a device's registration (PROV-04, PROV-05).
type Registration struct {
	X509            *x509Registration `json:"x509,omitempty"`
	SymmetricKey    *keyRegistration  `json:"symmetricKey,omitempty"`
	RegistrationID  string            `json:"registrationId"`
	CreatedUTC      string            `json:"createdDateTimeUtc,omitempty"`
	AssignedHub     string            `json:"assignedHub,omitempty"`
	DeviceID        string            `json:"deviceId,omitempty"`
	Status          Status            `json:"status"`
	Substatus       string            `json:"substatus,omitempty"`
	LastUpdatedUTC  string            `json:"lastUpdatedDateTimeUtc,omitempty"`
	ErrorCode       int               `json:"errorCode,omitempty"`
	ErrorMessage    string            `json:"errorMessage,omitempty"`
	ETag            string            `json:"etag,omitempty"`
	ReturnedPayload json.RawMessage   `json:"payload"`
}

// JSON is the registration as the device gets it.
func (r *Registration) JSON() []byte { return encode(r) }

type x509Registration struct {
	EnrollmentGroupID string `json:"enrollmentGroupId,omitempty"`
}

type keyRegistration struct {
	EnrollmentGroupID string `json:"enrollmentGroupId,omitempty"`
}

// codeNotEnabled is what a blocked device and one that waits for approval get
// (DEV-13).
const codeNotEnabled = 400209

func registrationState(who deviceauth.Registrant, state *eventsv1.DeviceState, hub string) *Registration {
	r := &Registration{
		RegistrationID: who.ID, Status: StatusAssigned, Substatus: "initialAssignment", AssignedHub: hub, DeviceID: who.ID,
		ETag: device.ETag(state.GetVersion()), ReturnedPayload: json.RawMessage("null"),
		CreatedUTC: utc(state.GetProvisionedAt().AsTime()), LastUpdatedUTC: utc(state.GetReprovisionedAt().AsTime()),
	}
	group := ""
	if who.Group != nil {
		group = who.Group.ID
	}
	if who.Attestation == deviceauth.X509 {
		r.X509 = &x509Registration{EnrollmentGroupID: group}
	} else {
		r.SymmetricKey = &keyRegistration{EnrollmentGroupID: group}
	}
	if state.GetEnabled() {
		return r
	}
	r.Status, r.Substatus, r.AssignedHub, r.DeviceID, r.ErrorCode = StatusFailed, "", "", "", codeNotEnabled
	r.ErrorMessage = "The device is blocked."
	if state.GetWaiting() && !state.GetBlockedWhileWaiting() {
		r.ErrorMessage = "The device waits for approval."
	}
	if state.GetProvisionedAt() == nil {
		at := utc(state.GetRegisteredAt().AsTime())
		r.CreatedUTC, r.LastUpdatedUTC = at, at
	}
	return r
}

// operationID makes the id of a registration's operation, in DPS's form.
func operationID(eventID string) string {
	id := uuid.MustParse(eventID) // made by eventlog.NewID
	return "4." + hex.EncodeToString(id[8:]) + "." + eventID
}

// begun is when an operation began, by its id; not ok for an id that was not made
// here.
func begun(operationID string) (at time.Time, ok bool) {
	const length = len("4.") + 16 + 1 + 36
	if len(operationID) != length {
		return time.Time{}, false
	}
	prefix, rest, _ := strings.Cut(operationID, ".")
	short, id, _ := strings.Cut(rest, ".")
	parsed, err := uuid.Parse(id)
	if err != nil || prefix != "4" || short != hex.EncodeToString(parsed[8:]) || parsed.Version() != 7 {
		return time.Time{}, false
	}
	return time.Unix(parsed.Time().UnixTime()), true
}

// utc is a time as DPS writes it.
func utc(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.0000000Z") }

func encode(v any) []byte {
	content, _ := json.Marshal(v) // holds strings and numbers only
	return content
}
