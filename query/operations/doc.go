// Package operations does the imports and exports of devices that people have
// asked for (FEATURES.md DEV-40..DEV-44).
//
// In come operations from the catalog and CSV files from the store; out go changes
// of devices by the registry, files, and how far it is as catalog events. It runs
// beside the API: there are the views of devices and groups that an export reads,
// and the files that people bring and take.
//
// An operation belongs to the node that holds its lease. When that node is killed
// another one, or the same after its restart, goes on where the last event says:
// every device is registered once, every row is counted once, and the report has
// each error once. All files are sealed: an export holds keys, and so may a file to
// import.
//
// Follow one import: runner.go takes the operation, import.go works through the
// file window by window, rows.go reads it, work.go writes down how far it is.
package operations
