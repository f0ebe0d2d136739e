#!/usr/bin/env bash
# Runs HiveMQ Community Edition from Maven Central on loopback, in the foreground,
# until it gets SIGTERM: a peer of the benchmark. It lets everyone in.
#
#   hivemq.sh --port N --data DIR
#
# The jars are fetched once, into ${XDG_CACHE_HOME:-~/.cache}/fleetlog/hivemq.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
port='' data=''
while (($#)); do
	case $1 in
	--port) port=$2; shift 2 ;;
	--data) data=$2; shift 2 ;;
	*) echo "hivemq.sh: unknown option $1; see the head of $0" >&2; exit 2 ;;
	esac
done
[[ -n $port && -n $data ]] || { echo "hivemq.sh: give --port and --data" >&2; exit 2; }

# shellcheck source=deploy/fetch-jars.sh
source "$here/../fetch-jars.sh"
fetch_jars hivemq "HiveMQ CE"

mkdir -p "$data/conf" "$data/data"
cat >"$data/conf/config.xml" <<XML
<?xml version="1.0" encoding="UTF-8" ?>
<hivemq>
  <listeners>
    <tcp-listener><port>$port</port><bind-address>127.0.0.1</bind-address></tcp-listener>
  </listeners>
  <anonymous-usage-statistics><enabled>false</enabled></anonymous-usage-statistics>
  <mqtt>
    <queued-messages><max-queue-size>100000</max-queue-size></queued-messages>
    <receive-maximum><server-receive-maximum>1000</server-receive-maximum></receive-maximum>
  </mqtt>
</hivemq>
XML
exec java -Xms1g -Xmx2g -XX:+UseG1GC -Djava.awt.headless=true \
	--add-opens java.base/java.lang=ALL-UNNAMED --add-opens java.base/java.nio=ALL-UNNAMED \
	--add-opens java.base/sun.nio.ch=ALL-UNNAMED --add-exports java.base/jdk.internal.misc=ALL-UNNAMED \
	--add-opens jdk.management/com.sun.management.internal=ALL-UNNAMED \
	-cp "$jars/*" "$here/Broker.java" "$data/conf" "$data/data"
