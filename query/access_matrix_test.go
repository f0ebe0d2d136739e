package query

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/dynamicpb"
)

// rolesOfTheMatrix are the roles that every tenant has, by a letter each.
var rolesOfTheMatrix = []struct {
	letter       string
	id           string
	organization string
}{
	{"A", access.Administrator, ""}, {"B", access.Builder, ""}, {"O", access.Operator, ""},
	{"a", access.OrgAdministrator, "north"}, {"o", access.OrgOperator, "north"}, {"v", access.OrgViewer, "north"},
}

// methods are all that the API has, and what each takes.
func (a *api) methods() (all []string) {
	a.t.Helper()
	protoregistry.GlobalFiles.RangeFilesByPackage("fleetlog.api.v1", func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				all = append(all, fmt.Sprintf("/%s/%s", service.FullName(), service.Methods().Get(j).Name()))
			}
		}
		return true
	})
	slices.Sort(all)
	return all
}

// TestEveryMethodDeclaresWhatItTakes: a method without a permission is closed, and there
// is none. The table of who may call what is testdata/access.txt, to be read by people;
// UPDATE=1 writes it anew.
func TestEveryMethodDeclaresWhatItTakes(t *testing.T) {
	a := newAPI(t)
	var table strings.Builder
	for _, method := range a.methods() {
		n, declared := declaredNeed(method)
		require.True(t, declared, "%s says nothing of who may call it: give it option (access)", method)
		fmt.Fprintf(&table, "%-70s %-6s %s", strings.TrimPrefix(method, "/fleetlog.api.v1."), a.callers(n), n.permission)
		if n.create != n.permission {
			fmt.Fprintf(&table, " or %s", n.create)
		}
		if n.tenant {
			table.WriteString(", of the whole tenant")
		}
		table.WriteString("\n")
	}
	const golden = "testdata/access.txt"
	if os.Getenv("UPDATE") != "" {
		require.NoError(t, os.WriteFile(golden, []byte(table.String()), 0o600))
	}
	want, err := os.ReadFile(golden)
	require.NoError(t, err)
	require.Equal(t, string(want), table.String())
}

// callers are the letters of the roles that may make a call, somewhere.
func (a *api) callers(n need) (letters string) {
	for _, role := range rolesOfTheMatrix {
		r := a.catalog.Get(access.DefaultTenant, access.RoleKind, role.id)
		set, err := access.ParseSet(r.Body.(interface{ GetPermissions() []string }).GetPermissions())
		require.NoError(a.t, err)
		if (set.Has(n.permission) || set.Has(n.create)) && (role.organization == "" || !n.tenant) {
			letters += role.letter
		} else {
			letters += "-"
		}
	}
	return letters
}

// secret is in the names of what is in the organization that nobody of the matrix is of.
const secret = "seen-by-south-alone"

// furnish makes one of each in an organization.
func (a *api) furnish(organization, name string) {
	a.t.Helper()
	in := fmt.Sprintf(`"displayName":%q,"organizations":[%q]`, name, organization)
	a.ok(http.MethodPut, "/api/devices/"+organization+"-device", `{`+in+`}`)
	a.ok(http.MethodPut, "/api/devices/"+organization+"-device/modules/m", "")
	a.ok(http.MethodPut, "/api/deviceGroups/"+organization+"-group", `{"filter":"SELECT * FROM devices",`+in+`}`)
	a.ok(http.MethodPut, "/api/dashboards/"+organization+"-dashboard", `{"tiles":[],`+in+`}`)
	a.ok(http.MethodPut, "/api/explorerQueries/"+organization+"-query", `{"configuration":{"group":"","capabilities":[{"capability":"n","aggregateFunction":"count"}]},`+in+`}`)
	a.ok(http.MethodPut, "/api/users/"+organization+"-user", fmt.Sprintf(`{"type":"email","email":"%s@%s.example","roles":[{"role":%q,"organization":%q}]}`, name, organization, access.OrgViewer, organization))
}

