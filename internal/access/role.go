package access

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/internal/catalog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// RoleKind is the catalog's name of roles.
const RoleKind = "roles"

// The roles that every tenant has (FEATURES.md RBAC-10, RBAC-11).
const (
	Administrator    = "ca310b8d-2f4a-44e0-a36e-957c202cd8d4"
	Builder          = "344138e9-8de4-4497-8c54-5237e96d6aaf"
	Operator         = "ae2c9854-393b-4f97-8c42-479d70ce626e"
	OrgAdministrator = "c495eb57-eb18-489e-9802-62c474e5645c"
	OrgOperator      = "b4935647-30e4-4ed3-9074-dcac66c2f8ef"
	OrgViewer        = "84cc62c1-dabe-49d3-b16e-8b291232b285"
)

// MaxRoles bounds a tenant's custom roles. IoT Central has 50 (RBAC-20).
const MaxRoles = 10_000

const (
	daily    = "devices deviceGroups jobs explorer personalDashboards"
	viewOnly = "deviceTemplates.view devices.view deviceGroups.view jobs.view explorer.view dashboards.view personalDashboards.view organizations.view devices.viewRawData devices.viewFiles deploymentManifests.readInstance"
)

var builtinRoles = func() map[string]*eventsv1.Role {
	instances := must("deviceConnectivity.manageInstance", "deploymentManifests.manageInstance", "organizations.view", "roles.view")
	operator := of(daily).union(instances).union(must("dashboards.view"))
	builder := operator.union(of("deviceTemplates deviceConnectivity deploymentManifests rules dashboards fileUpload branding helpLinks"))
	orgOperator := operator.union(of("dashboards"))
	roles := map[string]*eventsv1.Role{}
	for _, r := range []struct {
		id, name     string
		organization bool
		permissions  Set
	}{
		{Administrator, "App Administrator", false, all},
		{Builder, "App Builder", false, builder},
		{Operator, "App Operator", false, operator.union(must("rules.view"))},
		{OrgAdministrator, "Org Administrator", true, orgOperator.union(of("users organizations"))},
		{OrgOperator, "Org Operator", true, orgOperator},
		{OrgViewer, "Org Viewer", true, must(splitNames(viewOnly)...)},
	} {
		roles[r.id] = &eventsv1.Role{DisplayName: r.name, Organization: r.organization, Permissions: r.permissions.Names()}
	}
	return roles
}()

func must(names ...string) Set {
	s, err := ParseSet(names)
	if err != nil {
		panic(err) // a name in this file
	}
	return s
}

// BuiltinRole reports whether every tenant has the role.
func BuiltinRole(id string) bool { return builtinRoles[id] != nil }

const maxText = 1024

func splitNames(s string) []string { return strings.Fields(s) }

var (
	resourceID = regexp.MustCompile(`^[a-zA-Z0-9_-]{1,48}$`)
	errID      = errors.New("the id is not valid: use 1 to 48 letters, digits, '-' and '_'")
)

// roleKind is the role as the catalog needs to know it.
func roleKind() catalog.Kind {
	builtin := map[string]proto.Message{}
	for id, r := range builtinRoles {
		builtin[id] = r
	}
	return catalog.Kind{
		Name: RoleKind, Noun: "role", Builtin: builtin,
		Body: func(ev *eventsv1.CatalogEvent) proto.Message {
			if r := ev.GetRole(); r != nil {
				return r
			}
			return nil
		},
		Validate: func(_, id string, body proto.Message) error { return validateRole(id, body.(*eventsv1.Role)) },
		Admit: func(others catalog.View, tenant, id string, body proto.Message) error {
			if before := others.Get(tenant, RoleKind, id); before != nil && before.Body.(*eventsv1.Role).GetOrganization() != body.(*eventsv1.Role).GetOrganization() {
				return errors.New("the type of a role cannot change: people hold it")
			}
			return bounded(others, tenant, RoleKind, id, MaxRoles)
		},
		Release: unheld,
	}
}

func validateRole(id string, r *eventsv1.Role) error {
	name := r.GetDisplayName()
	switch {
	case BuiltinRole(id):
		return errors.New("this role is one that every tenant has: copy it under another id to change it")
	case !resourceID.MatchString(id):
		return errID
	case name == "" || utf8.RuneCountInString(name) > maxName || !utf8.ValidString(name):
		return fmt.Errorf("displayName is not valid: use 1 to %d characters", maxName)
	case utf8.RuneCountInString(r.GetDescription()) > maxText || !utf8.ValidString(r.GetDescription()):
		return fmt.Errorf("description is not valid: use at most %d characters", maxText)
	case len(r.GetPermissions()) > len(permissions):
		return errors.New("permissions names some twice")
	}
	set, err := ParseSet(r.GetPermissions())
	if err != nil || !r.GetOrganization() {
		return err
	}
	for _, p := range Permissions() {
		if set.Has(p) && p.TenantOnly() {
			return fmt.Errorf("%s is about the whole tenant: a role of type organization cannot have it", p)
		}
	}
	return nil
}

// unheld refuses to take away a role that somebody holds.
func unheld(others catalog.View, tenant, id string) error {
	for _, kind := range []string{UserKind, TokenKind} {
		for _, r := range others.List(tenant, kind, "", MaxUsers) {
			for _, a := range assignmentsOf(r) {
				if a.GetRole() == id {
					return fmt.Errorf("the role is held by %s/%s: take it from there first", kind, r.ID)
				}
			}
		}
	}
	return nil
}

func bounded(others catalog.View, tenant, kind, id string, most int) error {
	if others.Get(tenant, kind, id) == nil && others.Count(tenant, kind) >= most {
		return fmt.Errorf("there are already %d %s: delete one first", most, kind)
	}
	return nil
}
