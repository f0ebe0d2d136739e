package schema

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fleetlog/fleetlog/internal/clickhouse"
)

// Retention is how long tables keep their rows, by table and, where a tenant is an
// exception, by tenant.
type Retention map[string]TableRetention

// TableRetention is one table's. Whole hours; Forever keeps everything.
type TableRetention struct {
	Default time.Duration
	Tenants map[string]time.Duration
}

// Forever keeps rows for ever.
const Forever time.Duration = 0

// maxExceptions bounds the tenants with a retention of their own in one table: each
// merge weighs every row against them.
const maxExceptions = 100

// rollupTime is the time column of rollups. Their rows without a tenant are marks of the
// projection, by which it knows what it has added up.
const rollupTime = "ts"

// retained are the tables whose rows may go, with the time that counts. Nothing of
// the others may: a device's past is folded from all of its events.
var retained = map[string]string{
	"telemetry":      "enqueued_at",
	"telemetry_1m":   rollupTime,
	"telemetry_10m":  rollupTime,
	"telemetry_1h":   rollupTime,
	"catalog_events": "logged_at",
	"alert_events":   "logged_at",
	"job_events":     "logged_at",
	"audit_events":   "logged_at",
	"dead_letter":    "logged_at",
}

// DefaultRetention is what counts for what is not configured: a year, and a month for
// dead letters. Rollups stay: their time is the devices', and a year-old measurement
// that was imported today is to stay, too.
func DefaultRetention() Retention {
	const year = 365 * 24 * time.Hour
	return Retention{
		"telemetry":      {Default: year},
		"telemetry_1m":   {Default: Forever},
		"telemetry_10m":  {Default: Forever},
		"telemetry_1h":   {Default: Forever},
		"catalog_events": {Default: year},
		"alert_events":   {Default: year},
		"job_events":     {Default: year},
		"audit_events":   {Default: year},
		"dead_letter":    {Default: 30 * 24 * time.Hour},
	}
}