// inventory is all that the other organization has, as its administrator sees it.
func (a *api) inventory() (all []string) {
	a.t.Helper()
	for _, path := range []string{"/api/organizations/south", "/api/devices/south-device", "/api/devices/south-device/modules", "/api/deviceGroups/south-group", "/api/dashboards/south-dashboard", "/api/explorerQueries/south-query", "/api/users/south-user"} {
		code, answer, _ := a.call(http.MethodGet, path, "")
		all = append(all, fmt.Sprint(path, code, answer))
	}
	return all
}

// bodies are requests that do something, for the methods that do nothing without one.
var bodies = map[string]string{
	"PutDevice": `{"device":{"displayName":"x"}}`, "UpdateDevice": `{"device":{"displayName":"x"}}`,
	"PutDeviceGroup": `{"deviceGroup":{"displayName":"x","filter":"SELECT * FROM devices"}}`, "UpdateDeviceGroup": `{"deviceGroup":{"displayName":"x"}}`,
	"PutDashboard": `{"dashboard":{"displayName":"x"}}`, "UpdateDashboard": `{"dashboard":{"displayName":"x"}}`,
	"UpdateProperties": `{"properties":{"p":1},"unmodeled":true}`, "ReplaceProperties": `{"properties":{"p":1},"unmodeled":true}`,
	"EnqueueMessage": `{"message":{"payload":"x"}}`, "PutOrganization": `{"organization":{"displayName":"x"}}`, "UpdateOrganization": `{"organization":{"displayName":"x"}}`,
	"PreviewDeviceGroup": `{"filter":"SELECT * FROM devices"}`, "Query": `{"query":"SELECT $id, $displayName FROM devices"}`,
	"StreamQuery": `{"query":"SELECT $id, $displayName FROM devices"}`, "ExplainQuery": `{"query":"SELECT $id FROM devices"}`,
	"PutUser":                 `{"user":{"type":"email","email":"x@example.com","roles":[{"role":"` + access.OrgViewer + `","organization":"north"}]}}`,
	"UpdateUser":              `{"user":{"roles":[{"role":"` + access.OrgViewer + `","organization":"north"}]}}`,
	"PutRelationship":         `{"relationship":{"target":"north-device"}}`,
	"PutDeviceAttestation":    `{"attestation":{"type":"symmetricKey"}}`,
	"DiffDevice":              `{"from":"2026-01-01T00:00:00Z"}`,
	"ApplyDeploymentManifest": `{"manifest":{"data":{}}}`,
	"PutRole":                 `{"role":{"displayName":"x","permissions":["devices.view"]}}`, "PutApiToken": `{"apiToken":{"roles":[{"role":"` + access.Operator + `"}]}}`,
}

// request is the method's, about what is of the organization.
func request(t *testing.T, method protoreflect.MethodDescriptor, organization string) proto.Message {
	t.Helper()
	m := dynamicpb.NewMessage(method.Input())
	if body, ok := bodies[string(method.Name())]; ok {
		require.NoError(t, protojson.Unmarshal([]byte(body), m), method.Name())
	}
	names := map[string]string{
		"device_id": organization + "-device", "device_group_id": organization + "-group", "dashboard_id": organization + "-dashboard", "query_id": organization + "-query",
		"organization_id": organization, "user_id": organization + "-user", "role_id": "made", "api_token_id": "made", "enrollment_group_id": "made", "device_template_id": "dtmi:made:t;1",
		"operation_id": "none", "module": "m", "command_name": "c", "name": "n", "relationship_id": "r", "entry": "primary",
	}
	for i := range method.Input().Fields().Len() {
		f := method.Input().Fields().Get(i)
		if value, ok := names[string(f.Name())]; ok && f.Kind() == protoreflect.StringKind {
			if f.Name() == "module" && !strings.Contains(string(method.Name()), "Module") {
				continue
			}
			m.Set(f, protoreflect.ValueOfString(value))
		}
	}
	return m
}

// invoke makes a call of any kind, and gives all that is answered as text.
func (a *api) invoke(method protoreflect.MethodDescriptor, token string, req proto.Message) (string, error) {
	a.t.Helper()
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(a.t.Context(), "authorization", token))
	defer cancel()
	stream, err := a.rpc.NewStream(ctx, &grpc.StreamDesc{ClientStreams: true, ServerStreams: true}, fmt.Sprintf("/%s/%s", method.Parent().FullName(), method.Name()))
	require.NoError(a.t, err)
	if err := errors.Join(stream.SendMsg(req), stream.CloseSend()); err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	var text strings.Builder
	for {
		answer := dynamicpb.NewMessage(method.Output())
		if err := stream.RecvMsg(answer); errors.Is(err, io.EOF) {
			return text.String(), nil
		} else if err != nil {
			return text.String(), err
		}
		text.WriteString(protojson.Format(answer))
	}
}

