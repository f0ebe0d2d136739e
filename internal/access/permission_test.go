package access

import (
	"slices"
	"strings"
	"testing"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// TestPermissionsBringWhatTheyDependOn: a set that has a permission has all it depends
// on, and one for the whole tenant is never a part of a role for an organization.
func TestPermissionsBringWhatTheyDependOn(t *testing.T) {
	require.LessOrEqual(t, len(permissions), 128, "they fit into a Set")
	require.Len(t, byName, len(permissions), "no name twice")
	for _, p := range Permissions() {
		set, err := ParseSet([]string{p.String()})
		require.NoError(t, err)
		require.True(t, set.Has(p))
		for _, need := range p.Needs() {
			other, err := ParsePermission(need)
			require.NoError(t, err, p)
			require.True(t, set.Has(other), "%s needs %s", p, need)
			require.False(t, other.TenantOnly() && !p.TenantOnly(), "%s, of an organization, needs %s, of the tenant", p, need)
		}
	}
	_, err := ParsePermission("devices.destroy")
	require.ErrorContains(t, err, `there is no permission "devices.destroy"`)
}

func TestSetsAreClosedAndReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var names []string
		for _, p := range rapid.SliceOfN(rapid.IntRange(0, len(permissions)-1), 0, 10).Draw(t, "some") {
			names = append(names, Permission(p).String())
		}
		set, err := ParseSet(names)
		require.NoError(t, err)
		again, err := ParseSet(set.Names())
		require.NoError(t, err)
		require.Equal(t, set, again)
		for _, name := range names {
			require.Contains(t, set.Names(), name)
		}
	})
}

func TestBuiltinRolesAreIoTCentrals(t *testing.T) {
	has := func(id string) []string { return builtinRoles[id].GetPermissions() }
	require.Len(t, builtinRoles, 6)
	require.Len(t, has(Administrator), len(permissions))
	for id, r := range builtinRoles {
		set, err := ParseSet(r.GetPermissions())
		require.NoError(t, err)
		require.Equal(t, set.Names(), r.GetPermissions(), "%s is closed", id)
		for _, p := range Permissions() {
			require.False(t, r.GetOrganization() && p.TenantOnly() && set.Has(p), "%s has %s", r.GetDisplayName(), p)
		}
	}
	for _, name := range has(Builder) {
		group, _, _ := strings.Cut(name, ".")
		require.NotContains(t, []string{"application", "exports", "billing", "users", "apiTokens", "audit"}, group)
	}
	require.Contains(t, has(Builder), "deviceTemplates.manage")
	require.NotContains(t, has(Operator), "deviceTemplates.manage")
	require.Contains(t, has(Operator), "devices.delete")
	require.Contains(t, has(OrgAdministrator), "users.add")
	require.Contains(t, has(OrgAdministrator), "organizations.create")
	require.NotContains(t, has(OrgOperator), "users.add")
	require.False(t, slices.ContainsFunc(has(OrgViewer), func(name string) bool {
		_, verb, _ := strings.Cut(name, ".")
		return !strings.HasPrefix(verb, "view") && verb != "readInstance"
	}))
}

func TestRolesThatAreRefused(t *testing.T) {
	for _, tc := range []struct {
		name, id string
		role     *eventsv1.Role
		says     string
	}{
		{"good", "mine", &eventsv1.Role{DisplayName: "Mine", Permissions: []string{"devices.view"}}, ""},
		{"one of every tenant's", Operator, &eventsv1.Role{DisplayName: "Mine"}, "copy it"},
		{"id", "a b", &eventsv1.Role{DisplayName: "Mine"}, "id is not valid"},
		{"no name", "mine", &eventsv1.Role{}, "displayName"},
		{"unknown permission", "mine", &eventsv1.Role{DisplayName: "Mine", Permissions: []string{"x.y"}}, `no permission "x.y"`},
		{"the tenant's in an organization's", "mine", &eventsv1.Role{DisplayName: "Mine", Organization: true, Permissions: []string{"apiTokens.create"}}, "whole tenant"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := validateRole(tc.id, tc.role)
			if tc.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, tc.says)
		})
	}
}

// TestScopesAreThoseOfTheGrants compares the decision with one made the long way.
func TestScopesAreThoseOfTheGrants(t *testing.T) {
	parents := map[string]string{"a": "", "b": "a", "c": "b", "d": "a", "e": ""}
	below := tree{map[string][]string{}}
	for id, parent := range parents {
		below.below[parent] = append(below.below[parent], id)
	}
	isIn := func(id, home string) bool {
		for ; id != ""; id = parents[id] {
			if id == home {
				return true
			}
		}
		return false
	}
	rapid.Check(t, func(t *rapid.T) {
		view := &tenantView{roles: map[string]role{}, organizations: below}
		var held []*eventsv1.RoleAssignment
		for i := range rapid.IntRange(0, 4).Draw(t, "roles") {
			id := string(rune('A' + i))
			p := Permission(rapid.IntRange(0, len(permissions)-1).Draw(t, "permission"))
			home := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "e"}).Draw(t, "home")
			view.roles[id] = role{closures[p], home != ""}
			held = append(held, &eventsv1.RoleAssignment{Role: id, Organization: home})
		}
		p := Principal{Grants: view.grants(held)}
		asked := Permission(rapid.IntRange(0, len(permissions)-1).Draw(t, "asked"))
		scope := p.Scope(asked)
		for _, id := range []string{"", "a", "b", "c", "d", "e"} {
			want := slices.ContainsFunc(held, func(a *eventsv1.RoleAssignment) bool {
				return view.roles[a.GetRole()].permissions.Has(asked) && (a.GetOrganization() == "" || id != "" && isIn(id, a.GetOrganization()))
			})
			var in []string
			if id != "" {
				in = []string{id}
			}
			require.Equal(t, want, scope.Has(in), "%s in %q", asked, id)
		}
	})
}
