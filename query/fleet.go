package query

import (
	"context"
	"fmt"
	"hash/fnv"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ClickHouse/clickhouse-go/v2/lib/driver"
	"github.com/fleetlog/fleetlog/internal/access"
	chconn "github.com/fleetlog/fleetlog/internal/clickhouse"
	"github.com/fleetlog/fleetlog/internal/devicefilter"
	"github.com/fleetlog/fleetlog/internal/registry"
	eventsv1 "github.com/fleetlog/fleetlog/proto/fleetlog/events/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// fleet answers which devices a filter means: the table `devices` finds them, the
// node's registry says what they are now.
//
// The table is some hundred milliseconds behind the registry, so a question waits
// until the table has every change that the registry had when it was asked; who
// changed a device finds it by its new values. It waits no longer than patience:
// when the projection is down the answer is of the devices as they were. What is
// shown matches the filter by the device's newest state in any case.
type fleet struct {
	registry *registry.Registry
	db       *chconn.Conn
	patience time.Duration
}

func newFleet(deps Deps) *fleet {
	return &fleet{registry: deps.Registry, db: deps.ClickHouse, patience: 1500 * time.Millisecond}
}

// fleetPage is which part of the devices that a filter means to show.
type fleetPage struct {
	filter devicefilter.Expr
	order  []devicefilter.Order
	size   int
	// scope is where the caller may look.
	scope access.Scope
	// token is where the page begins; of identifies the filter and the order it must
	// be from.
	token string
	of    string
	// at is the moment whose devices are meant; nil: now.
	at *time.Time
}

// fleetToken is where a page begins: behind the device with these values in the
// fields of the order.
type fleetToken struct {
	After []string `json:"a"`
	Of    uint32   `json:"o"`
}

// list is one page of devices, and the token of the next one; empty on the last. A
// page may have fewer devices than there are rows for, when some of them are gone.
func (f *fleet) list(ctx context.Context, tenant string, page fleetPage) (devices []*eventsv1.DeviceState, next string, err error) {
	page.scope = access.ScopeOf(ctx)
	ids, next, err := f.ids(ctx, tenant, page)
	if err != nil {
		return nil, "", err
	}
	for _, id := range ids {
		state, err := f.find(tenant, id, page)
		if err != nil {
			return nil, "", toStatus(err)
		}
		if state != nil {
			devices = append(devices, state)
		}
	}
	return devices, next, nil
}

// ids are the devices of a page, and the token of the next one.
func (f *fleet) ids(ctx context.Context, tenant string, page fleetPage) (ids []string, next string, err error) {
	page.scope = access.ScopeOf(ctx)
	p, at, err := planDevices(tenant, page)
	if err != nil {
		return nil, "", err
	}
	if err := f.catchUp(ctx, tenant, page.at); err != nil {
		return nil, "", err
	}
	more := false
	err = f.query(ctx, p, func(found driver.Rows) error {
		if more = len(ids) == p.size; more {
			return nil
		}
		var id string
		err := found.Scan(&id, &at.After)
		ids = append(ids, id)
		return err
	})
	if err != nil || !more {
		return ids, "", err
	}
	return ids, encodeToken(at), nil
}

// find is the device as it is now, if the filter still means it.
func (f *fleet) find(tenant, id string, page fleetPage) (*eventsv1.DeviceState, error) {
	state := f.registry.Get(tenant, id)
	if state == nil || !page.scope.Has(state.GetOrganizations()) {
		return nil, nil //nolint:nilnil // gone is no error
	}
	d, err := devicefilter.DeviceOf(state)
	if err != nil || !devicefilter.Match(page.filter, d) {
		return nil, err
	}
	return state, nil
}

// count is how many devices the filter means, at a moment or, nil, now.
func (f *fleet) count(ctx context.Context, tenant string, filter devicefilter.Expr, at *time.Time) (n uint64, err error) {
	if err := f.catchUp(ctx, tenant, at); err != nil {
		return 0, err
	}
	sql := filterSQL{parameters: map[string]string{"tenant": tenant}, scope: access.ScopeOf(ctx)}
	p := plan{sql: "SELECT count() FROM " + sql.devicesAt(at) + " AND " + sql.condition(filter), parameters: sql.parameters}
	err = f.query(ctx, p, func(rows driver.Rows) error { return rows.Scan(&n) })
	return n, err
}

// query says what a question about devices can do about its failure.
func (f *fleet) query(ctx context.Context, p plan, each func(driver.Rows) error) error {
	err := ask(ctx, f.db, p.sql, p.parameters, each)
	if status.Code(err) == codes.ResourceExhausted {
		return status.Error(codes.ResourceExhausted, "the filter takes too long, or too much memory, on all these devices: make it simpler")
	}
	return err
}

// lookAgain is how long a question that waits for the table leaves it in peace.
const lookAgain = 25 * time.Millisecond

// catchUp waits until the table has what the registry has of the tenant, or
// patience is at its end.
func (f *fleet) catchUp(ctx context.Context, tenant string, at *time.Time) error {
	newest := f.registry.Newest(tenant)
	table := "devices"
	if at != nil {
		table = "device_versions"
	}
	if len(newest) == 0 || at != nil && at.Before(time.Now().Add(-maxSkew)) {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, f.patience)
	defer cancel()
	again := time.NewTicker(lookAgain)
	defer again.Stop()
	for {
		has, err := f.has(ctx, tenant, table, newest)
		if has || err != nil {
			return err
		}
		select {
		case <-waiting.Done():
			return toStatus(ctx.Err())
		case <-again.C:
		}
	}
}

// has reports whether the table has the states, or later ones.
func (f *fleet) has(ctx context.Context, tenant, table string, states []*eventsv1.DeviceState) (bool, error) {
	missing, ids := map[string]uint64{}, make([]string, len(states))
	for i, state := range states {
		missing[state.GetDevice()], ids[i] = state.GetRevision(), state.GetDevice()
	}
	sql := filterSQL{parameters: map[string]string{"tenant": tenant}}
	// Without FINAL, which hides what is deleted.
	p := plan{sql: "SELECT device, max(revision) FROM " + table + " WHERE tenant = {tenant:String} AND " + sql.equal("device", "String", ids) + " GROUP BY device", parameters: sql.parameters}
	err := f.query(ctx, p, func(rows driver.Rows) error {
		var id string
		var revision uint64
		if err := rows.Scan(&id, &revision); err != nil {
			return err
		}
		if revision >= missing[id] {
			delete(missing, id)
		}
		return nil
	})
	return len(missing) == 0, err
}

// planDevices makes a statement of a page.
func planDevices(tenant string, page fleetPage) (plan, fleetToken, error) {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(page.of)) // never fails
	at, err := decodeToken[fleetToken](page.token)
	if err != nil {
		return plan{}, at, err
	}
	order := totalOrder(page.order)
	if page.token != "" && (at.Of != hash.Sum32() || len(at.After) != len(order)) {
		return plan{}, at, badField("pageToken", "pageToken is of a list with another filter or order: follow nextLink as it is, or start at the first page")
	}
	at.Of = hash.Sum32()
	sql := filterSQL{parameters: map[string]string{"tenant": tenant, "limit": strconv.Itoa(page.size + 1)}, scope: page.scope}
	where := sql.condition(page.filter)
	if page.token != "" {
		where += " AND " + sql.behind(order, at.After)
	}
	var values, terms []string
	for _, o := range order {
		column := deviceColumns[o.Attribute]
		values = append(values, "toString("+column+")")
		terms = append(terms, column+map[bool]string{true: " DESC", false: ""}[o.Descending])
	}
	return plan{
		sql: fmt.Sprintf("SELECT device, [%s] FROM %s AND %s ORDER BY %s LIMIT {limit:UInt32}",
			strings.Join(values, ", "), sql.devicesAt(page.at), where, strings.Join(terms, ", ")),
		parameters: sql.parameters, size: page.size,
	}, at, nil
}

