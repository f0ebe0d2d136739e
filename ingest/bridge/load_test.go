package bridge

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryMistakeIsNamedWithItsLine(t *testing.T) {
	_, err := parseConfig("b.yaml", []byte(`bridges:
- name: Hall 7
  broker: http://example.com
  inflight: 0
  qos: 2
  passwort-file: x
  group: a/b
  topics:
  - template: site/{site}/x
  - template: site/+/{device}
  - template: other/{device}
    format: xml
    telemetry: 'payload.'
    id: captures.gadget
- name: two
  broker: mqtts://user:topsecret@example.com
  password-env: FLEETLOG_TEST_NO_SUCH_VARIABLE
- name: two
  broker: mqtts://example.com
  username: u
  password-env: FLEETLOG_TEST_NO_SUCH_VARIABLE
  tls: {ca-file: /no/such/file}
  inflight: many
  topics:
  - template: '{device}'
    format: text
`))
	require.Error(t, err)
	text := err.Error()
	for _, want := range []string{
		"b.yaml:2: `name`", "b.yaml:3: `broker`", "b.yaml:4: `inflight`", "b.yaml:5: `qos`", "b.yaml:6: there is no setting `passwort-file` here",
		"b.yaml:7: `group`", "b.yaml:9: nothing names the device", "b.yaml:12: `format`", "b.yaml:13: `telemetry`", "b.yaml:14: `id`", "gadget",
		"b.yaml:15: the bridge has no `topics`", "b.yaml:16: `broker` holds credentials", "b.yaml:17: a password without `username`",
		"b.yaml:18: name \"two\" is taken by the bridge of line 15", "b.yaml:21: environment variable FLEETLOG_TEST_NO_SUCH_VARIABLE is not set",
		"b.yaml:22: `tls`", "b.yaml:23: ", "b.yaml:26: `format: text` needs `telemetry`",
	} {
		require.Contains(t, text, want)
	}
	require.NotContains(t, text, "topsecret")
	require.NotContains(t, text, "bridge.", "names of our types are of no use to a reader")
}

func TestConfigurationThatIsNone(t *testing.T) {
	for content, want := range map[string]string{
		"": "holds no bridges", "bridges: []": "holds no bridges", "bridges: 5": "b.yaml:1:", "[": "b.yaml", "bridge: []": "no setting `bridge`",
		"bridges: [5]": "b.yaml:1:", "bridges:\n- topics: [7]": "b.yaml:2:",
	} {
		_, err := parseConfig("b.yaml", []byte(content))
		require.ErrorContains(t, err, want, content)
	}
}

func TestTheExampleLoads(t *testing.T) {
	example, err := os.ReadFile("../../deploy/bridges.yaml")
	require.NoError(t, err)
	secret := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(secret, []byte("x\n"), 0o600))
	file := filepath.Join(t.TempDir(), "bridges.yaml")
	require.NoError(t, os.WriteFile(file, []byte(strings.ReplaceAll(string(example), "/etc/fleetlog/hall-password", secret)), 0o600))
	configs, err := Load(file)
	require.NoError(t, err)
	require.Len(t, configs, 2)
	require.Equal(t, "broker.example.com:8883", configs[0].Broker.Host)
	require.Equal(t, map[string]byte{"$share/fleetlog/site/+/+/telemetry": 1, "$share/fleetlog/meters/+": 1}, configs[0].filters())
	password, err := configs[0].password.read()
	require.NoError(t, err)
	require.Equal(t, "x", password)
}

func FuzzConfig(f *testing.F) {
	example, err := os.ReadFile("../../deploy/bridges.yaml")
	require.NoError(f, err)
	f.Add(string(example))
	f.Add("bridges: [{name: a, broker: 'mqtt://h', topics: [{template: '{device}'}]}]")
	f.Add("bridges: &a [*a]")
	f.Fuzz(func(t *testing.T, content string) {
		if strings.Contains(content, "file") { // not whatever file the fuzzer names
			return
		}
		configs, err := parseConfig("f", []byte(content))
		if err == nil && len(configs) == 0 {
			t.Fatal("neither bridges nor an error")
		}
	})
}