var (
	tenantName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$`)
	spanText   = regexp.MustCompile(`^([1-9][0-9]{0,6})([hdy])$`)
)

// maxRetention bounds a retention: beyond it times overflow.
const maxRetention = 100 * 365 * 24 * time.Hour

// ParseRetention reads settings as `telemetry=90d` or, for one tenant,
// `acme/telemetry=7d` into the defaults; spans are hours, days or years (12h, 90d,
// 3y), or `forever`.
func ParseRetention(settings []string) (Retention, error) {
	retention := DefaultRetention()
	seen := map[string]bool{}
	for _, setting := range settings {
		of, text, ok := strings.Cut(setting, "=")
		if !ok {
			return nil, fmt.Errorf("retention %q: write it as table=30d or tenant/table=30d", setting)
		}
		if seen[of] {
			return nil, fmt.Errorf("retention %q: %s is there twice", setting, of)
		}
		seen[of] = true
		if err := retention.set(of, text); err != nil {
			return nil, fmt.Errorf("retention %q: %w", setting, err)
		}
	}
	return retention, nil
}

func (r Retention) set(of, text string) error {
	span, err := parseSpan(text)
	if err != nil {
		return err
	}
	tenant, name, exception := strings.Cut(of, "/")
	if !exception {
		tenant, name = "", of
	}
	if _, ok := retained[name]; !ok {
		return fmt.Errorf("no table %q whose rows may go: there are %s", name, strings.Join(slices.Sorted(maps.Keys(retained)), ", "))
	}
	table := r[name]
	switch {
	case !exception:
		table.Default = span
	case !tenantName.MatchString(tenant):
		return fmt.Errorf("%q is no tenant", tenant)
	case len(table.Tenants) == maxExceptions:
		return fmt.Errorf("more than %d tenants have a retention of their own: give the table one that suits most of them", maxExceptions)
	default:
		if table.Tenants == nil {
			table.Tenants = map[string]time.Duration{}
		}
		table.Tenants[tenant] = span
	}
	r[name] = table
	return nil
}

func parseSpan(text string) (time.Duration, error) {
	if text == "forever" {
		return Forever, nil
	}
	parts := spanText.FindStringSubmatch(text)
	if parts == nil {
		return 0, fmt.Errorf("%q is no span: write it as 12h, 30d or 3y, or forever", text)
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%q is no span: %w", text, err)
	}
	hours := n * map[string]int64{"h": 1, "d": 24, "y": 365 * 24}[parts[2]]
	if hours > int64(maxRetention/time.Hour) {
		return 0, fmt.Errorf("%q is more than 100 years: write forever", text)
	}
	return time.Duration(hours) * time.Hour, nil
}

// expression is the table's TTL as ClickHouse itself writes it; empty for none.
// Tenants of one span share a clause, because ClickHouse tells clauses apart by their
// span alone.
func (t TableRetention) expression(column string) string {
	bySpan := map[time.Duration][]string{}
	var exceptions []string
	if column == rollupTime {
		exceptions = append(exceptions, quote("")) // the projection's marks stay
	}
	for tenant, span := range t.Tenants {
		if span != t.Default {
			bySpan[span] = append(bySpan[span], quote(tenant))
			exceptions = append(exceptions, quote(tenant))
		}
	}
	var clauses []string
	if t.Default != Forever {
		clauses = append(clauses, clause(column, t.Default, "NOT IN", exceptions))
	}
	for _, span := range slices.Sorted(maps.Keys(bySpan)) {
		if span != Forever {
			clauses = append(clauses, clause(column, span, "IN", bySpan[span]))
		}
	}
	return strings.Join(clauses, ", ")
}

func clause(column string, span time.Duration, in string, tenants []string) string {
	text := fmt.Sprintf("%s + toIntervalHour(%d)", column, int64(span/time.Hour))
	if len(tenants) == 0 {
		return text
	}
	slices.Sort(tenants)
	return text + " WHERE tenant " + in + " (" + strings.Join(tenants, ", ") + ")"
}

// quote makes a literal of what tenantName matches, and of nothing.
func quote(tenant string) string { return "'" + tenant + "'" }

// Apply gives the tables their retention where they have another.
func (r Retention) Apply(ctx context.Context, conn *clickhouse.Conn) error {
	on := cluster(conn.Cluster())
	for _, name := range slices.Sorted(maps.Keys(r)) {
		want := r[name].expression(retained[name])
		have, err := readTTL(ctx, conn, on.local(name))
		if err != nil {
			return fmt.Errorf("read the retention of %s: %w", name, err)
		}
		if have == want {
			continue
		}
		for _, statement := range on.retentionDDL(name, want) {
			if err := exec(ctx, conn, statement); err != nil {
				return fmt.Errorf("set the retention of %s: %w", name, err)
			}
		}
	}
	return nil
}

// retentionDDL has ClickHouse find anew which rows of old parts are to go, without
// writing the parts: they are written when rows have expired.
func (c cluster) retentionDDL(name, ttl string) []string {
	alter := "ALTER TABLE {database}." + c.local(name) + c.onCluster() + " "
	if ttl == "" {
		return []string{alter + "REMOVE TTL"}
	}
	return []string{alter + "MODIFY SETTING materialize_ttl_recalculate_only = 1", alter + "MODIFY TTL " + ttl}
}

// readTTL is the table's TTL, empty for none.
func readTTL(ctx context.Context, conn *clickhouse.Conn, table string) (string, error) {
	var engine string
	if err := conn.QueryRow(ctx, "SELECT engine_full FROM system.tables WHERE database = ? AND name = ?", conn.Database(), table).Scan(&engine); err != nil {
		return "", err
	}
	_, ttl, ok := strings.Cut(engine, " TTL ")
	if !ok {
		return "", nil
	}
	ttl, _, _ = strings.Cut(ttl, " SETTINGS ")
	return ttl, nil
}
