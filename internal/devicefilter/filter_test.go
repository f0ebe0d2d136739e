package devicefilter_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/internal/devicefilter"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
)

// lobby is a device that has something of everything.
func lobby(t testing.TB) devicefilter.Device {
	t.Helper()
	d, err := devicefilter.DeviceOf(&eventsv1.DeviceState{
		Tenant: "default", Device: "lobby-1", DisplayName: "Lobby Süd", Template: "dtmi:contoso:Thermostat;1", Enabled: true, Organizations: []string{"north"},
		Tags:  []byte(`{"floor":2,"site":"Ulm","a b":"c"}`),
		Cloud: []byte(`{"owner":"Ann","serviced":"2026-01-31T10:00:00+02:00"}`),
		Self: &eventsv1.Identity{
			Connection: &eventsv1.Connection{Connected: true},
			Twin: &eventsv1.Twin{
				Desired:  []byte(`{"target":21.5}`),
				Reported: []byte(`{"firmware":"1.7.0","leak":false,"place":{"lat":48.4},"empty":{},"list":[1],"deviceInformation":{"__t":"c","model":"M3"}}`),
			},
		},
	})
	require.NoError(t, err)
	return d
}

func TestGroupQueryMatches(t *testing.T) {
	d := lobby(t)
	for _, tc := range []struct {
		where string
		want  bool
	}{
		{`$template = "dtmi:contoso:Thermostat;1" AND $provisioned = false`, true},
		{`$TEMPLATE == 'dtmi:contoso:Thermostat;1' and not $provisioned = true`, true},
		{`CONTAINS($displayName, "SÜD")`, true},
		{`$displayName CONTAINS "nord"`, false},
		{`$displayName NOT CONTAINS "nord"`, true},
		{`STARTS_WITH($displayName, "lob") AND ENDSWITH($displayName, "üd")`, true},
		{`MATCHES($id, "^lobby-[0-9]+$")`, true},
		{`$id MATCHES "^obby"`, false},
		{`target > 21 AND target >= 21.5 AND target < 22 AND target <= 21.5`, true},
		{`NOT target > 21`, false},
		{`target > "a"`, false},
		{`target != "a"`, true},
		{`leak = false AND leak != true`, true},
		{`nothing = 1 OR nothing != 1 OR nothing < 1 OR nothing >= 1 OR NOT nothing = 1`, false},
		{`nothing IS NULL AND NOT EXISTS(nothing) AND nothing = null`, true},
		{`target IS NOT NULL AND EXISTS(place) AND place != null AND empty IS NULL`, true},
		{`place = 1 OR place != 1`, false},
		{`list != 1 AND NOT list = 1 AND list IS NOT NULL`, true},
		{`place.lat > 48 AND deviceInformation.model = "M3" AND deviceInformation.model NOT IN ("M1", "M2")`, true},
		{`firmware IN ['1.6.0', '1.7.0', 2, true]`, true},
		{`$tags.floor = 2 AND $tags.site = "Ulm" AND $tags.` + "`a b`" + ` = "c"`, true},
		{`$tags.site = "ulm"`, false},
		{`$organization = "north" AND $organizations != "south" AND $parent IS NULL AND $parent != "x"`, false},
		{`$organization = "north" AND $parent IS NULL AND $connected = true AND $edge = false AND $waiting <> true`, true},
		{`owner = "Ann" AND serviced > "2026-01-31" AND serviced < "2026-01-31T08:00:01Z" AND NOT serviced < "2026-01-31T08:00:00Z"`, true},
		{`NOT ($enabled = false OR NOT (target = 21.5 AND $id = "lobby-1"))`, true},
		{`$enabled = true OR $id = "x" AND $id = "y"`, true},
		{`firmware = "1.7.0\u0041\n" OR firmware = '1.7''0' OR firmware = "1.7.0"`, true},
	} {
		t.Run(tc.where, func(t *testing.T) {
			e, err := devicefilter.ParseGroup("SELECT * FROM devices WHERE " + tc.where)
			require.NoError(t, err)
			require.Equal(t, tc.want, devicefilter.Match(e, d))
		})
	}
	all, err := devicefilter.ParseGroup("select *\nfrom devices")
	require.NoError(t, err)
	require.True(t, devicefilter.Match(all, d))
}

