package access

import (
	"errors"
	"fmt"
	"net/mail"
	"regexp"
	"strings"

	"github.com/fleetlog/fleetlog/internal/catalog"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/protobuf/proto"
)

// Names of the catalog's kinds.
const (
	UserKind  = "users"
	TokenKind = "apiTokens"
)

const (
	// MaxUsers bounds a tenant's users.
	MaxUsers = 1_000_000
	// MaxTokens bounds a tenant's API tokens.
	MaxTokens   = 1000
	maxRoles    = 50 // that one user holds
	maxEmail    = 254
	maxObjectID = 128
)

// What directories call themselves, and people and groups in them: Keycloak's groups are
// paths, Auth0's people have a bar in their ids.
var (
	directoryID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,128}$`)
	objectID    = regexp.MustCompile(`^[[:graph:]]([[:print:]]{0,126}[[:graph:]])?$`)
)

// userKind is the user as the catalog needs to know it.
func userKind() catalog.Kind {
	return catalog.Kind{
		Name: UserKind, Noun: "user",
		Body: func(ev *eventsv1.CatalogEvent) proto.Message {
			if u := ev.GetUser(); u != nil {
				return u
			}
			return nil
		},
		Validate: func(_, id string, body proto.Message) error { return validateUser(id, body.(*eventsv1.User)) },
		Admit: func(others catalog.View, tenant, id string, body proto.Message) error {
			u := body.(*eventsv1.User)
			if before := others.Get(tenant, UserKind, id); before != nil && !sameSubject(before.Body.(*eventsv1.User), u) {
				return errors.New("who a user is cannot change: delete it and create another one")
			}
			if err := admitRoles(others, tenant, u.GetRoles()); err != nil {
				return err
			}
			return bounded(others, tenant, UserKind, id, MaxUsers)
		},
	}
}

func validateUser(id string, u *eventsv1.User) error {
	if !resourceID.MatchString(id) {
		return errID
	}
	switch {
	case u.GetSubject() == nil:
		return errors.New("type is not valid: use email, servicePrincipal or adGroup")
	case u.GetEmail() != "":
		if a, err := mail.ParseAddress(u.GetEmail()); err != nil || a.Address != u.GetEmail() || len(u.GetEmail()) > maxEmail {
			return errors.New("email is not an address such as anna@example.com")
		}
	default:
		for _, o := range []*eventsv1.DirectoryObject{u.GetServicePrincipal(), u.GetAdGroup()} {
			if o != nil && (!directoryID.MatchString(o.GetTenantId()) || !objectID.MatchString(o.GetObjectId())) {
				return fmt.Errorf("tenantId and objectId are needed: 1 to %d letters, digits, '-', '.' and '_', and the object's id as the provider has it", maxObjectID)
			}
		}
	}
	return validateRoles(u.GetRoles())
}

// sameSubject compares without regard to the case of an address.
func sameSubject(a, b *eventsv1.User) bool {
	x, y := proto.CloneOf(a), proto.CloneOf(b)
	x.Roles, y.Roles = nil, nil
	if a.GetEmail() != "" && b.GetEmail() != "" {
		return strings.EqualFold(a.GetEmail(), b.GetEmail())
	}
	return proto.Equal(x, y)
}

func validateRoles(roles []*eventsv1.RoleAssignment) error {
	if len(roles) == 0 || len(roles) > maxRoles {
		return fmt.Errorf("roles has %d entries: give 1 to %d", len(roles), maxRoles)
	}
	for _, a := range roles {
		if a.GetRole() == "" {
			return errors.New("an entry of roles has no role")
		}
	}
	return nil
}

// admitRoles checks that what is assigned exists, and is of the right type.
func admitRoles(others catalog.View, tenant string, roles []*eventsv1.RoleAssignment) error {
	for _, a := range roles {
		r := others.Get(tenant, RoleKind, a.GetRole())
		if r == nil {
			return fmt.Errorf("role %.48q does not exist: GET /api/roles lists them", a.GetRole())
		}
		body := r.Body.(*eventsv1.Role)
		switch {
		case body.GetOrganization() && a.GetOrganization() == "":
			return fmt.Errorf("role %q is held for an organization: say which", body.GetDisplayName())
		case !body.GetOrganization() && a.GetOrganization() != "":
			return fmt.Errorf("role %q is held for the whole tenant: leave the organization out, or choose a role of type organization", body.GetDisplayName())
		case a.GetOrganization() != "" && others.Get(tenant, OrganizationKind, a.GetOrganization()) == nil:
			return fmt.Errorf("organization %.48q does not exist: GET /api/organizations lists them", a.GetOrganization())
		}
	}
	return nil
}

// tokenKind is the API token as the catalog needs to know it.
func tokenKind() catalog.Kind {
	return catalog.Kind{
		Name: TokenKind, Noun: "API token",
		Body: func(ev *eventsv1.CatalogEvent) proto.Message {
			if t := ev.GetApiToken(); t != nil {
				return t
			}
			return nil
		},
		Validate: func(_, id string, body proto.Message) error {
			t := body.(*eventsv1.ApiToken)
			switch {
			case !resourceID.MatchString(id):
				return errID
			case len(t.GetHash()) != hashBytes || t.GetExpiry() == nil:
				return errors.New("the token has no hash or no expiry")
			}
			return validateRoles(t.GetRoles())
		},
		Admit: func(others catalog.View, tenant, id string, body proto.Message) error {
			if err := admitRoles(others, tenant, body.(*eventsv1.ApiToken).GetRoles()); err != nil {
				return err
			}
			return bounded(others, tenant, TokenKind, id, MaxTokens)
		},
	}
}

// Kinds are those of roles, organizations, users and API tokens.
func Kinds() []catalog.Kind {
	return []catalog.Kind{roleKind(), organizationKind(), userKind(), tokenKind()}
}

func assignmentsOf(r *catalog.Resource) []*eventsv1.RoleAssignment {
	holder, _ := r.Body.(interface {
		GetRoles() []*eventsv1.RoleAssignment
	})
	if holder == nil {
		return nil
	}
	return holder.GetRoles()
}