// TestEveryMethodByEveryRole calls every method as every role, about what is of its own
// organization, of another and of another tenant. Who may not is denied; who may is let
// in; and what is not of his organization can neither be seen nor changed.
func TestEveryMethodByEveryRole(t *testing.T) {
	a := newAPI(t)
	a.projectDevices()
	a.projectEvents()
	a.project(a.insertVersion)
	a.organizations("north", "south")
	a.furnish("north", "of-north")
	a.furnish("south", secret)
	tokens := map[string]string{}
	for _, role := range rolesOfTheMatrix {
		held := fmt.Sprintf(`{"role":%q}`, role.id)
		if role.organization != "" {
			held = fmt.Sprintf(`{"role":%q,"organization":%q}`, role.id, role.organization)
		}
		made := a.ok(http.MethodPut, "/api/apiTokens/matrix-"+map[bool]string{true: "org-"}[role.organization != ""]+role.letter, `{"roles":[`+held+`]}`)
		tokens[role.letter] = made["token"].(string)
	}
	// The administrator's deletions would take what the others are asked about.
	order := slices.Sorted(maps.Keys(tokens))
	slices.Reverse(order)
	for _, name := range a.methods() {
		d, err := protoregistry.GlobalFiles.FindDescriptorByName(protoreflect.FullName(strings.ReplaceAll(strings.TrimPrefix(name, "/"), "/", ".")))
		require.NoError(t, err)
		method := d.(protoreflect.MethodDescriptor)
		n, _ := declaredNeed(name)
		callers := a.callers(n)
		before := a.inventory()
		for i, role := range rolesOfTheMatrix {
			may := callers[i] != '-'
			text, err := a.invoke(method, tokens[role.letter], request(t, method, "north"))
			code := status.Code(err)
			if !may {
				require.Equal(t, codes.PermissionDenied, code, "%s as %s: %v", name, role.letter, err)
				require.Contains(t, err.Error(), n.permission.String(), "the refusal names what is missing")
				require.Empty(t, text)
				continue
			}
			if role.organization == "" {
				continue // everything is his
			}
			require.NotContains(t, []codes.Code{codes.PermissionDenied, codes.Unauthenticated, codes.Internal, codes.Unimplemented}, code, "%s as %s: %v", name, role.letter, err)
			require.NotContains(t, text, secret, "%s as %s", name, role.letter)
			a.furnish("north", "of-north")
			text, err = a.invoke(method, tokens[role.letter], request(t, method, "south"))
			require.NotContains(t, text+fmt.Sprint(err), secret, "%s as %s about another organization's", name, role.letter)
			if isAboutOne(method) {
				require.Contains(t, []codes.Code{codes.NotFound, codes.PermissionDenied, codes.InvalidArgument}, status.Code(err), "%s as %s about another organization's: %s", name, role.letter, text)
			}
		}
		require.Equal(t, before, a.inventory(), "%s changed what is another organization's", name)
		text, err := a.invoke(method, strangersToken, request(t, method, "south"))
		require.NotContains(t, text+fmt.Sprint(err), secret, "%s as an administrator of another tenant", name)
		require.Equal(t, before, a.inventory(), "%s changed what is another tenant's", name)
		for _, token := range []string{"", "x", strings.Replace(tokens["A"], "sig=", "sig=A", 1)} {
			_, err = a.invoke(method, token, request(t, method, "north"))
			require.Equal(t, codes.Unauthenticated, status.Code(err), "%s by nobody", name)
		}
	}
}

// isAboutOne reports whether the method is about one thing that is of an organization.
func isAboutOne(method protoreflect.MethodDescriptor) bool {
	for _, name := range []protoreflect.Name{"device_id", "device_group_id", "dashboard_id", "query_id", "organization_id"} {
		if method.Input().Fields().ByName(name) != nil {
			return true
		}
	}
	return false
}
