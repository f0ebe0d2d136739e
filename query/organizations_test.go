package query

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/stretchr/testify/require"
)

// makeToken makes an API token with one role; organization "" is the whole tenant.
func (a *api) makeToken(id, role, organization string) string {
	a.t.Helper()
	held := fmt.Sprintf(`{"role":%q}`, role)
	if organization != "" {
		held = fmt.Sprintf(`{"role":%q,"organization":%q}`, role, organization)
	}
	return a.ok(http.MethodPut, "/api/apiTokens/"+id, `{"roles":[`+held+`]}`)["token"].(string)
}

// as does a call with another token.
func (a *api) as(token, method, path, body string) (int, map[string]any) {
	a.t.Helper()
	code, answer, _ := a.call(method, path, body, "Authorization", token)
	return code, answer
}

func names(answer map[string]any) (ids []string) {
	for _, one := range answer["value"].([]any) {
		ids = append(ids, fmt.Sprint(one.(map[string]any)["id"]))
	}
	return ids
}

// TestOrganizationsAreATree builds one, and sees who finds what in it.
func TestOrganizationsAreATree(t *testing.T) {
	a := newAPI(t)
	a.projectDevices()
	for _, o := range [][2]string{{"world", ""}, {"north", "world"}, {"oslo", "north"}, {"south", "world"}} {
		a.ok(http.MethodPut, "/api/organizations/"+o[0], fmt.Sprintf(`{"displayName":"The %s","parent":%q}`, o[0], o[1]))
		a.ok(http.MethodPut, "/api/devices/at-"+o[0], fmt.Sprintf(`{"organizations":[%q]}`, o[0]))
	}
	a.ok(http.MethodPut, "/api/devices/at-root", "{}")
	north := a.makeToken("north", access.OrgAdministrator, "north")
	code, answer := a.as(north, http.MethodGet, "/api/devices", "")
	require.Equal(t, 200, code)
	require.Equal(t, []string{"at-north", "at-oslo"}, names(answer), "downwards, never up or beside")
	code, answer = a.as(north, http.MethodGet, "/api/devices?filter=enabled%20eq%20true&orderby=displayName%20desc", "")
	require.Equal(t, 200, code, "%v", answer)
	require.Equal(t, []string{"at-oslo", "at-north"}, names(answer))
	code, answer = a.as(north, http.MethodGet, "/api/organizations", "")
	require.Equal(t, 200, code)
	require.Equal(t, []string{"north", "oslo"}, names(answer))

	// What he makes without saying whose is of his organization, and of another's cannot be.
	code, answer = a.as(north, http.MethodPut, "/api/devices/new", "{}")
	require.Equal(t, 200, code)
	require.Equal(t, []any{"north"}, answer["organizations"])
	code, answer = a.as(north, http.MethodPut, "/api/devices/new2", `{"organizations":["south"]}`)
	require.Equal(t, 403, code)
	require.Contains(t, message(answer), `organizations ["south"]`)
	code, _ = a.as(north, http.MethodPatch, "/api/devices/at-oslo", `{"organizations":["south"]}`)
	require.Equal(t, 403, code)
	code, answer = a.as(north, http.MethodPatch, "/api/devices/at-south", `{"displayName":"mine"}`)
	require.Equal(t, 404, code)
	_, same := a.as(north, http.MethodPatch, "/api/devices/nowhere", `{"displayName":"mine"}`)
	require.Equal(t, strings.ReplaceAll(message(same), "nowhere", "at-south"), message(answer), "what is another's looks like what there is not")

	// He makes organizations below his own.
	code, _ = a.as(north, http.MethodPut, "/api/organizations/bergen", `{"displayName":"Bergen","parent":"north"}`)
	require.Equal(t, 200, code)
	code, answer = a.as(north, http.MethodGet, "/api/organizations/bergen", "")
	require.Equal(t, 200, code, "his role is for it at once: %v", answer)
	for _, parent := range []string{"south", "world", ""} {
		code, _ = a.as(north, http.MethodPut, "/api/organizations/other", fmt.Sprintf(`{"displayName":"Other","parent":%q}`, parent))
		require.Equal(t, 403, code, parent)
	}
	code, _ = a.as(north, http.MethodPatch, "/api/organizations/north", `{"parent":"oslo"}`)
	require.NotEqual(t, 200, code, "he does not move his own")

	// The tree stays one, and is not too deep.
	for _, tc := range []struct{ path, body, says string }{
		{"world", `{"displayName":"x","parent":"oslo"}`, "part of itself"},
		{"x", `{"displayName":"x","parent":"nothing"}`, "does not exist"},
		{"Upper", `{"displayName":"x"}`, "lower-case"},
		{"x", `{}`, "displayName"},
	} {
		code, answer, _ := a.call(http.MethodPut, "/api/organizations/"+tc.path, tc.body)
		require.GreaterOrEqual(t, code, 400)
		require.Contains(t, message(answer), tc.says)
	}
	a.ok(http.MethodPut, "/api/organizations/four", `{"displayName":"4","parent":"oslo"}`)
	a.ok(http.MethodPut, "/api/organizations/five", `{"displayName":"5","parent":"four"}`)
	code, answer, _ = a.call(http.MethodPut, "/api/organizations/six", `{"displayName":"6","parent":"five"}`)
	require.Equal(t, 409, code)
	require.Contains(t, message(answer), "6 organizations deep")
	code, answer, _ = a.call(http.MethodPatch, "/api/organizations/world", `{"parent":"south"}`)
	require.Equal(t, 409, code, "%v", answer)

	// What something is in is not deleted.
	for _, tc := range [][2]string{{"south", "1 devices are in"}, {"north", "devices are in"}, {"four", "is a part of it"}} {
		code, answer, _ = a.call(http.MethodDelete, "/api/organizations/"+tc[0], "")
		require.Equal(t, 409, code)
		require.Contains(t, message(answer), tc[1])
	}
	a.ok(http.MethodDelete, "/api/organizations/five", "")
}