func TestListFilterMatches(t *testing.T) {
	d := lobby(t)
	for _, tc := range []struct {
		filter string
		want   bool
	}{
		{`displayName eq 'Lobby Süd' and (enabled eq false or indexof(displayName, 'lobby') ge 0)`, true},
		{`displayName eq 'lobby süd'`, false},
		{`indexof(displayName, 'x') eq -1 and indexof(displayName,'Lo') eq 0 and indexof(displayName,'S') ne 0`, true},
		{`contains(displayName, 'obb') eq true and startswith(id, 'lobby') and not endswith(id, 'x')`, true},
		{`contains(displayName, 'obb') eq false or contains(displayName, 'obb') ne true`, false},
		{`template eq null`, false},
		{`template ne null and scopes eq 'north' and organizations eq 'north'`, true},
		{`type eq 'EdgeDevice'`, false},
		{`type ne 'EdgeDevice'`, true},
		{`id ge 'lobby-1' and id lt 'lobby-2' and id in ('a', 'lobby-1')`, true},
		{`simulated eq true or provisioned eq true`, false},
		{`not (displayName eq 'it''s' or displayName eq 'a\b')`, true},
	} {
		t.Run(tc.filter, func(t *testing.T) {
			e, err := devicefilter.ParseList(tc.filter)
			require.NoError(t, err)
			require.Equal(t, tc.want, devicefilter.Match(e, d))
		})
	}
}

// TestErrorsShowThePlace wants a person to see where a filter goes wrong and what
// would be right there.
func TestErrorsShowThePlace(t *testing.T) {
	for _, tc := range []struct{ query, says, line string }{
		{`SELECT`, "expected SELECT * FROM devices, found the end", "SELECT\n      ^"},
		{`SELECT * FROM devices WHERE`, "expected a field", "SELECT * FROM devices WHERE\n                           ^"},
		{"SELECT * FROM devices\nWHERE $enabled = AND", `expected a value`, "WHERE $enabled = AND\n                 ^"},
		{`SELECT * FROM devices WHERE $name = "x"`, `there is no field "$name": use one of $id, $displayName`, "                            ^"},
		{`SELECT * FROM devices WHERE $tags = "x"`, `there is no field "$tags"`, ""},
		{`SELECT * FROM devices WHERE $enabled = "true"`, "leave the quotes out", ""},
		{`SELECT * FROM devices WHERE $id = 5`, "never a number", ""},
		{`SELECT * FROM devices WHERE $id = true`, "put the value between quotes", ""},
		{`SELECT * FROM devices WHERE $id > null`, "use IS NULL", ""},
		{`SELECT * FROM devices WHERE leak > true`, "no order", ""},
		{`SELECT * FROM devices WHERE CONTAINS($enabled, "x")`, "true or false", ""},
		{`SELECT * FROM devices WHERE CONTAINS(a, 5)`, "expected a text between quotes, found 5", ""},
		{`SELECT * FROM devices WHERE a LIKE "x"`, `expected =, !=`, ""},
		{`SELECT * FROM devices WHERE a = "x`, "the text has no end", ""},
		{`SELECT * FROM devices WHERE a = "\q"`, "there is no escape like this", ""},
		{`SELECT * FROM devices WHERE a = 5x`, "is not a number", ""},
		{`SELECT * FROM devices WHERE a ; b`, "has no meaning here", ""},
		{`SELECT * FROM devices WHERE a = 1 b = 2`, "expected AND, OR or the end", ""},
		{`SELECT * FROM devices WHERE (a = 1`, "expected AND, OR or ), found the end", ""},
		{`SELECT * FROM devices WHERE a IN (1, null)`, "null cannot be in a list", ""},
		{`SELECT * FROM devices WHERE a MATCHES "("`, "not one of RE2", ""},
		{`SELECT * FROM devices WHERE a MATCHES "a{1000}b{1000}c"`, "too large", ""},
		{`SELECT * FROM devices WHERE ` + strings.Repeat("NOT ", 30) + `a = 1`, "nested more than 20 deep", "…"},
		{`SELECT * FROM devices WHERE ` + strings.Repeat("a=1 OR ", 100) + `a = 1`, "more than 100 conditions", "…"},
		{`SELECT * FROM devices WHERE a IN (` + strings.Repeat("1,", 1000) + `1)`, "more than 1000 values", "…"},
		{`SELECT * FROM devices WHERE a = "` + strings.Repeat("x", devicefilter.MaxBytes) + `"`, "use at most 8192", ""},
		{"SELECT * FROM devices WHERE a = \"\xff\"", "not UTF-8", ""},
		{"SELECT * FROM devices WHERE `a.b` = 1", "backticks", ""},
	} {
		_, err := devicefilter.ParseGroup(tc.query)
		require.ErrorContains(t, err, tc.says, tc.query)
		require.Contains(t, err.Error(), tc.line)
	}
	for _, tc := range []struct{ filter, says string }{
		{``, "expected a field, found the end: use id, displayName"},
		{`displayname eq 'x'`, `found "displayname"`},
		{`displayName = 'x'`, "expected eq, ne"},
		{`type eq 'x'`, "type eq 'EdgeDevice'"},
		{`type in ('EdgeDevice')`, "type eq 'EdgeDevice'"},
		{`indexof(id, 'x') gt 3`, "indexof can only be compared"},
		{`enabled eq 'true'`, "leave the quotes out"},
	} {
		_, err := devicefilter.ParseList(tc.filter)
		require.ErrorContains(t, err, tc.says, tc.filter)
	}
}

