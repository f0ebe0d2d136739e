// Package sqltext reads SQL as ClickHouse's lexer does, and says what a statement
// asks for that it must not: for anybody, to leave ClickHouse for files, memory or
// programs of the machine it runs on; for an analyst of one tenant, anything but
// questions about that tenant's views.
//
// In goes a statement, out comes nil or an error for the person who wrote it. The
// package is pure. It looks at tokens and does not parse: it refuses names where
// they could be a function, a table or a setting, and rather too much than too
// little. It is one of several walls: grants, row filters and guards within the
// views hold without it, but ClickHouse has no grant for all of what is refused
// here.
package sqltext
