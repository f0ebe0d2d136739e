// Package template is the device templates: what a kind of device can do, as DTDL
// says it, with what IoT Central adds (FEATURES.md §4).
//
// It reads and checks templates, compares their versions, makes one up from what a
// device sends, and is a node's view of the published ones. All but the view is
// pure.
package template

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/fleetlog/fleetlog/internal/dtdl"
)

// MaxBytes bounds a template's JSON.
const MaxBytes = 200 << 10

const envelopeRule = "IoT Central device template, FEATURES TPL-03"

// Template is a device template. It is shared and must not be changed.
type Template struct {
	ID          string
	DisplayName string
	// Types are DeviceModel and others (FEATURES.md TPL-02).
	Types []string
	Model *dtdl.Model
	// JSON is the template as it was written.
	JSON []byte
}

// envelope is what a template has around its model.
type envelope struct {
	ID          string          `json:"@id"`
	Types       json.RawMessage `json:"@type"`
	DisplayName json.RawMessage `json:"displayName"`
	Model       json.RawMessage `json:"capabilityModel"`
}

// Parse reads a template in IoT Central's JSON. What is wrong with it is a
// [dtdl.Problems], all at once, with paths from the template's root.
func Parse(document []byte) (*Template, error) {
	if len(document) > MaxBytes {
		return nil, problem("$", "the template has %d bytes: use at most %d", len(document), MaxBytes)
	}
	var e envelope
	if err := json.Unmarshal(document, &e); err != nil {
		return nil, problem("$", "the template cannot be read: write a JSON object with @id, @type and capabilityModel: %s", err)
	}
	t := &Template{ID: e.ID, JSON: document}
	var found dtdl.Problems
	add := func(path, format string, args ...any) { found = append(found, problem(path, format, args...)...) }
	if !ValidID(e.ID) {
		add("$.@id", "%q is no id of a template: write it like dtmi:contoso:ThermostatTemplate;1", e.ID)
	}
	t.Types = e.types()
	if !slices.Contains(t.Types, "DeviceModel") {
		add("$.@type", "@type must hold \"DeviceModel\": write [\"ModelDefinition\", \"DeviceModel\"]")
	}
	t.DisplayName = e.displayName()
	if len(e.Model) == 0 {
		add("$.capabilityModel", "the model is missing: write the DTDL interface that the device implements")
		return nil, found
	}
	model, err := dtdl.ParseAt(e.Model, "$.capabilityModel")
	var problems dtdl.Problems
	if errors.As(err, &problems) {
		found = append(found, problems...)
	} else if err != nil {
		add("$.capabilityModel", "%s", err)
	}
	if len(found) > 0 {
		return nil, found
	}
	t.Model = model
	return t, nil
}

// ValidID reports whether the text is the id of a template: a model id, whose version
// IoT Central does not insist on.
func ValidID(id string) bool { return id != "" && dtdl.ValidID(id) && !strings.Contains(id, ".") }

func problem(path, format string, args ...any) dtdl.Problems {
	return dtdl.Problems{{Path: path, Rule: envelopeRule, Message: fmt.Sprintf(format, args...)}}
}

func (e envelope) types() []string {
	var many []string
	if json.Unmarshal(e.Types, &many) == nil {
		return many
	}
	var one string
	if json.Unmarshal(e.Types, &one) == nil {
		return []string{one}
	}
	return nil
}

func (e envelope) displayName() string {
	var name string
	if json.Unmarshal(e.DisplayName, &name) == nil && name != "" {
		return name
	}
	var text dtdl.Text
	if json.Unmarshal(e.DisplayName, &text) == nil && len(text) > 0 {
		return text.String()
	}
	return e.ID
}

// ModelID is the id that devices of the template announce.
func (t *Template) ModelID() string { return t.Model.Root.ID }

// Interface is what the device implements (component ""), or one of its
// components; nil when there is no such component.
func (t *Template) Interface(component string) *dtdl.Interface { return part(t.Model.Root, component) }

// Module is what a module of an Edge device implements, or one of that module's
// components; nil when the template does not have it.
func (t *Template) Module(module, component string) *dtdl.Interface {
	for _, c := range t.Modules() {
		if c.Name == module || c.DisplayName.String() == module {
			return part(c.Interface, component)
		}
	}
	return nil
}

func part(i *dtdl.Interface, component string) *dtdl.Interface {
	if component == "" {
		return i
	}
	if c := i.Find(dtdl.Component, component); c != nil {
		return c.Interface
	}
	return nil
}

// Modules are the modules of an Edge device (FEATURES.md TPL-09).
func (t *Template) Modules() []*dtdl.Content {
	return t.contents(func(c *dtdl.Content) bool {
		return c.Kind == dtdl.Relationship && slices.Contains(c.Types, "EdgeModule") && c.Interface != nil
	})
}

// Components are those of the device itself.
func (t *Template) Components() []*dtdl.Content {
	return t.contents(func(c *dtdl.Content) bool { return c.Kind == dtdl.Component })
}

func (t *Template) contents(match func(*dtdl.Content) bool) []*dtdl.Content {
	var found []*dtdl.Content
	for _, c := range t.Model.Root.All {
		if match(c) {
			found = append(found, c)
		}
	}
	return found
}

// Initial is a JSON merge patch of the desired properties that a new device gets;
// nil when there are none (FEATURES.md TPL-26).
func (t *Template) Initial() []byte {
	patch := initial(t.Model.Root)
	for _, c := range t.Components() {
		if inner := initial(c.Interface); len(inner) > 0 {
			inner["__t"] = json.RawMessage(`"c"`)
			encoded, _ := json.Marshal(inner) // of raw values that are JSON
			patch[c.Name] = encoded
		}
	}
	if len(patch) == 0 {
		return nil
	}
	encoded, _ := json.Marshal(patch)
	return encoded
}

func initial(i *dtdl.Interface) map[string]json.RawMessage {
	patch := map[string]json.RawMessage{}
	for _, c := range i.All {
		if c.Kind == dtdl.Property && c.Writable && !c.Cloud && c.InitialValue != nil && !bytes.Equal(c.InitialValue, []byte("null")) {
			patch[c.Name] = c.InitialValue
		}
	}
	return patch
}
