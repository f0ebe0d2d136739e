package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/fleetlog/fleetlog/internal/catalog"
	"github.com/fleetlog/fleetlog/internal/eventlog"
	"github.com/fleetlog/fleetlog/internal/template"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// analyst asks at /sql with the administrator's token, whose tenant is default.
func (p *process) analyst(statement string, values url.Values) (int, string) {
	r, err := http.NewRequestWithContext(p.t.Context(), http.MethodPost, p.at.API+"/sql?"+values.Encode(), strings.NewReader(statement))
	if err != nil {
		return 0, err.Error()
	}
	r.Header.Set("X-ClickHouse-Key", p.token)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, err.Error()
	}
	defer answer.Body.Close()
	content, err := io.ReadAll(answer.Body)
	if err != nil {
		return 0, err.Error()
	}
	return answer.StatusCode, string(content)
}

// sees waits until an analyst's statement has the answer.
func (p *process) sees(statement, want string) {
	p.t.Helper()
	require.Eventually(p.t, func() bool { _, got := p.analyst(statement, nil); return got == want }, 20*time.Second, 10*time.Millisecond, statement)
}

func TestClickHouseConnectAsksAsAnalyst(t *testing.T) {
	const client = "testdata/clickhouse-python"
	_, err := os.Stat(filepath.Join(client, "site", "clickhouse_connect"))
	require.NoError(t, err, "clickhouse-connect is not installed: run `make sdks`, or `make test`, which does")
	p := startProcess(t, t.TempDir())
	document, err := os.ReadFile("../../internal/template/testdata/thermostat.json")
	require.NoError(t, err)
	status, answer, _ := p.call(http.MethodPut, "/api/deviceTemplates/dtmi:contoso:ThermostatTemplate;1", string(document))
	require.Equal(t, http.StatusOK, status, "%s", answer)
	status, answer, _ = p.call(http.MethodPut, "/api/devices/lobby-1", `{"template":"dtmi:contoso:ThermostatTemplate;1"}`)
	require.Equal(t, http.StatusOK, status, "%s", answer)
	p.sees("SELECT device FROM thermostat_devices", "lobby-1\n")
	for i, body := range []string{`{"temperature":20.5,"fan":1}`, `{"temperature":21,"fan":7,"humidity":40}`} {
		p.sql(fmt.Sprintf(`INSERT INTO fleetlog.telemetry (tenant, device, ts, body, enqueued_at) SELECT 'default', 'lobby-1', toDateTime64('2026-01-02 03:04:0%d', 3, 'UTC'), '%s', now64(3)`, i, body))
	}
	at, err := url.Parse(p.at.API)
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "python3", filepath.Join(client, "ask.py"), at.Hostname(), at.Port(), "/sql", p.token).Output()
	var failed *exec.ExitError
	if err != nil {
		require.ErrorAs(t, err, &failed)
		require.Fail(t, "clickhouse-connect", "%s", failed.Stderr)
	}
	require.JSONEq(t, `{"rows":[["lobby-1",20.5,"on","2026-01-02T03:04:00"],["lobby-1",21,null,"2026-01-02T03:04:01"]],"columns":["device","temperature","fan","ts"],
		"body":{"temperature":20.5,"fan":1},"command":2,"many":19999900000,"raw":"{\"x\":1}\n","tables":true,"refused":[true,true,true]}`, string(out))
}

// secrets are what tenant default must never see: rows and names of the tenant zebra,
// and what is on the host.
var secrets = []string{"zebrarow", "zebraview", "zebracolumn", "hostsecret"}

