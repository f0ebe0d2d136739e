"""Asks Fleetlog as an analyst's notebook does: host, port, path, token."""

import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "site"))

import clickhouse_connect  # noqa: E402
from clickhouse_connect.driver.exceptions import DatabaseError  # noqa: E402

host, port, path, token = sys.argv[1:]
client = clickhouse_connect.get_client(host=host, port=int(port), username="analyst", password=token, proxy_path=path)


def refused(statement):
    try:
        client.query(statement)
    except DatabaseError as error:
        return "Code: 497" in str(error)
    return False


typed = client.query("SELECT device, temperature, fan, ts FROM thermostat WHERE temperature > {least:Float64} ORDER BY temperature", parameters={"least": 20})
bodies = client.query("SELECT body FROM telemetry ORDER BY ts")
print(json.dumps({
    "rows": [[device, temperature, fan, ts.isoformat()] for device, temperature, fan, ts in typed.result_rows],
    "columns": list(typed.column_names),
    "body": bodies.result_rows[0][0],
    "command": client.command("SELECT count() FROM telemetry"),
    "many": sum(client.query("SELECT number FROM numbers(200000)").result_columns[0]),
    "raw": client.raw_query("SELECT 1 AS x", fmt="JSONEachRow").decode(),
    "tables": "thermostat" in [row[0] for row in client.query("SHOW TABLES").result_rows],
    "refused": [refused("SELECT * FROM fleetlog.telemetry"), refused("DROP VIEW thermostat"), refused("SELECT file('/etc/passwd')")],
}))
