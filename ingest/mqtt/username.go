package mqtt

import (
	"net/url"
	"strings"

	"github.com/fleetlog/fleetlog/internal/device"
)

// userName is what a CONNECT's user name says.
type userName struct{ host, device, module, modelID string }

// parseUserName takes IoT Hub's user name apart: `{host}/{deviceId}/?api-version=…`,
// or `{host}/{deviceId}/{moduleId}/?api-version=…` for a module (FEATURES.md
// MQTT-02), with `model-id` among the parameters (MQTT-03).
func parseUserName(name string) (userName, error) {
	path, query, _ := strings.Cut(name, "/?")
	if query == "" { // the question mark may be left out
		slash := strings.LastIndexByte(name, '/')
		path, query = name[:max(slash, 0)], name[slash+1:]
	}
	if !strings.HasPrefix(query, "api-version=") {
		return userName{}, endUserName
	}
	parameters, err := url.ParseQuery(withoutSemicolons(query))
	if err != nil {
		return userName{}, endUserName
	}
	var u userName
	var isModule bool
	u.host, path, _ = strings.Cut(path, "/")
	u.device, u.module, isModule = strings.Cut(path, "/")
	if u.host == "" {
		return userName{}, endUserName
	}
	if err := device.ValidateID(u.device); err != nil {
		return userName{}, because(endUserName, err)
	}
	if isModule {
		if err := device.ValidateModuleID(u.module); err != nil {
			return userName{}, because(endUserName, err)
		}
	}
	u.modelID = parameters.Get("model-id")
	if err := device.ValidateModelID(u.modelID); err != nil {
		return userName{}, because(endUserName, err)
	}
	return u, nil
}

// withoutSemicolons escapes those that Azure's SDK for Node leaves in a model id;
// Go takes them for separators of another time and refuses them.
func withoutSemicolons(query string) string { return strings.ReplaceAll(query, ";", "%3B") }

// clientID is what the CONNECT's client id must be.
func (u userName) clientID() string { return registrationID(u.device, u.module) }

// registrationID names a device or module, `{deviceId}` or `{deviceId}/{moduleId}`;
// its keys are derived from it.
func registrationID(deviceID, module string) string {
	if module == "" {
		return deviceID
	}
	return deviceID + "/" + module
}

// resource is what a device or module is called in topics and tokens, after
// `devices/`.
func resource(deviceID, module string) string {
	if module == "" {
		return deviceID
	}
	return deviceID + "/modules/" + module
}
