-- warehouse-sync: the exported tables, read with Trino straight from the files in a bucket.
--
-- Replace the placeholders, then run the file once, for instance with `trino --file trino.sql`.
--
--   {{catalog}}         a catalog of the Hive connector (settings below)
--   {{schema}}          the schema that will hold the tables and views, e.g. klaviyo
--   {{location}}        the destination's root, s3://bucket/prefix, without a slash at the end
--   {{format}}          OPENX_JSON for ndjson.gz and ndjson.zst, PARQUET for parquet: what the connection writes
--   {{first_day}}       the first day of which there are files, e.g. 2026-09-01: the day of the first run
--   {{connection_ids}}  the connections that wrote here, ids separated by commas without blanks: the folders below
--                       _ledger/ other than genesis (one, unless the connection was made anew)
--
-- The catalog needs these settings:
--     connector.name=hive
--     hive.partition-projection-enabled=true    folders are found by their names, nothing is registered each hour
--     hive.timestamp-precision=MICROSECONDS     or write timestamp(3) for timestamp(6) below, and lose microseconds
--     hive.parquet.time-zone=UTC                Parquet only: otherwise times are shifted to the server's time zone
-- and read access to the bucket (s3:ListBucket, s3:GetObject).
--
-- What you get:
--   klaviyo_event, klaviyo_profile, klaviyo_metric                the newest version of each record, deleted ones hidden
--   klaviyo_event_committed, …_profile_…, …_metric_…              the same, of runs whose every file has arrived
--   klaviyo_rejected                                              records that are not Klaviyo resources, with the reason
--   klaviyo_event_versions, …_profile_…, …_metric_…, …_rejected_… every row of every file, and dt, hr (the folders)
--   klaviyo_run                                                   the ledger: one row for each committed run
--
-- Good to know
--   * Use OPENX_JSON, not JSON: OPENX_JSON gives a nested object that is read into varchar as JSON text, JSON
--     fails at it ("Failed to read file"). The text is rendered anew: equal as JSON, key order, letter case and
--     all digits kept, only 1E5 becomes 1E+5 and \/ becomes /. PARQUET gives the text as it was in the stream.
--   * JSON columns are varchar. json_extract_scalar(event_properties, '$["$value"]'): names that start with $ or
--     hold a blank need brackets and double quotes. Klaviyo sends [] for some empty objects: any member of it is NULL.
--   * One table reads one format. If the connection's format was changed on the way, give each format a schema of
--     its own with files of that format only (copy them), or read with DuckDB, which takes all at once.
--   * dt and hr are the hour of the run, not of the event. A filter on dt of a ..._versions table skips the other
--     folders. The newest version of a record may lie in any folder, so the other views read them all:
--     for many queries copy once, CREATE TABLE … AS SELECT * FROM klaviyo_event.
--   * A table without files (no record was ever rejected, say) is empty, not an error.
--   * klaviyo_run sees NNN.done only when it holds at least one character.
--
-- Tested: this whole file on Trino 470 with an S3 server, over gzip and Zstandard NDJSON (OPENX_JSON). Of PARQUET
-- only reading such a table and the two time settings were tried there, not this whole file. Other versions of
-- Trino, Glue as metastore and AWS itself: not run here.

CREATE SCHEMA IF NOT EXISTS {{catalog}}.{{schema}};
USE {{catalog}}.{{schema}};

-- 1. Every version: external tables over the files -----------------------------------------------------------
-- To change one, DROP TABLE it and create it again: the tables are external, the files stay.

