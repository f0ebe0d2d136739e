package bridge

import (
	"bytes"
	"cmp"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxConfigBytes bounds the file and the certificates it names.
const maxConfigBytes = 1 << 20

// Load reads the YAML file of --bridge-config and checks all of it, files and
// environment variables it refers to included. The error names every mistake
// with its line; it never holds a secret.
func Load(path string) ([]Config, error) {
	content, err := readBounded(path, maxConfigBytes)
	if err != nil {
		return nil, fmt.Errorf("bridge configuration: %w", err)
	}
	return parseConfig(path, content)
}

func readBounded(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	content, err := io.ReadAll(io.LimitReader(file, most+1))
	if err == nil && int64(len(content)) > most {
		return nil, fmt.Errorf("%s has more than %d bytes", path, most)
	}
	return content, err
}

func readAuthorities(path string) (*x509.CertPool, error) {
	content, err := readBounded(path, maxConfigBytes)
	if err != nil {
		return nil, fmt.Errorf("certificate authorities: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("certificate authorities: %s holds no certificate in PEM", path)
	}
	return pool, nil
}

// setting is a value with its place in the file.
type setting[T any] struct {
	value T
	line  int // 0: not given
}

// UnmarshalYAML notes the place.
func (s *setting[T]) UnmarshalYAML(node *yaml.Node) error {
	s.line = node.Line
	return node.Decode(&s.value)
}

// The file as it is written.
type (
	fileSource struct {
		Bridges []bridgeSource `yaml:"bridges"`
	}
	bridgeSource struct {
		Name         setting[string] `yaml:"name"`
		Broker       setting[string] `yaml:"broker"`
		ClientID     setting[string] `yaml:"client-id"`
		Username     setting[string] `yaml:"username"`
		PasswordFile setting[string] `yaml:"password-file"`
		PasswordEnv  setting[string] `yaml:"password-env"`
		TLS          tlsSource       `yaml:"tls"`
		Group        setting[string] `yaml:"group"`
		QoS          setting[int]    `yaml:"qos"`
		Inflight     setting[int]    `yaml:"inflight"`
		Register     setting[bool]   `yaml:"register"`
		Topics       []topicSource   `yaml:"topics"`

		line int
	}
	tlsSource struct {
		CAFile     setting[string] `yaml:"ca-file"`
		CertFile   setting[string] `yaml:"cert-file"`
		KeyFile    setting[string] `yaml:"key-file"`
		ServerName setting[string] `yaml:"server-name"`
	}
	topicSource struct {
		Template   setting[string]            `yaml:"template"`
		Format     setting[string]            `yaml:"format"`
		Device     setting[string]            `yaml:"device"`
		Telemetry  setting[string]            `yaml:"telemetry"`
		Component  setting[string]            `yaml:"component"`
		Time       setting[string]            `yaml:"time"`
		ID         setting[string]            `yaml:"id"`
		Properties map[string]setting[string] `yaml:"properties"`

		line int
	}
)

// problems gathers mistakes with their lines.
type problems struct {
	path  string
	found []problem
}

type problem struct {
	line int
	text string
}

func (p *problems) add(line int, format string, args ...any) {
	p.found = append(p.found, problem{line, fmt.Sprintf(format, args...)})
}

// err is all that was found, in the order of the lines; nil when nothing was.
func (p *problems) err() error {
	slices.SortStableFunc(p.found, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
	var errs []error
	for _, f := range p.found {
		errs = append(errs, fmt.Errorf("%s:%d: %s", p.path, f.line, f.text))
	}
	return errors.Join(errs...)
}

func parseConfig(path string, content []byte) ([]Config, error) {
	found := &problems{path: path}
	var document yaml.Node
	if err := yaml.Unmarshal(content, &document); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var source fileSource
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&source); err != nil && !errors.Is(err, io.EOF) {
		var wrong *yaml.TypeError
		if !errors.As(err, &wrong) {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		for _, text := range wrong.Errors {
			found.addYAML(text)
		}
	}
	source.place(&document)
	if len(source.Bridges) == 0 && len(found.found) == 0 {
		found.add(1, "holds no bridges: list them under `bridges:`")
	}
	configs := make([]Config, len(source.Bridges))
	names := map[string]int{}
	for i := range source.Bridges {
		configs[i] = source.Bridges[i].check(found)
		name := configs[i].Name
		if earlier, twice := names[name]; twice && name != "" {
			found.add(source.Bridges[i].Name.line, "name %q is taken by the bridge of line %d", name, earlier)
		}
		names[name] = source.Bridges[i].Name.line
	}
	if err := found.err(); err != nil {
		return nil, err
	}
	return configs, nil
}

var yamlProblem = regexp.MustCompile(`^line (\d+): (.*)$`)

var unknownField = regexp.MustCompile(`field (\S+) not found in type \S+`)

// addYAML takes in what the decoder found, without the names of our types.
func (p *problems) addYAML(text string) {
	line := 0
	if parts := yamlProblem.FindStringSubmatch(text); parts != nil {
		_, _ = fmt.Sscan(parts[1], &line) // digits
		text = parts[2]
	}
	p.add(line, "%s", unknownField.ReplaceAllString(text, "there is no setting `$1` here"))
}

// place notes the lines of bridges and topics.
func (f *fileSource) place(document *yaml.Node) {
	for i, bridge := range entries(document, "bridges") {
		if i >= len(f.Bridges) {
			return
		}
		f.Bridges[i].line = bridge.Line
		for j, topic := range entries(bridge, "topics") {
			if j < len(f.Bridges[i].Topics) {
				f.Bridges[i].Topics[j].line = topic.Line
			}
		}
	}
}

// entries are the nodes of the list that a mapping has under the name.
func entries(node *yaml.Node, name string) []*yaml.Node {
	if node.Kind == yaml.DocumentNode && len(node.Content) > 0 {
		node = node.Content[0]
	}
	for i := 0; node.Kind == yaml.MappingNode && i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return node.Content[i+1].Content
		}
	}
	return nil
}

var (
	bridgeName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,62}$`)
	groupName  = regexp.MustCompile(`^[^/+#\x00]{1,128}$`)
)

// check makes the bridge of its source.
func (s *bridgeSource) check(found *problems) Config {
	c := Config{
		Name: s.Name.value, ClientID: s.ClientID.value, Username: s.Username.value, Group: s.Group.value,
		QoS: 1, Inflight: defaultInflight, Register: s.Register.value,
		password: secret{file: s.PasswordFile.value, env: s.PasswordEnv.value},
	}
	if !bridgeName.MatchString(c.Name) {
		found.add(cmp.Or(s.Name.line, s.line), "`name` %.80q is not a name: use 1 to 63 lower-case letters, digits and '-'", c.Name)
	}
	if s.Group.line > 0 && !groupName.MatchString(c.Group) {
		found.add(s.Group.line, "`group` must have 1 to 128 characters and no '/', '+' or '#'; leave it out to subscribe alone")
	}
	if s.Inflight.line > 0 {
		c.Inflight = s.Inflight.value
		if c.Inflight < 1 || c.Inflight > maxInflight {
			found.add(s.Inflight.line, "`inflight` is %d: use 1 to %d", c.Inflight, maxInflight)
		}
	}
	if s.QoS.line > 0 {
		if s.QoS.value < 0 || s.QoS.value > 1 {
			found.add(s.QoS.line, "`qos` is %d: use 1, or 0 for messages that may be lost", s.QoS.value)
		}
		c.QoS = byte(s.QoS.value)
	}
	s.checkBroker(&c, found)
	s.checkPassword(&c, found)
	s.checkTopics(&c, found)
	return c
}

func (s *bridgeSource) checkBroker(c *Config, found *problems) {
	broker, err := url.Parse(s.Broker.value)
	line := cmp.Or(s.Broker.line, s.line)
	switch {
	case err != nil: // the error would quote the address, which may hold a password
		found.add(line, "`broker` is not a URL: write mqtts://host:8883 or mqtt://host:1883")
		return
	case broker.User != nil:
		found.add(line, "`broker` holds credentials: write them as `username` and `password-file` or `password-env`")
		return
	case broker.Scheme != "mqtt" && broker.Scheme != "mqtts" || broker.Hostname() == "" || strings.Trim(broker.Path, "/")+broker.RawQuery+broker.Fragment != "":
		found.add(line, "`broker` is %.200q: write mqtts://host:8883, or mqtt://host:1883 without TLS", s.Broker.value)
		return
	}
	if broker.Port() == "" {
		port := "1883"
		if broker.Scheme == "mqtts" {
			port = "8883"
		}
		broker.Host = net.JoinHostPort(broker.Hostname(), port)
	}
	c.Broker = broker
	s.TLS.check(c, found)
}

func (s *tlsSource) check(c *Config, found *problems) {
	c.tls = tlsFiles{ca: s.CAFile.value, cert: s.CertFile.value, key: s.KeyFile.value, serverName: s.ServerName.value}
	line := max(s.CAFile.line, s.CertFile.line, s.KeyFile.line, s.ServerName.line)
	switch {
	case line == 0:
	case c.Broker.Scheme != "mqtts":
		found.add(line, "`tls` is of no use with %s: write mqtts://", c.Broker)
	case (c.tls.cert == "") != (c.tls.key == ""):
		found.add(line, "`cert-file` and `key-file` go together: give both or neither")
	default:
		if _, err := c.tls.config(); err != nil {
			found.add(line, "`tls`: %s", err)
		}
	}
}

func (s *bridgeSource) checkPassword(c *Config, found *problems) {
	line := max(s.PasswordFile.line, s.PasswordEnv.line)
	switch {
	case line == 0:
	case c.password.file != "" && c.password.env != "":
		found.add(line, "`password-file` and `password-env` are both given: keep one")
	case c.Username == "":
		found.add(line, "a password without `username`: MQTT 3.1.1 wants both (§3.1.2.9)")
	default:
		if _, err := c.password.read(); err != nil {
			found.add(line, "%s", err)
		}
	}
}

func (s *bridgeSource) checkTopics(c *Config, found *problems) {
	if len(s.Topics) == 0 {
		found.add(s.line, "the bridge has no `topics`: list at least one with its `template`")
	}
	for i := range s.Topics {
		t := &s.Topics[i]
		r, ok := t.check(found)
		if !ok {
			continue
		}
		for _, other := range c.routes {
			if other.template.overlaps(r.template) {
				found.add(cmp.Or(t.Template.line, t.line), "`template` %q takes topics that %q of the same bridge takes too: each message may fit one only", t.Template.value, other.template.filter())
			}
		}
		c.routes = append(c.routes, r)
	}
}

func (s *topicSource) check(found *problems) (r route, ok bool) {
	before := len(found.found)
	parsed, err := parseTemplate(s.Template.value)
	if err != nil {
		found.add(cmp.Or(s.Template.line, s.line), "`template` %s", err)
		return r, false
	}
	r.template = parsed
	r.mapping.format = cmp.Or(s.Format.value, formatJSON)
	if r.mapping.format != formatJSON && r.mapping.format != formatText {
		found.add(s.Format.line, "`format` is %.80q: use json or text", s.Format.value)
	}
	compiled := func(name string, source setting[string]) *expression {
		if source.line == 0 {
			return nil
		}
		e, err := compile(name, source.value, parsed.captures)
		if err != nil {
			found.add(source.line, "`%s`: %s", name, err)
		}
		return e
	}
	m := &r.mapping
	m.device, m.telemetry = compiled("device", s.Device), compiled("telemetry", s.Telemetry)
	m.component, m.time, m.id = compiled("component", s.Component), compiled("time", s.Time), compiled("id", s.ID)
	for name, source := range s.Properties {
		m.properties = append(m.properties, property{name, compiled("properties."+name, source)})
	}
	slices.SortFunc(m.properties, func(a, b property) int { return cmp.Compare(a.name, b.name) })
	if s.Device.line == 0 && !slices.Contains(parsed.captures, deviceCapture) {
		found.add(cmp.Or(s.Template.line, s.line), "nothing names the device: put {device} into `template`, or set `device` to an expression such as captures.site + \"-\" + payload.id")
	}
	if m.format == formatText && m.telemetry == nil {
		found.add(cmp.Or(s.Format.line, s.line), "`format: text` needs `telemetry`, which makes an object of the text: { \"value\": float(payload) }")
	}
	return r, len(found.found) == before
}
