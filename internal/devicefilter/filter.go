// Package devicefilter is the two languages in which people say which devices
// they mean: IoT Central's query of a device group and its OData-like filter of
// the device list. docs/filters.md is the reference of both.
//
// In goes a text, out comes an [Expr], the same for both languages, or an [Error]
// that shows where the text goes wrong. An Expr can be asked whether it matches a
// device; for many devices at once, package query makes SQL of it that answers
// alike. The package is pure.
package devicefilter

// Bounds of a filter.
const (
	MaxBytes      = 8 << 10
	MaxConditions = 100 // FEATURES.md GRP-02
	MaxDepth      = 20
	MaxValues     = 1000
	// maxPattern and maxProgram bound a regular expression, in bytes and in
	// instructions.
	maxPattern = 256
	maxProgram = 2000
	// maxPath bounds how deep a property lies: component, property and into an
	// object.
	maxPath    = 8
	maxSegment = 128
)

// Expr is which devices: an [And], an [Or] or a [Condition]. There is no "not": it
// is in the conditions.
type Expr interface{ matches(Device) bool }

// And is the devices that all of its expressions match; all devices when empty.
type And []Expr

// Or is the devices that one of its expressions matches; none when empty.
type Or []Expr

// Condition is the devices of which one field has such a value.
//
// A device without a value in the field is not matched, whatever the operator,
// except by a negated Exists. That goes for a value of another type than the one
// compared with, too, but for Equal: 5 is not "a".
type Condition struct {
	Field Field
	Op    Op
	// Not turns the operator round, for the devices that have a value.
	Not bool
	// Values are what to compare with: strings, float64s and bools; for Less and
	// LessOrEqual a time.Time, for Matches a *regexp.Regexp. One, except for Equal,
	// where any of them will do, and Exists, which has none.
	Values []any
}

// Op is how a condition compares.
type Op int

// Texts are compared byte by byte, except that Contains, StartsWith and EndsWith
// ignore case. Matches is a search for a regular expression (RE2). To be greater is
// LessOrEqual negated.
const (
	Equal Op = iota
	Less
	LessOrEqual
	Contains
	StartsWith
	EndsWith
	Matches
	Exists
)

// Field is what a condition looks at.
type Field struct {
	Attribute Attribute
	// Path leads to a property (through its component, into an object) or a tag;
	// nil for other attributes.
	Path []string
}

// Attribute is a part of a device.
type Attribute int

// The attributes. Property and Tag need a path.
const (
	ID Attribute = iota
	DisplayName
	Template
	Organization
	EnrollmentGroup
	ModelID
	Parent
	Enabled
	Provisioned
	Simulated
	Edge
	Waiting
	Connected
	Property
	Tag
)

// Type is what values an attribute has.
type Type int

// Dynamic is what JSON has: each device's value may be of another type.
const (
	Text Type = iota
	Flag
	Dynamic
)

// Type is what values the attribute has.
func (a Attribute) Type() Type {
	switch {
	case a >= Property:
		return Dynamic
	case a >= Enabled:
		return Flag
	}
	return Text
}

// Order is one term of the order in which devices are listed.
type Order struct {
	Attribute  Attribute
	Descending bool
}

// negate is the expression's complement among the devices that have the values it
// asks for.
func negate(e Expr) Expr {
	switch e := e.(type) {
	case And:
		return Or(negated(e))
	case Or:
		return And(negated(e))
	case Condition:
		e.Not = !e.Not
		return e
	}
	return e
}

func negated(all []Expr) []Expr {
	out := make([]Expr, len(all))
	for i, e := range all {
		out[i] = negate(e)
	}
	return out
}
