package history

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"time"
	"unicode/utf8"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetlog/fleetlog/internal/device"
)

// A tree is a message as people see it. Beside what JSON knows it has these kinds
// of values, which differ in how they are compared.
type (
	// section is the same empty as not there: the tags, the connection, the commands.
	section map[string]any
	// component is a section of properties with a marker.
	component map[string]any
	// entry is or is not, with all it has: a command, a module.
	entry map[string]any
	// flag is the same false as not there.
	flag bool
	// secret is compared and never shown.
	secret string
)

// show is how a field is shown when it is not just as what it is.
type show int

const (
	plain      show = iota
	never           // it follows from what is shown, or is shown elsewhere
	inlined         // its fields, as if they were the message's own
	concealed       // that it changes, not what it is
	properties      // a JSON object with components
)

const contract = "fleetlog.events.v1."

// shown has the fields that are not plain. A field that the contract gets is shown
// as long as it is not here.
var shown = map[protoreflect.FullName]show{
	contract + "DeviceState.tenant":         never,
	contract + "DeviceState.device":         never,
	contract + "DeviceState.version":        never,
	contract + "DeviceState.revision":       never,
	contract + "DeviceState.updated_at":     never,
	contract + "DeviceState.cloud_stamps":   never,
	contract + "DeviceState.cloud_dates":    never,
	contract + "DeviceState.attestation":    concealed,
	contract + "DeviceState.self":           inlined,
	contract + "DeviceState.cloud":          properties,
	contract + "DeviceState.tags":           properties,
	contract + "Identity.module":            never,
	contract + "Identity.messages_queued":   never,
	contract + "Identity.twin":              inlined,
	contract + "Twin.desired":               properties,
	contract + "Twin.reported":              properties,
	contract + "Twin.desired_at":            never,
	contract + "Twin.reported_at":           never,
	contract + "Twin.desired_stamps":        never,
	contract + "Twin.reported_stamps":       never,
	contract + "Twin.desired_dates":         never,
	contract + "Twin.reported_dates":        never,
	contract + "Command.id":                 never,
	contract + "CloudMessage.id":            never,
	contract + "CloudMessage.lock":          concealed,
	contract + "MessageLocked.token":        concealed,
	contract + "MessageSettled.token":       concealed,
	contract + "AttestationSet.attestation": concealed,
}

// names are those of fields that would be another one's as well.
var names = map[protoreflect.FullName]string{
	contract + "Twin.model_id": "connectedModelId",
}

// keys are the fields by which the elements of a list are told apart.
var keys = map[protoreflect.FullName]protoreflect.Name{
	contract + "DeviceState.modules": "module",
	contract + "Identity.commands":   "id",
	contract + "Identity.messages":   "id",
}

// treeOf is the message's tree; a message that is not there has an empty one.
func treeOf(m protoreflect.Message) section {
	tree := section{}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		addField(tree, m, fields.Get(i))
	}
	return tree
}

func addField(tree section, m protoreflect.Message, field protoreflect.FieldDescriptor) {
	how := shown[field.FullName()]
	name := names[field.FullName()]
	if name == "" {
		name = field.JSONName()
	}
	switch {
	case how == never || !m.Has(field):
	case how == inlined:
		for name, value := range treeOf(m.Get(field).Message()) {
			tree[name] = value
		}
	case how == concealed:
		tree[name] = secretOf(m, field)
	case how == properties:
		tree[name] = propertiesOf(m.Get(field).Bytes())
	case field.IsList():
		tree[name] = listOf(field, m.Get(field).List())
	default:
		tree[name] = valueOf(field, m.Get(field))
	}
}

func secretOf(m protoreflect.Message, field protoreflect.FieldDescriptor) secret {
	if field.Kind() != protoreflect.MessageKind {
		return secret(m.Get(field).String())
	}
	// Encoding fails only for text that is not UTF-8, which cannot have come here.
	content, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m.Get(field).Message().Interface())
	return secret(content)
}

func propertiesOf(raw []byte) any {
	object, ok := decode(raw).(map[string]any)
	if !ok {
		return valueOfBytes(raw)
	}
	for name, value := range object {
		if inner, is := device.IsComponent(value); is {
			object[name] = component(inner)
		}
	}
	return section(object)
}

func listOf(field protoreflect.FieldDescriptor, list protoreflect.List) any {
	key, keyed := keys[field.FullName()]
	elements, byKey := make([]any, 0, list.Len()), section{}
	for i := range list.Len() {
		if !keyed {
			elements = append(elements, valueOf(field, list.Get(i)))
			continue
		}
		m := list.Get(i).Message()
		byKey[m.Get(m.Descriptor().Fields().ByName(key)).String()] = entry(treeOf(m))
	}
	if keyed {
		return byKey
	}
	return elements
}

func valueOf(field protoreflect.FieldDescriptor, v protoreflect.Value) any {
	switch field.Kind() {
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if at, ok := v.Message().Interface().(*timestamppb.Timestamp); ok {
			return at.AsTime().Format(time.RFC3339Nano)
		}
		return treeOf(v.Message())
	case protoreflect.BoolKind:
		return flag(v.Bool())
	case protoreflect.BytesKind:
		return valueOfBytes(v.Bytes())
	case protoreflect.EnumKind:
		if value := field.Enum().Values().ByNumber(v.Enum()); value != nil {
			return string(value.Name())
		}
		return json.Number(v.String())
	case protoreflect.StringKind:
		return v.String()
	default: // numbers
		return json.Number(v.String())
	}
}

// valueOfBytes is the JSON that the bytes are, else the text, else base64.
func valueOfBytes(raw []byte) any {
	if value := decode(raw); value != nil {
		return value
	}
	if utf8.Valid(raw) {
		return string(raw)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// decode reads JSON with its numbers as they are written; nil when it is none.
func decode(raw []byte) any {
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber()
	var value any
	if decoder.Decode(&value) != nil {
		return nil
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil
	}
	return value
}