CREATE TABLE IF NOT EXISTS klaviyo_event_versions (
    "id"               varchar,
    "datetime"         timestamp(6),
    "metric_id"        varchar,
    "metric_name"      varchar,
    "integration_id"   varchar,
    "integration_key"  varchar,
    "integration_name" varchar,
    "profile_id"       varchar,
    "uuid"             varchar,
    "event_properties" varchar,  -- JSON text
    "attributes"       varchar,  -- JSON text
    "relationships"    varchar,  -- JSON text
    "_deleted"         boolean,
    "_version"         bigint,
    "_partition"       bigint,
    "_offset"          bigint,
    "_timestamp"       timestamp(6),
    "_original"        varchar,
    "_checksum"        bigint,
    "_run_id"          varchar,
    "_synced_at"       timestamp(6),
    "dt"               varchar WITH (
        partition_projection_type = 'DATE', partition_projection_format = 'yyyy-MM-dd',
        partition_projection_range = ARRAY['{{first_day}}', 'NOW+1DAYS'],
        partition_projection_interval = 1, partition_projection_interval_unit = 'DAYS'),
    "hr"               varchar WITH (
        partition_projection_type = 'INTEGER', partition_projection_range = ARRAY['0', '23'],
        partition_projection_digits = 2)
)
WITH (
    format = '{{format}}',
    external_location = '{{location}}/klaviyo_event/',
    partitioned_by = ARRAY['dt', 'hr'],
    partition_projection_enabled = true
);

CREATE TABLE IF NOT EXISTS klaviyo_profile_versions (
    "id"                   varchar,
    "email"                varchar,
    "phone_number"         varchar,
    "external_id"          varchar,
    "first_name"           varchar,
    "last_name"            varchar,
    "organization"         varchar,
    "title"                varchar,
    "locale"               varchar,
    "created"              timestamp(6),
    "updated"              timestamp(6),
    "last_event_date"      timestamp(6),
    "location"             varchar,  -- JSON text
    "properties"           varchar,  -- JSON text
    "subscriptions"        varchar,  -- JSON text
    "predictive_analytics" varchar,  -- JSON text
    "attributes"           varchar,  -- JSON text
    "relationships"        varchar,  -- JSON text
    "_deleted"             boolean,
    "_version"             bigint,
    "_partition"           bigint,
    "_offset"              bigint,
    "_timestamp"           timestamp(6),
    "_original"            varchar,
    "_checksum"            bigint,
    "_run_id"              varchar,
    "_synced_at"           timestamp(6),
    "dt"                   varchar WITH (
        partition_projection_type = 'DATE', partition_projection_format = 'yyyy-MM-dd',
        partition_projection_range = ARRAY['{{first_day}}', 'NOW+1DAYS'],
        partition_projection_interval = 1, partition_projection_interval_unit = 'DAYS'),
    "hr"                   varchar WITH (
        partition_projection_type = 'INTEGER', partition_projection_range = ARRAY['0', '23'],
        partition_projection_digits = 2)
)
WITH (
    format = '{{format}}',
    external_location = '{{location}}/klaviyo_profile/',
    partitioned_by = ARRAY['dt', 'hr'],
    partition_projection_enabled = true
);

CREATE TABLE IF NOT EXISTS klaviyo_metric_versions (
    "id"                   varchar,
    "name"                 varchar,
    "integration_id"       varchar,
    "integration_key"      varchar,
    "integration_name"     varchar,
    "integration_category" varchar,
    "created"              timestamp(6),
    "updated"              timestamp(6),
    "attributes"           varchar,  -- JSON text
    "_deleted"             boolean,
    "_version"             bigint,
    "_partition"           bigint,
    "_offset"              bigint,
    "_timestamp"           timestamp(6),
    "_original"            varchar,
    "_checksum"            bigint,
    "_run_id"              varchar,
    "_synced_at"           timestamp(6),
    "dt"                   varchar WITH (
        partition_projection_type = 'DATE', partition_projection_format = 'yyyy-MM-dd',
        partition_projection_range = ARRAY['{{first_day}}', 'NOW+1DAYS'],
        partition_projection_interval = 1, partition_projection_interval_unit = 'DAYS'),
    "hr"                   varchar WITH (
        partition_projection_type = 'INTEGER', partition_projection_range = ARRAY['0', '23'],
        partition_projection_digits = 2)
)
WITH (
    format = '{{format}}',
    external_location = '{{location}}/klaviyo_metric/',
    partitioned_by = ARRAY['dt', 'hr'],
    partition_projection_enabled = true
);

