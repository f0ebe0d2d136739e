// Package dashboard is the dashboards with their tiles, and the saved queries of the
// data explorer (FEATURES.md DASH-01..DASH-11, ANA-01..ANA-06): the rules of the two
// resources, which the catalog's fold applies, and what a tile asks.
package dashboard

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/internal/catalog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// The catalog's names of the two kinds.
const (
	KindName      = "dashboards"
	QueryKindName = "explorerQueries"
)

const (
	maxDashboards        = 1000
	maxTiles             = 100
	maxNameLength        = 148
	maxDescriptionLength = 1024
	maxOrganizationID    = 48
	// MaxBytes bounds a dashboard, pictures in it included.
	MaxBytes = 512 << 10
)

var (
	idPattern           = regexp.MustCompile(`^[a-zA-Z0-9:;_-]{1,128}$`)
	organizationPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9-]*$`)
)

// Kind is the dashboard as the catalog needs to know it.
func Kind() catalog.Kind {
	return catalog.Kind{
		Name: KindName,
		Noun: "dashboard",
		Body: func(ev *eventsv1.CatalogEvent) proto.Message {
			if d := ev.GetDashboard(); d != nil {
				return d
			}
			return nil
		},
		Validate: func(_, id string, body proto.Message) error { return validate(id, body.(*eventsv1.Dashboard)) },
		Admit:    admit(KindName, "dashboards"),
	}
}

// QueryKind is the saved query as the catalog needs to know it.
func QueryKind() catalog.Kind {
	return catalog.Kind{
		Name: QueryKindName,
		Noun: "saved query",
		Body: func(ev *eventsv1.CatalogEvent) proto.Message {
			if q := ev.GetExplorerQuery(); q != nil {
				return q
			}
			return nil
		},
		Validate: func(_, id string, body proto.Message) error { return validateQuery(id, body.(*eventsv1.ExplorerQuery)) },
		Admit:    admit(QueryKindName, "saved queries"),
	}
}

func admit(kind, noun string) func(catalog.View, string, string, proto.Message) error {
	return func(others catalog.View, tenant, id string, _ proto.Message) error {
		if others.Get(tenant, kind, id) == nil && len(others.List(tenant, kind, "", maxDashboards)) >= maxDashboards {
			return fmt.Errorf("there are already %d %s: delete one first", maxDashboards, noun)
		}
		return nil
	}
}

func validate(id string, d *eventsv1.Dashboard) error {
	if err := validateNames(id, d.GetDisplayName(), d.GetOrganizations()); err != nil {
		return err
	}
	switch {
	case proto.Size(d) > MaxBytes:
		return fmt.Errorf("the dashboard has %d bytes: use at most %d", proto.Size(d), MaxBytes)
	case len(d.GetTiles()) > maxTiles:
		return fmt.Errorf("the dashboard has %d tiles: use at most %d", len(d.GetTiles()), maxTiles)
	}
	ids := map[string]bool{}
	for i, t := range d.GetTiles() {
		if err := validateTile(t); err != nil {
			return fmt.Errorf("tiles[%d].%w", i, err)
		}
		if ids[t.GetId()] {
			return fmt.Errorf("tiles[%d].id %q is that of another tile: leave it out of new tiles", i, t.GetId())
		}
		ids[t.GetId()] = true
	}
	return nil
}

func validateQuery(id string, q *eventsv1.ExplorerQuery) error {
	if err := validateNames(id, q.GetDisplayName(), q.GetOrganizations()); err != nil {
		return err
	}
	if utf8.RuneCountInString(q.GetDescription()) > maxDescriptionLength || !utf8.ValidString(q.GetDescription()) {
		return fmt.Errorf("description is not valid: use at most %d characters", maxDescriptionLength)
	}
	if proto.Size(q) > MaxBytes {
		return fmt.Errorf("the query has %d bytes: use at most %d", proto.Size(q), MaxBytes)
	}
	if _, err := ReadQuery(q.GetConfiguration()); err != nil {
		return fmt.Errorf("configuration.%w", err)
	}
	return nil
}

func validateNames(id, name string, organizations []string) error {
	switch {
	case !idPattern.MatchString(id):
		return errors.New("the id is not valid: use 1 to 128 letters, digits, ':', ';', '-' and '_'")
	case !validName(name):
		return fmt.Errorf("displayName is not valid: use 1 to %d characters", maxNameLength)
	case len(organizations) > 1:
		return fmt.Errorf("organizations has %d entries: it belongs to at most one", len(organizations))
	}
	for _, organization := range organizations {
		if len(organization) > maxOrganizationID || !organizationPattern.MatchString(organization) {
			return fmt.Errorf("the organization's id is not valid: use 1 to %d lower-case letters, digits and '-'", maxOrganizationID)
		}
	}
	return nil
}

func validName(name string) bool {
	return name != "" && utf8.RuneCountInString(name) <= maxNameLength && utf8.ValidString(name)
}

func validateTile(t *eventsv1.DashboardTile) error {
	switch {
	case t.GetId() == "" || len(t.GetId()) > 128:
		return errors.New("id is not valid: use 1 to 128 bytes")
	case !validName(t.GetDisplayName()):
		return fmt.Errorf("displayName is not valid: use 1 to %d characters", maxNameLength)
	case !within(t.GetX(), 0, 100) || !within(t.GetY(), 0, 100):
		return errors.New("x and y are not valid: use 0 to 100")
	case !within(t.GetWidth(), 1, 10) || !within(t.GetHeight(), 1, 10):
		return errors.New("width and height are not valid: use 1 to 10")
	}
	if _, err := ReadTile(t.GetConfiguration()); err != nil {
		return fmt.Errorf("configuration.%w", err)
	}
	return nil
}

func within(v, low, high float64) bool { return v >= low && v <= high }

// validateLink wants what a browser may be sent to: a path of this site, or http.
func validateLink(link string, onlyHTTPS bool) error {
	u, err := url.Parse(link)
	switch {
	case err != nil || len(link) > 2048:
		return errors.New("not a URL of at most 2048 bytes")
	case u.Scheme == "https" && u.Host != "":
	case onlyHTTPS:
		return errors.New("not a URL that begins with https://")
	case u.Scheme == "http" && u.Host != "":
	case u.Scheme == "" && u.Host == "":
	default:
		return errors.New("neither a path nor a URL that begins with http:// or https://")
	}
	return nil
}
