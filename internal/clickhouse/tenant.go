package clickhouse

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"

	"github.com/fleetlog/fleetlog/internal/sqltext"
)

// plain names hold no two underscores in a row, which part those names are made of.
var plain = regexp.MustCompile(`^[a-z0-9]+(?:_[a-z0-9]+)*$`)

// maxPlain bounds a name that becomes part of another.
const maxPlain = 60

var unplain = regexp.MustCompile(`[^a-z0-9]+`)

// TenantDatabase is the database that holds a tenant's views: tenant_acme, or
// tenant_acme__other when Fleetlog's own database is not fleetlog. Tenants and
// databases whose names do not fit get a digest of them. No two tenants of any two
// databases share one.
func TenantDatabase(database, tenant string) string {
	if isPlain(tenant) && database == defaultDatabase {
		return sqltext.TenantPrefix + tenant
	}
	if isPlain(tenant) && isPlain(database) {
		return sqltext.TenantPrefix + tenant + "__" + database
	}
	sum := sha256.Sum256([]byte(database + "\x00" + tenant))
	name := strings.Trim(unplain.ReplaceAllString(strings.ToLower(tenant), "_"), "_")
	return sqltext.TenantPrefix + strings.Trim(name[:min(len(name), maxPlain)], "_") + "__" + "__" + hex.EncodeToString(sum[:12])
}

func isPlain(name string) bool { return len(name) <= maxPlain && plain.MatchString(name) }

// TenantComment is what log_comment must begin with so that the views of a
// tenant's database have rows.
func TenantComment(tenantDatabase string) string { return tenantDatabase + " " }
