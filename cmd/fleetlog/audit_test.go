package main

import (
	"bytes"
	"fmt"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// audit is the entries that a query finds.
func (p *process) audit(query string) (entries []map[string]any) {
	p.t.Helper()
	status, answer := p.json(http.MethodGet, "/api/auditLogs?maxpagesize=2&"+query, nil)
	for status == http.StatusOK {
		for _, one := range answer["value"].([]any) {
			entries = append(entries, one.(map[string]any))
		}
		next, more := answer["nextLink"].(string)
		if !more {
			return entries
		}
		status, answer = p.json(http.MethodGet, next[len(p.at.API):], nil)
	}
	require.Failf(p.t, "the audit log does not answer", "%d %v", status, answer)
	return nil
}

// TestTheAuditLogTellsWhoDidWhat changes things as two callers, and is refused as a third
// and as nobody.
func TestTheAuditLogTellsWhoDidWhat(t *testing.T) {
	p := startProcess(t, t.TempDir())
	p.ok(http.MethodPut, "/api/organizations/north", map[string]any{"displayName": "North"})
	p.ok(http.MethodPut, "/api/devices/d", map[string]any{"organizations": []string{"north"}})
	const viewer = "84cc62c1-dabe-49d3-b16e-8b291232b285"
	token := p.ok(http.MethodPut, "/api/apiTokens/reader", map[string]any{"roles": []any{map[string]any{"role": viewer, "organization": "north"}}})["token"].(string)
	admin := p.token
	p.token = token
	for range 3 {
		status, _ := p.json(http.MethodDelete, "/api/devices/d", nil)
		require.Equal(t, http.StatusForbidden, status)
	}
	status, _, _ := p.call(http.MethodPost, "/sql", "SELECT 1", "X-Forwarded-For", "6.6.6.6")
	require.Equal(t, http.StatusForbidden, status)
	p.token = "SharedAccessSignature sr=default&sig=x&skn=reader"
	status, _, _ = p.call(http.MethodGet, "/api/devices", nil, "X-Forwarded-For", "6.6.6.6")
	require.Equal(t, http.StatusUnauthorized, status)
	p.token = admin
	p.ok(http.MethodDelete, "/api/apiTokens/reader", nil)

	require.Eventually(t, func() bool {
		return len(p.audit("")) == 7
	}, 30*time.Second, 100*time.Millisecond, "four changes and three kinds of refusals: %v", p.audit(""))
	var said []string
	for i, e := range p.audit("") {
		actor := e["actor"].(map[string]any)
		require.Equal(t, "127.0.0.1", actor["address"], "as the door saw it, whatever the caller says")
		require.NotEmpty(t, e["position"].(map[string]any)["topic"])
		said = append(said, fmt.Sprint(actor["id"], " ", actor["method"], " ", e["action"], " ", e["kind"], "/", e["resource"], " ", e["reason"], " ", e["count"]))
		if i > 0 {
			require.GreaterOrEqual(t, p.audit("")[i-1]["time"].(string), e["time"].(string), "the newest first")
		}
	}
	require.ElementsMatch(t, []string{
		"token:admin ApiTokenService/DeleteApiToken deleted apiTokens/reader <nil> <nil>",
		"token:admin ApiTokenService/PutApiToken created apiTokens/reader <nil> <nil>",
		"token:admin OrganizationService/PutOrganization created organizations/north <nil> <nil>",
		"token:admin DeviceService/PutDevice registered devices/d <nil> <nil>",
		"token:reader DeviceService/DeleteDevice refused access/DeviceService/DeleteDevice denied 3",
		"token:reader /sql refused access//sql denied 1",
		" DeviceService/ListDevices refused access/DeviceService/ListDevices unauthenticated 1",
	}, said)
	var out []byte
	require.Eventually(t, func() bool {
		var err error
		out, err = exec.Command(binary, "audit", "verify", "--data-dir", p.dir).Output()
		require.NoError(t, err, "%s", out)
		return bytes.Contains(out, []byte("ok      default catalog/0: 3 records")) && bytes.Contains(out, []byte("ok      default audit/")) && bytes.Contains(out, []byte("ok      default devices/"))
	}, 30*time.Second, 100*time.Millisecond)
	head := regexp.MustCompile(`catalog/0: .*head ([0-9a-f]{64})`).FindSubmatch(out)[1]
	require.NoError(t, exec.Command(binary, "audit", "verify", "--data-dir", p.dir, "--head", string(head)).Run())
	out, err := exec.Command(binary, "audit", "verify", "--data-dir", p.dir, "--head", strings.Repeat("0", 64)).Output()
	require.Error(t, err)
	require.Contains(t, string(out), "is on no chain")
	require.Len(t, p.audit("actor=token:reader"), 2)
	require.Len(t, p.audit("kind=apiTokens"), 2)
	require.Len(t, p.audit("resource=d&action=registered"), 1)
	require.Empty(t, p.audit("actor=token:admin%27%20OR%201=1"))
	require.Empty(t, p.audit("to=2020-01-01T00:00:00Z"))
	status, _ = p.json(http.MethodGet, "/api/auditLogs?from=2026-02-01T00:00:00Z&to=2026-01-01T00:00:00Z", nil)
	require.Equal(t, http.StatusBadRequest, status)
}
