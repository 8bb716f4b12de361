-- The state of one warehouse-sync: a cache of what the destination's ledger says, and the place of
-- people's wishes. JSON bodies are the types of src/model; row_version guards every update.

CREATE TABLE connection (
    only_one    INTEGER PRIMARY KEY CHECK (only_one = 1),
    row_version INTEGER NOT NULL,
    body        TEXT    NOT NULL
) STRICT;

CREATE TABLE sync (
    name        TEXT    PRIMARY KEY,
    row_version INTEGER NOT NULL,
    body        TEXT    NOT NULL
) STRICT;

CREATE TABLE run (
    id          TEXT    PRIMARY KEY,
    sync        TEXT    NOT NULL,
    sequence    INTEGER NOT NULL,
    state       TEXT    NOT NULL,
    row_version INTEGER NOT NULL,
    planned_at  TEXT    NOT NULL,
    updated_at  TEXT    NOT NULL,
    body        TEXT    NOT NULL
) STRICT;

-- Planning twice is harmless: one run for each link of a chain.
CREATE UNIQUE INDEX run_chain ON run (sync, sequence) WHERE state <> 'cancelled';
CREATE INDEX run_open ON run (sync) WHERE state NOT IN ('committed', 'cancelled');
CREATE INDEX run_newest ON run (planned_at);

CREATE TABLE error (
    id   INTEGER PRIMARY KEY,
    at   TEXT    NOT NULL,
    sync TEXT,
    run  TEXT,
    body TEXT    NOT NULL
) STRICT;

CREATE INDEX error_newest ON error (at);

CREATE TABLE progress (
    sync TEXT PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;
