#!/usr/bin/env bash
# A real Apache Kafka broker for the tests: one node (KRaft), on 127.0.0.1 only.
#
#   kafka.sh start   DIR PORT [EXTRA]    start, wait until it serves clients, print HOST:PORT
#   kafka.sh stop    DIR                 stop in good order (SIGTERM)
#   kafka.sh restart DIR [PORT [EXTRA]]  stop, then start on the same data; the port may be left out
#   kafka.sh kill9   DIR                 SIGKILL, as in a crash; `restart` brings it back
#
# Takes three ports: PORT plain, PORT+1 SASL_PLAINTEXT with SCRAM-SHA-256 (user `sync`, password `sync-secret`), PORT+2 its
# own controller; `auto` as PORT chooses free ones. Everything is below DIR: data/, port, kafka.pid (process id, then start
# time), kafka.log. EXTRA is a file of further server.properties lines, which win over kafka.properties; it is kept in DIR for
# later starts. KAFKA_JVM_OPTIONS adds options to the broker's Java.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  sed -n '4,7s/^# *//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

write_properties() {
  cat "$servers/kafka.properties" - <<P

listeners=PLAINTEXT://127.0.0.1:$port,SASL://127.0.0.1:$((port + 1)),CONTROLLER://127.0.0.1:$((port + 2))
controller.quorum.voters=1@127.0.0.1:$((port + 2))
log.dirs=$dir/data
P
  [ ! -f "$dir/extra.properties" ] || cat "$dir/extra.properties"
}

# The user of the SASL listener is part of the format, so that it exists before the first client can ask.
format() {
  local id
  # 16 random bytes in URL-safe base64 without padding. It starts with a letter: a "-" would be read as an option.
  id=A$(head -c 16 /dev/urandom | base64 | tr '+/' '-_' | cut -c 2-22)
  "${java[@]}" kafka.tools.StorageTool format --cluster-id "$id" --config "$dir/server.properties" \
    --add-scram 'SCRAM-SHA-256=[name=sync,password=sync-secret]' >>"$log" 2>&1 </dev/null \
    || start_failed "$log" "could not format $dir/data"
}

# Serving, or dead: both end the wait.
serves_or_died() {
  ! runs "$pidfile" || "$python_home/bin/python" "$servers/kafka_ready.py" "$port" 2>"$dir/ready.log"
}

start() {
  [ -f "$kafka_home/complete" ] || fail "Kafka is not installed: run tests/servers/setup.sh"
  [ "$port" != auto ] || port=$(free_ports 0 1 2)
  ! runs "$pidfile" || fail "a broker already runs in $dir"
  refuse_taken "$port" "$((port + 1))" "$((port + 2))"
  [ -z "$extra" ] || cp "$extra" "$dir/extra.properties"
  echo "$port" >"$dir/port"
  write_properties >"$dir/server.properties"

  # Serial collector and first-level compiler: quick start and little memory matter more here than peak speed.
  java=("$kafka_home/java" -Xms128m -Xmx512m -XX:+UseSerialGC -XX:TieredStopAtLevel=1
    "-Dlog4j2.configurationFile=file:$servers/kafka-log4j2.properties")
  # Classes from a memory image that setup.sh makes: half the start time. Java goes on without an image that does not fit it.
  [ ! -f "$kafka_home/classes.jsa" ] || java+=("-XX:SharedArchiveFile=$kafka_home/classes.jsa")
  java+=(-cp "$kafka_home/jars/*")

  trap 'abandon "$pidfile"' EXIT
  trap 'exit 143' TERM INT HUP
  [ -f "$dir/data/meta.properties" ] || format
  # Each partition keeps several files open, and tests make thousands of partitions.
  ulimit -n "$(ulimit -Hn)"
  # KAFKA_JVM_OPTIONS is a list of words.
  # shellcheck disable=SC2086
  launch "$dir" kafka "${java[@]}" ${KAFKA_JVM_OPTIONS:-} kafka.Kafka "$dir/server.properties"
  await 120 serves_or_died || start_failed "$log" "the broker does not serve within 120 s: $(tail -n 1 "$dir/ready.log")"
  runs "$pidfile" || start_failed "$log" "the broker ended while it started"
  trap - EXIT TERM INT HUP
  echo "127.0.0.1:$port"
}

[ $# -ge 2 ] || usage
command=$1
mkdir -p "$2"
dir=$(cd "$2" && pwd)
pidfile=$dir/kafka.pid
log=$dir/kafka.log
touch "$log"
port=${3:-$(cat "$dir/port" 2>/dev/null || true)}
extra=${4:-}
case $command in
  start | restart)
    [ -n "$port" ] || usage
    [ "$command" = start ] || end "$pidfile" TERM 60
    start
    ;;
  stop) end "$pidfile" TERM 60 ;;
  kill9) end "$pidfile" KILL 10 ;;
  *) usage ;;
esac
