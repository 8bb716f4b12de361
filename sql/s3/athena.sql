-- warehouse-sync: the exported tables, read with Amazon Athena (engine version 3) straight from the bucket.
--
-- NOT RUN AGAINST ATHENA. The statements follow AWS's guide. Athena's engine version 3 is built on Trino: the views
-- of sections 3 and 4 and the examples are, word for word, those of trino.sql, which were run on Trino 470. The
-- tables and the views of section 2 were only parsed. Do the checks below after creating the tables.
--
-- Replace the placeholders, select the database, run the statements one after the other.
--
--   {{database}}        the Glue database that will hold the tables and views, e.g. klaviyo
--   {{location}}        the destination's root, s3://bucket/prefix, without a slash at the end
--   {{first_day}}       the first day of which there are files, e.g. 2026-09-01: the day of the first run
--   {{connection_ids}}  the connections that wrote here, ids separated by commas without blanks: the folders below
--                       _ledger/ other than genesis (one, unless the connection was made anew)
--   {{timestamp_type}}  timestamp if the connection writes parquet; string if it writes ndjson.gz or ndjson.zst
--   {{row_format}}      for parquet: STORED AS PARQUET
--                       for ndjson, all on one line:
-- ROW FORMAT SERDE 'org.openx.data.jsonserde.JsonSerDe' WITH SERDEPROPERTIES ('case.insensitive' = 'false') STORED AS TEXTFILE
--
-- Reading needs s3:ListBucket and s3:GetObject on the bucket. (policy.json beside this file is for the writer.)
--
-- What you get:
--   klaviyo_event, klaviyo_profile, klaviyo_metric                the newest version of each record, deleted ones hidden
--   klaviyo_event_committed, …_profile_…, …_metric_…              the same, of runs whose every file has arrived
--   klaviyo_rejected                                              records that are not Klaviyo resources, with the reason
--   klaviyo_event_versions, …_profile_…, …_metric_…, …_rejected_… every row of every file, and dt, hr (the folders)
--   klaviyo_run                                                   the ledger: one row for each committed run
--
-- Which format. If Athena is your main reader, let the connection write parquet: JSON columns are plain text there,
-- no SerDe stands between, and less is scanned. For NDJSON:
--   * the OpenX SerDe is the one whose text columns take any JSON value: a nested object read into a string column
--     becomes JSON text (its source code does so, and so does Trino's reader of the same name; AWS's guide does not
--     say it). AWS warns that OpenX results can be non-deterministic and names the Hive JSON SerDe instead; of that
--     one Trino's implementation fails on nested objects in text columns.
--   * 'case.insensitive' = 'false' is needed: by default this SerDe turns the keys of nested objects into lower case
--     ("ProductName" would be "productname") and fails on {"URL": 1, "Url": 2}. Our own columns are lower case.
--   * integers are 64 bits in bigint columns; numbers inside JSON text may be rendered anew (1.10 as 1.1).
--
-- Check after creating, with NDJSON:
--     SELECT event_properties FROM klaviyo_event_versions WHERE event_properties IS NOT NULL LIMIT 20
--         every value begins with { or [, keys have capital letters where Klaviyo has them
--     SELECT count(*), count(id), count("_version"), count("_synced_at") FROM klaviyo_event_versions
--         four equal numbers
-- and with Parquet:
--     SELECT max("_synced_at") FROM klaviyo_event_versions
--         the time of the latest run in UTC (Trino shifts Parquet times to its server's time zone by default)
--
-- Good to know
--   * JSON columns are varchar. json_extract_scalar(event_properties, '$["$value"]'): names that start with $ or
--     hold a blank need brackets and double quotes. Klaviyo sends [] for some empty objects: any member of it is NULL.
--   * One table reads one format, and Athena reads every file below LOCATION. If the connection's format was changed
--     on the way, copy the files of each format to a place of their own.
--   * dt and hr are the hour of the run, not of the event. A filter on dt of a ..._versions view skips the other
--     folders. The newest version of a record may lie in any folder, so the other views read them all: for many
--     queries copy once, CREATE TABLE … WITH (format = 'PARQUET') AS SELECT * FROM klaviyo_event.
--   * Folders are found by partition projection, nothing is registered each hour. It lists 24 folders for each day
--     since {{first_day}}, empty or not.
--   * klaviyo_run sees NNN.done only when it holds at least one character.

CREATE DATABASE IF NOT EXISTS {{database}};

-- 1. External tables over the files --------------------------------------------------------------------------
-- To change one, DROP TABLE it and create it again: the tables are external, the files stay.

CREATE EXTERNAL TABLE IF NOT EXISTS klaviyo_event_files (
    `id`               string,
    `datetime`         {{timestamp_type}},
    `metric_id`        string,
    `metric_name`      string,
    `integration_id`   string,
    `integration_key`  string,
    `integration_name` string,
    `profile_id`       string,
    `uuid`             string,
    `event_properties` string,  -- JSON text
    `attributes`       string,  -- JSON text
    `relationships`    string,  -- JSON text
    `_deleted`         boolean,
    `_version`         bigint,
    `_partition`       bigint,
    `_offset`          bigint,
    `_timestamp`       {{timestamp_type}},
    `_original`        string,
    `_checksum`        bigint,
    `_run_id`          string,
    `_synced_at`       {{timestamp_type}}
)
PARTITIONED BY (`dt` string, `hr` string)
{{row_format}}
LOCATION '{{location}}/klaviyo_event/'
TBLPROPERTIES (
    'projection.enabled' = 'true',
    'projection.dt.type' = 'date',
    'projection.dt.format' = 'yyyy-MM-dd',
    'projection.dt.range' = '{{first_day}},NOW+1DAYS',
    'projection.dt.interval' = '1',
    'projection.dt.interval.unit' = 'DAYS',
    'projection.hr.type' = 'integer',
    'projection.hr.range' = '0,23',
    'projection.hr.digits' = '2',
    'storage.location.template' = '{{location}}/klaviyo_event/dt=${dt}/hr=${hr}/'
);

CREATE EXTERNAL TABLE IF NOT EXISTS klaviyo_profile_files (
    `id`                   string,
    `email`                string,
    `phone_number`         string,
    `external_id`          string,
    `first_name`           string,
    `last_name`            string,
    `organization`         string,
    `title`                string,
    `locale`               string,
    `created`              {{timestamp_type}},
    `updated`              {{timestamp_type}},
    `last_event_date`      {{timestamp_type}},
    `location`             string,  -- JSON text
    `properties`           string,  -- JSON text
    `subscriptions`        string,  -- JSON text
    `predictive_analytics` string,  -- JSON text
    `attributes`           string,  -- JSON text
    `relationships`        string,  -- JSON text
    `_deleted`             boolean,
    `_version`             bigint,
    `_partition`           bigint,
    `_offset`              bigint,
    `_timestamp`           {{timestamp_type}},
    `_original`            string,
    `_checksum`            bigint,
    `_run_id`              string,
    `_synced_at`           {{timestamp_type}}
)
PARTITIONED BY (`dt` string, `hr` string)
{{row_format}}
LOCATION '{{location}}/klaviyo_profile/'
TBLPROPERTIES (
    'projection.enabled' = 'true',
    'projection.dt.type' = 'date',
    'projection.dt.format' = 'yyyy-MM-dd',
    'projection.dt.range' = '{{first_day}},NOW+1DAYS',
    'projection.dt.interval' = '1',
    'projection.dt.interval.unit' = 'DAYS',
    'projection.hr.type' = 'integer',
    'projection.hr.range' = '0,23',
    'projection.hr.digits' = '2',
    'storage.location.template' = '{{location}}/klaviyo_profile/dt=${dt}/hr=${hr}/'
);

CREATE EXTERNAL TABLE IF NOT EXISTS klaviyo_metric_files (
    `id`                   string,
    `name`                 string,
    `integration_id`       string,
    `integration_key`      string,
    `integration_name`     string,
    `integration_category` string,
    `created`              {{timestamp_type}},
    `updated`              {{timestamp_type}},
    `attributes`           string,  -- JSON text
    `_deleted`             boolean,
    `_version`             bigint,
    `_partition`           bigint,
    `_offset`              bigint,
    `_timestamp`           {{timestamp_type}},
    `_original`            string,
    `_checksum`            bigint,
    `_run_id`              string,
    `_synced_at`           {{timestamp_type}}
)
PARTITIONED BY (`dt` string, `hr` string)
{{row_format}}
LOCATION '{{location}}/klaviyo_metric/'
TBLPROPERTIES (
    'projection.enabled' = 'true',
    'projection.dt.type' = 'date',
    'projection.dt.format' = 'yyyy-MM-dd',
    'projection.dt.range' = '{{first_day}},NOW+1DAYS',
    'projection.dt.interval' = '1',
    'projection.dt.interval.unit' = 'DAYS',
    'projection.hr.type' = 'integer',
    'projection.hr.range' = '0,23',
    'projection.hr.digits' = '2',
    'storage.location.template' = '{{location}}/klaviyo_metric/dt=${dt}/hr=${hr}/'
);

CREATE EXTERNAL TABLE IF NOT EXISTS klaviyo_rejected_files (
    `stream`         string,
    `key`            string,
    `key_encoding`   string,
    `value`          string,
    `value_encoding` string,
    `reason`         string,
    `detail`         string,
    `_version`       bigint,
    `_partition`     bigint,
    `_offset`        bigint,
    `_timestamp`     {{timestamp_type}},
    `_checksum`      bigint,
    `_run_id`        string,
    `_synced_at`     {{timestamp_type}}
)
PARTITIONED BY (`dt` string, `hr` string)
{{row_format}}
LOCATION '{{location}}/klaviyo_rejected/'
TBLPROPERTIES (
    'projection.enabled' = 'true',
    'projection.dt.type' = 'date',
    'projection.dt.format' = 'yyyy-MM-dd',
    'projection.dt.range' = '{{first_day}},NOW+1DAYS',
    'projection.dt.interval' = '1',
    'projection.dt.interval.unit' = 'DAYS',
    'projection.hr.type' = 'integer',
    'projection.hr.range' = '0,23',
    'projection.hr.digits' = '2',
    'storage.location.template' = '{{location}}/klaviyo_rejected/dt=${dt}/hr=${hr}/'
);

-- 2. Every version -------------------------------------------------------------------------------------------
-- Times become timestamp here, UTC, cut (not rounded) to milliseconds. The same text works whether the column
-- below is text such as 2026-09-04T13:38:55.123456Z or a timestamp. No step goes through a time zone: casting
-- timestamp with time zone to timestamp is listed as unsupported by Athena engine version 3.

CREATE OR REPLACE VIEW klaviyo_event_versions AS
SELECT
    "id",
    CAST(replace(replace(substr(CAST("datetime" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "datetime",
    "metric_id", "metric_name", "integration_id", "integration_key", "integration_name", "profile_id", "uuid",
    "event_properties", "attributes", "relationships", "_deleted", "_version", "_partition", "_offset",
    CAST(replace(replace(substr(CAST("_timestamp" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "_timestamp",
    "_original", "_checksum", "_run_id",
    CAST(replace(replace(substr(CAST("_synced_at" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "_synced_at",
    dt, hr
FROM klaviyo_event_files;

CREATE OR REPLACE VIEW klaviyo_profile_versions AS
SELECT
    "id", "email", "phone_number", "external_id", "first_name", "last_name", "organization", "title", "locale",
    CAST(replace(replace(substr(CAST("created" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "created",
    CAST(replace(replace(substr(CAST("updated" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "updated",
    CAST(replace(replace(substr(CAST("last_event_date" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "last_event_date",
    "location", "properties", "subscriptions", "predictive_analytics", "attributes", "relationships", "_deleted",
    "_version", "_partition", "_offset",
    CAST(replace(replace(substr(CAST("_timestamp" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "_timestamp",
    "_original", "_checksum", "_run_id",
    CAST(replace(replace(substr(CAST("_synced_at" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "_synced_at",
    dt, hr
FROM klaviyo_profile_files;

CREATE OR REPLACE VIEW klaviyo_metric_versions AS
SELECT
    "id", "name", "integration_id", "integration_key", "integration_name", "integration_category",
    CAST(replace(replace(substr(CAST("created" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "created",
    CAST(replace(replace(substr(CAST("updated" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "updated",
    "attributes", "_deleted", "_version", "_partition", "_offset",
    CAST(replace(replace(substr(CAST("_timestamp" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "_timestamp",
    "_original", "_checksum", "_run_id",
    CAST(replace(replace(substr(CAST("_synced_at" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "_synced_at",
    dt, hr
FROM klaviyo_metric_files;

CREATE OR REPLACE VIEW klaviyo_rejected_versions AS
SELECT
    "stream", "key", "key_encoding", "value", "value_encoding", "reason", "detail", "_version", "_partition",
    "_offset",
    CAST(replace(replace(substr(CAST("_timestamp" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "_timestamp",
    "_checksum", "_run_id",
    CAST(replace(replace(substr(CAST("_synced_at" AS varchar), 1, 23), 'T', ' '), 'Z', '') AS timestamp) AS "_synced_at",
    dt, hr
FROM klaviyo_rejected_files;

-- 3. The newest version of each record -----------------------------------------------------------------------
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

-- 4. Whole runs only -----------------------------------------------------------------------------------------
-- A run is committed when its ledger entry (NNN.json) exists; its files are brought to their places after
-- that, and NNN.done is written last. In between, the views above show a part of the run; these do not.
-- An entry is read line by line and searched for the run's id, so that it may be compact or pretty-printed.
--
-- Check this table first: SELECT count(*) FROM klaviyo_ledger_lines. AWS's guide advises against underscores
-- in a LOCATION, and we could not try whether Athena lists _ledger/. If the count is 0 although runs have been
-- committed, copy the ledger now and then and put the copy's place into the two lines below:
--     aws s3 sync {{location}}/_ledger/ s3://another-bucket/klaviyo-ledger/ --exclude 'genesis/*'

CREATE EXTERNAL TABLE IF NOT EXISTS klaviyo_ledger_lines (
    `line` string
)
PARTITIONED BY (`connection_id` string, `sync` string)
ROW FORMAT DELIMITED FIELDS TERMINATED BY '\001' LINES TERMINATED BY '\n'
STORED AS TEXTFILE
LOCATION '{{location}}/_ledger/'
TBLPROPERTIES (
    'projection.enabled' = 'true',
    'projection.connection_id.type' = 'enum',
    'projection.connection_id.values' = '{{connection_ids}}',
    'projection.sync.type' = 'enum',
    'projection.sync.values' = 'events-historical,events-periodic,events-replay,profiles-historical,profiles-periodic,profiles-replay,metrics-periodic,metrics-replay',
    'storage.location.template' = '{{location}}/_ledger/${connection_id}/${sync}/'
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

-- 5. Examples ------------------------------------------------------------------------------------------------
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
