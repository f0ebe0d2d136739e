package query

import (
	"context"
	"errors"
	"fmt"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/fleetlog/fleetlog/internal/registry"
	"github.com/fleetlog/fleetlog/internal/template"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// deviceTemplateService answers reads from the node's catalog and makes changes
// events.
type deviceTemplateService struct {
	apiv1.UnimplementedDeviceTemplateServiceServer
	resources

	registry *registry.Registry
	db       *clickhouse.Conn
}

func newDeviceTemplateService(deps Deps) *deviceTemplateService {
	return &deviceTemplateService{
		resources: resources{catalog: deps.Catalog, directory: deps.Directory, kind: template.KindName, noun: template.Kind().Noun, timeout: changeTimeout},
		registry:  deps.Registry, db: deps.ClickHouse,
	}
}

func (s *deviceTemplateService) ListDeviceTemplates(ctx context.Context, req *apiv1.ListDeviceTemplatesRequest) (*apiv1.ListDeviceTemplatesResponse, error) {
	page, link, next, err := s.list(ctx, req.GetMaxpagesize(), req.GetPageToken())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ListDeviceTemplatesResponse{NextLink: link, NextPageToken: next}
	for _, r := range page {
		document := templateOf(r).GetPublished()
		if req.GetDrafts() {
			document = templateOf(r).GetDraft()
		}
		if len(document) == 0 {
			continue
		}
		shown, err := showTemplate(r, document)
		if err != nil {
			return nil, err
		}
		resp.Value = append(resp.Value, shown)
	}
	return resp, nil
}

func templateOf(r *catalog.Resource) *eventsv1.DeviceTemplate {
	if r == nil {
		return &eventsv1.DeviceTemplate{}
	}
	return r.Body.(*eventsv1.DeviceTemplate)
}

// showTemplate is a template's JSON with the etag of the resource.
func showTemplate(r *catalog.Resource, document []byte) (*structpb.Struct, error) {
	shown := &structpb.Struct{}
	if err := shown.UnmarshalJSON(document); err != nil {
		return nil, toStatus(fmt.Errorf("device template %s: %w", r.ID, err))
	}
	shown.Fields["@id"], shown.Fields["etag"] = structpb.NewStringValue(r.ID), structpb.NewStringValue(device.ETag(r.Version))
	return shown, nil
}

func (s *deviceTemplateService) GetDeviceTemplate(ctx context.Context, req *apiv1.GetDeviceTemplateRequest) (*structpb.Struct, error) {
	return s.show(ctx, req.GetDeviceTemplateId(), (*eventsv1.DeviceTemplate).GetPublished, "has not been published: its draft is at /api/deviceTemplates/%s/draft")
}

func (s *deviceTemplateService) GetDeviceTemplateDraft(ctx context.Context, req *apiv1.GetDeviceTemplateDraftRequest) (*structpb.Struct, error) {
	return s.show(ctx, req.GetDeviceTemplateId(), (*eventsv1.DeviceTemplate).GetDraft, "has no draft: PUT one to /api/deviceTemplates/%s/draft")
}

func (s *deviceTemplateService) show(ctx context.Context, id string, which func(*eventsv1.DeviceTemplate) []byte, missing string) (*structpb.Struct, error) {
	r, err := s.get(ctx, id)
	if err != nil {
		return nil, err
	}
	document := which(templateOf(r))
	if len(document) == 0 {
		return nil, notFound("device template %q "+missing, id, id)
	}
	return showTemplate(r, document)
}

func (s *deviceTemplateService) PutDeviceTemplate(ctx context.Context, req *apiv1.PutDeviceTemplateRequest) (*structpb.Struct, error) {
	id := req.GetDeviceTemplateId()
	document, tag, err := bareTemplate(id, req.GetTemplate())
	if err != nil {
		return nil, err
	}
	return s.publish(ctx, id, tag, func(_ *eventsv1.DeviceTemplate, next *eventsv1.DeviceTemplate) error {
		next.Published = document
		return nil
	})
}

func (s *deviceTemplateService) UpdateDeviceTemplate(ctx context.Context, req *apiv1.UpdateDeviceTemplateRequest) (*structpb.Struct, error) {
	id := req.GetDeviceTemplateId()
	patch, tag, err := bareTemplate(id, req.GetTemplate())
	if err != nil {
		return nil, err
	}
	return s.publish(ctx, id, tag, func(current, next *eventsv1.DeviceTemplate) error {
		if len(current.GetPublished()) == 0 {
			return notFound("device template %q does not exist", id)
		}
		if next.Published, err = jsonpatch.MergePatch(current.GetPublished(), patch); err != nil {
			return badField("template", "the patch cannot be merged: %s", err)
		}
		return onlyOverrides(current.GetPublished(), next.GetPublished())
	})
}

// onlyOverrides refuses a patch that changes more of the model than a patch may
// (FEATURES.md TPL-07).
func onlyOverrides(before, after []byte) error {
	next, err := template.Parse(after)
	if err != nil {
		return templateProblems(err)
	}
	current, err := template.Parse(before)
	if err != nil {
		return nil //nolint:nilerr // what nobody can read any more may be replaced
	}
	beyond := template.BeyondOverrides(template.Compare(current, next))
	if len(beyond) == 0 {
		return nil
	}
	return detailed(codes.InvalidArgument, fmt.Sprintf("PATCH changes cloud properties, and how values are shown, bounded and set; %d changes are more than that: send the whole template with PUT; the first: %s: %s",
		len(beyond), beyond[0].Path, beyond[0].Reason), violations(beyond))
}

// violations are changes for programs to read.
func violations(changes []template.Change) *errdetails.BadRequest {
	all := &errdetails.BadRequest{}
	for _, c := range changes {
		all.FieldViolations = append(all.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: c.Path, Description: c.Reason})
	}
	return all
}

