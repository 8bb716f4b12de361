"""Runs SQL with DuckDB, an independent reader of what the product wrote: `duckdb_query.py DATABASE [SQL]`.

DATABASE is a file or `:memory:`; without SQL the statements come from standard input. All statements run; the rows of the
last one are printed, one JSON object a line. Times are UTC. What JSON cannot hold without loss is a string: decimals,
dates and times (ISO 8601), UUIDs, NaN and infinities; bytes are hexadecimal. Whole numbers of any size are numbers.
"""

import datetime
import json
import math
import sys

import duckdb


def plain(value: object) -> object:
    match value:
        case None | bool() | int() | str():
            return value
        case float():
            return value if math.isfinite(value) else str(value)
        case bytes() | bytearray():
            return value.hex()
        case datetime.datetime() | datetime.date() | datetime.time():
            return value.isoformat()
        case dict():
            return {str(plain(key)): plain(item) for key, item in value.items()}
        case list() | tuple():
            return [plain(item) for item in value]
        case _:
            return str(value)


def main() -> None:
    if len(sys.argv) not in (2, 3):
        sys.exit("usage: duckdb_query.py DATABASE [SQL]")
    sql = sys.argv[2] if len(sys.argv) == 3 else sys.stdin.read()
    # No network: an extension that is not built in must fail at once instead of being looked for.
    connection = duckdb.connect(
        sys.argv[1], config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    )
    connection.execute("SET TimeZone = 'UTC'")
    try:
        result = None
        for statement in connection.extract_statements(sql):
            result = connection.execute(statement)
        names = [column[0] for column in result.description or []] if result else []
        if len(set(names)) != len(names):
            sys.exit(f"two columns have the same name: {names}")
        while names and (rows := result.fetchmany(10_000)):
            for row in rows:
                print(json.dumps(dict(zip(names, map(plain, row))), ensure_ascii=False))
    except duckdb.Error as error:
        sys.exit(str(error))


main()
