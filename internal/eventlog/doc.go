// Package eventlog is Fleetlog's one door to the Kafka log: it creates the
// topics, appends records, follows topics and runs consume-process-append
// loops in transactions.
//
// What goes in and comes out are Kafka records whose metadata are CloudEvents
// 1.0 headers in binary mode and whose keys are `tenant/id`. An append is
// acknowledged once the record is on all in-sync replicas. The package never
// looks inside a value and never decides what a record means.
package eventlog
