#!/usr/bin/env bash
# Runs a one-broker Apache Kafka (KRaft, combined mode) from Maven Central on
# loopback, in the foreground, until it gets SIGTERM or Ctrl-C. For development
# and tests: it has no authentication and keeps one copy of everything.
#
#   kafka.sh [--port N] [--data DIR] [--ready-file FILE] [--fetch-only]
#
#   --port N           port to listen on, 0 for a free one (default 9092)
#   --data DIR         where records are kept (default target/kafka)
#   --ready-file FILE  gets the broker's address, host:port, when it answers
#   --fetch-only       only fetch the jars
#
# The jars are fetched once, into ${XDG_CACHE_HOME:-~/.cache}/fleetlog/kafka.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
port=9092 data=target/kafka ready='' fetch_only=''
while (($#)); do
	case $1 in
	--port) port=$2; shift 2 ;;
	--data) data=$2; shift 2 ;;
	--ready-file) ready=$2; shift 2 ;;
	--fetch-only) fetch_only=yes; shift ;;
	*) echo "kafka.sh: unknown option $1; see the head of $0" >&2; exit 2 ;;
	esac
done

# shellcheck source=deploy/fetch-jars.sh
source "$here/../fetch-jars.sh"
fetch_jars kafka "Apache Kafka"
[[ -z $fetch_only ]] || exit 0

# in_use says whether something listens on the port.
in_use() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
free_port() {
	local p
	while p=$((20000 + RANDOM % 10000)) && in_use "$p"; do :; done
	echo "$p"
}
[[ $port != 0 ]] || port=$(free_port)
if in_use "$port"; then
	echo "kafka.sh: port $port is taken; choose another with --port" >&2
	exit 1
fi
controller=$(free_port)
while [[ $controller == "$port" ]]; do controller=$(free_port); done

mkdir -p "$data"
data=$(cd "$data" && pwd)
config=$data/server.properties log=$data/kafka.log
cat >"$config" <<PROPERTIES
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:$controller
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:$port,CONTROLLER://127.0.0.1:$controller
advertised.listeners=PLAINTEXT://127.0.0.1:$port
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs=$data/log
auto.create.topics.enable=false
default.replication.factor=1
min.insync.replicas=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=1
group.initial.rebalance.delay.ms=0
PROPERTIES

rm -f "$log" ${ready:+"$ready"}
jvm=(-Xms256m -Xmx1g -XX:+UseG1GC -Djava.awt.headless=true
	-Dfleetlog.kafka.log="$log" -Dlog4j2.configurationFile="$here/log4j2.xml" -cp "$jars/*")
java "${jvm[@]}" kafka.tools.StorageTool format --ignore-formatted \
	--cluster-id ZmxlZXRsb2cta2Fma2EtMQ --config "$config" >/dev/null

# $$ is the broker's process id once java has taken this shell's place.
(
	until grep -q 'Kafka Server started' "$log" 2>/dev/null; do
		kill -0 $$ 2>/dev/null || exit 0
		sleep 0.1
	done
	echo "Apache Kafka $version answers at 127.0.0.1:$port; use it with: fleetlog run --kafka 127.0.0.1:$port" >&2
	if [[ -n $ready ]]; then
		echo "127.0.0.1:$port" >"$ready.new"
		mv "$ready.new" "$ready"
	fi
) &
exec java "${jvm[@]}" kafka.Kafka "$config"
