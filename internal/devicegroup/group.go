// Package devicegroup is the device groups: saved queries for devices
// (FEATURES.md GRP-01..GRP-08). It holds the rules of the resource, which the
// catalog's fold applies.
package devicegroup

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/devicefilter"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// KindName is the catalog's name of device groups.
const KindName = "deviceGroups"

const (
	// MaxGroups bounds a tenant's groups (FEATURES.md GRP-02).
	MaxGroups            = 1000
	maxNameLength        = 148
	maxDescriptionLength = 1024
	maxOrganizationID    = 48
)

var (
	idPattern           = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,255}$`)
	organizationPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
)

// Kind is the device group as the catalog needs to know it.
func Kind() catalog.Kind {
	return catalog.Kind{
		Name: KindName,
		Noun: "device group",
		Body: func(ev *eventsv1.CatalogEvent) proto.Message {
			if g := ev.GetDeviceGroup(); g != nil {
				return g
			}
			return nil
		},
		Validate: func(_, id string, body proto.Message) error { return validate(id, body.(*eventsv1.DeviceGroup)) },
		Admit:    admit,
	}
}

func validate(id string, g *eventsv1.DeviceGroup) error {
	name, description := g.GetDisplayName(), g.GetDescription()
	switch {
	case !idPattern.MatchString(id):
		return errors.New("the device group's id is not valid: use 1 to 255 letters, digits, '-' and '_'")
	case name == "" || utf8.RuneCountInString(name) > maxNameLength || !utf8.ValidString(name):
		return fmt.Errorf("displayName is not valid: use 1 to %d characters", maxNameLength)
	case utf8.RuneCountInString(description) > maxDescriptionLength || !utf8.ValidString(description):
		return fmt.Errorf("description is not valid: use at most %d characters", maxDescriptionLength)
	case len(g.GetOrganizations()) > 1:
		return fmt.Errorf("organizations has %d entries: a device group belongs to at most one", len(g.GetOrganizations()))
	}
	for _, organization := range g.GetOrganizations() {
		if len(organization) > maxOrganizationID || !organizationPattern.MatchString(organization) {
			return fmt.Errorf("the organization's id is not valid: use 1 to %d lower-case letters, digits and '-'", maxOrganizationID)
		}
	}
	// Every replay reads the filters anew: the language may only grow.
	_, err := devicefilter.ParseGroup(g.GetFilter())
	return err
}

func admit(others catalog.View, tenant, id string, _ proto.Message) error {
	if others.Get(tenant, KindName, id) != nil {
		return nil
	}
	if len(others.List(tenant, KindName, "", MaxGroups)) == MaxGroups {
		return fmt.Errorf("there are already %d device groups: delete one first", MaxGroups)
	}
	return nil
}

// ForTemplate is the id of the group of all devices of a template. Two templates
// never have the same one: their ids (DTMIs) hold no '-'. ok is false for what is no
// template's id, and for one too long for a group's.
func ForTemplate(template string) (id string, ok bool) {
	id = strings.NewReplacer(":", "-", ";", "-").Replace(template)
	return id, strings.HasPrefix(template, "dtmi:") && idPattern.MatchString(id)
}

// AllDevices is the group that every published template has (FEATURES.md GRP-05).
func AllDevices(template, displayName string) *eventsv1.DeviceGroup {
	return &eventsv1.DeviceGroup{
		DisplayName: displayName + " - All devices",
		Filter:      fmt.Sprintf("SELECT * FROM devices WHERE $template = %q", template),
	}
}