func TestParseOrder(t *testing.T) {
	order, err := devicefilter.ParseOrder("displayName desc, enabled asc,id")
	require.NoError(t, err)
	require.Equal(t, []devicefilter.Order{{Attribute: devicefilter.DisplayName, Descending: true}, {Attribute: devicefilter.Enabled}, {Attribute: devicefilter.ID}}, order)
	for text, says := range map[string]string{"": "expected a field", "nope": "expected a field", "id up": "expected asc, desc", "id,": "expected a field", "id, id desc": "already in the order"} {
		_, err := devicefilter.ParseOrder(text)
		require.ErrorContains(t, err, says, text)
	}
}

// FuzzParse wants every text to be read or refused with a place inside it, within
// the bounds, and what is read to be answerable.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		`SELECT * FROM devices WHERE $template = "dtmi:a:b;1" AND (NOT x.y IN (1, 2.5e3, 'a''b') OR $tags.` + "`a b`" + ` MATCHES "^a+$")`,
		`SELECT * FROM devices WHERE CONTAINS(a, "\u00fc\n") OR a IS NOT NULL OR EXISTS(b) OR c >= "2026-01-01"`,
		`displayName eq 'x' and (enabled eq true or indexof(displayName, 'lobby') ge 0)`, `type eq 'EdgeDevice'`, `displayName desc, id`, `contains(id,'x') eq false`,
	} {
		f.Add(seed)
	}
	d := lobby(f)
	f.Fuzz(func(t *testing.T, source string) {
		check := func(err error) {
			var at *devicefilter.Error
			if errors.As(err, &at) {
				require.LessOrEqual(t, at.Offset, len(source))
				require.True(t, utf8.ValidString(err.Error()))
			}
		}
		for _, parse := range []func(string) (devicefilter.Expr, error){devicefilter.ParseGroup, devicefilter.ParseList} {
			e, err := parse(source)
			check(err)
			if err == nil {
				devicefilter.Match(e, d)
				_, err = json.Marshal(e)
				require.NoError(t, err)
			}
		}
		_, err := devicefilter.ParseOrder(source)
		check(err)
	})
}
