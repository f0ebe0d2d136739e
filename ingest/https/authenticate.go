package https

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/device"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/eventlog"
)

// caller is the device or module that a request comes from.
type caller struct{ tenant, device, module string }

// path is the caller's own part of a path.
func (c caller) path() string {
	if c.module == "" {
		return "/devices/" + c.device
	}
	return "/devices/" + c.device + "/modules/" + c.module
}

// authenticate lets the device of the request's path in, by the SAS token of the
// Authorization header or the certificates of the TLS handshake.
func (d *Door) authenticate(r *http.Request) (caller, error) {
	// One tenant until tenants have host names of their own.
	c := caller{tenant: access.DefaultTenant, device: r.PathValue("device"), module: r.PathValue("module")}
	if d.deps.Gate.Ready() != nil {
		return c, failBusy
	}
	if device.ValidateID(c.device) != nil || c.module != "" && device.ValidateModuleID(c.module) != nil {
		return c, failToken
	}
	if err := d.admit(c, r); err != nil {
		return c, err
	}
	return c, nil
}

// admit takes the credential for the host that the request names; SDKs sign
// tokens without the port.
func (d *Door) admit(c caller, r *http.Request) (err error) {
	shown := credential(r)
	if c.module == "" {
		_, err = d.deps.Gate.Admit(c.tenant, hostOf(r.Host), c.device, shown, time.Now())
	} else {
		_, err = d.deps.Gate.AdmitModule(c.tenant, hostOf(r.Host), c.device, c.module, shown, time.Now())
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, deviceauth.ErrWrongKey): // whether or not there is such a device
		return fmt.Errorf("%w: %w", failToken, err)
	case errors.Is(err, deviceauth.ErrExpired):
		return failExpired
	case errors.Is(err, deviceauth.ErrUnknownDevice) && c.module != "":
		return failModule
	case errors.Is(err, deviceauth.ErrUnknownDevice):
		return failDevice
	case errors.Is(err, deviceauth.ErrBlocked), errors.Is(err, deviceauth.ErrWaiting), errors.Is(err, deviceauth.ErrGroupDisabled):
		return within(failDisabled, err)
	}
	return fmt.Errorf("%w: %w", failToken, err)
}

func credential(r *http.Request) deviceauth.Credential {
	shown := deviceauth.Credential{Token: r.Header.Get("Authorization")}
	if r.TLS != nil {
		shown.Chain = r.TLS.PeerCertificates
	}
	return shown
}

// forDevice is a handler for a device that has been let in and is within its
// rate.
func (d *Door) forDevice(operation string, serve func(http.ResponseWriter, *http.Request, caller) error) http.Handler {
	return d.forAnyone(operation, func(w http.ResponseWriter, r *http.Request) error {
		c, err := d.authenticate(r)
		if err != nil {
			return err
		}
		return d.withinDevice(c.tenant, c.device, func() error { return serve(w, r, c) })
	})
}

// withinDevice serves within the device's rate and its share of the places.
func (d *Door) withinDevice(tenant, id string, serve func() error) error {
	key := string(eventlog.Key(tenant, id))
	if !d.devices.Allow(key) || !d.underway.begin(key) {
		return failThrottled
	}
	defer d.underway.end(key)
	return serve()
}

// forAnyone is a handler that bounds and counts; what it serves checks for itself
// who asks.
func (d *Door) forAnyone(operation string, serve func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		err := d.bounded(w, r, serve)
		d.metrics.seconds.WithLabelValues(operation).Observe(time.Since(began).Seconds())
		if err == nil {
			d.metrics.requests.WithLabelValues(operation, "ok").Inc()
			return
		}
		f := failureOf(err)
		d.metrics.requests.WithLabelValues(operation, f.code).Inc()
		if f.status >= http.StatusInternalServerError {
			d.warn("device request failed", "operation", operation, "path", clip(r.URL.Path), "remote", r.RemoteAddr, "error", err)
		}
		if operation == "blob" {
			f.answerBlob(w)
			return
		}
		f.answer(w)
	})
}

func (d *Door) bounded(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter, *http.Request) error) error {
	if !d.addresses.Allow(hostOf(r.RemoteAddr)) {
		return failThrottled
	}
	if !d.places.TryAcquire(1) {
		return failBusy
	}
	defer d.places.Release(1)
	control := http.NewResponseController(w)
	if err := errors.Join(control.SetReadDeadline(time.Now().Add(bodyTimeout)), control.SetWriteDeadline(time.Now().Add(answerTimeout))); err != nil {
		return within(failInternal, err)
	}
	return serve(w, r)
}

// clip shortens what a device sent before it is logged.
func clip(s string) string {
	const most = 128
	if len(s) > most {
		return s[:most] + "…"
	}
	return s
}
