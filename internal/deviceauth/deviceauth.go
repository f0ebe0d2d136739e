// Package deviceauth decides whether a device is who it says it is and may come
// in: its SAS token against its keys, and the device against the registry. Every
// door for devices asks it, so that all of them answer alike.
package deviceauth

import (
	"errors"
	"time"

	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/sas"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
)

// Reasons for a refusal. Those about the device itself come only to a caller
// that has one of its keys, so a stranger learns nothing from them.
var (
	ErrSignature     = errors.New("the token is not signed with one of the device's keys, or is for another resource")
	ErrExpired       = errors.New("the token has expired: sign a new one and check the device's clock")
	ErrUnknownDevice = errors.New("there is no such device")
	ErrDisabled      = errors.New("the device is disabled")
)

// Check verifies a token for the device of the tenant at host, given the
// device's state as the registry has it (nil: none). Every wrong credential
// costs the same work.
func Check(keys *device.MasterKey, state *eventsv1.DeviceState, tenant, host, id string, token sas.Token, now time.Time) error {
	return check(keys.DeviceKeys(tenant, id), state, host, id, token, now)
}

// CheckModule is Check for a module of the device.
func CheckModule(keys *device.MasterKey, state *eventsv1.DeviceState, tenant, host, id, module string, token sas.Token, now time.Time) error {
	if device.IdentityOf(state, module) == nil {
		state = nil
	}
	return check(keys.ModuleKeys(tenant, id, module), state, host, id+"/modules/"+module, token, now)
}

func check(own device.Keys, state *eventsv1.DeviceState, host, id string, token sas.Token, now time.Time) error {
	err := token.Verify(own.Primary, now)
	if second := token.Verify(own.Secondary, now); errors.Is(err, sas.ErrBadSignature) {
		err = second
	}
	switch {
	case errors.Is(err, sas.ErrExpired):
		return ErrExpired
	case err != nil, !token.Covers(host, id):
		return ErrSignature
	case state == nil:
		return ErrUnknownDevice
	case !state.GetEnabled():
		return ErrDisabled
	}
	return nil
}
