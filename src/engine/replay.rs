//! Rejected records, given another try: read back from the destination, where they were committed.

use base64::Engine as _;

use crate::model::position::Millis;
use crate::model::record::Record;
use crate::model::{ErrorCode, Offset, Partition, RunId, Stage, SyncError};

/// A row of `KLAVIYO_REJECTED`, as JSON.
pub type RejectedRow = serde_json::Map<String, serde_json::Value>;

/// A rejected record with everything that a row needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayRecord {
    /// Partition.
    pub partition: Partition,
    /// Offset.
    pub offset: Offset,
    /// Time of publication.
    pub timestamp: Millis,
    /// The version that it was given when it was first read.
    pub version: Millis,
    /// Key.
    pub key: Option<Vec<u8>>,
    /// Value.
    pub value: Option<Vec<u8>>,
    /// Why it was rejected.
    pub reason: String,
    /// What was wrong, in words.
    pub detail: String,
    /// The run that put it aside.
    pub run: Option<RunId>,
}

impl ReplayRecord {
    /// From a row of `KLAVIYO_REJECTED`.
    pub fn from_row(row: &RejectedRow) -> Result<Self, SyncError> {
        let broken =
            |column: &str| SyncError::new(ErrorCode::ObjectChanged, Stage::Stage, format!("a rejected record has no readable `{column}`"));
        let text = |column: &str| row.get(column).and_then(|value| value.as_str());
        let integer = |column: &str| row.get(column).and_then(serde_json::Value::as_i64).ok_or_else(|| broken(column));
        let bytes = |column: &str, encoding: &str| -> Result<Option<Vec<u8>>, SyncError> {
            match (text(column), text(encoding)) {
                (None, _) => Ok(None),
                (Some(value), Some("base64")) => {
                    base64::engine::general_purpose::STANDARD.decode(value).map(Some).map_err(|_| broken(column))
                }
                (Some(value), _) => Ok(Some(value.as_bytes().to_vec())),
            }
        };
        let timestamp = text("_timestamp").and_then(crate::model::time::parse).ok_or_else(|| broken("_timestamp"))?;
        Ok(Self {
            partition: integer("_partition")?.try_into().map_err(|_| broken("_partition"))?,
            offset: integer("_offset")?,
            timestamp: timestamp.micros / 1000,
            version: integer("_version")?,
            key: bytes("key", "key_encoding")?,
            value: bytes("value", "value_encoding")?,
            reason: text("reason").unwrap_or_default().to_owned(),
            detail: text("detail").unwrap_or_default().to_owned(),
            run: text("_run_id").and_then(|id| id.parse().ok()).map(RunId),
        })
    }

    /// As the source would deliver it.
    pub fn record(&self) -> Record<'_> {
        Record {
            partition: self.partition,
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
        }
    }
}