// giveZebra makes another tenant that has rows in every table, and a template.
func giveZebra(t *testing.T, p *process) {
	t.Helper()
	quiet := slog.New(slog.DiscardHandler)
	log, err := eventlog.Open(t.Context(), eventlog.Config{Brokers: []string{p.at.Kafka}, Logger: quiet})
	require.NoError(t, err)
	defer log.Close()
	c := catalog.New(log, quiet, template.Kind())
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	defer func() { cancel(); require.NoError(t, <-done) }()
	require.Eventually(t, func() bool { return c.Ready() == nil }, 10*time.Second, time.Millisecond)
	_, err = c.Change(t.Context(), &eventsv1.CatalogEvent{
		Id: eventlog.NewID(), Tenant: "zebra", Kind: template.KindName, Resource: "dtmi:zebraview:T;1", Time: timestamppb.Now(),
		Change: &eventsv1.CatalogEvent_DeviceTemplate{DeviceTemplate: &eventsv1.DeviceTemplate{PublishedAt: timestamppb.Now(), Published: []byte(
			`{"@id":"dtmi:zebraview:T;1","@type":["DeviceModel"],"displayName":"zebraview","capabilityModel":{"@id":"dtmi:zebraview:M;1","@type":"Interface","contents":[{"@type":"Telemetry","name":"zebracolumn","schema":"double"}]}}`)}},
	})
	require.NoError(t, err)
	require.Eventually(t, func() bool { return p.sql("EXISTS tenant_zebra.zebraview") == "1" }, 10*time.Second, 10*time.Millisecond)
	for _, table := range strings.Fields(p.sql("SELECT name FROM system.tables WHERE database = 'fleetlog' AND name != 'schema_migrations' AND engine != 'View'")) {
		for _, tenant := range []string{"zebra", "default"} {
			value := map[string]string{"zebra": "zebrarow", "default": "mine"}[tenant]
			columns := strings.Fields(p.sql("SELECT name FROM system.columns WHERE database = 'fleetlog' AND table = '" + table + "' AND name != 'tenant' AND type IN ('String', 'LowCardinality(String)')"))
			// Without a time of the log they would be beyond the table's retention.
			times := strings.Fields(p.sql("SELECT name FROM system.columns WHERE database = 'fleetlog' AND table = '" + table + "' AND name IN ('enqueued_at', 'logged_at')"))
			p.sql(fmt.Sprintf("INSERT INTO fleetlog.%s (%s) SELECT '%s'%s%s", table, strings.Join(slices.Concat([]string{"tenant"}, columns, times), ", "), tenant,
				strings.Repeat(", '"+value+"'", len(columns)), strings.Repeat(", now64(3)", len(times))))
		}
	}
}

func TestAnAnalystSeesNothingOfAnotherTenant(t *testing.T) {
	p := startProcess(t, t.TempDir())
	giveZebra(t, p)
	file := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(file, []byte("hostsecret"), 0o600))
	host, err := os.Hostname()
	require.NoError(t, err)
	p.sees("SELECT device FROM telemetry", "mine\n")

	for _, view := range strings.Fields(p.sql("SELECT name FROM system.tables WHERE database = 'tenant_default'")) {
		status, answer := p.analyst("SELECT * FROM "+view+" FORMAT JSONEachRow", nil)
		require.Equal(t, http.StatusOK, status, answer)
		require.Equal(t, 1, strings.Count(answer, `"device":"mine"`), "%s: %s", view, answer)
	}

	tried := func(statement string, values url.Values) error {
		status, answer := p.analyst(statement, values)
		if status == 0 {
			return fmt.Errorf("%s: %s", statement, answer)
		}
		for _, secret := range append(secrets, p.dir) {
			if strings.Contains(answer, secret) && !strings.Contains(statement, secret) { // errors quote the statement
				return fmt.Errorf("%s %s: %.500s", statement, values.Encode(), answer)
			}
		}
		for line := range strings.Lines(answer) {
			if status == http.StatusOK && strings.TrimSpace(line) == host {
				return fmt.Errorf("%s tells the host's name", statement)
			}
		}
		return nil
	}
	var work errgroup.Group
	work.SetLimit(4)
	try := func(statement string, values url.Values) {
		if values == nil {
			values = url.Values{"max_execution_time": {"2"}} // some tables have no end
		}
		work.Go(func() error { return tried(statement, values) })
	}
	for _, table := range strings.Split(strings.TrimSpace(p.sql("SELECT concat('`', database, '`.`', name, '`') FROM system.tables")), "\n") {
		for _, form := range []string{"SELECT * FROM %s LIMIT 1000 FORMAT JSONEachRow", "SELECT count() FROM %s", "DESCRIBE TABLE %s", "SHOW CREATE TABLE %s", "EXISTS %s", "EXPLAIN QUERY TREE SELECT * FROM %s", "SHOW COLUMNS FROM %s"} {
			try(fmt.Sprintf(form, table), nil)
		}
		try("SELECT * FROM (SELECT * FROM "+table+" LIMIT 1000) UNION ALL SELECT * FROM "+table+" LIMIT 1000 FORMAT JSONEachRow", nil)
	}
	arguments := []string{"", "'" + file + "'", "'tenant_zebra'", "concat('tenant', '_zebra'), 'zebraview', 'zebracolumn'", "1, 'fleetlog.telemetry'"}
	for _, name := range strings.Fields(p.sql("SELECT name FROM system.functions WHERE NOT is_aggregate")) {
		for _, with := range arguments {
			try("SELECT "+name+"("+with+")", nil)
		}
	}
	for _, name := range strings.Fields(p.sql("SELECT name FROM system.table_functions")) {
		for _, with := range append(arguments, "tenant_zebra, telemetry", "fleetlog, telemetry", "'http://127.0.0.1:1/', CSV", "system, processes", "REGEXP('.*'), '.*'") {
			try("SELECT * FROM "+name+"("+with+") LIMIT 1000 FORMAT JSONEachRow", nil)
		}
	}
	for _, name := range strings.Fields(p.sql("SELECT name FROM system.settings")) {
		for _, value := range []string{"1", "tenant_zebra "} {
			try("SELECT * FROM telemetry FORMAT JSONEachRow", url.Values{name: {value}})
			try("SELECT device FROM telemetry SETTINGS "+name+" = '"+value+"'", nil)
		}
	}
	require.NoError(t, work.Wait())
	for _, attack := range attacks(file) {
		require.NoError(t, tried(attack, nil))
	}
	for _, values := range []url.Values{
		{"database": {"tenant_zebra"}}, {"database": {"fleetlog"}}, {"log_comment": {"tenant_zebra "}}, {"role": {"fleetlog_node"}}, {"readonly": {"0"}}, {"user": {"root"}},
		{"param_x": {"tenant_zebra"}}, {"query": {"SELECT * FROM tenant_zebra.telemetry UNION ALL"}}, {"session_id": {"x"}, "session_timeout": {"60"}},
	} {
		require.NoError(t, tried("SELECT * FROM telemetry FORMAT JSONEachRow", values))
	}
	require.Equal(t, "zebrarow", p.sql("SELECT device FROM fleetlog.telemetry WHERE tenant = 'zebra'"), "nothing was changed")
	_, answer := p.analyst("SHOW DATABASES", nil)
	require.Equal(t, "tenant_default\n", answer)
}

