package access

import (
	"errors"
	"fmt"
	"regexp"
	"unicode/utf8"

	"github.com/fleetlog/fleetlog/internal/catalog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// OrganizationKind is the catalog's name of organizations.
const OrganizationKind = "organizations"

const (
	// MaxOrganizations bounds a tenant's organizations (FEATURES.md ORG-01).
	MaxOrganizations = 200
	// MaxDepth bounds how deep the tree is.
	MaxDepth = 5
	maxName  = 200
)

// organizationID is ORG-01's, and one letter or digit.
var organizationID = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,46}[a-z0-9])?$`)

// organizationKind is the organization as the catalog needs to know it.
func organizationKind() catalog.Kind {
	return catalog.Kind{
		Name: OrganizationKind, Noun: "organization",
		Body: func(ev *eventsv1.CatalogEvent) proto.Message {
			if o := ev.GetOrganization(); o != nil {
				return o
			}
			return nil
		},
		Validate: func(_, id string, body proto.Message) error {
			o := body.(*eventsv1.Organization)
			if !organizationID.MatchString(id) {
				return errors.New("the organization's id is not valid: use 1 to 48 lower-case letters, digits and '-', with a letter or digit at both ends")
			}
			if name := o.GetDisplayName(); name == "" || utf8.RuneCountInString(name) > maxName || !utf8.ValidString(name) {
				return fmt.Errorf("displayName is not valid: use 1 to %d characters", maxName)
			}
			return nil
		},
		Admit:   admitOrganization,
		Release: releaseOrganization,
	}
}

// admitOrganization keeps the tree a tree, and not too deep.
func admitOrganization(others catalog.View, tenant, id string, body proto.Message) error {
	above := 1
	for at := body.(*eventsv1.Organization).GetParent(); at != ""; above++ {
		if at == id {
			return errors.New("an organization cannot be a part of itself: choose another parent")
		}
		parent := others.Get(tenant, OrganizationKind, at)
		if parent == nil {
			return fmt.Errorf("organization %q does not exist: create it first", at)
		}
		at = parent.Body.(*eventsv1.Organization).GetParent()
	}
	all := organizationsOf(others, tenant)
	if depth := above + all.height(id); depth > MaxDepth {
		return fmt.Errorf("the tree would be %d organizations deep: at most %d may be", depth, MaxDepth)
	}
	return bounded(others, tenant, OrganizationKind, id, MaxOrganizations)
}

// releaseOrganization refuses to delete what others are in. Devices are asked for by
// the API: the catalog does not know them.
func releaseOrganization(others catalog.View, tenant, id string) error {
	if below := organizationsOf(others, tenant).below[id]; len(below) > 0 {
		return fmt.Errorf("organization %q is a part of it: move or delete that first", below[0])
	}
	for _, kind := range []string{UserKind, TokenKind} {
		for _, r := range others.List(tenant, kind, "", MaxUsers) {
			for _, a := range assignmentsOf(r) {
				if a.GetOrganization() == id {
					return fmt.Errorf("%s/%s has a role in it: take that away first", kind, r.ID)
				}
			}
		}
	}
	return nil
}

// tree is a tenant's organizations.
type tree struct {
	below map[string][]string // "": directly below the root
}

func organizationsOf(view catalog.View, tenant string) tree {
	t := tree{map[string][]string{}}
	for _, r := range view.List(tenant, OrganizationKind, "", MaxOrganizations) {
		parent := r.Body.(*eventsv1.Organization).GetParent()
		t.below[parent] = append(t.below[parent], r.ID)
	}
	return t
}

// height is how many organizations are on the longest way down from one, itself left
// out.
func (t tree) height(id string) (most int) {
	for _, below := range t.below[id] {
		most = max(most, 1+t.height(below))
	}
	return most
}

// with is the organization and all below it.
func (t tree) with(id string, into map[string]bool) {
	into[id] = true
	for _, below := range t.below[id] {
		t.with(below, into)
	}
}
