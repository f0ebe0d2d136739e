package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// binary is the program under test, built once for all tests.
var binary string

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "fleetlog-test-")
	if err != nil {
		panic(err)
	}
	binary = filepath.Join(dir, "fleetlog")
	build := exec.Command("go", "build", "-o", binary, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build fleetlog: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// process is a running `fleetlog run`, as a user would start it.
type process struct {
	t       *testing.T
	dir     string
	cmd     *exec.Cmd
	stderr  *bytes.Buffer
	stdout  *bytes.Buffer
	at      endpoints
	token   string
	started time.Duration
}

// startProcess starts the platform on free ports and waits until it is ready.
func startProcess(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	all := []string{"run", "--data-dir", dir}
	for _, flag := range []string{"api", "grpc", "mqtt", "mqtts", "https", "kafka", "clickhouse"} {
		all = append(all, "--"+flag+"-addr", "127.0.0.1:0")
	}
	p := startNode(t, dir, append(all, args...)...)
	token, err := os.ReadFile(filepath.Join(dir, "admin-token"))
	require.NoError(t, err)
	p.token = string(token)
	return p
}

// startNode starts the program with a data directory that is among the arguments
// and waits until it is ready.
func startNode(t *testing.T, dir string, args ...string) *process {
	t.Helper()
	p := &process{t: t, dir: dir, stderr: new(bytes.Buffer), stdout: new(bytes.Buffer)}
	p.cmd = exec.Command(binary, args...)
	p.cmd.Stdout, p.cmd.Stderr = p.stdout, p.stderr
	// What a killed process left would be taken for the new one's.
	_ = os.Remove(filepath.Join(dir, "endpoints.json"))
	began := time.Now()
	require.NoError(t, p.cmd.Start())
	t.Cleanup(p.kill)
	t.Cleanup(func() {
		if t.Failed() {
			log := p.stderr.String()
			t.Logf("fleetlog's log (its end):\n%s", log[max(0, len(log)-2000):])
		}
	})
	exited := func() bool { return p.cmd.Process.Signal(syscall.Signal(0)) != nil }
	require.Eventually(t, func() bool {
		content, err := os.ReadFile(filepath.Join(dir, "endpoints.json"))
		return err == nil && json.Unmarshal(content, &p.at) == nil || exited()
	}, time.Minute, 5*time.Millisecond, "fleetlog does not become ready")
	p.started = time.Since(began)
	return p
}

// kill is kill -9.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

// terminate asks the process to end and waits for it.
func (p *process) terminate() (took time.Duration) {
	p.t.Helper()
	began := time.Now()
	require.NoError(p.t, p.cmd.Process.Signal(syscall.SIGTERM))
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case err := <-ended:
		require.NoError(p.t, err, "exit code after SIGTERM\n%s", p.stderr)
	case <-time.After(20 * time.Second):
		_ = p.cmd.Process.Kill()
		require.Error(p.t, <-ended)
		require.Fail(p.t, "fleetlog does not stop")
	}
	return time.Since(began)
}

// call does a request with the administrator's token; body may be nil.
func (p *process) call(method, path string, body any, header ...string) (status int, answer []byte, headers http.Header) {
	p.t.Helper()
	var content io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		content = strings.NewReader(b)
	default:
		encoded, err := json.Marshal(b)
		require.NoError(p.t, err)
		content = bytes.NewReader(encoded)
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), 30*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, p.at.API+path, content)
	require.NoError(p.t, err)
	req.Header.Set("Authorization", p.token)
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	return resp.StatusCode, answer, resp.Header
}

// sql asks the embedded ClickHouse as curl would.
func (p *process) sql(query string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.at.ClickHouse+"/", strings.NewReader(query))
	require.NoError(p.t, err)
	resp, err := http.DefaultClient.Do(req)
	require.NoError(p.t, err)
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	require.NoError(p.t, err)
	require.Equal(p.t, http.StatusOK, resp.StatusCode, "%s", answer)
	return strings.TrimSpace(string(answer))
}

// deviceKey creates the device if need be and returns its primary key, base64.
func (p *process) deviceKey(id string) string {
	p.t.Helper()
	status, answer, _ := p.call(http.MethodPut, "/api/devices/"+id, "{}")
	require.Equal(p.t, http.StatusOK, status, "%s", answer)
	status, answer, _ = p.call(http.MethodGet, "/api/devices/"+id+"/credentials", nil)
	require.Equal(p.t, http.StatusOK, status, "%s", answer)
	var credentials struct {
		SymmetricKey struct{ PrimaryKey string }
	}
	require.NoError(p.t, json.Unmarshal(answer, &credentials))
	return credentials.SymmetricKey.PrimaryKey
}
