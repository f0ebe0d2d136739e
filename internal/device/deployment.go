package device

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

const (
	// maxDeploymentBytes bounds a deployment manifest.
	maxDeploymentBytes = 256 << 10
	maxDeploymentID    = 255
	// desiredKey is where a manifest has a module's desired properties
	// (github.com/MicrosoftDocs/azure-docs, iot-edge/module-composition.md).
	desiredKey = "properties.desired"
)

// deploymentModule is what a manifest has for one module.
type deploymentModule struct {
	id      string
	desired []byte
}

// parseDeployment reads the modules of a manifest's `data` in order of their ids.
func parseDeployment(content []byte) ([]deploymentModule, error) {
	if len(content) > maxDeploymentBytes {
		return nil, fmt.Errorf("deployment manifest has %d bytes: use at most %d", len(content), maxDeploymentBytes)
	}
	var body struct {
		Modules map[string]map[string]json.RawMessage `json:"modulesContent"`
	}
	if err := json.Unmarshal(content, &body); err != nil {
		return nil, fmt.Errorf("deployment manifest cannot be read: its data is an object with modulesContent: %w", err)
	}
	if len(body.Modules) == 0 || len(body.Modules) > maxModules {
		return nil, fmt.Errorf("deployment manifest has %d modules in modulesContent: write 1 to %d", len(body.Modules), maxModules)
	}
	var modules []deploymentModule
	for _, id := range slices.Sorted(maps.Keys(body.Modules)) {
		sections := body.Modules[id]
		if err := ValidateModuleID(id); err != nil {
			return nil, err
		}
		desired := sections[desiredKey]
		if len(desired) == 0 {
			desired = []byte("{}")
		}
		if err := validatePatch(desired); err != nil {
			return nil, fmt.Errorf("modulesContent %q: its %q: %w", id, desiredKey, err)
		}
		modules = append(modules, deploymentModule{id, desired})
	}
	return modules, nil
}

func validateDeployment(d *eventsv1.DeploymentApplied) error {
	if len(d.GetDeployment().GetId()) > maxDeploymentID || len(d.GetDeployment().GetDisplayName()) > 4*MaxDisplayNameLength {
		return fmt.Errorf("id or name of the deployment manifest is too long")
	}
	_, err := parseDeployment(d.GetContent())
	return err
}

// deploy gives an edge device the modules of a manifest; modules of its own stay.
func deploy(next *eventsv1.DeviceState, ev *eventsv1.DeviceEvent, d *eventsv1.DeploymentApplied) *eventsv1.Rejection {
	if !next.GetEdge() {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_CONFLICT, "device %q is no IoT Edge device: give it \"type\":[\"iotEdge\"] first", next.GetDevice())
	}
	modules, err := parseDeployment(d.GetContent())
	if err != nil {
		return rejection(eventsv1.RejectionReason_REJECTION_REASON_INVALID, "%s", err)
	}
	for _, m := range modules {
		if r := registerModule(next, m.id); r != nil {
			return r
		}
		if r := desire(own(next, m.id), ev, &eventsv1.PropertiesDesired{Patch: m.desired, Replace: true}); r != nil {
			return r
		}
	}
	next.Deployment = d.GetDeployment()
	return nil
}