CREATE TABLE IF NOT EXISTS klaviyo_rejected_versions (
    "stream"         varchar,
    "key"            varchar,
    "key_encoding"   varchar,
    "value"          varchar,
    "value_encoding" varchar,
    "reason"         varchar,
    "detail"         varchar,
    "_version"       bigint,
    "_partition"     bigint,
    "_offset"        bigint,
    "_timestamp"     timestamp(6),
    "_checksum"      bigint,
    "_run_id"        varchar,
    "_synced_at"     timestamp(6),
    "dt"             varchar WITH (
        partition_projection_type = 'DATE', partition_projection_format = 'yyyy-MM-dd',
        partition_projection_range = ARRAY['{{first_day}}', 'NOW+1DAYS'],
        partition_projection_interval = 1, partition_projection_interval_unit = 'DAYS'),
    "hr"             varchar WITH (
        partition_projection_type = 'INTEGER', partition_projection_range = ARRAY['0', '23'],
        partition_projection_digits = 2)
)
WITH (
    format = '{{format}}',
    external_location = '{{location}}/klaviyo_rejected/',
    partitioned_by = ARRAY['dt', 'hr'],
    partition_projection_enabled = true
);

-- 2. The newest version of each record -----------------------------------------------------------------------
-- Newer = greater (_version, _partition, _offset). A connection that was made anew delivers the same record
-- with the same three values again; _synced_at and _run_id then choose one of them, always the same.
-- A deletion is a row too: it wins first, and is hidden only then, so that an older version stays hidden.

CREATE OR REPLACE VIEW klaviyo_event AS
SELECT "id", "datetime", "metric_id", "metric_name", "integration_id", "integration_key", "integration_name",
       "profile_id", "uuid", "event_properties", "attributes", "relationships", "_deleted", "_version", "_partition",
       "_offset", "_timestamp", "_original", "_checksum", "_run_id", "_synced_at"
FROM (
    SELECT v.*, row_number() OVER (PARTITION BY id
        ORDER BY "_version" DESC, "_partition" DESC, "_offset" DESC, "_synced_at" DESC, "_run_id" DESC) AS newest
    FROM klaviyo_event_versions v
)
WHERE newest = 1 AND NOT "_deleted";

CREATE OR REPLACE VIEW klaviyo_profile AS
SELECT "id", "email", "phone_number", "external_id", "first_name", "last_name", "organization", "title", "locale",
       "created", "updated", "last_event_date", "location", "properties", "subscriptions", "predictive_analytics",
       "attributes", "relationships", "_deleted", "_version", "_partition", "_offset", "_timestamp", "_original",
       "_checksum", "_run_id", "_synced_at"
FROM (
    SELECT v.*, row_number() OVER (PARTITION BY id
        ORDER BY "_version" DESC, "_partition" DESC, "_offset" DESC, "_synced_at" DESC, "_run_id" DESC) AS newest
    FROM klaviyo_profile_versions v
)
WHERE newest = 1 AND NOT "_deleted";

CREATE OR REPLACE VIEW klaviyo_metric AS
SELECT "id", "name", "integration_id", "integration_key", "integration_name", "integration_category", "created",
       "updated", "attributes", "_deleted", "_version", "_partition", "_offset", "_timestamp", "_original",
       "_checksum", "_run_id", "_synced_at"
FROM (
    SELECT v.*, row_number() OVER (PARTITION BY id
        ORDER BY "_version" DESC, "_partition" DESC, "_offset" DESC, "_synced_at" DESC, "_run_id" DESC) AS newest
    FROM klaviyo_metric_versions v
)
WHERE newest = 1 AND NOT "_deleted";

