package fleetql

import (
	"fmt"
	"time"
)

// Query is a question.
type Query struct {
	// Explain asks for the plan instead of the answer.
	Explain bool
	// Top is how many rows are wanted; 0 when it does not say.
	Top   int
	Items []Item
	// From are the ids of device templates, or none for all devices.
	From []Source
	// AsOf is the moment whose devices are meant; nil: now.
	AsOf *time.Time
	// Where is nil when everything is wanted.
	Where Condition
	// Group is what rows are gathered by, Window the length of their windows; 0: none.
	Group  []Ref
	Window time.Duration
	Fill   *Fill
	Order  []Order
}

// Pos is where in the text something stands, in bytes.
type Pos int

// Source is a device template.
type Source struct {
	Pos
	Template string
}

// Ref is the name of a telemetry, a property or a column, or an alias of an item.
type Ref struct {
	Pos
	Name string
}

// Function is what is made of many values.
type Function string

// The functions. Percentile has a parameter.
const (
	None       Function = ""
	Sum        Function = "SUM"
	Max        Function = "MAX"
	Min        Function = "MIN"
	Count      Function = "COUNT"
	Avg        Function = "AVG"
	First      Function = "FIRST"
	Last       Function = "LAST"
	Stddev     Function = "STDDEV"
	Percentile Function = "PERCENTILE"
)

// Item is one of the things selected.
type Item struct {
	Pos
	Function Function
	// Of is what the function is of, or the item itself without one.
	Of Ref
	// Parameter of Percentile, 0 to 100.
	Parameter float64
	// Alias is empty when there is none.
	Alias string
}

// Key is the item's name in the answer.
func (i Item) Key() string {
	switch {
	case i.Alias != "":
		return i.Alias
	case i.Function == None:
		return i.Of.Name
	case i.Function == Percentile:
		return fmt.Sprintf("percentile_%v_%s", i.Parameter, i.Of.Name)
	}
	return lower(string(i.Function)) + "_" + i.Of.Name
}

// Condition is what must be true of a row.
type Condition interface{ condition() }

type (
	// And is true when all are.
	And []Condition
	// Or is true when one is.
	Or []Condition
	// Not is true when the condition is false, and when it is unknown.
	Not struct{ Condition }
	// Compare is a name against a value. Op is =, !=, <, <=, > or >=.
	Compare struct {
		Ref
		Op    string
		Value Value
	}
	// In is a name among values.
	In struct {
		Ref
		Values []Value
	}
	// Match is a text that has a part. Op is LIKE, CONTAINS or STARTS_WITH.
	Match struct {
		Ref
		Op   string
		Text string
	}
	// IsNull is a name without a value.
	IsNull struct{ Ref }
	// Within is the time: the last so long, or from one time to another.
	Within struct {
		Pos
		Last     time.Duration
		From, To time.Time
	}
	// InGroup is the devices of a device group.
	InGroup struct {
		Pos
		Group string
	}
)

func (And) condition()     {}
func (Or) condition()      {}
func (Not) condition()     {}
func (Compare) condition() {}
func (In) condition()      {}
func (Match) condition()   {}
func (IsNull) condition()  {}
func (Within) condition()  {}
func (InGroup) condition() {}

// Value is a string, a float64 or a bool.
type Value struct {
	Pos
	Of any
}

// Fill is what windows without values have.
type Fill struct {
	Pos
	// How is NULL, PREVIOUS, LINEAR or VALUE.
	How   string
	Value float64
}

// Order is one of the things rows are ordered by.
type Order struct {
	Ref
	// Function is that of the item that is meant, if the order names one so.
	Function   Function
	Descending bool
}

// Error is what is wrong with a query, and where.
type Error struct {
	// Line and Column count from 1; columns are characters.
	Line, Column int
	Message      string
}

func (e *Error) Error() string { return fmt.Sprintf("%d:%d: %s", e.Line, e.Column, e.Message) }

// Errorf is an error at a place of the text.
func Errorf(text string, at Pos, format string, args ...any) *Error {
	e := &Error{Line: 1, Column: 1, Message: fmt.Sprintf(format, args...)}
	for _, c := range text[:min(max(int(at), 0), len(text))] {
		if e.Column++; c == '\n' {
			e.Line, e.Column = e.Line+1, 1
		}
	}
	return e
}
