package provisioning

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"

	"github.com/fleetlog/fleetlog/internal/deviceauth"
)

// Handler speaks DPS over HTTPS (FEATURES.md PROV-02). It answers
//
//	PUT  /{idScope}/registrations/{registrationId}/register
//	GET  /{idScope}/registrations/{registrationId}/operations/{operationId}
//	POST /{idScope}/registrations/{registrationId}
//
// and 404 to everything else; any api-version will do. A device shows a SAS token
// in Authorization, or a client certificate in the TLS handshake, which the
// listener must ask for (tls.RequestClientCert) and not verify itself. The hub is
// the host name devices are told to connect to; when empty it is the one they used.
func (r *Registrar) Handler(hub string) http.Handler {
	h := &httpDoor{registrar: r, hub: hub}
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /{idScope}/registrations/{registrationId}/register", h.as(h.register))
	mux.HandleFunc("GET /{idScope}/registrations/{registrationId}/operations/{operationId}", h.as(h.operation))
	mux.HandleFunc("POST /{idScope}/registrations/{registrationId}", h.as(h.registration))
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { h.fail(w, faultPath) })
	return mux
}

type httpDoor struct {
	registrar *Registrar
	hub       string
}

// as lets a request through as the registrant whose credential it shows.
func (h *httpDoor) as(next func(http.ResponseWriter, *http.Request, deviceauth.Registrant)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		cred := deviceauth.Credential{Token: r.Header.Get("Authorization")}
		if r.TLS != nil {
			cred.Chain = r.TLS.PeerCertificates
		}
		who, err := h.registrar.Authenticate(r.PathValue("idScope"), r.PathValue("registrationId"), cred)
		if err != nil {
			h.fail(w, err)
			return
		}
		next(w, r, who)
	}
}

func (h *httpDoor) register(w http.ResponseWriter, r *http.Request, who deviceauth.Registrant) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxBodyBytes))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			h.fail(w, faultBody.explained("The request body is too large: send at most %d bytes.", MaxBodyBytes))
			return
		}
		h.fail(w, faultBody.because(err))
		return
	}
	op, err := h.registrar.Register(r.Context(), who, body)
	h.answerOperation(w, op, err)
}

func (h *httpDoor) operation(w http.ResponseWriter, r *http.Request, who deviceauth.Registrant) {
	op, err := h.registrar.Operation(who, h.hubOf(r), r.PathValue("operationId"))
	h.answerOperation(w, op, err)
}

func (h *httpDoor) registration(w http.ResponseWriter, r *http.Request, who deviceauth.Registrant) {
	registration, err := h.registrar.Registration(who, h.hubOf(r))
	if err != nil {
		h.fail(w, err)
		return
	}
	answer(w, http.StatusOK, registration.JSON())
}

func (h *httpDoor) answerOperation(w http.ResponseWriter, op Operation, err error) {
	switch {
	case err != nil:
		h.fail(w, err)
	case op.Status == StatusAssigning:
		retryAfter(w)
		answer(w, http.StatusAccepted, op.JSON())
	default:
		answer(w, http.StatusOK, op.JSON())
	}
}

func (h *httpDoor) fail(w http.ResponseWriter, err error) {
	f := AsFault(err)
	switch f.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		retryAfter(w)
	case http.StatusUnauthorized:
		w.Header().Set("WWW-Authenticate", "SharedAccessSignature")
		h.registrar.logger.Debug("registration refused", "error", err)
	case http.StatusInternalServerError:
		h.registrar.logger.Error("registration failed", "error", err)
	}
	answer(w, f.Status, f.JSON())
}

// hubOf is the host name the device is told to connect to, without a port.
func (h *httpDoor) hubOf(r *http.Request) string {
	if h.hub != "" {
		return h.hub
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		return r.Host
	}
	return host
}

func retryAfter(w http.ResponseWriter) {
	w.Header().Set("Retry-After", strconv.Itoa(int(RetryAfter.Seconds())))
}

func answer(w http.ResponseWriter, status int, body []byte) {
	h := w.Header()
	h.Set("Content-Type", "application/json; charset=utf-8")
	h.Set("Content-Length", fmt.Sprint(len(body)))
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_, _ = w.Write(body) //nolint:gosec // JSON, and said to be; the device may be gone
}
