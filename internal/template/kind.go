package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/dtdl"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// KindName is the catalog's name of device templates.
const KindName = "deviceTemplates"

// maxTemplates bounds a tenant's (FEATURES.md TPL-06).
const maxTemplates = 1000

// Kind is the device template as the catalog needs to know it. It checks what must
// hold for ever; the rules of the language, which may become stricter, are the
// API's to check before a template gets here.
func Kind() catalog.Kind {
	return catalog.Kind{
		Name: KindName,
		Noun: "device template",
		Body: func(ev *eventsv1.CatalogEvent) proto.Message {
			if t := ev.GetDeviceTemplate(); t != nil {
				return t
			}
			return nil
		},
		Validate: func(_, id string, body proto.Message) error { return validate(id, body.(*eventsv1.DeviceTemplate)) },
		Admit: func(others catalog.View, tenant, id string, _ proto.Message) error {
			if others.Get(tenant, KindName, id) == nil && len(others.List(tenant, KindName, "", maxTemplates)) >= maxTemplates {
				return fmt.Errorf("there are %d device templates already: delete one first", maxTemplates)
			}
			return nil
		},
	}
}

func validate(id string, t *eventsv1.DeviceTemplate) error {
	if !dtdl.ValidID(id, 2) {
		return errors.New("the device template's id is not valid: write it like dtmi:contoso:ThermostatTemplate;1")
	}
	if len(t.GetPublished()) == 0 && len(t.GetDraft()) == 0 {
		return errors.New("the device template is neither published nor a draft")
	}
	for _, document := range [][]byte{t.GetPublished(), t.GetDraft()} {
		switch {
		case len(document) == 0:
		case len(document) > MaxBytes:
			return fmt.Errorf("the device template has %d bytes: use at most %d", len(document), MaxBytes)
		case !json.Valid(document) || !bytes.HasPrefix(bytes.TrimSpace(document), []byte("{")):
			return errors.New("the device template is not a JSON object")
		}
	}
	return nil
}
