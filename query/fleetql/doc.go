// Package fleetql is the query language: IoT Central's (FEATURES.md QRY-01..QRY-10),
// and more. In goes text, out comes a [Query] whose every part knows where it stood,
// or an error with line, column and what would be right.
//
// The package is pure: what names mean and how they are found in ClickHouse is for the
// caller. Nothing in a Query but its texts and numbers comes from the text as it was:
// names have the form that [Name] says.
package fleetql