// sent writes a row as the projection would, of a message that came at this time.
func (a *api) sent(device string, at time.Time, body string) {
	a.t.Helper()
	require.NoError(a.t, a.db.Exec(a.t.Context(), fmt.Sprintf("INSERT INTO telemetry (tenant, device, ts, enqueued_at, body) SELECT 'default', '%s', fromUnixTimestamp64Milli(%d, 'UTC') AS at, at, '%s'::JSON", device, at.UnixMilli(), body)))
}

// versions are how many the table has of a device.
func (a *api) versions(device string) (n uint64) {
	a.t.Helper()
	require.NoError(a.t, a.db.QueryRow(a.t.Context(), "SELECT count() FROM device_versions WHERE device = ?", device).Scan(&n))
	return n
}

// TestWhoMovesLeavesItsHistory: what a device was and sent stays with the organization
// that had it then.
func TestWhoMovesLeavesItsHistory(t *testing.T) {
	a := newAPI(t)
	a.projectDevices()
	a.projectEvents()
	a.project(a.insertVersion)
	a.organizations("north", "south")
	north, south := a.makeToken("north", access.OrgOperator, "north"), a.makeToken("south", access.OrgOperator, "south")
	a.ok(http.MethodPut, "/api/devices/d", `{"displayName":"Northern","organizations":["north"]}`)
	a.ok(http.MethodPut, "/api/devices/stays", `{"organizations":["north"]}`)
	then := time.Now()
	a.sent("d", then, `{"n":1}`)
	a.sent("stays", then, `{"n":10}`)
	a.ok(http.MethodPatch, "/api/devices/d", `{"displayName":"Southern","organizations":["south"]}`)
	later := time.Now()
	a.sent("d", later.Add(time.Millisecond), `{"n":2}`)

	latest := func(token string) any {
		code, answer := a.as(token, http.MethodGet, "/api/devices/d/telemetry/n", "")
		require.Equal(t, 200, code, "%v", answer)
		return answer["value"]
	}
	list := func(token string) (values []any) {
		code, answer := a.as(token, http.MethodGet, "/api/devices/d/telemetry", "")
		require.Equal(t, 200, code, "%v", answer)
		for _, row := range answer["value"].([]any) {
			values = append(values, row.(map[string]any)["values"].(map[string]any)["n"])
		}
		return values
	}
	ask := func(token, query string) any {
		code, answer := a.as(token, http.MethodPost, "/api/query", fmt.Sprintf(`{"query":%q}`, query))
		require.Equal(t, 200, code, "%v", answer)
		return answer["results"]
	}
	require.Eventually(t, func() bool {
		_, answer := a.as(south, http.MethodGet, "/api/devices", "")
		return len(names(answer)) == 1 && a.versions("d") == 2
	}, 10*time.Second, 10*time.Millisecond)
	require.EqualValues(t, 2, latest(a.token))
	require.EqualValues(t, 1, latest(north))
	require.EqualValues(t, 2, latest(south))
	require.Equal(t, []any{1.0}, list(north))
	require.Equal(t, []any{2.0}, list(south))
	const sums = `SELECT COUNT($telemetry.n) AS count, SUM($telemetry.n) AS sum FROM devices`
	require.Equal(t, []any{map[string]any{"count": 3.0, "sum": 13.0}}, ask(a.token, sums))
	require.Equal(t, []any{map[string]any{"count": 2.0, "sum": 11.0}}, ask(north, sums))
	require.Equal(t, []any{map[string]any{"count": 1.0, "sum": 2.0}}, ask(south, sums))

	code, _ := a.as(north, http.MethodGet, "/api/devices/d", "")
	require.Equal(t, 404, code)
	code, answer := a.as(north, http.MethodGet, "/api/devices/d?at="+query(then), "")
	require.Equal(t, 200, code, "%v", answer)
	require.Equal(t, "Northern", answer["displayName"])
	code, _ = a.as(south, http.MethodGet, "/api/devices/d?at="+query(then), "")
	require.Equal(t, 404, code)
	_, answer = a.as(south, http.MethodGet, "/api/devices?at="+query(then), "")
	require.Empty(t, answer["value"])
	_, answer = a.as(north, http.MethodGet, "/api/devices?at="+query(then), "")
	require.ElementsMatch(t, []string{"d", "stays"}, names(answer))
	_, answer = a.as(south, http.MethodGet, "/api/devices/d/events", "")
	require.Len(t, answer["value"], 1, "it came, and nothing from before")
	_, answer = a.as(north, http.MethodGet, "/api/devices/d/events", "")
	require.Len(t, answer["value"], 2, "it was made, and it went")
}

