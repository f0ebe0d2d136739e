package views

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"

	"github.com/fleetlog/fleetlog/internal/dtdl"
	"github.com/fleetlog/fleetlog/internal/template"
)

// columnsOf gives each content of a kind a column behind those that are always there.
type columnsOf struct {
	columns []column
	taken   map[string]bool
}

func newColumns(always []column) *columnsOf {
	c := &columnsOf{taken: map[string]bool{}}
	for _, one := range always {
		c.columns, c.taken[one.name] = append(c.columns, one), true
	}
	return c
}

// add takes a column; a name that is taken gets an underscore behind it.
func (c *columnsOf) add(one column) {
	one.name = possible(one.name)
	for c.taken[one.name] {
		one.name += "_"
	}
	c.columns, c.taken[one.name] = append(c.columns, one), true
}

// part is an interface of a template: the device's own, a component's, a module's.
type part struct {
	module, component string
	contents          []*dtdl.Content
}

// prefix begins the names of its columns.
func (p part) prefix() string {
	prefix := ""
	for _, of := range []string{p.module, p.component} {
		if of != "" {
			prefix += of + "_"
		}
	}
	return prefix
}

func parts(t *template.Template) []part {
	all := partsOf("", t.Model.Root)
	for _, m := range t.Modules() {
		all = append(all, partsOf(m.Name, m.Interface)...)
	}
	return all
}

func partsOf(module string, i *dtdl.Interface) []part {
	all := []part{{module: module, contents: i.All}}
	for _, c := range i.All {
		if c.Kind == dtdl.Component && c.Interface != nil {
			all = append(all, part{module: module, component: c.Name, contents: c.Interface.All})
		}
	}
	return all
}

// about is a content's comment: what it is called, its unit, what it is.
func about(c *dtdl.Content) string {
	text := cmp.Or(c.DisplayName.String(), c.Name)
	if unit := cmp.Or(c.Unit, c.Display.Unit.String()); unit != "" {
		text += ", in " + unit
	}
	if description := c.Description.String(); description != "" {
		text += ": " + description
	}
	return text
}

// condition is on the rows of a table of devices that goes by the name.
type condition func(table string) string

// telemetryOf is the typed view of the telemetry of the devices that meet the condition.
func telemetryOf(p place, name, family string, t *template.Template, devices condition) view {
	columns := newColumns(baseColumns(p, "telemetry"))
	for _, part := range parts(t) {
		from := source{json: row + "body", condition: fmt.Sprintf("_row.component = %s AND _row.module = %s", quoteText(part.component), quoteText(part.module))}
		for _, c := range part.contents {
			if c.Kind == dtdl.Telemetry && c.Schema != nil {
				kind, expression := from.value(c.Schema, c.Name)
				columns.add(column{part.prefix() + c.Name, kind, expression, about(c)})
			}
		}
	}
	return view{
		name: name, family: family, columns: columns.columns, comment: fmt.Sprintf("Telemetry of %s, %s", t.DisplayName, t.ID),
		from: fmt.Sprintf("%s AND _row.device IN (SELECT _device.device FROM %s.devices AS _device FINAL WHERE _device.tenant = %s AND %s)",
			p.from("telemetry"), p.database, quoteText(p.tenant), devices("_device")),
	}
}

// devicesOf is the typed view of the devices: their properties as columns.
func devicesOf(p place, name, family string, t *template.Template, devices condition) view {
	columns := newColumns(baseColumns(p, "devices"))
	for _, part := range parts(t) {
		if part.module != "" {
			continue // of a module's there is no row
		}
		for _, c := range part.contents {
			if c.Kind != dtdl.Property || c.Schema == nil {
				continue
			}
			path := []string{c.Name}
			if part.component != "" {
				path = []string{part.component, c.Name}
			}
			kind, expression := source{json: row + "properties"}.value(c.Schema, path...)
			columns.add(column{part.prefix() + c.Name, kind, expression, about(c)})
		}
	}
	return view{
		name: name, family: family, columns: columns.columns, comment: fmt.Sprintf("Devices of %s, %s", t.DisplayName, t.ID),
		from: p.newest("devices") + " AND " + devices("_row"),
	}
}

// versions are those of one template that are published.
type versions struct {
	id       string // without version
	at       int64  // when the first was made
	byNumber map[int]*template.Template
	newest   int
}

// views are a family's: of all devices by the newest version, of the devices at each
// version by that, and of the devices themselves.
func (v *versions) views(p place, name string) []view {
	newest := v.byNumber[v.newest]
	all := func(table string) string {
		return fmt.Sprintf("(%s.template = %s OR startsWith(%[1]s.template, %s))", table, quoteText(v.id), quoteText(v.id+";"))
	}
	made := []view{telemetryOf(p, name, v.id, newest, all), devicesOf(p, name+"_devices", v.id, newest, all)}
	for number, t := range v.byNumber {
		if t.ID != v.id {
			made = append(made, telemetryOf(p, name+"_v"+strconv.Itoa(number), v.id, t, func(table string) string { return table + ".template = " + quoteText(t.ID) }))
		}
	}
	return made
}

// slug is a text as the name of a view; empty when nothing is left of it.
func slug(text string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(text) {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9':
			b.WriteRune(c)
		case b.Len() > 0 && !strings.HasSuffix(b.String(), "_"):
			b.WriteByte('_')
		}
		if b.Len() >= maxSlug {
			break
		}
	}
	name := strings.Trim(b.String(), "_")
	if name != "" && name[0] <= '9' {
		name = "t_" + name
	}
	return name
}

// maxSlug bounds a name in bytes; ClickHouse makes files of names.
const maxSlug = 64
