package access

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Permission is one thing that a role may permit: an index into permissions.
type Permission uint8

// Set is a set of permissions.
type Set [2]uint64

// permission is a row of IoT Central's list (FEATURES.md RBAC-21).
type permission struct {
	name  string
	needs string // what it depends on, by name, separated by spaces
	// tenant: it is about what has no organization, so that only a role for the whole
	// tenant may have it.
	tenant bool
}

// permissions are all there are. Custom roles hold them by name, on the log, for ever:
// one may be added, none may be taken away or renamed.
var permissions = []permission{
	{"deviceTemplates.view", "", false},
	{"deviceTemplates.manage", "deviceTemplates.view devices.view", true},
	{"devices.view", "deviceTemplates.view deviceGroups.view", false},
	{"devices.update", "devices.view", false},
	{"devices.create", "devices.view", false},
	{"devices.delete", "devices.view", false},
	{"devices.executeCommands", "devices.update devices.view", false},
	{"devices.viewRawData", "devices.view", false},
	{"devices.viewFiles", "devices.view", false},
	{"devices.deleteFiles", "devices.view", false},
	{"deviceGroups.view", "deviceTemplates.view devices.view", false},
	{"deviceGroups.update", "deviceGroups.view", false},
	{"deviceGroups.create", "deviceGroups.view deviceGroups.update", false},
	{"deviceGroups.delete", "deviceGroups.view", false},
	{"deviceConnectivity.readInstance", "deviceTemplates.view deviceGroups.view devices.view", false},
	{"deviceConnectivity.manageInstance", "deviceConnectivity.readInstance", false},
	{"deviceConnectivity.readGlobal", "", true},
	{"deviceConnectivity.manageGlobal", "deviceConnectivity.readGlobal", true},
	{"deploymentManifests.readInstance", "deviceTemplates.view deviceGroups.view devices.view", false},
	{"deploymentManifests.manageInstance", "deploymentManifests.readInstance", false},
	{"deploymentManifests.readGlobal", "", true},
	{"deploymentManifests.manageGlobal", "deploymentManifests.readGlobal", true},
	{"jobs.view", "deviceTemplates.view devices.view deviceGroups.view", false},
	{"jobs.update", "jobs.view", false},
	{"jobs.create", "jobs.view jobs.update", false},
	{"jobs.delete", "jobs.view", false},
	{"jobs.execute", "jobs.view devices.update devices.executeCommands", false},
	{"rules.view", "deviceTemplates.view", true},
	{"rules.update", "rules.view", true},
	{"rules.create", "rules.view rules.update", true},
	{"rules.delete", "rules.view", true},
	{"application.view", "", true},
	{"application.update", "application.view", true},
	{"application.copy", "application.view " + whatACopyHas, true},
	{"application.delete", "application.view", true},
	{"applicationTemplate.view", "", true},
	{"applicationTemplate.export", "applicationTemplate.view " + whatACopyHas, true},
	{"fileUpload.view", "", true},
	{"fileUpload.manage", "fileUpload.view", true},
	{"billing.manage", "", true},
	{"audit.view", "", true},
	{"roles.view", "", false},
	{"roles.update", "roles.view", true},
	{"roles.create", "roles.view roles.update", true},
	{"roles.delete", "roles.view", true},
	{"users.view", "roles.view", false},
	{"users.add", "users.view", false},
	{"users.delete", "users.view", false},
	{"organizations.view", "", false},
	{"organizations.update", "organizations.view", false},
	{"organizations.create", "organizations.view organizations.update", false},
	{"organizations.delete", "organizations.view", false},
	{"dashboards.view", "", false},
	{"dashboards.update", "dashboards.view", false},
	{"dashboards.create", "dashboards.view dashboards.update", false},
	{"dashboards.delete", "dashboards.view", false},
	{"personalDashboards.view", "", false},
	{"personalDashboards.update", "personalDashboards.view", false},
	{"personalDashboards.create", "personalDashboards.view personalDashboards.update", false},
	{"personalDashboards.delete", "personalDashboards.view", false},
	{"explorer.view", "deviceGroups.view deviceTemplates.view devices.view", false},
	{"explorer.update", "explorer.view", false},
	{"explorer.create", "explorer.view explorer.update", false},
	{"explorer.delete", "explorer.view", false},
	{"branding.view", "", true},
	{"branding.update", "branding.view", true},
	{"helpLinks.view", "", true},
	{"helpLinks.update", "helpLinks.view", true},
	{"exports.view", "", true},
	{"exports.update", "exports.view", true},
	{"exports.create", "exports.view exports.update", true},
	{"exports.delete", "exports.view", true},
	{"apiTokens.view", "roles.view", true},
	{"apiTokens.create", "apiTokens.view", true},
	{"apiTokens.delete", "apiTokens.view", true},
}

