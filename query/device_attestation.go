package query

import (
	"context"
	"fmt"

	"github.com/fleetlog/fleetlog/internal/device"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
)

// This file is what a device proves itself with: its own attestation, its
// group's, and the approval of one that registered itself.

func (s *deviceService) ApproveDevice(ctx context.Context, req *apiv1.ApproveDeviceRequest) (*apiv1.Device, error) {
	return s.change(ctx, req.GetDeviceId(), "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_Approved{Approved: &eventsv1.DeviceApproved{}}})
}

func (s *deviceService) GetDeviceCredentials(ctx context.Context, req *apiv1.GetDeviceCredentialsRequest) (*apiv1.DeviceCredentials, error) {
	state, _, err := s.get(ctx, req.GetDeviceId(), "")
	if err != nil {
		return nil, err
	}
	out := &apiv1.DeviceCredentials{IdScope: s.keys.IDScope(state.GetTenant())}
	if state.GetAttestation() != nil {
		own, err := s.toAttestation(state)
		if err != nil {
			return nil, toStatus(err)
		}
		out.SymmetricKey, out.X509 = own.GetSymmetricKey(), own.GetX509()
		return out, nil
	}
	group := state.GetEnrollmentGroup()
	if group == "" {
		group = device.DefaultGroup
	}
	if keys := s.groups.Of(state.GetTenant()).KeysOf(group); keys != nil {
		out.SymmetricKey = toSymmetricKey(keys.DeviceKeys(state.GetDevice()))
	}
	return out, nil
}

func (s *deviceService) GetDeviceAttestation(ctx context.Context, req *apiv1.GetDeviceAttestationRequest) (*apiv1.Attestation, error) {
	state, _, err := s.get(ctx, req.GetDeviceId(), "")
	if err != nil {
		return nil, err
	}
	if state.GetAttestation() == nil {
		return nil, notFound("device %q has no attestation of its own: it uses its enrollment group's", req.GetDeviceId())
	}
	own, err := s.toAttestation(state)
	return own, toStatus(err)
}

func (s *deviceService) PutDeviceAttestation(ctx context.Context, req *apiv1.PutDeviceAttestationRequest) (*apiv1.Attestation, error) {
	state, _, err := s.get(ctx, req.GetDeviceId(), "")
	if err != nil {
		return nil, err
	}
	next, err := s.attestation(state, nil, req.GetAttestation())
	if err != nil {
		return nil, err
	}
	if next.GetX509() != nil && len(next.GetX509().GetPrimary()) == 0 {
		return nil, badField("primary", "x509 needs a primary client certificate")
	}
	return s.setAttestation(ctx, req.GetDeviceId(), next, nil)
}

func (s *deviceService) UpdateDeviceAttestation(ctx context.Context, req *apiv1.UpdateDeviceAttestationRequest) (*apiv1.Attestation, error) {
	for attempt := 1; ; attempt++ {
		state, _, err := s.get(ctx, req.GetDeviceId(), "")
		if err != nil {
			return nil, err
		}
		next, err := s.attestation(state, state.GetAttestation(), req.GetAttestation())
		if err != nil {
			return nil, err
		}
		own, err := s.setAttestation(ctx, req.GetDeviceId(), next, &eventsv1.Precondition{Version: &state.Version})
		if first(ctx, "if-match") != "" || attempt == maxEdits || status.Code(err) != codes.FailedPrecondition {
			return own, err
		}
	}
}

func (s *deviceService) DeleteDeviceAttestation(ctx context.Context, req *apiv1.DeleteDeviceAttestationRequest) (*emptypb.Empty, error) {
	_, err := s.change(ctx, req.GetDeviceId(), "", &eventsv1.DeviceEvent{Change: &eventsv1.DeviceEvent_AttestationRemoved{AttestationRemoved: &eventsv1.AttestationRemoved{}}})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// setAttestation changes the device at the version, unless the caller names one.
func (s *deviceService) setAttestation(ctx context.Context, id string, next *eventsv1.Attestation, at *eventsv1.Precondition) (*apiv1.Attestation, error) {
	state, err := s.changeState(ctx, id, "", at, &eventsv1.DeviceEvent{
		Change: &eventsv1.DeviceEvent_AttestationSet{AttestationSet: &eventsv1.AttestationSet{Attestation: next}},
	})
	if err != nil {
		return nil, err
	}
	own, err := s.toAttestation(state)
	return own, toStatus(err)
}

// attestation is what the device shall have: what is given, else what it had of
// the same kind; keys that are neither are generated. A change need not name the
// kind.
func (s *deviceService) attestation(state *eventsv1.DeviceState, had *eventsv1.Attestation, given *apiv1.Attestation) (*eventsv1.Attestation, error) {
	place := device.AttestationPlace(state.GetTenant(), state.GetDevice())
	kind := given.GetType()
	switch {
	case kind != "":
	case had.GetX509() != nil:
		kind = typeX509
	case had.GetSymmetricKey() != nil:
		kind = typeSymmetricKey
	}
	switch kind {
	case typeSymmetricKey:
		var known *device.Keys
		if had.GetSymmetricKey() != nil {
			opened, err := s.keys.OpenKeys(place, had.GetSymmetricKey())
			if err != nil {
				return nil, toStatus(err)
			}
			known = &opened
		}
		keys, err := symmetricKeys(known, given.GetSymmetricKey())
		if err != nil {
			return nil, err
		}
		return &eventsv1.Attestation{Kind: &eventsv1.Attestation_SymmetricKey{SymmetricKey: s.keys.SealKeys(place, keys)}}, nil
	case typeX509:
		certificates := given.GetX509().GetClientCertificates()
		primary, err := clientCertificate(had.GetX509().GetPrimary(), certificates.GetPrimary())
		if err != nil {
			return nil, err
		}
		secondary, err := clientCertificate(had.GetX509().GetSecondary(), certificates.GetSecondary())
		if err != nil {
			return nil, err
		}
		return &eventsv1.Attestation{Kind: &eventsv1.Attestation_X509{X509: &eventsv1.ClientCertificates{Primary: primary, Secondary: secondary}}}, nil
	}
	return nil, badType(kind)
}

func (s *deviceService) toAttestation(state *eventsv1.DeviceState) (*apiv1.Attestation, error) {
	if x := state.GetAttestation().GetX509(); x != nil {
		return &apiv1.Attestation{Type: typeX509, X509: toX509(x)}, nil
	}
	keys, err := s.keys.OpenKeys(device.AttestationPlace(state.GetTenant(), state.GetDevice()), state.GetAttestation().GetSymmetricKey())
	if err != nil {
		return nil, fmt.Errorf("attestation of device %s: %w", state.GetDevice(), err)
	}
	return &apiv1.Attestation{Type: typeSymmetricKey, SymmetricKey: toSymmetricKey(keys)}, nil
}