-- Rejected records have no id of ours: one row for each place in the stream. One that was replayed with
-- success since stays here; `warehouse-sync rejected list` shows only those that are still open.
CREATE OR REPLACE VIEW klaviyo_rejected AS
SELECT "stream", "key", "key_encoding", "value", "value_encoding", "reason", "detail", "_version", "_partition",
       "_offset", "_timestamp", "_checksum", "_run_id", "_synced_at"
FROM (
    SELECT v.*, row_number() OVER (PARTITION BY stream, "_partition", "_offset", "_timestamp"
        ORDER BY "_version" DESC, "_synced_at" DESC, "_run_id" DESC) AS newest
    FROM klaviyo_rejected_versions v
)
WHERE newest = 1;

-- 3. Whole runs only -----------------------------------------------------------------------------------------
-- A run is committed when its ledger entry (NNN.json) exists; its files are brought to their places after
-- that, and NNN.done is written last. In between, the views above show a part of the run; these do not.
-- An entry is read line by line and searched for the run's id, so that it may be compact or pretty-printed.

CREATE TABLE IF NOT EXISTS klaviyo_ledger_lines (
    line          varchar,
    connection_id varchar WITH (
        partition_projection_type = 'ENUM',
        partition_projection_values = split('{{connection_ids}}', ',')),
    sync          varchar WITH (
        partition_projection_type = 'ENUM',
        partition_projection_values = ARRAY[
            'events-historical', 'events-periodic', 'events-replay', 'profiles-historical', 'profiles-periodic',
            'profiles-replay', 'metrics-periodic', 'metrics-replay'])
)
WITH (
    format = 'TEXTFILE',
    textfile_field_separator = U&'\0001',  -- a character that JSON never holds: one column, the whole line
    external_location = '{{location}}/_ledger/',
    partitioned_by = ARRAY['connection_id', 'sync'],
    partition_projection_enabled = true,
    partition_projection_location_template = '{{location}}/_ledger/${connection_id}/${sync}/'
);

CREATE OR REPLACE VIEW klaviyo_run AS
SELECT DISTINCT
    entry.connection_id,
    entry.sync,
    CAST(regexp_extract(entry."$path", '([0-9]+)\.json$', 1) AS bigint) AS sequence,
    regexp_extract(entry.line, '"run"\s*:\s*"([0-9a-f-]{36})"', 1) AS run_id,
    done.path IS NOT NULL AS complete
FROM klaviyo_ledger_lines entry
LEFT JOIN (SELECT DISTINCT "$path" AS path FROM klaviyo_ledger_lines WHERE "$path" LIKE '%.done') done
    ON done.path = regexp_replace(entry."$path", '\.json$', '.done')
WHERE entry."$path" LIKE '%.json'
  AND regexp_like(entry.line, '"run"\s*:\s*"[0-9a-f-]{36}"');

CREATE OR REPLACE VIEW klaviyo_event_committed AS
SELECT "id", "datetime", "metric_id", "metric_name", "integration_id", "integration_key", "integration_name",
       "profile_id", "uuid", "event_properties", "attributes", "relationships", "_deleted", "_version", "_partition",
       "_offset", "_timestamp", "_original", "_checksum", "_run_id", "_synced_at"
FROM (
    SELECT v.*, row_number() OVER (PARTITION BY id
        ORDER BY "_version" DESC, "_partition" DESC, "_offset" DESC, "_synced_at" DESC, "_run_id" DESC) AS newest
    FROM klaviyo_event_versions v
    WHERE "_run_id" IN (SELECT run_id FROM klaviyo_run WHERE complete)
)
WHERE newest = 1 AND NOT "_deleted";

CREATE OR REPLACE VIEW klaviyo_profile_committed AS
SELECT "id", "email", "phone_number", "external_id", "first_name", "last_name", "organization", "title", "locale",
       "created", "updated", "last_event_date", "location", "properties", "subscriptions", "predictive_analytics",
       "attributes", "relationships", "_deleted", "_version", "_partition", "_offset", "_timestamp", "_original",
       "_checksum", "_run_id", "_synced_at"
