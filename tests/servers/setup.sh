#!/usr/bin/env bash
# Installs what the build and the tests need, and only what is missing: system packages by apt-get (through sudo unless run
# as root), then the servers of the tests into a cache outside the checkout. Says what it installs; says nothing, and uses no
# network, when all is there.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"

say() { printf 'setup: %s\n' "$*"; }
have() { command -v "$1" >/dev/null 2>&1; }

# The oldest Java that the broker runs on.
java_17() {
  local version
  version=$("$1" -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p')
  [ "${version:-0}" -ge 17 ]
}

# Prints the first Java that is new enough; the one on the path may be older than another that is installed.
find_java() {
  local java
  for java in "${JAVA_HOME:-/nowhere}/bin/java" "$(command -v java)" /usr/lib/jvm/*/bin/java; do
    if [ -x "$java" ] && java_17 "$java"; then
      readlink -f "$java"
      return
    fi
  done
  return 1
}

# The oldest Python that duckdb's wheels are built for, able to make a virtual environment with pip.
python_ok() { "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; }
find_python() {
  local python
  for python in python3 /usr/bin/python3; do
    if have "$python" && python_ok "$python"; then
      command -v "$python"
      return
    fi
  done
  return 1
}

kafka_complete() { [ -f "$kafka_home/complete" ] && [ -x "$kafka_home/java" ]; }
python_complete() { [ -f "$python_home/complete" ] && "$python_home/bin/python" -c '' 2>/dev/null; }

system_packages() {
  local missing=()
  # librdkafka, OpenSSL, SQLite, zlib and zstd are compiled from source.
  have gcc || missing+=(gcc libc6-dev)
  have g++ || missing+=(g++)
  have make || missing+=(make)
  have pkg-config || missing+=(pkg-config)
  # OpenSSL's Configure needs modules that the perl of a minimal system lacks.
  perl -MFindBin -MIPC::Cmd -MFile::Compare -MFile::Copy -e 1 2>/dev/null || missing+=(perl)
  kafka_complete || {
    find_java >/dev/null || missing+=(java)
    have mvn || missing+=(maven)
  }
  python_complete || find_python >/dev/null || missing+=(python3 python3-venv)
  [ ${#missing[@]} -gt 0 ] || return 0

  have apt-get || fail "please install these, or their like (there is no apt-get here): ${missing[*]}"
  local root=()
  if [ "$(id -u)" -ne 0 ]; then
    have sudo || fail "please install these as root (there is no sudo here): ${missing[*]}"
    root=(sudo)
  fi
  # A machine that has just started may still be updating itself: wait for its lock.
  local apt=("${root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o DPkg::Lock::Timeout=300)
  say "installing system packages: ${missing[*]}"
  "${apt[@]}" update || fail "apt-get update failed"
  # Java 17 where the system has it, else the system's own choice.
  if [[ " ${missing[*]} " == *" java "* ]]; then
    local java=default-jre-headless
    [ -z "$(apt-cache madison openjdk-17-jre-headless)" ] || java=openjdk-17-jre-headless
    missing=("${missing[@]/#java/$java}")
  fi
  "${apt[@]}" -o Dpkg::Use-Pty=0 install -y --no-install-recommends "${missing[@]}" >"$cache/apt.log" 2>&1 || {
    tail -n 30 "$cache/apt.log" >&2
    fail "apt-get could not install: ${missing[*]}"
  }
}

install_python() {
  local python
  python=$(find_python) || fail "no Python 3.10 or newer with the modules venv and ensurepip"
  say "installing SeaweedFS and DuckDB into $python_home"
  rm -rf "$python_home"
  "$python" -m venv "$python_home"
  "$python_home/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    -r "$servers/requirements.txt" || fail "pip could not install requirements.txt"
  touch "$python_home/complete"
}

install_kafka() {
  local java
  java=$(find_java) || fail "no Java 17 or newer"
  say "installing Kafka into $kafka_home"
  rm -rf "$kafka_home"
  mkdir -p "$kafka_home"
  ln -s "$java" "$kafka_home/java"
  mvn --batch-mode -f "$servers/kafka-pom.xml" org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies \
    -DincludeScope=runtime "-DoutputDirectory=$kafka_home/jars" >"$cache/maven.log" 2>&1 || {
    tail -n 30 "$cache/maven.log" >&2
    fail "Maven could not fetch what kafka-pom.xml lists"
  }
  touch "$kafka_home/complete"

  # Start it once: that shows that it runs here, and leaves an image of its loaded classes, which halves the time of later starts.
  local scratch
  scratch=$(mktemp -d)
  if ! KAFKA_JVM_OPTIONS="-XX:ArchiveClassesAtExit=$kafka_home/classes.jsa" "$servers/kafka.sh" start "$scratch" auto >/dev/null \
    || ! "$servers/kafka.sh" stop "$scratch"; then
    rm -rf "$kafka_home/complete" "$scratch"
    fail "the broker does not run on this machine"
  fi
  rm -rf "$scratch"
}

mkdir -p "$cache"
# Two test runs at once must not install into the same folder.
exec 9>"$cache/lock"
flock --nonblock 9 || {
  say "waiting for another setup"
  flock 9
}
system_packages 9>&-
python_complete || install_python 9>&-
kafka_complete || install_kafka 9>&-
