//! The tables: their columns, and the file formats in which object storage holds them.

use serde::{Deserialize, Serialize};

/// What a stream becomes: one table. (The stream of an object is the topic it is read from.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Object {
    /// Klaviyo profiles, `KLAVIYO_PROFILE`.
    Profiles,
    /// Klaviyo events, `KLAVIYO_EVENT`.
    Events,
    /// Klaviyo metrics, `KLAVIYO_METRIC`; follows the events.
    Metrics,
}

impl Object {
    /// Every object, in the order in which they are shown.
    pub const ALL: [Object; 3] = [Object::Profiles, Object::Events, Object::Metrics];

    /// The plural noun used in names of syncs and in configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Object::Profiles => "profiles",
            Object::Events => "events",
            Object::Metrics => "metrics",
        }
    }

    /// The `type` member of the JSON:API resource that the stream carries.
    pub const fn resource_type(self) -> &'static str {
        match self {
            Object::Profiles => "profile",
            Object::Events => "event",
            Object::Metrics => "metric",
        }
    }

    /// The table that holds the object's rows.
    pub const fn table(self) -> Table {
        match self {
            Object::Profiles => Table::Profile,
            Object::Events => Table::Event,
            Object::Metrics => Table::Metric,
        }
    }
}

impl std::fmt::Display for Object {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A table in the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Table {
    /// `KLAVIYO_PROFILE`
    #[serde(rename = "klaviyo_profile")]
    Profile,
    /// `KLAVIYO_EVENT`
    #[serde(rename = "klaviyo_event")]
    Event,
    /// `KLAVIYO_METRIC`
    #[serde(rename = "klaviyo_metric")]
    Metric,
    /// `KLAVIYO_REJECTED`: records that are not Klaviyo resources, or that a destination cannot hold.
    #[serde(rename = "klaviyo_rejected")]
    Rejected,
}

impl Table {
    /// Every table.
    pub const ALL: [Table; 4] = [Table::Profile, Table::Event, Table::Metric, Table::Rejected];

    /// The name as object storage uses it, in lower case. SQL warehouses use their own case.
    pub const fn name(self) -> &'static str {
        match self {
            Table::Profile => "klaviyo_profile",
            Table::Event => "klaviyo_event",
            Table::Metric => "klaviyo_metric",
            Table::Rejected => "klaviyo_rejected",
        }
    }

    /// The columns taken from the record, in order; [`META_COLUMNS`] follow them in every table but
    /// `KLAVIYO_REJECTED`, whose columns all stand here.
    pub const fn columns(self) -> &'static [Column] {
        match self {
            Table::Profile => PROFILE_COLUMNS,
            Table::Event => EVENT_COLUMNS,
            Table::Metric => METRIC_COLUMNS,
            Table::Rejected => REJECTED_COLUMNS,
        }
    }

    /// The columns that follow [`Table::columns`].
    pub const fn meta_columns(self) -> &'static [Column] {
        match self {
            Table::Rejected => REJECTED_META_COLUMNS,
            _ => META_COLUMNS,
        }
    }

    /// Every column, in file order.
    pub fn all_columns(self) -> impl Iterator<Item = &'static Column> {
        self.columns().iter().chain(self.meta_columns())
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The type of a column, which every destination maps to its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnType {
    /// UTF-8 text.
    Text,
    /// A point in time, UTC, microseconds.
    Timestamp,
    /// Nested JSON.
    Json,
    /// A 64-bit integer.
    Integer,
    /// True or false.
    Boolean,
}

/// A column of a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Name, in lower case.
    pub name: &'static str,
    /// Type.
    pub column_type: ColumnType,
}

const fn column(name: &'static str, column_type: ColumnType) -> Column {
    Column { name, column_type }
}

use ColumnType::{Boolean, Integer, Json, Text, Timestamp};

const EVENT_COLUMNS: &[Column] = &[
    column("id", Text),
    column("datetime", Timestamp),
    column("metric_id", Text),
    column("metric_name", Text),
    column("integration_id", Text),
    column("integration_key", Text),
    column("integration_name", Text),
    column("profile_id", Text),
    column("uuid", Text),
    column("event_properties", Json),
    column("attributes", Json),
    column("relationships", Json),
];

const PROFILE_COLUMNS: &[Column] = &[
    column("id", Text),
    column("email", Text),
    column("phone_number", Text),
    column("external_id", Text),
    column("first_name", Text),
    column("last_name", Text),
    column("organization", Text),
    column("title", Text),
    column("locale", Text),
    column("created", Timestamp),
    column("updated", Timestamp),
    column("last_event_date", Timestamp),
    column("location", Json),
    column("properties", Json),
    column("subscriptions", Json),
    column("predictive_analytics", Json),
    column("attributes", Json),
    column("relationships", Json),
];

const METRIC_COLUMNS: &[Column] = &[
    column("id", Text),
    column("name", Text),
    column("integration_id", Text),
    column("integration_key", Text),
    column("integration_name", Text),
    column("integration_category", Text),
    column("created", Timestamp),
    column("updated", Timestamp),
    column("attributes", Json),
];

/// Columns that every table but `KLAVIYO_REJECTED` has after its own. `_checksum` covers everything
/// before it.
pub const META_COLUMNS: &[Column] = &[
    column("_deleted", Boolean),
    column("_version", Integer),
    column("_partition", Integer),
    column("_offset", Integer),
    column("_timestamp", Timestamp),
    column("_original", Text),
    column("_checksum", Integer),
    column("_run_id", Text),
    column("_synced_at", Timestamp),
];

const REJECTED_COLUMNS: &[Column] = &[
    column("stream", Text),
    column("key", Text),
    column("key_encoding", Text),
    column("value", Text),
    column("value_encoding", Text),
    column("reason", Text),
    column("detail", Text),
];

const REJECTED_META_COLUMNS: &[Column] = &[
    column("_version", Integer),
    column("_partition", Integer),
    column("_offset", Integer),
    column("_timestamp", Timestamp),
    column("_checksum", Integer),
    column("_run_id", Text),
    column("_synced_at", Timestamp),
];

/// How files on object storage are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum FileFormat {
    /// One JSON object per line, gzip.
    #[default]
    #[serde(rename = "ndjson.gz")]
    NdjsonGzip,
    /// One JSON object per line, Zstandard.
    #[serde(rename = "ndjson.zst")]
    NdjsonZstd,
    /// Parquet with Zstandard pages; JSON columns are text.
    #[serde(rename = "parquet")]
    Parquet,
}

impl FileFormat {
    /// The file name's extension, without a leading dot.
    pub const fn extension(self) -> &'static str {
        match self {
            FileFormat::NdjsonGzip => "ndjson.gz",
            FileFormat::NdjsonZstd => "ndjson.zst",
            FileFormat::Parquet => "parquet",
        }
    }
}