FROM (
    SELECT v.*, row_number() OVER (PARTITION BY id
        ORDER BY "_version" DESC, "_partition" DESC, "_offset" DESC, "_synced_at" DESC, "_run_id" DESC) AS newest
    FROM klaviyo_profile_versions v
    WHERE "_run_id" IN (SELECT run_id FROM klaviyo_run WHERE complete)
)
WHERE newest = 1 AND NOT "_deleted";

CREATE OR REPLACE VIEW klaviyo_metric_committed AS
SELECT "id", "name", "integration_id", "integration_key", "integration_name", "integration_category", "created",
       "updated", "attributes", "_deleted", "_version", "_partition", "_offset", "_timestamp", "_original",
       "_checksum", "_run_id", "_synced_at"
FROM (
    SELECT v.*, row_number() OVER (PARTITION BY id
        ORDER BY "_version" DESC, "_partition" DESC, "_offset" DESC, "_synced_at" DESC, "_run_id" DESC) AS newest
    FROM klaviyo_metric_versions v
    WHERE "_run_id" IN (SELECT run_id FROM klaviyo_run WHERE complete)
)
WHERE newest = 1 AND NOT "_deleted";

-- 4. Examples ------------------------------------------------------------------------------------------------
-- Metric names are not unique (several integrations have a "Placed Order") and can be renamed: filter by
-- integration_key too, or by metric_id. Properties come from the shop and may be text or number: TRY_CAST.

-- Revenue and orders for each day (UTC) and currency.
--   SELECT date("datetime") AS day,
--          json_extract_scalar(event_properties, '$["$value_currency"]') AS currency,
--          count(*) AS orders,
--          sum(TRY_CAST(json_extract_scalar(event_properties, '$["$value"]') AS decimal(18, 2))) AS revenue
--   FROM klaviyo_event
--   WHERE metric_name = 'Placed Order' AND integration_key = 'shopify'
--   GROUP BY 1, 2 ORDER BY 1, 2

-- Open rate of each e-mail: people who opened it, of those who received it.
--   SELECT message, campaign, received, opened, round(100.0 * opened / nullif(received, 0), 1) AS open_rate_percent
--   FROM (
--       SELECT json_extract_scalar(event_properties, '$["$message"]') AS message,
--              max(json_extract_scalar(event_properties, '$["Campaign Name"]')) AS campaign,
--              count(DISTINCT CASE WHEN metric_name = 'Received Email' THEN profile_id END) AS received,
--              count(DISTINCT CASE WHEN metric_name = 'Opened Email' THEN profile_id END) AS opened
--       FROM klaviyo_event
--       WHERE metric_name IN ('Received Email', 'Opened Email') AND integration_key = 'klaviyo'
--       GROUP BY 1)
--   ORDER BY received DESC

-- Events of each integration and metric in the last 30 days.
--   SELECT coalesce(integration_name, '(none)') AS integration, metric_name, metric_id,
--          count(*) AS events, max("datetime") AS latest
--   FROM klaviyo_event
--   WHERE "datetime" >= CAST(current_date - INTERVAL '30' DAY AS timestamp)
--   GROUP BY 1, 2, 3 ORDER BY events DESC

-- Best customers: profiles joined to their orders.
--   SELECT p.id, p.email, json_extract_scalar(p."location", '$.country') AS country, count(*) AS orders,
--          sum(TRY_CAST(json_extract_scalar(e.event_properties, '$["$value"]') AS decimal(18, 2))) AS revenue
--   FROM klaviyo_profile p
--   JOIN klaviyo_event e ON e.profile_id = p.id
--   WHERE e.metric_name = 'Placed Order'
--   GROUP BY 1, 2, 3 ORDER BY revenue DESC LIMIT 100

-- What was rejected, and why.
--   SELECT stream, reason, count(*) AS records, min("_timestamp") AS first_seen, max("_timestamp") AS last_seen
--   FROM klaviyo_rejected GROUP BY 1, 2 ORDER BY records DESC