// TestNobodyGivesMoreThanHeHas: an administrator of an organization lets people in for
// it, and cannot make himself more.
func TestNobodyGivesMoreThanHeHas(t *testing.T) {
	a := newAPI(t)
	a.organizations("north", "south")
	north := a.makeToken("north", access.OrgAdministrator, "north")
	user := func(role, organization string) string {
		return fmt.Sprintf(`{"type":"email","email":"anna@example.com","roles":[{"role":%q,"organization":%q}]}`, role, organization)
	}
	code, answer := a.as(north, http.MethodPut, "/api/users/anna", user(access.OrgOperator, "north"))
	require.Equal(t, 200, code, "%v", answer)
	code, answer = a.as(north, http.MethodPut, "/api/users/bert", user(access.OrgOperator, "south"))
	require.Equal(t, 403, code, "%v", answer)
	code, answer = a.as(north, http.MethodPut, "/api/users/bert", `{"type":"email","email":"b@example.com","roles":[{"role":"`+access.Administrator+`"}]}`)
	require.Equal(t, 403, code)
	require.Contains(t, message(answer), "nobody gives away more than he has")
	a.ok(http.MethodPut, "/api/users/boss", `{"type":"email","email":"boss@example.com","roles":[{"role":"`+access.Administrator+`"}]}`)
	for _, call := range [][2]string{{http.MethodDelete, ""}, {http.MethodPatch, `{"roles":[{"role":"` + access.OrgViewer + `","organization":"north"}]}`}} {
		code, _ = a.as(north, call[0], "/api/users/boss", call[1])
		require.Equal(t, 404, code)
	}
	_, answer = a.as(north, http.MethodGet, "/api/users", "")
	require.Equal(t, []string{"anna"}, names(answer))

	// A role that makes roles has what it gives.
	a.ok(http.MethodPut, "/api/roles/clerk", `{"displayName":"Clerk","permissions":["roles.create","users.add","devices.delete"]}`)
	clerk := a.makeToken("clerk", "clerk", "")
	code, answer = a.as(clerk, http.MethodPut, "/api/roles/more", `{"displayName":"More","permissions":["exports.create"]}`)
	require.Equal(t, 403, code)
	require.Contains(t, message(answer), "exports.view", "the first that is missing")
	code, answer = a.as(clerk, http.MethodPut, "/api/roles/less", `{"displayName":"Less","permissions":["devices.delete"]}`)
	require.Equal(t, 200, code, "%v", answer)
	require.Equal(t, []any{"deviceGroups.view", "deviceTemplates.view", "devices.delete", "devices.view"}, answer["permissions"], "with all it depends on")
	code, answer = a.as(clerk, http.MethodPatch, "/api/roles/"+access.Operator, `{"displayName":"x"}`)
	require.Equal(t, 403, code, "%v", answer)
	code, answer, _ = a.call(http.MethodPatch, "/api/roles/"+access.Operator, `{"displayName":"x"}`)
	require.Equal(t, 400, code)
	require.Contains(t, message(answer), "copy it")

	// A role that is held is not deleted, and one that changes is changed for all at once.
	code, answer, _ = a.call(http.MethodDelete, "/api/roles/clerk", "")
	require.Equal(t, 409, code)
	require.Contains(t, message(answer), "apiTokens/clerk")
	code, _ = a.as(clerk, http.MethodGet, "/api/devices", "")
	require.Equal(t, 200, code)
	a.ok(http.MethodPatch, "/api/roles/clerk", `{"permissions":["roles.view"]}`)
	code, answer = a.as(clerk, http.MethodGet, "/api/devices", "")
	require.Equal(t, 403, code)
	require.Contains(t, message(answer), "devices.view")
	a.ok(http.MethodDelete, "/api/apiTokens/clerk", "")
	code, _ = a.as(clerk, http.MethodGet, "/api/roles", "")
	require.Equal(t, 401, code, "a token that is deleted is none")
	a.ok(http.MethodDelete, "/api/roles/clerk", "")
}

