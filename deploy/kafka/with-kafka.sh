#!/usr/bin/env bash
# Runs a command with an Apache Kafka beside it, whose address the command finds
# in FLEETLOG_TEST_KAFKA. The broker ends with the command, and the command's
# status is this script's.
#
#   KAFKA=auto|required|off with-kafka.sh COMMAND...
#
# KAFKA=auto (the default) runs the command without a broker when there is no
# JDK or no Maven, and says so; KAFKA=required fails then; KAFKA=off never starts
# one. When FLEETLOG_TEST_KAFKA is set already, that broker is used.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
case ${KAFKA:=auto} in
auto | required | off) ;;
*) echo "KAFKA is $KAFKA; it must be auto, required or off" >&2; exit 2 ;;
esac

if [[ $KAFKA == off ]]; then
	echo "Apache Kafka half NOT run: KAFKA=off"
	unset FLEETLOG_TEST_KAFKA
	exec "$@"
fi
if [[ -n ${FLEETLOG_TEST_KAFKA:-} ]]; then
	echo "Apache Kafka half: running against $FLEETLOG_TEST_KAFKA"
	exec "$@"
fi
if ! command -v java >/dev/null || ! command -v mvn >/dev/null; then
	echo "Apache Kafka half NOT run: no JDK/Maven found (apt-get install openjdk-17-jdk-headless maven)"
	[[ $KAFKA == auto ]] || exit 1
	exec "$@"
fi

scratch=$(mktemp -d)
broker=''
stop() {
	if [[ -n $broker ]]; then
		# Tests are over, so nothing is worth an orderly shutdown.
		kill -KILL "$broker" 2>/dev/null || true
		wait "$broker" 2>/dev/null || true
	fi
	rm -rf "$scratch"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

"$here/kafka.sh" --fetch-only # may take its time
"$here/kafka.sh" --port 0 --data "$scratch/data" --ready-file "$scratch/ready" >"$scratch/out" 2>&1 &
broker=$!
for ((i = 0; i < 1200; i++)); do
	[[ ! -e $scratch/ready ]] || break
	kill -0 "$broker" 2>/dev/null || break
	sleep 0.1
done
if [[ ! -e $scratch/ready ]]; then
	echo "Apache Kafka did not start; it said:" >&2
	cat "$scratch/out" "$scratch/data/kafka.log" >&2 2>/dev/null || true
	exit 1
fi
FLEETLOG_TEST_KAFKA=$(<"$scratch/ready")
export FLEETLOG_TEST_KAFKA
echo "Apache Kafka half: running against $FLEETLOG_TEST_KAFKA"
"$@"
