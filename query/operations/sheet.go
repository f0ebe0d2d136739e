package operations

import (
	"encoding/base64"
	"encoding/csv"
	"fmt"
	"io"
	"strconv"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// reportHeader names the columns of an error report.
var reportHeader = []string{"line", columnID, "code", "message"}

// writeProblems writes rows of an error report.
func writeProblems(to io.Writer, problems []*problem) error {
	w := csv.NewWriter(to)
	for _, p := range problems {
		line := ""
		if p.line > 0 {
			line = strconv.Itoa(p.line)
		}
		_ = w.Write([]string{line, harmless(p.device), p.code, harmless(p.message)}) // the error stays
	}
	w.Flush()
	return w.Error()
}

// resultHeader names the columns of an export (DEV-43).
var resultHeader = []string{
	columnID, columnName, "IOTC_SASKEY_PRIMARY", "IOTC_SASKEY_SECONDARY", "IOTC_X509THUMBPRINT_PRIMARY", "IOTC_X509THUMBPRINT_SECONDARY",
}

// resultRow is a device's row of an export. A key may begin with `+`; it stays as
// it is, since base64 is no formula that does anything, and programs read it.
func (r *Runner) resultRow(state *eventsv1.DeviceState) ([]string, error) {
	cells := []string{harmless(state.GetDevice()), harmless(state.GetDisplayName()), "", "", "", ""}
	if x := state.GetAttestation().GetX509(); x != nil {
		cells[4], cells[5] = thumbprint(x.GetPrimary()), thumbprint(x.GetSecondary())
		return cells, nil
	}
	keys, err := r.keysOf(state)
	if err != nil || keys == nil {
		return cells, err
	}
	cells[2] = base64.StdEncoding.EncodeToString(keys.Primary)
	cells[3] = base64.StdEncoding.EncodeToString(keys.Secondary)
	return cells, nil
}

// thumbprint is that of a certificate (DER); empty for none.
func thumbprint(der []byte) string {
	if len(der) == 0 {
		return ""
	}
	return enrollment.Thumbprint(der)
}

// keysOf are the device's own keys, else those it has by its group; nil when the
// group has none.
func (r *Runner) keysOf(state *eventsv1.DeviceState) (*device.Keys, error) {
	if sealed := state.GetAttestation().GetSymmetricKey(); sealed != nil {
		keys, err := r.deps.Keys.OpenKeys(device.AttestationPlace(state.GetTenant(), state.GetDevice()), sealed)
		if err != nil {
			return nil, fmt.Errorf("keys of device %s: %w", state.GetDevice(), err)
		}
		return &keys, nil
	}
	group := state.GetEnrollmentGroup()
	if group == "" {
		group = device.DefaultGroup
	}
	shared := r.deps.Groups.Of(state.GetTenant()).KeysOf(group)
	if shared == nil {
		return nil, nil //nolint:nilnil // no keys are no error
	}
	keys := shared.DeviceKeys(state.GetDevice())
	return &keys, nil
}
