// Package history makes of a device's events what people want to know of its past.
// In go events in the order of the log, and states to begin from; out come the
// states in between, and what is different from one to another. It is pure: it
// reads no log, no database and no clock, and decides nothing: the fold in
// internal/device does.
package history
