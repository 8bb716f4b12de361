-- warehouse-sync: the exported tables, read with DuckDB straight from the files.
--
-- Replace one placeholder, then run this file at the start of a session:
--     sed 's|{{location}}|s3://acme-lake/klaviyo|g' duckdb.sql > session.sql
--     duckdb -init session.sql                             (or .read session.sql, or execute it from Python)
--
--   {{location}}   the destination's root, without a slash at the end and without a single quote:
--                  the folder's path, or s3://bucket/prefix (s3://bucket when there is no prefix)
--
-- For a bucket, run this first (once for each session; needs DuckDB's httpfs and aws extensions):
--     INSTALL httpfs; LOAD httpfs; INSTALL aws; LOAD aws;
--     CREATE SECRET lake (TYPE s3, PROVIDER credential_chain, REGION 'eu-west-1');
--     -- or: CREATE SECRET lake (TYPE s3, KEY_ID '…', SECRET '…', REGION 'eu-west-1');
--     -- a server that is not AWS: add ENDPOINT 'host:port', URL_STYLE 'path', USE_SSL true
-- Reading needs s3:ListBucket and s3:GetObject only.
--
-- What you get, all of them temporary: nothing is written, neither to the files nor to an attached database.
--   klaviyo_event, klaviyo_profile, klaviyo_metric                the newest version of each record, deleted ones hidden
--   klaviyo_event_committed, …_profile_…, …_metric_…              the same, of runs whose every file has arrived
--   klaviyo_rejected                                              records that are not Klaviyo resources, with the reason
--   klaviyo_event_versions, …_profile_…, …_metric_…, …_rejected_… every row of every file, and dt, hr (the folders)
--   klaviyo_run                                                   the ledger: one row for each committed run
--
-- Good to know
--   * All times are TIMESTAMP in UTC, whatever the session's time zone. Local days:
--     timezone('Europe/Rome', timezone('UTC', datetime))::DATE
--   * JSON columns have type JSON. Names that start with $ need a quoted path: event_properties->>'$."$value"'
--     (->>'$value' is refused: DuckDB takes it for a path). Klaviyo sends [] for some empty objects: [] ->> 'x' is NULL.
--   * JSON read from NDJSON is equal as JSON, not byte for byte: DuckDB writes 1.10 as 1.1 and rounds
--     fractions to 17 digits. Integers of any size keep their digits. Parquet files give the text as it was.
--   * Views read the files anew with each query, so new runs show at once. Only whether a table has a file
--     at all is looked up when this script runs; run it again after the first file of a table has arrived.
--   * A filter on dt of a ..._versions view skips the folders of other days. dt and hr are the hour of the run,
--     not of the event. The newest version of a record may lie in any folder, so the other views read them all.
--     For many queries copy once: CREATE TABLE event AS FROM klaviyo_event;
--   * Files may be .ndjson.gz, .ndjson.zst and .parquet side by side (the format was changed on the way).
--   * A line may have up to 64 MiB, see maximum_object_size. A line that is not JSON for DuckDB is an error that
--     names file and line, never skipped. The one thing that the stream may hold and DuckDB refuses is half a
--     surrogate pair (an emoji cut in two, \ud83d alone). To read on without such lines, add ignore_errors = true
--     to read_json. From Parquet such a value comes as a JSON string that holds the text.
--
-- Tested with DuckDB 1.5.5, on a folder and on an S3 server (SeaweedFS), with all three formats; not on AWS itself.

-- 1. Which tables have files -------------------------------------------------------------------------------
-- read_json and read_parquet refuse a pattern that matches no file, and a table without rows has no file.
-- So each view asks here first, and reads an empty table with the same columns where there is nothing.

SET VARIABLE klaviyo_event_ndjson     = (SELECT count(*) > 0 FROM glob('{{location}}/klaviyo_event/dt=*/hr=*/*.ndjson.*'));
SET VARIABLE klaviyo_event_parquet    = (SELECT count(*) > 0 FROM glob('{{location}}/klaviyo_event/dt=*/hr=*/*.parquet'));
SET VARIABLE klaviyo_profile_ndjson   = (SELECT count(*) > 0 FROM glob('{{location}}/klaviyo_profile/dt=*/hr=*/*.ndjson.*'));
SET VARIABLE klaviyo_profile_parquet  = (SELECT count(*) > 0 FROM glob('{{location}}/klaviyo_profile/dt=*/hr=*/*.parquet'));
SET VARIABLE klaviyo_metric_ndjson    = (SELECT count(*) > 0 FROM glob('{{location}}/klaviyo_metric/dt=*/hr=*/*.ndjson.*'));
SET VARIABLE klaviyo_metric_parquet   = (SELECT count(*) > 0 FROM glob('{{location}}/klaviyo_metric/dt=*/hr=*/*.parquet'));
SET VARIABLE klaviyo_rejected_ndjson  = (SELECT count(*) > 0 FROM glob('{{location}}/klaviyo_rejected/dt=*/hr=*/*.ndjson.*'));
SET VARIABLE klaviyo_rejected_parquet = (SELECT count(*) > 0 FROM glob('{{location}}/klaviyo_rejected/dt=*/hr=*/*.parquet'));

-- 2. Every version -----------------------------------------------------------------------------------------
-- Three sources each: an empty table that fixes names, order and types; the NDJSON files; the Parquet files.

CREATE OR REPLACE TEMP TABLE klaviyo_event_columns (
    id               VARCHAR,
    datetime         TIMESTAMP,
    metric_id        VARCHAR,
    metric_name      VARCHAR,
    integration_id   VARCHAR,
    integration_key  VARCHAR,
    integration_name VARCHAR,
    profile_id       VARCHAR,
    uuid             VARCHAR,
    event_properties JSON,
    attributes       JSON,
    relationships    JSON,
    _deleted         BOOLEAN,
    _version         BIGINT,
    _partition       BIGINT,
    _offset          BIGINT,
    _timestamp       TIMESTAMP,
    _original        VARCHAR,
    _checksum        BIGINT,
    _run_id          VARCHAR,
    _synced_at       TIMESTAMP,
    dt               DATE,
    hr               INTEGER
);

CREATE OR REPLACE TEMP VIEW klaviyo_event_versions AS
FROM klaviyo_event_columns
UNION ALL BY NAME
FROM query(if(NOT getvariable('klaviyo_event_ndjson'), 'FROM klaviyo_event_columns', $$
    FROM read_json('{{location}}/klaviyo_event/dt=*/hr=*/*.ndjson.*',
        format = 'newline_delimited', maximum_object_size = 67108864,
        hive_partitioning = true, hive_types = {'dt': DATE, 'hr': INTEGER},
        columns = {
            'id': 'VARCHAR', 'datetime': 'TIMESTAMP', 'metric_id': 'VARCHAR', 'metric_name': 'VARCHAR',
            'integration_id': 'VARCHAR', 'integration_key': 'VARCHAR', 'integration_name': 'VARCHAR',
            'profile_id': 'VARCHAR', 'uuid': 'VARCHAR',
            'event_properties': 'JSON', 'attributes': 'JSON', 'relationships': 'JSON',
            '_deleted': 'BOOLEAN', '_version': 'BIGINT', '_partition': 'BIGINT', '_offset': 'BIGINT',
            '_timestamp': 'TIMESTAMP', '_original': 'VARCHAR', '_checksum': 'BIGINT',
            '_run_id': 'VARCHAR', '_synced_at': 'TIMESTAMP'})
    $$))
UNION ALL BY NAME
FROM query(if(NOT getvariable('klaviyo_event_parquet'), 'FROM klaviyo_event_columns', $$
    SELECT * REPLACE (
        make_timestamp(epoch_us(datetime))   AS datetime,
        make_timestamp(epoch_us(_timestamp)) AS _timestamp,
        make_timestamp(epoch_us(_synced_at)) AS _synced_at,
        coalesce(TRY_CAST(event_properties AS JSON), to_json(event_properties)) AS event_properties,
        coalesce(TRY_CAST(attributes AS JSON), to_json(attributes)) AS attributes,
        coalesce(TRY_CAST(relationships AS JSON), to_json(relationships)) AS relationships)
    FROM read_parquet('{{location}}/klaviyo_event/dt=*/hr=*/*.parquet',
        hive_partitioning = true, hive_types = {'dt': DATE, 'hr': INTEGER})
    $$));

CREATE OR REPLACE TEMP TABLE klaviyo_profile_columns (
    id                   VARCHAR,
    email                VARCHAR,
    phone_number         VARCHAR,
    external_id          VARCHAR,
    first_name           VARCHAR,
    last_name            VARCHAR,
    organization         VARCHAR,
    title                VARCHAR,
    locale               VARCHAR,
    created              TIMESTAMP,
    updated              TIMESTAMP,
    last_event_date      TIMESTAMP,
    location             JSON,
    properties           JSON,
    subscriptions        JSON,
    predictive_analytics JSON,
    attributes           JSON,
    relationships        JSON,
    _deleted             BOOLEAN,
    _version             BIGINT,
    _partition           BIGINT,
    _offset              BIGINT,
    _timestamp           TIMESTAMP,
    _original            VARCHAR,
    _checksum            BIGINT,
    _run_id              VARCHAR,
    _synced_at           TIMESTAMP,
    dt                   DATE,
    hr                   INTEGER
);

CREATE OR REPLACE TEMP VIEW klaviyo_profile_versions AS
FROM klaviyo_profile_columns
UNION ALL BY NAME
FROM query(if(NOT getvariable('klaviyo_profile_ndjson'), 'FROM klaviyo_profile_columns', $$
    FROM read_json('{{location}}/klaviyo_profile/dt=*/hr=*/*.ndjson.*',
        format = 'newline_delimited', maximum_object_size = 67108864,
        hive_partitioning = true, hive_types = {'dt': DATE, 'hr': INTEGER},
        columns = {
            'id': 'VARCHAR', 'email': 'VARCHAR', 'phone_number': 'VARCHAR', 'external_id': 'VARCHAR',
            'first_name': 'VARCHAR', 'last_name': 'VARCHAR', 'organization': 'VARCHAR', 'title': 'VARCHAR',
            'locale': 'VARCHAR', 'created': 'TIMESTAMP', 'updated': 'TIMESTAMP', 'last_event_date': 'TIMESTAMP',
            'location': 'JSON', 'properties': 'JSON', 'subscriptions': 'JSON', 'predictive_analytics': 'JSON',
            'attributes': 'JSON', 'relationships': 'JSON',
            '_deleted': 'BOOLEAN', '_version': 'BIGINT', '_partition': 'BIGINT', '_offset': 'BIGINT',
            '_timestamp': 'TIMESTAMP', '_original': 'VARCHAR', '_checksum': 'BIGINT',
            '_run_id': 'VARCHAR', '_synced_at': 'TIMESTAMP'})
    $$))
UNION ALL BY NAME
FROM query(if(NOT getvariable('klaviyo_profile_parquet'), 'FROM klaviyo_profile_columns', $$
    SELECT * REPLACE (
        make_timestamp(epoch_us(created))         AS created,
        make_timestamp(epoch_us(updated))         AS updated,
        make_timestamp(epoch_us(last_event_date)) AS last_event_date,
        make_timestamp(epoch_us(_timestamp))      AS _timestamp,
        make_timestamp(epoch_us(_synced_at))      AS _synced_at,
        coalesce(TRY_CAST(location AS JSON), to_json(location)) AS location,
        coalesce(TRY_CAST(properties AS JSON), to_json(properties)) AS properties,
        coalesce(TRY_CAST(subscriptions AS JSON), to_json(subscriptions)) AS subscriptions,
        coalesce(TRY_CAST(predictive_analytics AS JSON), to_json(predictive_analytics)) AS predictive_analytics,
        coalesce(TRY_CAST(attributes AS JSON), to_json(attributes)) AS attributes,
        coalesce(TRY_CAST(relationships AS JSON), to_json(relationships)) AS relationships)
    FROM read_parquet('{{location}}/klaviyo_profile/dt=*/hr=*/*.parquet',
        hive_partitioning = true, hive_types = {'dt': DATE, 'hr': INTEGER})
    $$));

CREATE OR REPLACE TEMP TABLE klaviyo_metric_columns (
    id                   VARCHAR,
    name                 VARCHAR,
    integration_id       VARCHAR,
    integration_key      VARCHAR,
    integration_name     VARCHAR,
    integration_category VARCHAR,
    created              TIMESTAMP,
    updated              TIMESTAMP,
    attributes           JSON,
    _deleted             BOOLEAN,
    _version             BIGINT,
    _partition           BIGINT,
    _offset              BIGINT,
    _timestamp           TIMESTAMP,
    _original            VARCHAR,
    _checksum            BIGINT,
    _run_id              VARCHAR,
    _synced_at           TIMESTAMP,
    dt                   DATE,
    hr                   INTEGER
);

CREATE OR REPLACE TEMP VIEW klaviyo_metric_versions AS
FROM klaviyo_metric_columns
UNION ALL BY NAME
FROM query(if(NOT getvariable('klaviyo_metric_ndjson'), 'FROM klaviyo_metric_columns', $$
    FROM read_json('{{location}}/klaviyo_metric/dt=*/hr=*/*.ndjson.*',
        format = 'newline_delimited', maximum_object_size = 67108864,
        hive_partitioning = true, hive_types = {'dt': DATE, 'hr': INTEGER},
        columns = {
            'id': 'VARCHAR', 'name': 'VARCHAR', 'integration_id': 'VARCHAR', 'integration_key': 'VARCHAR',
            'integration_name': 'VARCHAR', 'integration_category': 'VARCHAR',
            'created': 'TIMESTAMP', 'updated': 'TIMESTAMP', 'attributes': 'JSON',
            '_deleted': 'BOOLEAN', '_version': 'BIGINT', '_partition': 'BIGINT', '_offset': 'BIGINT',
            '_timestamp': 'TIMESTAMP', '_original': 'VARCHAR', '_checksum': 'BIGINT',
            '_run_id': 'VARCHAR', '_synced_at': 'TIMESTAMP'})
    $$))
UNION ALL BY NAME
FROM query(if(NOT getvariable('klaviyo_metric_parquet'), 'FROM klaviyo_metric_columns', $$
    SELECT * REPLACE (
        make_timestamp(epoch_us(created))    AS created,
        make_timestamp(epoch_us(updated))    AS updated,
        make_timestamp(epoch_us(_timestamp)) AS _timestamp,
        make_timestamp(epoch_us(_synced_at)) AS _synced_at,
        coalesce(TRY_CAST(attributes AS JSON), to_json(attributes)) AS attributes)
    FROM read_parquet('{{location}}/klaviyo_metric/dt=*/hr=*/*.parquet',
        hive_partitioning = true, hive_types = {'dt': DATE, 'hr': INTEGER})
    $$));

CREATE OR REPLACE TEMP TABLE klaviyo_rejected_columns (
    stream         VARCHAR,
    key            VARCHAR,
    key_encoding   VARCHAR,
    value          VARCHAR,
    value_encoding VARCHAR,
    reason         VARCHAR,
    detail         VARCHAR,
    _version       BIGINT,
    _partition     BIGINT,
    _offset        BIGINT,
    _timestamp     TIMESTAMP,
    _checksum      BIGINT,
    _run_id        VARCHAR,
    _synced_at     TIMESTAMP,
    dt             DATE,
    hr             INTEGER
);

CREATE OR REPLACE TEMP VIEW klaviyo_rejected_versions AS
FROM klaviyo_rejected_columns
UNION ALL BY NAME
FROM query(if(NOT getvariable('klaviyo_rejected_ndjson'), 'FROM klaviyo_rejected_columns', $$
    FROM read_json('{{location}}/klaviyo_rejected/dt=*/hr=*/*.ndjson.*',
        format = 'newline_delimited', maximum_object_size = 67108864,
        hive_partitioning = true, hive_types = {'dt': DATE, 'hr': INTEGER},
        columns = {
            'stream': 'VARCHAR', 'key': 'VARCHAR', 'key_encoding': 'VARCHAR',
            'value': 'VARCHAR', 'value_encoding': 'VARCHAR', 'reason': 'VARCHAR', 'detail': 'VARCHAR',
            '_version': 'BIGINT', '_partition': 'BIGINT', '_offset': 'BIGINT',
            '_timestamp': 'TIMESTAMP', '_checksum': 'BIGINT', '_run_id': 'VARCHAR', '_synced_at': 'TIMESTAMP'})
    $$))
UNION ALL BY NAME
FROM query(if(NOT getvariable('klaviyo_rejected_parquet'), 'FROM klaviyo_rejected_columns', $$
    SELECT * REPLACE (
        make_timestamp(epoch_us(_timestamp)) AS _timestamp,
        make_timestamp(epoch_us(_synced_at)) AS _synced_at)
    FROM read_parquet('{{location}}/klaviyo_rejected/dt=*/hr=*/*.parquet',
        hive_partitioning = true, hive_types = {'dt': DATE, 'hr': INTEGER})
    $$));

-- 3. The newest version of each record ---------------------------------------------------------------------
-- Newer = greater (_version, _partition, _offset). A connection that was made anew delivers the same record
-- with the same three values again; _synced_at and _run_id then choose one of them, always the same.
-- A deletion is a row too: it wins first, and is hidden only then, so that an older version stays hidden.

CREATE OR REPLACE TEMP VIEW klaviyo_event AS
SELECT * EXCLUDE (dt, hr) FROM (
    FROM klaviyo_event_versions
    QUALIFY row_number() OVER (PARTITION BY id
        ORDER BY _version DESC, _partition DESC, _offset DESC, _synced_at DESC, _run_id DESC) = 1)
WHERE NOT _deleted;

CREATE OR REPLACE TEMP VIEW klaviyo_profile AS
SELECT * EXCLUDE (dt, hr) FROM (
    FROM klaviyo_profile_versions
    QUALIFY row_number() OVER (PARTITION BY id
        ORDER BY _version DESC, _partition DESC, _offset DESC, _synced_at DESC, _run_id DESC) = 1)
WHERE NOT _deleted;

CREATE OR REPLACE TEMP VIEW klaviyo_metric AS
SELECT * EXCLUDE (dt, hr) FROM (
    FROM klaviyo_metric_versions
    QUALIFY row_number() OVER (PARTITION BY id
        ORDER BY _version DESC, _partition DESC, _offset DESC, _synced_at DESC, _run_id DESC) = 1)
WHERE NOT _deleted;

-- Rejected records have no id of ours: one row for each place in the stream. One that was replayed with
-- success since stays here; `warehouse-sync rejected list` shows only those that are still open.
CREATE OR REPLACE TEMP VIEW klaviyo_rejected AS
SELECT * EXCLUDE (dt, hr) FROM klaviyo_rejected_versions
QUALIFY row_number() OVER (PARTITION BY stream, _partition, _offset, _timestamp
    ORDER BY _version DESC, _synced_at DESC, _run_id DESC) = 1;

-- 4. Whole runs only ---------------------------------------------------------------------------------------
-- A run is committed when its ledger entry exists; its files are brought to their places after that, and
-- NNN.done is written last. In between, the views above show a part of the run; these do not.
-- klaviyo_run reads one small object for each run there ever was: with thousands of runs in a bucket,
-- copy it once for each session: CREATE TEMP TABLE run AS FROM klaviyo_run;

CREATE OR REPLACE TEMP VIEW klaviyo_run AS
SELECT
    entry->>'$.connection'                         AS connection,
    entry->>'$.sync'                               AS sync,
    (entry->>'$.sequence')::BIGINT                 AS sequence,
    entry->>'$.manifest.run'                       AS run_id,
    (entry->>'$.manifest.frozen_at')::TIMESTAMP    AS synced_at,
    (entry->>'$.manifest.counts.read')::BIGINT     AS read,
    (entry->>'$.manifest.counts.staged')::BIGINT   AS staged,
    (entry->>'$.manifest.counts.deleted')::BIGINT  AS deleted,
    entry->'$.manifest.counts.filtered'            AS filtered,
    entry->'$.manifest.counts.rejected'            AS rejected,
    json_array_length(entry, '$.manifest.files')   AS files,
    done.file IS NOT NULL                          AS complete
FROM (SELECT filename, content::JSON AS entry FROM read_text('{{location}}/_ledger/*/*/*.json')) ledger
LEFT JOIN glob('{{location}}/_ledger/*/*/*.done') done
    ON done.file = regexp_replace(ledger.filename, '\.json$', '.done')
WHERE entry->>'$.kind' = 'run';

CREATE OR REPLACE TEMP VIEW klaviyo_event_committed AS
SELECT * EXCLUDE (dt, hr) FROM (
    FROM klaviyo_event_versions
    WHERE _run_id IN (SELECT run_id FROM klaviyo_run WHERE complete)
    QUALIFY row_number() OVER (PARTITION BY id
        ORDER BY _version DESC, _partition DESC, _offset DESC, _synced_at DESC, _run_id DESC) = 1)
WHERE NOT _deleted;

CREATE OR REPLACE TEMP VIEW klaviyo_profile_committed AS
SELECT * EXCLUDE (dt, hr) FROM (
    FROM klaviyo_profile_versions
    WHERE _run_id IN (SELECT run_id FROM klaviyo_run WHERE complete)
    QUALIFY row_number() OVER (PARTITION BY id
        ORDER BY _version DESC, _partition DESC, _offset DESC, _synced_at DESC, _run_id DESC) = 1)
WHERE NOT _deleted;

CREATE OR REPLACE TEMP VIEW klaviyo_metric_committed AS
SELECT * EXCLUDE (dt, hr) FROM (
    FROM klaviyo_metric_versions
    WHERE _run_id IN (SELECT run_id FROM klaviyo_run WHERE complete)
    QUALIFY row_number() OVER (PARTITION BY id
        ORDER BY _version DESC, _partition DESC, _offset DESC, _synced_at DESC, _run_id DESC) = 1)
WHERE NOT _deleted;

-- 5. Examples ----------------------------------------------------------------------------------------------
-- Metric names are not unique (several integrations have a "Placed Order") and can be renamed: filter by
-- integration_key too, or by metric_id. Properties come from the shop and may be text or number: TRY_CAST.

-- Revenue and orders for each day (UTC) and currency.
--   SELECT datetime::DATE AS day,
--          event_properties->>'$."$value_currency"' AS currency,
--          count(*) AS orders,
--          sum(TRY_CAST(event_properties->>'$."$value"' AS DECIMAL(18, 2))) AS revenue
--   FROM klaviyo_event
--   WHERE metric_name = 'Placed Order' AND integration_key = 'shopify'
--   GROUP BY ALL ORDER BY day, currency;

-- Open rate of each e-mail: people who opened it, of those who received it.
--   SELECT event_properties->>'$."$message"' AS message,
--          any_value(event_properties->>'$."Campaign Name"') AS campaign,
--          count(DISTINCT profile_id) FILTER (metric_name = 'Received Email') AS received,
--          count(DISTINCT profile_id) FILTER (metric_name = 'Opened Email') AS opened,
--          round(100.0 * opened / nullif(received, 0), 1) AS open_rate_percent
--   FROM klaviyo_event
--   WHERE metric_name IN ('Received Email', 'Opened Email') AND integration_key = 'klaviyo'
--   GROUP BY message ORDER BY received DESC;

-- Events of each integration and metric in the last 30 days.
--   SELECT coalesce(integration_name, '(none)') AS integration, metric_name, metric_id,
--          count(*) AS events, max(datetime) AS latest
--   FROM klaviyo_event
--   WHERE datetime >= make_timestamp(epoch_us(now())) - INTERVAL 30 DAY
--   GROUP BY ALL ORDER BY events DESC;

-- Best customers: profiles joined to their orders.
--   SELECT p.id, p.email, p.location->>'country' AS country,
--          count(*) AS orders, sum(TRY_CAST(e.event_properties->>'$."$value"' AS DECIMAL(18, 2))) AS revenue
--   FROM klaviyo_profile p
--   JOIN klaviyo_event e ON e.profile_id = p.id
--   WHERE e.metric_name = 'Placed Order'
--   GROUP BY ALL ORDER BY revenue DESC NULLS LAST LIMIT 100;

-- What was rejected, and why.
--   SELECT stream, reason, count(*) AS records, min(_timestamp) AS first, max(_timestamp) AS last
--   FROM klaviyo_rejected GROUP BY ALL ORDER BY records DESC;
