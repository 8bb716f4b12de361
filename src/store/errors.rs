//! Failures, kept to be shown.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Store, body, failed, json};
use crate::model::{RunId, SyncError, SyncId};

/// A failure, with when and where it happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordedError {
    /// When.
    pub at: Timestamp,
    /// In which sync.
    pub sync: Option<SyncId>,
    /// In which run.
    pub run: Option<RunId>,
    /// The run's failed tries, this one included.
    pub tries: u32,
    /// When it is tried again by itself, if it is.
    pub next_try: Option<Timestamp>,
    /// What.
    pub error: SyncError,
}

/// Failures older than this are forgotten.
const KEPT_DAYS: i64 = 90;

impl Store {
    /// Keeps a failure.
    pub async fn record_error(&self, record: &RecordedError) -> Result<(), SyncError> {
        let mut transaction = self.begin().await?;
        let oldest = record.at - jiff::SignedDuration::from_hours(24 * KEPT_DAYS);
        sqlx::query("DELETE FROM error WHERE at < ?").bind(oldest.to_string()).execute(&mut *transaction).await.map_err(failed)?;
        sqlx::query("INSERT INTO error (at, sync, run, body) VALUES (?, ?, ?, ?)")
            .bind(record.at.to_string())
            .bind(record.sync.map(SyncId::name))
            .bind(record.run.map(|run| run.to_string()))
            .bind(json(record)?)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// The failures since a time, newest first; of one sync or of all.
    pub async fn errors(&self, since: Timestamp, sync: Option<SyncId>) -> Result<Vec<RecordedError>, SyncError> {
        let rows = sqlx::query("SELECT body FROM error WHERE at >= ?1 AND (?2 IS NULL OR sync = ?2) ORDER BY id DESC LIMIT 1000")
            .bind(since.to_string())
            .bind(sync.map(SyncId::name))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter().map(body).collect()
    }
}
