#!/usr/bin/env bash
# Runs duckdb_query.py beside it, with the Python that has DuckDB: `duckdb.sh DATABASE [SQL]`.
set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=common.sh
. "$(dirname "${BASH_SOURCE[0]}")/common.sh"
[ -f "$python_home/complete" ] || fail "DuckDB is not installed: run tests/servers/setup.sh"
exec "$python_home/bin/python" -X utf8 "$servers/duckdb_query.py" "$@"
