package chdb

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"os"
	"path/filepath"
)

// Anyone on this machine can reach the endpoint, and the engine runs with this
// process's rights. So its one user gets all of ClickHouse that stays within
// the storage directory, and none of what reaches beyond: no file(), url(),
// s3(), remote() and other sources, no INTO OUTFILE, no SYSTEM SHUTDOWN, no
// users of their own.
const users = `<clickhouse>
    <profiles><default></default></profiles>
    <quotas><default></default></quotas>
    <users>
        <default>
            <password></password>
            <networks><ip>::/0</ip></networks>
            <profile>default</profile>
            <quota>default</quota>
            <grants>
                <query>GRANT SELECT, INSERT, ALTER, CREATE DATABASE, CREATE TABLE, CREATE VIEW, CREATE DICTIONARY, CREATE TEMPORARY TABLE, CREATE FUNCTION, DROP, UNDROP TABLE, TRUNCATE, OPTIMIZE, CHECK, KILL QUERY, SHOW, dictGet, SYSTEM MERGES, SYSTEM TTL MERGES, SYSTEM FLUSH, SYSTEM DROP CACHE, SYSTEM RELOAD DICTIONARY, SYSTEM VIEWS ON *.*</query>
            </grants>
        </default>
    </users>
</clickhouse>
`

// writeConfig writes the engine's configuration into its directory and returns
// the file to start with. Naming one also keeps the engine from reading
// ./config.xml or /etc/clickhouse-local/config.xml, whatever they are.
func writeConfig(dir string) (string, error) {
	usersFile, configFile := filepath.Join(dir, "fleetlog-users.xml"), filepath.Join(dir, "fleetlog-config.xml")
	var path bytes.Buffer
	if err := xml.EscapeText(&path, []byte(usersFile)); err != nil {
		return "", fmt.Errorf("write ClickHouse configuration: %w", err)
	}
	config := "<clickhouse><users_config>" + path.String() + "</users_config></clickhouse>\n"
	for file, content := range map[string]string{usersFile: users, configFile: config} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return "", fmt.Errorf("write ClickHouse configuration: %w", err)
		}
	}
	return configFile, nil
}