// TestTokensCannotBeForged tries tokens that are made of good ones.
func TestTokensCannotBeForged(t *testing.T) {
	a := newAPI(t)
	soon := time.Now().Add(2 * time.Second).UTC().Format(time.RFC3339Nano)
	brief := a.ok(http.MethodPut, "/api/apiTokens/brief", `{"roles":[{"role":"`+access.Operator+`"}],"expiry":"`+soon+`"}`)["token"].(string)
	good := a.makeToken("good", access.Operator, "")
	require.Regexp(t, `^SharedAccessSignature sr=default&sig=[^&]+&skn=good&se=\d+$`, good)
	for name, token := range map[string]string{
		"later": strings.Replace(good, "&se=", "&se=9", 1), "another's name": strings.Replace(good, "skn=good", "skn=admin", 1), "another tenant's": strings.Replace(good, "sr=default", "sr=stranger", 1),
		"no signature": strings.Replace(good, "sig=", "sig=&x=", 1), "twice": good + "&skn=admin", "slashes": strings.Replace(good, "skn=good", "skn=../good", 1),
		"a path in the tenant": strings.Replace(good, "sr=default", "sr=default/apiTokens/good", 1), "cut": good[:len(good)-1], "long": good + strings.Repeat("&a=b", 2000),
	} {
		code, answer := a.as(token, http.MethodGet, "/api/devices", "")
		require.Equal(t, 401, code, "%s: %v", name, answer)
	}
	code, _ := a.as(good, http.MethodGet, "/api/devices", "")
	require.Equal(t, 200, code)
	code, answer, _ := a.call(http.MethodPut, "/api/apiTokens/good", `{"roles":[{"role":"`+access.Operator+`"}]}`)
	require.Equal(t, 409, code, "%v", answer)
	require.NotContains(t, fmt.Sprint(a.ok(http.MethodGet, "/api/apiTokens/good", "")), "sig=", "it is shown once")
	require.Eventually(t, func() bool { code, _ := a.as(brief, http.MethodGet, "/api/devices", ""); return code == 401 }, 10*time.Second, 50*time.Millisecond)
	for _, expiry := range []string{"2020-01-01T00:00:00Z", "2040-01-01T00:00:00Z"} {
		code, answer, _ = a.call(http.MethodPut, "/api/apiTokens/x", `{"roles":[{"role":"`+access.Operator+`"}],"expiry":"`+expiry+`"}`)
		require.Equal(t, 400, code)
		require.Contains(t, message(answer), "expiry must be in the future")
	}
}
