# shellcheck shell=bash
# Shared by the scripts in this folder, which source it: where downloads are kept, and how a server is awaited and stopped.

servers=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)

# Downloads live outside the checkout, so that a clean checkout does not fetch them again.
cache=${WAREHOUSE_SYNC_TEST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/warehouse-sync-tests}

# The folder's name carries its pins: a changed pin is a new folder, and two checkouts with different pins do not fight.
pinned() { printf '%s/%s-%s' "$cache" "$1" "$(cksum <"$servers/$2" | cut -d ' ' -f 1)"; }
# shellcheck disable=SC2034 # used by the scripts that source this file
kafka_home=$(pinned kafka kafka-pom.xml)
# shellcheck disable=SC2034
python_home=$(pinned python requirements.txt)

fail() {
  printf '%s: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# await SECONDS COMMAND...: runs the command until it succeeds; fails when the time is over.
await() {
  local deadline=$((SECONDS + $1))
  shift
  until "$@"; do
    ((SECONDS < deadline)) || return 1
    sleep 0.05
  done
}

free_ports() { "$python_home/bin/python" "$servers/free_ports.py" "$@"; }

# refuse_taken PORT...: another program that answers there would be taken for the server.
refuse_taken() {
  local port
  for port in "$@"; do
    ! (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || fail "port $port is taken by another program"
  done
}

# started PID: when the process began, in clock ticks since boot; empty when it is gone or only waits to be reaped.
started() {
  local stat fields
  stat=$(cat "/proc/$1/stat" 2>/dev/null) || return 0
  # The name before the last ")" may hold spaces. After it: state 1st, number of threads 18th, start time 20th. A dead
  # process holds its ports for as long as one of its threads is left.
  read -ra fields <<<"${stat##*) }"
  [ "${fields[0]}" = Z ] && [ "${fields[17]}" -le 1 ] || echo "${fields[19]}"
}

# launch DIR NAME COMMAND...: starts a server that outlives this script; its output goes to DIR/NAME.log, and DIR/NAME.pid
# holds its process id, then its start time, so that an id which the system has given away since is never taken for ours.
launch() {
  local dir=$1 name=$2
  shift 2
  # A session of its own: Ctrl-C at the terminal reaches the tests and not the server, which is stopped in good order after them.
  (exec setsid "$@") >>"$dir/$name.log" 2>&1 </dev/null &
  disown
  printf '%s\n' "$!" "$(started "$!")" >"$dir/$name.pid"
}

# abandon PIDFILE: for a start that failed or was interrupted, at worst before the file was written: leaves no server behind.
abandon() {
  [ -z "${!-}" ] || kill -KILL "$!" 2>/dev/null || true
  end "$1" KILL 10
}

# runs PIDFILE: whether the server that wrote this file is alive.
runs() {
  local pid since
  [ -s "$1" ] || return 1
  { read -r pid && read -r since; } <"$1" || return 1
  [ -n "$since" ] && [ "$(started "$pid")" = "$since" ]
}

stopped() { ! runs "$1"; }

# end PIDFILE SIGNAL SECONDS: sends the signal and waits. A server that ignores it for so long is killed, and that is an error.
end() {
  local pid
  if runs "$1"; then
    read -r pid <"$1"
    kill "-$2" "$pid" 2>/dev/null || true
    if ! await "$3" stopped "$1"; then
      kill -KILL "$pid" 2>/dev/null || true
      rm -f "$1"
      fail "process $pid did not end within $3 s of SIG$2 and was killed"
    fi
  fi
  rm -f "$1"
}

# start_failed LOG MESSAGE: says what failed, after the end of the server's log.
start_failed() {
  printf '%s\n' "--- end of $1" >&2
  tail -n 40 "$1" >&2 || true
  fail "$2"
}
