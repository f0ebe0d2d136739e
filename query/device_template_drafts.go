package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/fleetlog/fleetlog/internal/template"
	apiv1 "github.com/fleetlog/fleetlog/proto/fleetlog/api/v1"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/structpb"
)

func (s *deviceTemplateService) PutDeviceTemplateDraft(ctx context.Context, req *apiv1.PutDeviceTemplateDraftRequest) (*structpb.Struct, error) {
	document, tag, err := bareTemplate(req.GetDeviceTemplateId(), req.GetTemplate())
	if err != nil {
		return nil, err
	}
	return s.draft(ctx, req.GetDeviceTemplateId(), tag, document, func(*catalog.Resource) error { return nil })
}

// draft saves a template's draft, if what there is may have it.
func (s *deviceTemplateService) draft(ctx context.Context, id, tag string, document []byte, may func(*catalog.Resource) error) (*structpb.Struct, error) {
	r, err := s.edit(ctx, id, tag, func(r *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		if err := may(r); err != nil {
			return err
		}
		next := proto.CloneOf(templateOf(r))
		next.Draft = document
		ev.Change = &eventsv1.CatalogEvent_DeviceTemplate{DeviceTemplate: next}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return showTemplate(r, templateOf(r).GetDraft())
}

func (s *deviceTemplateService) DeleteDeviceTemplateDraft(ctx context.Context, req *apiv1.DeleteDeviceTemplateDraftRequest) (*emptypb.Empty, error) {
	id := req.GetDeviceTemplateId()
	_, err := s.edit(ctx, id, "", func(r *catalog.Resource, ev *eventsv1.CatalogEvent) error {
		next := proto.CloneOf(templateOf(r))
		if len(next.GetDraft()) == 0 {
			return notFound("device template %q has no draft", id)
		}
		next.Draft = nil
		ev.Change = &eventsv1.CatalogEvent_DeviceTemplate{DeviceTemplate: next}
		if len(next.GetPublished()) == 0 {
			ev.Change = &eventsv1.CatalogEvent_Deleted{Deleted: &eventsv1.CatalogDeleted{}}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &emptypb.Empty{}, nil
}

func (s *deviceTemplateService) PublishDeviceTemplate(ctx context.Context, req *apiv1.PublishDeviceTemplateRequest) (*structpb.Struct, error) {
	id := req.GetDeviceTemplateId()
	return s.publish(ctx, id, "", func(current, next *eventsv1.DeviceTemplate) error {
		if len(current.GetDraft()) == 0 {
			return notFound("device template %q has no draft to publish", id)
		}
		next.Published, next.Draft = current.GetDraft(), nil
		return nil
	})
}

func (s *deviceTemplateService) ListDeviceTemplateChanges(ctx context.Context, req *apiv1.ListDeviceTemplateChangesRequest) (*apiv1.ListDeviceTemplateChangesResponse, error) {
	id := req.GetDeviceTemplateId()
	r, err := s.get(ctx, id)
	if err != nil {
		return nil, err
	}
	published, draft := templateOf(r).GetPublished(), templateOf(r).GetDraft()
	if len(published) == 0 || len(draft) == 0 {
		return nil, notFound("device template %q has not both a published version and a draft to compare", id)
	}
	from, err := template.Parse(published)
	if err != nil {
		return nil, templateProblems(err)
	}
	to, err := template.Parse(draft)
	if err != nil {
		return nil, templateProblems(err)
	}
	resp := &apiv1.ListDeviceTemplateChangesResponse{}
	for _, c := range template.Compare(from, to) {
		resp.Value = append(resp.Value, &apiv1.DeviceTemplateChange{Path: c.Path, Change: c.What, Breaking: c.Breaking, Reason: c.Reason})
	}
	return resp, nil
}

func (s *deviceTemplateService) CreateDeviceTemplateVersion(ctx context.Context, req *apiv1.CreateDeviceTemplateVersionRequest) (*structpb.Struct, error) {
	r, err := s.get(ctx, req.GetDeviceTemplateId())
	if err != nil {
		return nil, err
	}
	document := templateOf(r).GetPublished()
	if len(document) == 0 {
		return nil, badField("deviceTemplateId", "device template %q has not been published: go on with its draft", r.ID)
	}
	for _, version := dtdl.Version(r.ID); ; {
		version++
		id := dtdl.WithVersion(r.ID, version)
		next, err := newVersion(document, id)
		if err != nil {
			return nil, toStatus(err)
		}
		created, err := s.draft(ctx, id, "", next, vacant)
		if !errors.Is(err, errTaken) {
			return created, err
		}
	}
}

var errTaken = errors.New("there is a device template of that id")

// vacant keeps a new version from replacing one that somebody else has just made.
func vacant(r *catalog.Resource) error {
	if r != nil {
		return errTaken
	}
	return nil
}

// newVersion is a template's copy with another id, and the next version of its model.
func newVersion(document []byte, id string) ([]byte, error) {
	var fields map[string]any
	if err := json.Unmarshal(document, &fields); err != nil {
		return nil, fmt.Errorf("copy device template: %w", err)
	}
	fields["@id"] = id
	if model, ok := fields["capabilityModel"].(map[string]any); ok {
		modelID, _ := model["@id"].(string)
		_, version := dtdl.Version(modelID)
		model["@id"] = dtdl.WithVersion(modelID, version+1)
	}
	next, err := json.Marshal(fields)
	if err != nil {
		return nil, fmt.Errorf("copy device template: %w", err)
	}
	return next, nil
}

// sampleMessages is how many messages a template is made up from.
const sampleMessages = 100

func (s *deviceTemplateService) GenerateDeviceTemplate(ctx context.Context, req *apiv1.GenerateDeviceTemplateRequest) (*apiv1.GenerateDeviceTemplateResponse, error) {
	p, err := s.reader(ctx)
	if err != nil {
		return nil, err
	}
	if err := device.ValidateID(req.GetDeviceId()); err != nil {
		return nil, badField("deviceId", "%s", err)
	}
	state := inScope(ctx, s.registry.Get(p.Tenant, req.GetDeviceId()))
	if state == nil {
		return nil, notFound("device %q does not exist", req.GetDeviceId())
	}
	id := req.GetTemplateId()
	if id == "" {
		id = generatedID(req.GetDeviceId())
	}
	if !template.ValidID(id) {
		return nil, badField("templateId", "%q is no id of a template: write it like dtmi:contoso:ThermostatTemplate;1", id)
	}
	messages, err := s.latestMessages(ctx, p.Tenant, req.GetDeviceId())
	if err != nil {
		return nil, err
	}
	reported := state.GetSelf().GetTwin().GetReported()
	if len(messages) == 0 && len(reported) == 0 {
		return nil, notFound("device %q has neither sent telemetry nor reported properties: there is nothing to make a template of", req.GetDeviceId())
	}
	generated, err := template.Generate(id, state.GetDisplayName(), messages, reported)
	if err != nil {
		return nil, templateProblems(err) // only of a templateId that the caller gave
	}
	resp := &apiv1.GenerateDeviceTemplateResponse{Template: &structpb.Struct{}, LeftOut: generated.LeftOut}
	if err := resp.Template.UnmarshalJSON(generated.JSON); err != nil {
		return nil, toStatus(fmt.Errorf("generated template: %w", err))
	}
	return resp, nil
}

// generatedID is a template id made of a device's: of as much of it as leaves the
// model's id, which is made of this one, within DTDL's 128 characters.
func generatedID(device string) string {
	const most = 90
	var b strings.Builder
	for _, r := range device {
		if b.Len() == most {
			break
		}
		if r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			b.WriteRune(r)
		}
	}
	return "dtmi:fleetlog:generated:d" + b.String() + ";1"
}

// latestMessages are the bodies of a device's newest messages of its own.
func (s *deviceTemplateService) latestMessages(ctx context.Context, tenant, id string) ([][]byte, error) {
	var messages [][]byte
	err := ask(ctx, s.db,
		"SELECT toJSONString(body) FROM telemetry WHERE tenant = {tenant:String} AND device = {device:String} AND component = '' AND module = '' ORDER BY ts DESC, partition DESC, offset DESC LIMIT {limit:UInt32}",
		map[string]string{"tenant": tenant, "device": id, "limit": strconv.Itoa(sampleMessages)}, func(rows driver.Rows) error {
			var body string
			if err := rows.Scan(&body); err != nil {
				return err
			}
			messages = append(messages, []byte(body))
			return nil
		})
	if err != nil && !errors.Is(err, context.Canceled) {
		return nil, err
	}
	return messages, nil
}