// attacks are statements that people tried elsewhere.
func attacks(file string) []string {
	return []string{
		"SELECT device FROM telemetry UNION ALL SELECT device FROM tenant_zebra.telemetry", "SELECT (SELECT any(device) FROM fleetlog.telemetry)",
		"SELECT device FROM telemetry WHERE device IN (SELECT device FROM fleetlog.telemetry)", "SELECT * FROM telemetry AS a JOIN fleetlog.telemetry AS b ON 1 = 1",
		"WITH x AS (SELECT * FROM `fleetlog`.`telemetry`) SELECT * FROM x", "SELECT * FROM merge('fleetlog', '.*')", "SELECT * FROM merge(REGEXP('tenant.*'), '.*')",
		"SELECT * FROM remote('127.0.0.1', fleetlog.telemetry)", "SELECT * FROM cluster('default', fleetlog.telemetry)", "SELECT * FROM url('http://127.0.0.1:8123/?query=SELECT+1', CSV)",
		"SELECT * FROM file('" + file + "', LineAsString)", "SELECT file('" + file + "')", "SELECT * APPLY(file) FROM (SELECT '" + file + "')", "SELECT arrayMap(file, ['" + file + "'])",
		"SELECT `file`('" + file + "')", "SELECT \"fi\\x6ce\"('" + file + "')", "SELECT FILE/* */('" + file + "')", "SELECT file -- x\n('" + file + "')", "SELECT file\u00a0('" + file + "')", "SELECT file\u2003('" + file + "')",
		"SELECT * FROM `" + file + "`", "SELECT * FROM '" + file + "'", "SELECT * FROM s3('http://127.0.0.1:1/x.csv')", "SELECT dictGet('x', 'y', 1)", "SELECT * FROM dictionary('x')",
		"EXPLAIN SELECT * FROM tenant_zebra.telemetry", "EXPLAIN QUERY TREE SELECT file('" + file + "')", "EXPLAIN SYNTAX SELECT file('" + file + "')", "EXPLAIN ESTIMATE SELECT * FROM telemetry", "EXPLAIN indexes = 1 SELECT * FROM tenant_zebra.zebraview",
		"SELECT 1 INTO OUTFILE '" + file + "'", "SELECT 1 INTO OUTFILE '" + file + "' TRUNCATE FORMAT CSV", "SELECT 1 FORMAT Template SETTINGS format_template_row = '" + file + "'", "SELECT * FROM format(LineAsString, '" + file + "')",
		"SELECT 1; SELECT * FROM tenant_zebra.telemetry", "SELECT 1;;SELECT 2", "SELECT {x:Identifier} FROM telemetry", "SELECT * FROM {x:Identifier}.telemetry",
		"SELECT * FROM telemetry SETTINGS log_comment = 'tenant_zebra '", "SELECT * FROM tenant_zebra.telemetry SETTINGS log_comment = 'tenant_zebra ', readonly = 0", "SET ROLE fleetlog_node", "SET log_comment = 'tenant_zebra '",
		"CREATE TEMPORARY TABLE x AS SELECT * FROM fleetlog.telemetry", "CREATE VIEW tenant_default.x AS SELECT * FROM fleetlog.telemetry", "INSERT INTO telemetry SELECT 1", "INSERT INTO FUNCTION file('" + file + "') SELECT 1",
		"SHOW PROCESSLIST", "SHOW TABLES FROM tenant_zebra", "SHOW TABLES FROM fleetlog", "SHOW DATABASES LIKE '%'", "SHOW CREATE VIEW tenant_zebra.zebraview", "SHOW CREATE DATABASE tenant_zebra", "SHOW GRANTS", "SHOW FULL TABLES FROM tenant_zebra",
		"KILL QUERY WHERE 1", "SYSTEM SHUTDOWN", "SYSTEM RELOAD CONFIG", "BACKUP DATABASE fleetlog TO File('x')", "ATTACH TABLE fleetlog.x FROM '" + file + "'", "USE tenant_zebra", "GRANT fleetlog_node TO default", "EXECUTE AS default SELECT 1",
		"DESCRIBE tenant_zebra.zebraview", "DESCRIBE (SELECT * FROM tenant_zebra.zebraview)", "EXISTS tenant_zebra.zebraview", "SELECT * FROM tenаnt_zebra.telemetry", "SELECT * FROM \u200btenant_zebra.telemetry", "SELECT * FROM \"tenant_zebra\".\"telemetry\"",
		"SELECT hasColumnInTable('tenant_' || 'zebra', 'zebraview', 'zebracolumn')", "SELECT * FROM system.columns WHERE table LIKE 'zebra%'", "SELECT database, name FROM system.tables WHERE database != 'system'", "SELECT * FROM system.query_log", "SELECT * FROM system.parts",
		"SELECT * FROM information_schema.tables", "SELECT * FROM INFORMATION_SCHEMA.COLUMNS", "SELECT * FROM viewExplain('EXPLAIN', '', (SELECT * FROM fleetlog.telemetry))", "SELECT * FROM loop(fleetlog, telemetry) LIMIT 1", "SELECT * FROM mergeTreeIndex(fleetlog, telemetry)",
		"SELECT * FROM view(SELECT * FROM fleetlog.telemetry)", "SELECT * FROM eval('SELECT * FROM fleetlog.telemetry')", "SELECT * FROM telemetri", "SELECT * FROM zebravie", "SELECT zebracolum FROM telemetry", "SELECT * FROM tenant_zebr.telemetry",
		"SELECT /* */ */ 1", "SELECT 1 /* /* */ , (SELECT any(device) FROM tenant_zebra.telemetry) /* */ */", "SELECT 1 //\n, hostName()", "SELECT $x$ $x$, hostName()", "SELECT getSetting('log_comment'), currentUser()", "SELECT * FROM telemetry FINAL SAMPLE 1",
		"SELECT hostName(), FQDN(), getServerSetting('path')", "SELECT COLUMNS('.*') APPLY(hostName) FROM telemetry", "SELECT catboostEvaluate('" + file + "', 1)", "SELECT * FROM system.stack_trace", "SELECT throwIf(1, device) FROM fleetlog.telemetry",
	}
}