const whatACopyHas = "deviceTemplates.view devices.view deviceGroups.view dashboards.view exports.view branding.view helpLinks.view roles.view rules.view"

// Names and sets that are looked up all the time; they never change.
var (
	byName   = indexByName()
	closures = closeAll()
	all      = func() (s Set) {
		for i := range permissions {
			s.add(Permission(i))
		}
		return s
	}()
)

func indexByName() map[string]Permission {
	names := make(map[string]Permission, len(permissions))
	for i, p := range permissions {
		names[p.name] = Permission(i)
	}
	return names
}

// closeAll is for each permission that one and all it depends on.
func closeAll() []Set {
	sets := make([]Set, len(permissions))
	for i := range permissions {
		sets[i].add(Permission(i))
	}
	for grown := true; grown; {
		grown = false
		for i, p := range permissions {
			for need := range strings.FieldsSeq(p.needs) {
				if next := sets[i].union(sets[byName[need]]); next != sets[i] {
					sets[i], grown = next, true
				}
			}
		}
	}
	return sets
}

// ParsePermission is the permission of the name.
func ParsePermission(name string) (Permission, error) {
	p, ok := byName[name]
	if !ok {
		return 0, fmt.Errorf("there is no permission %.40q: GET /api/permissions lists them", name)
	}
	return p, nil
}

func (p Permission) String() string { return permissions[p].name }

// TenantOnly reports whether only a role for the whole tenant may have it.
func (p Permission) TenantOnly() bool { return permissions[p].tenant }

// Needs are the permissions that it depends on directly.
func (p Permission) Needs() []string { return strings.Fields(permissions[p].needs) }

// Permissions are all there are, in the order of IoT Central's list.
func Permissions() []Permission {
	every := make([]Permission, len(permissions))
	for i := range every {
		every[i] = Permission(i)
	}
	return every
}

// ParseSet is the set of the named permissions and all they depend on.
func ParseSet(names []string) (s Set, err error) {
	for _, name := range names {
		p, err := ParsePermission(name)
		if err != nil {
			return Set{}, err
		}
		s = s.union(closures[p])
	}
	return s, nil
}

// Has reports whether the permission is in the set.
func (s Set) Has(p Permission) bool { return s[p/64]&(1<<(p%64)) != 0 }

// Names are those of the set's permissions, sorted.
func (s Set) Names() []string {
	var names []string
	for i, p := range permissions {
		if s.Has(Permission(i)) {
			names = append(names, p.name)
		}
	}
	slices.Sort(names)
	return names
}

func (s *Set) add(p Permission) { s[p/64] |= 1 << (p % 64) }

func (s Set) union(other Set) Set { return Set{s[0] | other[0], s[1] | other[1]} }

// of is the set of all permissions of the groups.
func of(groups string) (s Set) {
	for name, p := range maps.All(byName) {
		group, _, _ := strings.Cut(name, ".")
		if slices.Contains(strings.Fields(groups), group) {
			s = s.union(closures[p])
		}
	}
	return s
}
