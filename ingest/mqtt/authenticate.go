package mqtt

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"

	"github.com/fleetlog/fleetlog/internal/access"
	"github.com/fleetlog/fleetlog/internal/deviceauth"
	"github.com/fleetlog/fleetlog/internal/enrollment"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// authenticate has the gate check the device's credential. All that the device
// sees of a refusal is one CONNACK code.
func (c *connection) authenticate(host, id, password string) error {
	g := c.gateway
	if g.gate.Ready() != nil {
		return endNotReady
	}
	// One tenant until tenants have host names of their own.
	c.tenant, c.device = access.DefaultTenant, id
	var err error
	if c.module == "" {
		c.admission, err = g.gate.Admit(c.tenant, host, id, c.credential(password), time.Now())
	} else {
		c.admission, err = g.gate.AdmitModule(c.tenant, host, id, c.module, c.credential(password), time.Now())
	}
	if err != nil {
		return refusal(err)
	}
	c.expires = c.admission.Expires
	return nil
}

// credential is what the device shows: the password, and the certificates of the
// TLS handshake.
func (c *connection) credential(password string) deviceauth.Credential {
	return deviceauth.Credential{Token: password, Chain: peerCertificates(c.conn)}
}

// peerCertificates are the client's certificates, leaf first; none without TLS.
func peerCertificates(conn any) []*x509.Certificate {
	if secure, ok := conn.(secured); ok {
		return secure.ConnectionState().PeerCertificates
	}
	return nil
}

// serverName is the host name that the client asked for in the TLS handshake.
func serverName(conn any) string {
	if secure, ok := conn.(secured); ok {
		return secure.ConnectionState().ServerName
	}
	return ""
}

// secured is a connection over TLS: a [tls.Conn], or what carries MQTT within
// one.
type secured interface{ ConnectionState() tls.ConnectionState }

// refusal is the ending that the gate's decision means.
func refusal(err error) error {
	for _, known := range []struct {
		why error
		end *ending
	}{
		{deviceauth.ErrNoCredential, endPassword},
		{deviceauth.ErrUnknownDevice, endUnknownDevice},
		{deviceauth.ErrExpired, endTokenExpired},
		{deviceauth.ErrBlocked, endBlocked},
		{deviceauth.ErrWaiting, endWaiting},
		{deviceauth.ErrGroupDisabled, endGroupOff},
	} {
		if errors.Is(err, known.why) {
			return because(known.end, err)
		}
	}
	return because(endSignature, err)
}

// withdrawn reports whether a device's own credential has been taken back. Only
// a certificate in the slot that was empty takes nothing back, so that it can be
// rolled without dropping anyone (FEATURES.md AUTH-24).
func withdrawn(before, after *eventsv1.Attestation) bool {
	was, is := before.GetX509(), after.GetX509()
	if was == nil || is == nil {
		return !proto.Equal(before, after)
	}
	for _, der := range [][]byte{was.GetPrimary(), was.GetSecondary()} {
		if len(der) > 0 && !bytes.Equal(der, is.GetPrimary()) && !bytes.Equal(der, is.GetSecondary()) {
			return true
		}
	}
	return false
}

// groupChanged drops the connections that an enrollment group let in when it has
// taken back what it let them in by.
func (g *Gateway) groupChanged(tenant, id string, before, after *eventsv1.EnrollmentGroup) {
	if !enrollment.Revokes(before, after) {
		return
	}
	why := endRevoked
	if !after.GetEnabled() {
		why = endGroupOff
	}
	g.mu.Lock()
	var affected []*connection
	for _, c := range g.byIdentity {
		if c.tenant == tenant && c.admission.Group == id {
			affected = append(affected, c)
		}
	}
	g.mu.Unlock()
	for _, c := range affected {
		c.drop(why)
	}
}