func TestAnalystsViewsFollowTheAPI(t *testing.T) {
	p := startProcess(t, t.TempDir())
	body := func(schema string) string {
		return `{"@type":["ModelDefinition","DeviceModel"],"displayName":"Pump","capabilityModel":{"@id":"dtmi:contoso:Pump;1","@type":"Interface","contents":[{"@type":"Telemetry","name":"flow","schema":"` + schema + `"}]}}`
	}
	for _, schema := range []string{"double", "string"} {
		status, answer, _ := p.call(http.MethodPut, "/api/deviceTemplates/dtmi:contoso:PumpTemplate;1", body(schema))
		require.Equal(t, http.StatusOK, status, "%s", answer)
		kind := map[string]string{"double": "Nullable(Float64)", "string": "Nullable(String)"}[schema]
		published := time.Now()
		p.sees("SELECT type FROM system.columns WHERE table = 'pump' AND name = 'flow'", kind+"\n")
		require.Less(t, time.Since(published), time.Second)
	}
	var listed []struct{ Name string }
	_, answer := p.analyst("SELECT name FROM system.tables ORDER BY name FORMAT JSON", nil)
	var document struct{ Data json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(answer), &document))
	require.NoError(t, json.Unmarshal(document.Data, &listed))
	require.Len(t, listed, 11)
	status, _, _ := p.call(http.MethodDelete, "/api/deviceTemplates/dtmi:contoso:PumpTemplate;1", nil)
	require.Equal(t, http.StatusNoContent, status)
	p.sees("SELECT count() FROM system.tables WHERE name LIKE 'pump%'", "0\n")
}
