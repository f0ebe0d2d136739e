// Package views keeps what analysts read: a database for each tenant, with views
// over Fleetlog's tables and a typed view for each published device template.
//
// In goes the catalog, out come views in ClickHouse, within a second of a change. A
// view only selects: no edit of a template rewrites data, and any number of nodes
// can do this at the same time, because each brings the database to what the catalog
// says. Every view has rows only for who reads it as the tenant
// ([clickhouse.TenantComment]); it reads the tables with the rights of its definer.
//
// A value that does not fit its schema is NULL in its column, never an error and
// never something else; it stays in the column body.
package views
