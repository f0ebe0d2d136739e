package device

import (
	"crypto/x509"
	"fmt"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// DefaultGroup is the enrollment group that every tenant has from the start
// (FEATURES.md AUTH-03).
const DefaultGroup = "SAS-IoT-Devices"

// attest folds what is about a device's credentials and its registration by them
// into a copy of the state.
func attest(next *eventsv1.DeviceState, ev *eventsv1.DeviceEvent) {
	switch c := ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_Provisioned:
		if !Exists(next) {
			next.DisplayName, next.RegisteredAt, next.Deleted = ev.GetDevice(), ev.GetTime(), false
			next.Enabled, next.Waiting = c.Provisioned.GetAutoApprove(), !c.Provisioned.GetAutoApprove()
		}
		provision(next, ev, c.Provisioned)
	case *eventsv1.DeviceEvent_Approved:
		next.Waiting, next.Enabled, next.BlockedWhileWaiting = false, !next.GetBlockedWhileWaiting(), false
	case *eventsv1.DeviceEvent_AttestationSet:
		next.Attestation = c.AttestationSet.GetAttestation()
	case *eventsv1.DeviceEvent_AttestationRemoved:
		next.Attestation = nil
	}
}

// provision takes in a registration. One that waits for approval is remembered,
// but it is not provisioned (DEV-10).
func provision(next *eventsv1.DeviceState, ev *eventsv1.DeviceEvent, p *eventsv1.DeviceProvisioned) {
	next.EnrollmentGroup = p.GetEnrollmentGroup()
	if p.GetModelId() != "" {
		next.ModelId = p.GetModelId()
	}
	if next.GetTemplate() == "" && p.GetTemplate() != "" {
		next.Template = p.GetTemplate()
		offer(next, p.GetInitial(), ev.GetTime())
	}
	if next.GetWaiting() {
		return
	}
	next.Provisioned = true
	next.ReprovisionedAt = ev.GetTime()
	if next.GetProvisionedAt() == nil {
		next.ProvisionedAt = ev.GetTime()
	}
}

// enable blocks or unblocks. Unblocking returns a device to the state it had
// (DEV-12): one that was blocked while it waited for approval waits again. To
// enable one that waits, and is not blocked, is to approve it.
func enable(next *eventsv1.DeviceState, enabled bool) {
	switch {
	case !next.GetWaiting():
		next.Enabled = enabled
	case !enabled:
		next.BlockedWhileWaiting = true
	case next.GetBlockedWhileWaiting():
		next.BlockedWhileWaiting = false
	default:
		next.Waiting, next.Enabled = false, true
	}
}

// refuseAttest refuses what the device's state does not allow.
func refuseAttest(state *eventsv1.DeviceState, ev *eventsv1.DeviceEvent) *eventsv1.Rejection {
	const notEnabled = eventsv1.RejectionReason_REJECTION_REASON_NOT_ENABLED
	switch ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_Provisioned:
		switch {
		case !Exists(state) || state.GetEnabled():
			return nil
		case state.GetWaiting() && !state.GetBlockedWhileWaiting():
			return rejection(notEnabled, "device %q waits for approval: approve it with POST /api/devices/%s/approve", ev.GetDevice(), ev.GetDevice())
		}
		return rejection(notEnabled, "device %q is blocked: enable it with PATCH /api/devices/%s {\"enabled\":true}", ev.GetDevice(), ev.GetDevice())
	case *eventsv1.DeviceEvent_Approved:
		if !state.GetWaiting() {
			return rejection(eventsv1.RejectionReason_REJECTION_REASON_CONFLICT, "device %q does not wait for approval", ev.GetDevice())
		}
	case *eventsv1.DeviceEvent_AttestationRemoved:
		if state.GetAttestation() == nil {
			return rejection(eventsv1.RejectionReason_REJECTION_REASON_NOT_FOUND, "device %q has no attestation of its own: it uses its enrollment group's", ev.GetDevice())
		}
	}
	return nil
}

// maxSealedBytes is well beyond a sealed key of the largest size, maxDERBytes
// beyond any device's certificate.
const (
	maxSealedBytes = 256
	maxDERBytes    = 16 << 10
)

func validateAttest(ev *eventsv1.DeviceEvent) error {
	switch c := ev.GetChange().(type) {
	case *eventsv1.DeviceEvent_Provisioned:
		if err := ValidateModelID(c.Provisioned.GetModelId()); err != nil {
			return err
		}
		if err := validateInitial(c.Provisioned.GetInitial()); err != nil {
			return err
		}
		return validateTemplate(c.Provisioned.GetTemplate())
	case *eventsv1.DeviceEvent_Approved, *eventsv1.DeviceEvent_AttestationRemoved:
		return nil
	case *eventsv1.DeviceEvent_AttestationSet:
		return validateAttestation(ev.GetDevice(), c.AttestationSet.GetAttestation())
	default:
		return fmt.Errorf("event carries no change this version knows")
	}
}

func validateAttestation(id string, a *eventsv1.Attestation) error {
	switch k := a.GetKind().(type) {
	case *eventsv1.Attestation_SymmetricKey:
		for _, sealed := range [][]byte{k.SymmetricKey.GetPrimary(), k.SymmetricKey.GetSecondary()} {
			if len(sealed) == 0 || len(sealed) > maxSealedBytes {
				return fmt.Errorf("attestation needs a primaryKey and a secondaryKey")
			}
		}
		return nil
	case *eventsv1.Attestation_X509:
		if err := validateLeaf(id, k.X509.GetPrimary()); err != nil {
			return fmt.Errorf("primary client certificate: %w", err)
		}
		if len(k.X509.GetSecondary()) == 0 {
			return nil
		}
		if err := validateLeaf(id, k.X509.GetSecondary()); err != nil {
			return fmt.Errorf("secondary client certificate: %w", err)
		}
		return nil
	default:
		return fmt.Errorf("attestation is neither symmetricKey nor x509")
	}
}

// validateLeaf checks a certificate of a device's own (AUTH-23).
func validateLeaf(id string, der []byte) error {
	if len(der) > maxDERBytes {
		return fmt.Errorf("it has %d bytes: a device's certificate has at most %d", len(der), maxDERBytes)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return fmt.Errorf("it cannot be read: send one certificate in PEM: %w", err)
	}
	if cert.Subject.CommonName != id {
		return fmt.Errorf("its common name is %q: it must be the device id %q", clip(cert.Subject.CommonName), id)
	}
	return nil
}
