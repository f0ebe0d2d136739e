package query

import (
	"fmt"
	"github.com/fleetlog/fleetlog/internal/access"
	"net/http"
	"net/url"
	"testing"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/devicefilter"
	"github.com/stretchr/testify/require"
)

// BenchmarkGroupOfAMillion asks a table of 1,000,000 devices, of which some rows
// are there twice, in the parts that inserts leave, for a page of 100 and for the
// count. "merged" is the same table once ClickHouse has had time for it; "list" is a
// page through the API.
func BenchmarkGroupOfAMillion(b *testing.B) {
	a := newAPI(b)
	devicesTable(b, a.db)
	const columns = "tenant, device, display_name, template, enabled, provisioned, connected, organization, tags, properties, version, revision, partition, offset"
	for part := range 4 { // one insert of all takes more memory than tests have
		require.NoError(b, a.db.Exec(b.Context(), fmt.Sprintf(`INSERT INTO devices (%s)
			SELECT 'default', concat('device-', leftPad(toString(number), 7, '0')), concat('Meter ', toString(number %% 1000), ' of house ', toString(number)),
				concat('dtmi:contoso:Meter;', toString(number %% 5 + 1)), number %% 10 != 0, true, number %% 3 = 0, concat('org-', toString(number %% 50)),
				concat('{"floor":', toString(number %% 40), ',"site":"site-', toString(number %% 200), '"}')::JSON,
				concat('{"target":', toString(number %% 1000 / 10), ',"firmware":"1.', toString(number %% 30), '.0","serial":"S', toString(number),
					'","information":{"model":"M', toString(number %% 7), '","ram":', toString(number %% 100000), '},"leak":', if(number %% 100 = 0, 'true', 'false'), '}')::JSON,
				1, 1, 0, number
			FROM numbers(1000000) WHERE number %% 4 = %d`, columns, part)))
	}
	require.NoError(b, a.db.Exec(b.Context(), "INSERT INTO devices SELECT * REPLACE (2 AS revision) FROM devices WHERE cityHash64(device) % 100 = 0"))
	a.benchGroups(b, "parts")
	require.NoError(b, a.db.Exec(b.Context(), "OPTIMIZE TABLE devices FINAL"))
	a.benchGroups(b, "merged")
}

func (a *api) benchGroups(b *testing.B, table string) {
	f := &fleet{registry: a.devices, db: a.db}
	for _, tc := range []struct {
		name, where string
		order       []devicefilter.Order
	}{
		{"property", `target > 99`, nil},
		{"component", `information.model = "M3" AND leak = true`, nil},
		{"tag", `$tags.site = "site-7"`, nil},
		{"name", `CONTAINS($displayName, "house 7777")`, nil},
		{"template", `$template = "dtmi:contoso:Meter;2" AND $enabled = true`, nil},
		{"one of a million", `serial = "S777777"`, nil},
		{"not", `firmware != "1.7.0"`, nil},
		{"ordered", `$enabled = true`, []devicefilter.Order{{Attribute: devicefilter.DisplayName, Descending: true}}},
	} {
		filter, err := devicefilter.ParseGroup("SELECT * FROM devices WHERE " + tc.where)
		require.NoError(b, err)
		b.Run(table+"/page/"+tc.name, func(b *testing.B) {
			p, at, err := planDevices("default", fleetPage{filter: filter, order: tc.order, size: 100, scope: access.WholeTenant()})
			require.NoError(b, err)
			for b.Loop() {
				n := 0
				require.NoError(b, f.query(b.Context(), p, func(rows driver.Rows) error {
					n++
					var id string
					return rows.Scan(&id, &at.After)
				}))
				require.NotZero(b, n)
			}
		})
		b.Run(table+"/count/"+tc.name, func(b *testing.B) {
			for b.Loop() {
				n, err := f.count(b.Context(), "default", filter, nil)
				require.NoError(b, err)
				require.NotZero(b, n)
			}
		})
	}
	b.Run(table+"/list", func(b *testing.B) {
		path := "/api/devices?" + url.Values{"filter": {"enabled eq true and contains(displayName, 'house')"}}.Encode()
		for b.Loop() {
			status, answer, _ := a.call(http.MethodGet, path, "")
			require.Equal(b, http.StatusOK, status, answer)
		}
	})
}
