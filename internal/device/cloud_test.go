package device

import (
	"fmt"
	"strings"
	"testing"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"github.com/stretchr/testify/require"
)

// about is an event with a change of any kind.
func about(change any) *eventsv1.DeviceEvent {
	ev := event(nil, nil)
	switch c := change.(type) {
	case *eventsv1.DeviceEvent_Registered:
		ev.Change = c
	case *eventsv1.DeviceEvent_Updated:
		ev.Change = c
	case *eventsv1.DeviceEvent_Connected:
		ev.Change = c
	case *eventsv1.DeviceEvent_PropertiesDesired:
		ev.Change = c
	case *eventsv1.DeviceEvent_DeploymentApplied:
		ev.Change = c
	}
	return ev
}

func registerNew(t *testing.T, r *eventsv1.DeviceRegistered) *eventsv1.DeviceState {
	t.Helper()
	state, outcome := Apply(nil, about(&eventsv1.DeviceEvent_Registered{Registered: r}))
	require.Nil(t, outcome.GetRejection())
	return state
}

func TestInitialPropertiesNeverOverrideWhatPeopleSet(t *testing.T) {
	s := registerNew(t, &eventsv1.DeviceRegistered{Enabled: true})
	s, outcome := Apply(s, about(&eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{
		Patch: []byte(`{"a":1,"c":{"__t":"c","x":1}}`),
	}}))
	require.Nil(t, outcome.GetRejection())
	template := "dtmi:a:b;1"
	s, outcome = Apply(s, about(&eventsv1.DeviceEvent_Updated{Updated: &eventsv1.DeviceUpdated{
		Template: &template, Initial: []byte(`{"a":9,"b":2,"c":{"__t":"c","x":9,"y":3}}`),
	}}))
	require.Nil(t, outcome.GetRejection())
	require.JSONEq(t, `{"a":1,"b":2,"c":{"__t":"c","x":1,"y":3}}`, string(s.GetSelf().GetTwin().GetDesired()))
	require.EqualValues(t, 2, s.GetSelf().GetTwin().GetDesiredVersion())
}

func TestATemplateNeverKeepsADeviceOut(t *testing.T) {
	s := registerNew(t, &eventsv1.DeviceRegistered{Enabled: true})
	large := func(name string) []byte {
		section := []byte(`{`)
		for i := range 6 {
			section = fmt.Appendf(section, `%q:%q,`, fmt.Sprint(name, i), strings.Repeat("x", 3<<10))
		}
		return append(section, `"z":1}`...)
	}
	s, outcome := Apply(s, about(&eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{Patch: large("a")}}))
	require.Nil(t, outcome.GetRejection())
	s, outcome = Apply(s, about(&eventsv1.DeviceEvent_Connected{Connected: &eventsv1.DeviceConnected{Connection: "c", Template: "dtmi:a:b;1", Initial: large("b")}}))
	require.Nil(t, outcome.GetRejection())
	require.True(t, s.GetSelf().GetConnection().GetConnected())
	require.EqualValues(t, 1, s.GetSelf().GetTwin().GetDesiredVersion(), "what does not fit is left out")
}

func TestCommandPayloadsAreNotDeep(t *testing.T) {
	require.NoError(t, validateCommandPayload([]byte(strings.Repeat("[", 64)+strings.Repeat("]", 64))))
	require.Error(t, validateCommandPayload([]byte(strings.Repeat("[", 65)+strings.Repeat("]", 65))))
	require.NoError(t, validateCommandPayload([]byte(`"`+strings.Repeat(`[\"`, 100)+`"`)))
}

func TestCloudPropertiesNeverReachTheDevice(t *testing.T) {
	s := registerNew(t, &eventsv1.DeviceRegistered{Enabled: true})
	s, outcome := Apply(s, about(&eventsv1.DeviceEvent_PropertiesDesired{PropertiesDesired: &eventsv1.PropertiesDesired{Cloud: []byte(`{"owner":"ann"}`)}}))
	require.Nil(t, outcome.GetRejection())
	require.JSONEq(t, `{"owner":"ann"}`, string(s.GetCloud()))
	require.Zero(t, s.GetSelf().GetTwin().GetDesiredVersion())
	require.EqualValues(t, 1, CloudStamps(s).Of("owner").GetVersion())
}

func TestAModelsTemplateIsGivenOnceAtConnect(t *testing.T) {
	s := registerNew(t, &eventsv1.DeviceRegistered{Enabled: true})
	connect := func(id, template string) {
		var outcome *eventsv1.Outcome
		s, outcome = Apply(s, about(&eventsv1.DeviceEvent_Connected{Connected: &eventsv1.DeviceConnected{Connection: id, Template: template, Initial: []byte(`{"a":1}`)}}))
		require.Nil(t, outcome.GetRejection())
	}
	connect("c-1", "dtmi:a:b;1")
	require.Equal(t, "dtmi:a:b;1", s.GetTemplate())
	require.EqualValues(t, 2, s.GetVersion())
	require.JSONEq(t, `{"a":1}`, string(s.GetSelf().GetTwin().GetDesired()))
	connect("c-2", "dtmi:a:b;2")
	require.Equal(t, "dtmi:a:b;1", s.GetTemplate())
	require.EqualValues(t, 2, s.GetVersion())
}

func TestADeploymentMakesModules(t *testing.T) {
	manifest := &eventsv1.DeviceEvent_DeploymentApplied{DeploymentApplied: &eventsv1.DeploymentApplied{
		Deployment: &eventsv1.Deployment{Id: "m-1"},
		Content:    []byte(`{"modulesContent":{"$edgeAgent":{"properties.desired":{"schemaVersion":"1.0"}},"camera":{"properties.desired":{"fps":5}},"quiet":{}}}`),
	}}
	s := registerNew(t, &eventsv1.DeviceRegistered{Enabled: true})
	_, outcome := Apply(s, about(manifest))
	require.Contains(t, outcome.GetRejection().GetMessage(), "IoT Edge")
	s = registerNew(t, &eventsv1.DeviceRegistered{Enabled: true, Edge: true})
	s, outcome = Apply(s, about(manifest))
	require.Nil(t, outcome.GetRejection())
	require.Len(t, s.GetModules(), 3)
	require.JSONEq(t, `{"fps":5}`, string(IdentityOf(s, "camera").GetTwin().GetDesired()))
	require.Equal(t, "m-1", s.GetDeployment().GetId())
	for _, bad := range []string{`{}`, `[]`, `{"modulesContent":{"a/b":{}}}`, `{"modulesContent":{"a":{"properties.desired":[1]}}}`} {
		_, err := parseDeployment([]byte(bad))
		require.Error(t, err, bad)
	}
}

func TestTagsAreMerged(t *testing.T) {
	s := registerNew(t, &eventsv1.DeviceRegistered{Enabled: true, Tags: []byte(`{"site":"x","floor":2}`)})
	s, outcome := Apply(s, about(&eventsv1.DeviceEvent_Updated{Updated: &eventsv1.DeviceUpdated{Tags: []byte(`{"floor":null,"room":"12"}`)}}))
	require.Nil(t, outcome.GetRejection())
	require.JSONEq(t, `{"site":"x","room":"12"}`, string(s.GetTags()))
}
