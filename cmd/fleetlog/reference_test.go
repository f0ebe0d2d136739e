package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"github.com/stretchr/testify/require"
)

// reference is a description of IoT Central's REST API: OpenAPI 2, whose schemas
// are those of JSON Schema draft 4.
type reference struct {
	version    string
	operations []*operation
	types      map[string]map[string]string // definition by discriminator
	schemas    *jsonschema.Compiler
}

// operation is one method of one path.
type operation struct {
	method, path string
	pattern      *regexp.Regexp
	success      int
	schema       string // of the answer; empty for none
	called       bool
}

// resources are the paths that the walk takes.
var resources = []string{"/devices", "/deviceTemplates", "/deviceGroups", "/enrollmentGroups", "/dashboards", "/roles", "/organizations", "/users", "/apiTokens"}

const referenceURL = "file:///reference.json"

func readReference(t *testing.T, version string) *reference {
	t.Helper()
	content, err := os.ReadFile(path.Join("testdata", "reference", "iotcentral-"+version+".openapi.json"))
	require.NoError(t, err)
	var document struct {
		Paths       map[string]map[string]json.RawMessage
		Definitions map[string]struct {
			Value string `json:"x-ms-discriminator-value"`
			AllOf []struct {
				Ref string `json:"$ref"`
			} `json:"allOf"`
		}
	}
	require.NoError(t, json.Unmarshal(content, &document))
	r := &reference{version: version, schemas: jsonschema.NewCompiler(), types: map[string]map[string]string{}}
	r.schemas.DefaultDraft(jsonschema.Draft4)
	r.schemas.AssertFormat()
	whole, err := jsonschema.UnmarshalJSON(bytes.NewReader(content))
	require.NoError(t, err)
	require.NoError(t, r.schemas.AddResource(referenceURL, whole))
	for name, d := range document.Definitions {
		for _, base := range d.AllOf {
			if r.types[base.Ref] == nil {
				r.types[base.Ref] = map[string]string{}
			}
			r.types[base.Ref][d.Value] = "#/definitions/" + name
		}
	}
	for template, methods := range document.Paths {
		if !slices.ContainsFunc(resources, func(p string) bool { return template == p || strings.HasPrefix(template, p+"/") }) {
			continue
		}
		for method, described := range methods {
			r.add(t, strings.ToUpper(method), template, described)
		}
	}
	require.NotEmpty(t, r.operations)
	return r
}

var pathParameter = regexp.MustCompile(`\{[^}]+\}`)

func (r *reference) add(t *testing.T, method, template string, described json.RawMessage) {
	var d struct {
		Responses map[string]struct {
			Schema struct {
				Ref string `json:"$ref"`
			}
		}
	}
	require.NoError(t, json.Unmarshal(described, &d))
	o := &operation{method: method, path: template, pattern: regexp.MustCompile("^" + pathParameter.ReplaceAllString(template, "[^/]+") + "$")}
	for code, response := range d.Responses {
		if code == "default" {
			require.Equal(t, "#/definitions/Error", response.Schema.Ref)
			continue
		}
		var err error
		o.success, err = strconv.Atoi(code)
		require.NoError(t, err)
		o.schema = response.Schema.Ref
	}
	r.operations = append(r.operations, o)
}

// find is the operation that a call is of; nil when this version has none.
func (r *reference) find(method, path string) *operation {
	for _, o := range r.operations {
		if o.method == method && o.pattern.MatchString(path) {
			return o
		}
	}
	return nil
}

// conforms fails when the answer is not what the definition describes. Members that
// only Fleetlog has are allowed, as the description allows them.
func (r *reference) conforms(t *testing.T, ref string, answer []byte, what string) {
	t.Helper()
	if ref == "" {
		require.Empty(t, answer, what)
		return
	}
	schema, err := r.schemas.Compile(referenceURL + ref)
	require.NoError(t, err)
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(answer))
	require.NoError(t, err, "%s: %s", what, answer)
	require.NoError(t, schema.Validate(value), "%s: %s", what, answer)
	if object, ok := value.(map[string]any); ok {
		if kind, ok := object["type"].(string); ok && r.types[ref][kind] != "" {
			r.conforms(t, r.types[ref][kind], answer, what)
		}
	}
}

// refused fails when the answer is no error of that status as the reference
// describes one.
func (r *reference) refused(t *testing.T, want, status int, answer []byte, header http.Header, what string) {
	t.Helper()
	require.Equal(t, want, status, "%s: %s", what, answer)
	r.conforms(t, "#/definitions/Error", answer, what)
	var body struct {
		Error struct{ Code, RequestID, Time string }
	}
	require.NoError(t, json.Unmarshal(answer, &body))
	require.Equal(t, body.Error.Code, header.Get("x-ms-error-code"), what)
	require.NotEmpty(t, body.Error.RequestID, what)
	_, err := http.ParseTime(body.Error.Time) // date-time-rfc1123
	require.NoError(t, err, what)
}
