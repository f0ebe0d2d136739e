package main

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// fleetFile is a CSV file of devices, of which each brokenEvery-th has an id that
// cannot be.
func fleetFile(t *testing.T, rows, brokenEvery int) string {
	t.Helper()
	var b strings.Builder
	b.WriteString("\ufeffIOTC_DEVICEID,IOTC_DEVICENAME\r\n")
	for i := range rows {
		separator := "-"
		if i%brokenEvery == 1 {
			separator = " "
		}
		fmt.Fprintf(&b, "d%s%05d,Device %d\r\n", separator, i, i)
	}
	path := filepath.Join(t.TempDir(), "fleet.csv")
	require.NoError(t, os.WriteFile(path, []byte(b.String()), 0o600))
	return path
}

func readCSV(t *testing.T, path string) [][]string {
	t.Helper()
	file, err := os.Open(path)
	require.NoError(t, err)
	defer file.Close()
	rows, err := csv.NewReader(file).ReadAll()
	require.NoError(t, err)
	return rows
}

// TestDevicesImportAndExport imports a fleet and exports it as a person would.
func TestDevicesImportAndExport(t *testing.T) {
	p := startProcess(t, t.TempDir())
	file := fleetFile(t, 10_000, 334)
	began := time.Now()
	out, err := exec.Command(binary, "devices", "import", file, "--data-dir", p.dir).CombinedOutput()
	t.Logf("%.0f rows/s\n%s", 10_000/time.Since(began).Seconds(), out)
	var exit *exec.ExitError
	require.ErrorAs(t, err, &exit, "rows have failed")
	require.Contains(t, string(out), "completed: 9970 of 10000 devices imported, 30 failed\n")
	require.Contains(t, string(out), `line 3  d 00001  InvalidId: device id "d 00001" is not valid`)
	report := filepath.Join(filepath.Dir(file), "fleet.errors.csv")
	require.Contains(t, string(out), "30 of 10000 devices failed: "+report+" says why")
	require.Len(t, readCSV(t, report), 31)

	to := filepath.Join(t.TempDir(), "devices.csv")
	out, err = exec.Command(binary, "devices", "export", "--data-dir", p.dir, "--out", to).CombinedOutput()
	require.NoError(t, err, "%s", out)
	rows := readCSV(t, to)
	require.Len(t, rows, 9_971)
	require.Equal(t, []string{"d-00000", "Device 0"}, rows[1][:2])
	require.Equal(t, p.deviceKey("d-00000"), rows[1][2])
	stat, err := os.Stat(to)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), stat.Mode().Perm())

	out, err = exec.Command(binary, "devices", "export", "--data-dir", p.dir, "--out", to, "--ids", "d-00002,none").CombinedOutput()
	require.Error(t, err)
	require.Contains(t, string(out), "line -  none  NotFound: the device does not exist\n")
	require.Len(t, readCSV(t, to), 2)
	out, err = exec.Command(binary, "devices", "export", "--data-dir", p.dir, "--out", to, "--filter", "displayName eq 'Device 4711'").CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, "d-04711", readCSV(t, to)[1][0])

	for _, tc := range []struct {
		says string
		args []string
	}{
		{"start 'fleetlog run' here first", []string{"import", file, "--data-dir", t.TempDir()}},
		{"digital twin model id", []string{"import", file, "--data-dir", p.dir, "--template", "x"}},
		{"device id", []string{"export", "--data-dir", p.dir, "--ids", "a b"}},
		{"no such file", []string{"import", "none.csv", "--data-dir", p.dir}},
	} {
		out, err := exec.Command(binary, append([]string{"devices"}, tc.args...)...).CombinedOutput()
		require.Error(t, err)
		require.Contains(t, string(out), tc.says)
	}
}

// TestKillDoesNotEndAnImport kills the platform in the middle and starts it again.
func TestKillDoesNotEndAnImport(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir)
	content, err := os.ReadFile(fleetFile(t, 10_000, 100))
	require.NoError(t, err)
	status, answer, _ := p.call(http.MethodPost, "/api/devices/import", string(content), "Content-Type", "text/csv")
	require.Equal(t, http.StatusAccepted, status, "%s", answer)
	type operation struct {
		ID, Status               string
		Total, Succeeded, Failed int
	}
	var o operation
	require.NoError(t, json.Unmarshal(answer, &o))
	for _, until := range []string{"d-01502", "d-04003"} {
		require.Eventually(t, func() bool {
			status, _, _ := p.call(http.MethodGet, "/api/devices/"+until, nil)
			return status == http.StatusOK
		}, time.Minute, time.Millisecond)
		p.kill()
		p = startProcess(t, dir)
	}
	require.Eventually(t, func() bool {
		_, answer, _ := p.call(http.MethodGet, "/api/deviceOperations/"+o.ID, nil)
		return json.Unmarshal(answer, &o) == nil && o.Status == "completed"
	}, time.Minute, 10*time.Millisecond)
	require.Equal(t, operation{ID: o.ID, Status: "completed", Total: 10_000, Succeeded: 9_900, Failed: 100}, o)
	_, answer, _ = p.call(http.MethodGet, "/api/deviceOperations/"+o.ID+"/errors", nil)
	require.Equal(t, 101, strings.Count(string(answer), "\n"))
	require.NotContains(t, string(answer), "AlreadyExists")
}
