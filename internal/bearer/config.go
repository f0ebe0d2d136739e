package bearer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/fleetlog/fleetlog/internal/access"
)

// Provider is an identity provider whose tokens are taken.
type Provider struct {
	// Issuer is its URL, exactly as the tokens have it in `iss`.
	Issuer string `yaml:"issuer"`
	// Audience are those of which a token must have one in `aud`: the id of the
	// application that the provider knows Fleetlog by.
	Audience []string `yaml:"audience"`
	// Tenant is the one that its people are of.
	Tenant string `yaml:"tenant"`
	// Directory is what users of type servicePrincipal and adGroup have as tenantId. A
	// token with another `tid` is refused.
	Directory string `yaml:"directory"`
	// TrustEmail takes the claim `email` without `email_verified`: for providers where
	// nobody can enter an address of his choice.
	TrustEmail bool `yaml:"trust-email"`
	// Groups is the claim with the ids of the groups that somebody is in.
	Groups string `yaml:"groups"`
	// CA is a file with the certificate authority (PEM) that the provider is trusted by,
	// beside the system's.
	CA string `yaml:"ca"`
}

const (
	maxConfigBytes = 1 << 20
	maxProviders   = 50
	defaultGroups  = "groups"
)

// Load reads a file of providers.
func Load(path string) ([]*Provider, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read identity providers: %w", err)
	}
	providers, err := parse(content)
	if err != nil {
		return nil, fmt.Errorf("identity providers in %s: %w", path, err)
	}
	return providers, nil
}

func parse(content []byte) ([]*Provider, error) {
	if len(content) > maxConfigBytes {
		return nil, fmt.Errorf("the file has %d bytes: at most %d", len(content), maxConfigBytes)
	}
	var file struct {
		Providers []*Provider `yaml:"providers"`
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&file); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if len(file.Providers) == 0 || len(file.Providers) > maxProviders {
		return nil, fmt.Errorf("there are %d providers: give 1 to %d under `providers`", len(file.Providers), maxProviders)
	}
	issuers := map[string]bool{}
	for _, p := range file.Providers {
		if p == nil {
			return nil, errors.New("a provider is empty")
		}
		if err := p.check(); err != nil {
			return nil, err
		}
		if issuers[p.Issuer] {
			return nil, fmt.Errorf("issuer %s is there twice: give one provider several audiences", p.Issuer)
		}
		issuers[p.Issuer] = true
	}
	return file.Providers, nil
}

// directoryOf is Entra ID's tenant, which is in its issuers' paths, else the host.
func directoryOf(issuer *url.URL) string {
	if first, _, _ := strings.Cut(strings.TrimPrefix(issuer.Path, "/"), "/"); entraHosts[issuer.Hostname()] && first != "" {
		return first
	}
	return issuer.Hostname()
}

// entraHosts issue Entra ID's tokens, of version 2 and 1.
var entraHosts = map[string]bool{"login.microsoftonline.com": true, "sts.windows.net": true}

// check settles what is not given, and refuses what cannot be safe.
func (p *Provider) check() error {
	u, err := url.Parse(p.Issuer)
	if err != nil || u.Host == "" {
		return fmt.Errorf("issuer %.100q is no URL", p.Issuer)
	}
	ip := net.ParseIP(u.Hostname())
	onLoopback := u.Hostname() == "localhost" || ip != nil && ip.IsLoopback()
	if u.Scheme != "https" && (u.Scheme != "http" || !onLoopback) {
		return fmt.Errorf("issuer %s must be https: whoever is in between could let anybody in", p.Issuer)
	}
	if len(p.Audience) == 0 {
		return fmt.Errorf("issuer %s has no audience: without one a token for any other application would let its owner in", p.Issuer)
	}
	if p.Tenant == "" {
		p.Tenant = access.DefaultTenant
	}
	if p.Directory == "" {
		p.Directory = directoryOf(u)
	}
	if p.Groups == "" {
		p.Groups = defaultGroups
	}
	return nil
}
