package query

import (
	"context"
	"time"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/types/known/emptypb"
)

// This file is an enrollment group's signing certificates one by one, and the
// proof that their keys are the caller's (FEATURES.md AUTH-21, AUTH-22).

const entryPrimary, entrySecondary = "primary", "secondary"

// slot finds a group's certificate slot by its entry.
func slot(g *eventsv1.EnrollmentGroup, entry string) (**eventsv1.SigningCertificate, error) {
	x := g.GetX509()
	switch {
	case x == nil:
		return nil, badField("enrollmentGroupId", "the enrollment group uses symmetric keys: it has no certificates")
	case entry == entryPrimary:
		return &x.Primary, nil
	case entry == entrySecondary:
		return &x.Secondary, nil
	}
	return nil, badField("entry", "the certificate is %q: use %s or %s", entry, entryPrimary, entrySecondary)
}

// editSlot changes one slot of a group that exists.
func (s *enrollmentGroupService) editSlot(ctx context.Context, id, entry, tag string, edit func(at **eventsv1.SigningCertificate) error) (*apiv1.SigningX509Certificate, error) {
	g, err := s.editGroup(ctx, id, tag, func(current *catalog.Resource, next *eventsv1.EnrollmentGroup) error {
		if current == nil {
			return notFound("enrollment group %q does not exist", id)
		}
		at, err := slot(next, entry)
		if err != nil {
			return err
		}
		return edit(at)
	})
	if err != nil {
		return nil, err
	}
	certificates := g.GetAttestation().GetX509().GetSigningCertificates()
	if entry == entryPrimary {
		return certificates.GetPrimary(), nil
	}
	return certificates.GetSecondary(), nil
}

func noCertificate(entry string) error {
	return notFound("the enrollment group has no %s certificate: put one first", entry)
}

func (s *enrollmentGroupService) GetSigningCertificate(ctx context.Context, req *apiv1.GetSigningCertificateRequest) (*apiv1.SigningX509Certificate, error) {
	r, err := s.get(ctx, req.GetEnrollmentGroupId())
	if err != nil {
		return nil, err
	}
	at, err := slot(r.Body.(*eventsv1.EnrollmentGroup), req.GetEntry())
	if err != nil {
		return nil, err
	}
	if *at == nil {
		return nil, noCertificate(req.GetEntry())
	}
	return toSigning(*at, r.Version), nil
}

func (s *enrollmentGroupService) PutSigningCertificate(ctx context.Context, req *apiv1.PutSigningCertificateRequest) (*apiv1.SigningX509Certificate, error) {
	given := req.GetCertificate()
	if given.GetCertificate() == "" {
		return nil, badField("certificate", "certificate is empty: send the CA's certificate in PEM")
	}
	return s.editSlot(ctx, req.GetEnrollmentGroupId(), req.GetEntry(), given.GetEtag(), func(at **eventsv1.SigningCertificate) (err error) {
		*at, err = signingCertificate(*at, given)
		return err
	})
}

func (s *enrollmentGroupService) DeleteSigningCertificate(ctx context.Context, req *apiv1.DeleteSigningCertificateRequest) (*emptypb.Empty, error) {
	_, err := s.editSlot(ctx, req.GetEnrollmentGroupId(), req.GetEntry(), "", func(at **eventsv1.SigningCertificate) error {
		if *at == nil {
			return noCertificate(req.GetEntry())
		}
		*at = nil
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (s *enrollmentGroupService) GenerateVerificationCode(ctx context.Context, req *apiv1.GenerateVerificationCodeRequest) (*apiv1.X509VerificationCode, error) {
	code := enrollment.NewVerificationCode()
	_, err := s.editSlot(ctx, req.GetEnrollmentGroupId(), req.GetEntry(), "", func(at **eventsv1.SigningCertificate) error {
		if *at == nil {
			return noCertificate(req.GetEntry())
		}
		(*at).VerificationCode = code
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &apiv1.X509VerificationCode{VerificationCode: code}, nil
}

func (s *enrollmentGroupService) VerifyCertificate(ctx context.Context, req *apiv1.VerifyCertificateRequest) (*emptypb.Empty, error) {
	proof, err := enrollment.DecodeCertificate(req.GetCertificate().GetCertificate())
	if err != nil {
		return nil, badField("certificate", "%s", err)
	}
	_, err = s.editSlot(ctx, req.GetEnrollmentGroupId(), req.GetEntry(), "", func(at **eventsv1.SigningCertificate) error {
		if *at == nil {
			return noCertificate(req.GetEntry())
		}
		if err := enrollment.Verify((*at).GetDer(), (*at).GetVerificationCode(), proof, time.Now()); err != nil {
			return badField("certificate", "%s", err)
		}
		(*at).Verified, (*at).VerificationCode = true, ""
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}
