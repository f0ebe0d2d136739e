// Package projections carries the log into ClickHouse. In go the records of a
// topic, out come rows of a table, and dead letters for records that are no row.
// Each table has a file that says how (telemetry.go, device_events.go, devices.go,
// device_state_history.go); all the rest is the same for all of them.
//
// Each record that is one becomes one row (device_state_history keeps only some of the
// states, devices the newest of each device, by ClickHouse's own replacing), whatever crashes in between: a block's range of
// offsets is written down in the consumer group before the block is inserted,
// so that whoever comes next forms the very same block and inserts it with the
// very same deduplication token (see writer.go). ClickHouse being away stops
// nothing but the projection itself, which then holds no more than a bounded
// number of bytes. A record that ClickHouse will not take never holds up those
// behind it. The package must never write to the topic it reads.
package projections