// bareTemplate is a template as sent, without what the server adds.
func bareTemplate(id string, sent *structpb.Struct) (document []byte, tag string, err error) {
	if len(sent.GetFields()) == 0 {
		return nil, "", badField("template", "the body is empty: send the template as a JSON object")
	}
	fields := sent.GetFields()
	if given, ok := fields["@id"]; ok && given.GetStringValue() != id {
		return nil, "", badField("@id", "the body's @id is %q, the path's %q: leave it out of the body", given.GetStringValue(), id)
	}
	tag = fields["etag"].GetStringValue()
	delete(fields, "etag")
	if fields["@id"] == nil && fields["@type"] != nil {
		fields["@id"] = structpb.NewStringValue(id)
	}
	document, err = sent.MarshalJSON()
	if err != nil {
		return nil, "", badField("template", "the template is not JSON: %s", err)
	}
	return document, tag, nil
}

func (s *deviceTemplateService) DeleteDeviceTemplate(ctx context.Context, req *apiv1.DeleteDeviceTemplateRequest) (*emptypb.Empty, error) {
	id := req.GetDeviceTemplateId()
	if user, err := s.user(ctx, id); err != nil {
		return nil, err
	} else if user != "" {
		return nil, detailed(codes.AlreadyExists, fmt.Sprintf("device template %q is in use, by device %q for one: give its devices another template first", id, user), conflict(id, "in use"))
	}
	if err := s.remove(ctx, id); err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

// user is a device that uses the template; empty when none does.
func (s *deviceTemplateService) user(ctx context.Context, id string) (string, error) {
	p, err := s.reader(ctx)
	if err == nil {
		err = toStatus(s.registry.Ready())
	}
	if err != nil {
		return "", err
	}
	for after := ""; ; {
		page := s.registry.List(p.Tenant, after, maxDevicesPage)
		for _, d := range page {
			if after = d.GetDevice(); d.GetTemplate() == id {
				return after, nil
			}
		}
		if len(page) < maxDevicesPage || ctx.Err() != nil {
			return "", toStatus(ctx.Err())
		}
	}
}

func conflict(subject, description string) *errdetails.PreconditionFailure {
	return &errdetails.PreconditionFailure{Violations: []*errdetails.PreconditionFailure_Violation{{Type: "CONFLICT", Subject: subject, Description: description}}}
}

// publish changes what devices have: edit makes the next version out of the current
// one (empty when there is none).
func (s *deviceTemplateService) publish(ctx context.Context, id, tag string, edit func(current, next *eventsv1.DeviceTemplate) error) (*structpb.Struct, error) {
	r, err := s.edit(ctx, id, tag, func(r *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		current := templateOf(r)
		next := proto.CloneOf(current)
		if err := edit(current, next); err != nil {
			return err
		}
		if err := s.mayPublish(ctx, id, current.GetPublished(), next.GetPublished()); err != nil {
			return err
		}
		next.PublishedAt = timestamppb.Now()
		ev.Change = &eventsv1.CatalogEvent_DeviceTemplate{DeviceTemplate: next}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return showTemplate(r, templateOf(r).GetPublished())
}

// mayPublish checks a template by itself, and that it breaks nothing for the devices
// that use the one there is.
func (s *deviceTemplateService) mayPublish(ctx context.Context, id string, before, after []byte) error {
	next, err := template.Parse(after)
	if err != nil {
		return templateProblems(err)
	}
	if len(before) == 0 {
		return nil
	}
	current, err := template.Parse(before)
	if err != nil {
		return nil //nolint:nilerr // what nobody can read any more may be replaced
	}
	breaking := template.Breaking(template.Compare(current, next))
	if len(breaking) == 0 {
		return nil
	}
	user, err := s.user(ctx, id)
	if err != nil || user == "" {
		return err
	}
	return detailed(codes.AlreadyExists, fmt.Sprintf("%d changes break what devices of template %q rely on (device %q for one): make a new version with POST /api/deviceTemplates/%s/versions; the first: %s: %s",
		len(breaking), id, user, id, breaking[0].Path, breaking[0].Reason), violations(breaking))
}

// templateProblems is the status of a template that is not valid.
func templateProblems(err error) error {
	var problems dtdl.Problems
	if !errors.As(err, &problems) {
		return toStatus(err)
	}
	failure := &errdetails.BadRequest{}
	for _, p := range problems {
		failure.FieldViolations = append(failure.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: p.Path, Description: p.Message + " (" + p.Rule + ")"})
	}
	message := "the device template is not valid: " + problems[0].String()
	if len(problems) > 1 {
		message = fmt.Sprintf("the device template has %d problems, all in details; the first: %s", len(problems), problems[0])
	}
	return detailed(codes.InvalidArgument, message, failure)
}

func (s *deviceTemplateService) ValidateDeviceTemplate(ctx context.Context, req *apiv1.ValidateDeviceTemplateRequest) (*apiv1.ValidateDeviceTemplateResponse, error) {
	if _, err := s.reader(ctx); err != nil {
		return nil, err
	}
	document, _, err := bareTemplate(req.GetTemplate().GetFields()["@id"].GetStringValue(), req.GetTemplate())
	if err != nil {
		return nil, err
	}
	resp := &apiv1.ValidateDeviceTemplateResponse{}
	var problems dtdl.Problems
	if _, err := template.Parse(document); errors.As(err, &problems) {
		for _, p := range problems {
			resp.Problems = append(resp.Problems, &apiv1.DeviceTemplateProblem{Path: p.Path, Rule: p.Rule, Message: p.Message})
		}
	}
	return resp, nil
}
