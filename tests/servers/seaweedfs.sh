#!/usr/bin/env bash
# SeaweedFS, an S3 server that checks signatures and conditional writes, for the tests: on 127.0.0.1 only.
#
#   seaweedfs.sh start DIR PORT   start, wait until it takes writes, make the bucket `test-bucket`, print its address
#   seaweedfs.sh stop  DIR        stop; what was written stays for a later start
#
# Keys: `test-access-key` / `test-secret-key` may do everything, `read-only-key` / `read-only-secret` may only read and list.
# Takes eight ports: PORT to PORT+3 and each of these plus 10000; `auto` as PORT chooses free ones. Everything is below DIR:
# data/, port, seaweedfs.pid (process id, then start time), seaweedfs.log.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

usage() {
  sed -n '4,5s/^# *//p' "${BASH_SOURCE[0]}" >&2
  exit 2
}

write_identities() {
  cat <<'J'
{
  "identities": [
    {
      "name": "tests",
      "credentials": [{ "accessKey": "test-access-key", "secretKey": "test-secret-key" }],
      "actions": ["Admin", "Read", "List", "Tagging", "Write"]
    },
    {
      "name": "reader",
      "credentials": [{ "accessKey": "read-only-key", "secretKey": "read-only-secret" }],
      "actions": ["Read", "List"]
    }
  ]
}
J
}

# Serving, or dead: both end the wait.
serves_or_died() {
  ! runs "$pidfile" || "$python_home/bin/python" "$servers/seaweedfs_ready.py" \
    "$port" test-bucket test-access-key test-secret-key 2>"$dir/ready.log"
}

# Killed: in good order it waits 15 s for streams between its own parts. It leaves sockets that only its port names.
stop() {
  end "$pidfile" KILL 10
  [ ! -f "$dir/port" ] || for offset in 0 1 2 3; do
    rm -f "/tmp/seaweedfs-"*"-grpc-$(($(cat "$dir/port") + offset + 10000)).sock"
  done
}

start() {
  [ -f "$python_home/complete" ] || fail "SeaweedFS is not installed: run tests/servers/setup.sh"
  [ "$port" != auto ] || port=$(free_ports 0 1 2 3 10000 10001 10002 10003)
  ! runs "$pidfile" || fail "a server already runs in $dir"
  for offset in 0 1 2 3; do
    refuse_taken $((port + offset)) $((port + offset + 10000))
  done
  mkdir -p "$dir/data"
  write_identities >"$dir/s3.json"

  local options=(
    "-dir=$dir/data" -ip=127.0.0.1 -ip.bind=127.0.0.1
    -s3 "-s3.port=$port" "-s3.config=$dir/s3.json"
    "-master.port=$((port + 1))" "-volume.port=$((port + 2))" "-filer.port=$((port + 3))"
    # Without these it reports to its makers, opens two fixed ports, and leaves files outside DIR.
    -master.telemetry=false -s3.port.iceberg=0 -s3.port.lance=0
    "-filer.localSocket=$dir/filer.sock" "-s3.localSocket=$dir/s3.sock"
    # Each bucket takes several volumes; the default of eight is used up by the second one.
    -master.volumeSizeLimitMB=64 -volume.max=200
    # As the real S3: a missing bucket is an error.
    -s3.autoCreateBucket=false
  )
  echo "$port" >"$dir/port"
  trap 'abandon "$pidfile"; stop' EXIT
  trap 'exit 143' TERM INT HUP
  launch "$dir" seaweedfs "$python_home/bin/weed" -logtostderr=true server "${options[@]}"
  await 60 serves_or_died || start_failed "$log" "SeaweedFS does not take writes within 60 s: $(tail -n 1 "$dir/ready.log")"
  runs "$pidfile" || start_failed "$log" "SeaweedFS ended while it started"
  trap - EXIT TERM INT HUP
  echo "http://127.0.0.1:$port"
}

[ $# -ge 2 ] || usage
mkdir -p "$2"
dir=$(cd "$2" && pwd)
pidfile=$dir/seaweedfs.pid
log=$dir/seaweedfs.log
port=${3:-}
case $1 in
  start)
    [ -n "$port" ] || usage
    start
    ;;
  stop) stop ;;
  *) usage ;;
esac
