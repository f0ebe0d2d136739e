-- What a ClickHouse of yours needs so that Fleetlog can let analysts in (docs/sql.md).
-- The embedded ClickHouse has it already. Run it once as an administrator:
--
--   clickhouse-client --multiquery < deploy/clickhouse/analysts.sql
--
-- It needs ClickHouse 25.1 or newer (wildcards in grants), and in its configuration
-- access_control_improvements as it is delivered: select_from_system_db_requires_grant
-- and on_cluster_queries_require_cluster_grant are true. On a cluster add ON CLUSTER to
-- each statement, unless users are replicated.
--
-- Fleetlog's user has its rights by roles alone: a request that takes the analysts' role
-- has none of the others. Fleetlog looks at this before it lets anybody in.

CREATE ROLE IF NOT EXISTS fleetlog_node;
CREATE ROLE IF NOT EXISTS fleetlog_analyst;

-- Choose a password, and start Fleetlog with --clickhouse http://fleetlog:PASSWORD@host:8123.
CREATE USER IF NOT EXISTS fleetlog IDENTIFIED BY 'CHANGE ME';
GRANT fleetlog_node, fleetlog_analyst TO fleetlog;
ALTER USER fleetlog DEFAULT ROLE fleetlog_node;

-- Nodes: Fleetlog's database and those of tenants. Replace fleetlog.* when --database
-- names another.
GRANT SHOW, SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE ON fleetlog.* TO fleetlog_node;
GRANT SHOW, SELECT, CREATE DATABASE, CREATE VIEW, DROP VIEW ON tenant_*.* TO fleetlog_node;
GRANT SELECT ON system.* TO fleetlog_node;
GRANT KILL QUERY ON *.* TO fleetlog_node;
GRANT SET DEFINER ON fleetlog TO fleetlog_node;

-- Analysts read tenants' views, which read Fleetlog's tables with the rights of the user
-- fleetlog, and have rows only for the tenant whose database log_comment names. Fleetlog
-- sets log_comment, and readonly, with which nothing in a statement can change it.
GRANT SELECT ON tenant_*.* TO fleetlog_analyst;

-- Names of other tenants' views are nobody's business either.
CREATE ROW POLICY IF NOT EXISTS fleetlog_others ON system.databases USING 1 TO ALL EXCEPT fleetlog_analyst;
CREATE ROW POLICY IF NOT EXISTS fleetlog_own ON system.databases USING startsWith(getSetting('log_comment'), concat(name, ' ')) TO fleetlog_analyst;
CREATE ROW POLICY IF NOT EXISTS fleetlog_others ON system.tables USING 1 TO ALL EXCEPT fleetlog_analyst;
CREATE ROW POLICY IF NOT EXISTS fleetlog_own ON system.tables USING startsWith(getSetting('log_comment'), concat(database, ' ')) TO fleetlog_analyst;
CREATE ROW POLICY IF NOT EXISTS fleetlog_others ON system.columns USING 1 TO ALL EXCEPT fleetlog_analyst;
CREATE ROW POLICY IF NOT EXISTS fleetlog_own ON system.columns USING startsWith(getSetting('log_comment'), concat(database, ' ')) TO fleetlog_analyst;