// devicesAt is a table of the tenant's devices and the first condition on it: those
// that there are or, at a moment, were. What a device was is the last of its versions
// that the log has of those made until then; measured against its rivals in
// docs/schema.md.
func (f *filterSQL) devicesAt(at *time.Time) string {
	mine := ""
	if !f.scope.Everywhere() {
		mine = " AND organization IN " + f.parameter("Array(String)", textsParameter(f.scope.Organizations()))
	}
	if at == nil {
		return "devices FINAL WHERE tenant = {tenant:String}" + mine
	}
	return "(SELECT * FROM device_versions WHERE tenant = {tenant:String} AND at <= fromUnixTimestamp64Micro(" + f.parameter("Int64", micros(*at)) +
		", 'UTC') ORDER BY device, offset DESC LIMIT 1 BY device) AS v WHERE deleted = 0" + mine
}

// totalOrder puts every device in a place of its own: nothing is left to order
// after the id.
func totalOrder(order []devicefilter.Order) []devicefilter.Order {
	for i, o := range order {
		if o.Attribute == devicefilter.ID {
			return order[:i+1]
		}
	}
	return append(slices.Clone(order), devicefilter.Order{Attribute: devicefilter.ID})
}

// behind is true for the devices that come after the values.
func (f *filterSQL) behind(order []devicefilter.Order, after []string) string {
	var some []string
	same := ""
	for i, o := range order {
		column, kind, sign := deviceColumns[o.Attribute], "String", ">"
		if o.Attribute.Type() == devicefilter.Flag {
			kind = "Bool"
		}
		if o.Descending {
			sign = "<"
		}
		value := f.parameter(kind, escapeText.Replace(after[i]))
		some = append(some, fmt.Sprintf("(%s%s %s %s)", same, column, sign, value))
		same += fmt.Sprintf("%s = %s AND ", column, value)
	}
	return "(" + strings.Join(some, " OR ") + ")"
}
