//! Runs in the store.

use sqlx::Row as _;

use super::{Store, body, failed, json, syncs};
use crate::model::{ErrorCode, Run, RunId, RunState, Stage, Sync, SyncError, SyncId, SyncKind};

/// A run with the version under which it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRun {
    /// The run.
    pub run: Run,
    row_version: i64,
}

impl Store {
    /// Stores a planned run. When the chain has a run of that sequence already, that one is returned:
    /// planning twice is harmless.
    pub async fn plan_run(&self, run: &Run) -> Result<StoredRun, SyncError> {
        sqlx::query("INSERT INTO run (id, sync, sequence, state, row_version, planned_at, updated_at, body) VALUES (?, ?, ?, ?, 1, ?, ?, ?) ON CONFLICT DO NOTHING")
            .bind(run.id.to_string())
            .bind(run.spec.sync.name())
            .bind(run.spec.sequence as i64)
            .bind(run.state.name())
            .bind(run.planned_at.to_string())
            .bind(run.updated_at.to_string())
            .bind(json(run)?)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        let row = sqlx::query("SELECT body, row_version FROM run WHERE sync = ? AND sequence = ? AND state <> 'cancelled'")
            .bind(run.spec.sync.name())
            .bind(run.spec.sequence as i64)
            .fetch_one(&self.pool)
            .await
            .map_err(failed)?;
        stored(&row)
    }

    /// The run of a sync that is neither committed nor cancelled. There is at most one, since runs of one sync follow each other.
    pub async fn open_run(&self, sync: SyncId) -> Result<Option<StoredRun>, SyncError> {
        let row = sqlx::query(
            "SELECT body, row_version FROM run WHERE sync = ? AND state NOT IN ('committed', 'cancelled') ORDER BY sequence LIMIT 1",
        )
        .bind(sync.name())
        .fetch_optional(&self.pool)
        .await
        .map_err(failed)?;
        row.as_ref().map(stored).transpose()
    }

    /// Replaces a run unless it has changed since it was read.
    pub async fn save_run(&self, before: &StoredRun, run: Run) -> Result<StoredRun, SyncError> {
        let mut transaction = self.begin().await?;
        let after = swap(&mut transaction, before, run).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(after)
    }

    /// Replaces a run and changes its sync and the object's replay sync, all or nothing.
    pub async fn save_run_and_syncs(
        &self,
        before: &StoredRun,
        run: Run,
        mut change: impl FnMut(&mut Sync) + Send,
    ) -> Result<StoredRun, SyncError> {
        let mut transaction = self.begin().await?;
        let of_run = run.spec.sync;
        let replay = SyncId::new(of_run.object, SyncKind::Replay);
        for id in [of_run, replay].into_iter().take(if of_run == replay { 1 } else { 2 }) {
            let mut sync = syncs::read(&mut transaction, id).await?;
            change(&mut sync);
            syncs::write(&mut transaction, &sync).await?;
        }
        let after = swap(&mut transaction, before, run).await?;
        transaction.commit().await.map_err(failed)?;
        Ok(after)
    }

    /// The newest runs, newest first; of one sync or of all.
    pub async fn runs(&self, sync: Option<SyncId>, limit: u32) -> Result<Vec<Run>, SyncError> {
        let rows = sqlx::query("SELECT body FROM run WHERE ?1 IS NULL OR sync = ?1 ORDER BY id DESC LIMIT ?2")
            .bind(sync.map(SyncId::name))
            .bind(i64::from(limit))
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter().map(body).collect()
    }

    /// One run.
    pub async fn run(&self, id: RunId) -> Result<Option<Run>, SyncError> {
        let row = sqlx::query("SELECT body FROM run WHERE id = ?").bind(id.to_string()).fetch_optional(&self.pool).await.map_err(failed)?;
        row.as_ref().map(body).transpose()
    }

    /// Every run that is neither committed nor cancelled.
    pub async fn open_runs(&self) -> Result<Vec<StoredRun>, SyncError> {
        let rows = sqlx::query("SELECT body, row_version FROM run WHERE state NOT IN ('committed', 'cancelled') ORDER BY sync, sequence")
            .fetch_all(&self.pool)
            .await
            .map_err(failed)?;
        rows.iter().map(stored).collect()
    }
}

fn stored(row: &sqlx::sqlite::SqliteRow) -> Result<StoredRun, SyncError> {
    Ok(StoredRun { run: body(row)?, row_version: row.try_get("row_version").map_err(failed)? })
}

async fn swap(transaction: &mut sqlx::Transaction<'static, sqlx::Sqlite>, before: &StoredRun, run: Run) -> Result<StoredRun, SyncError> {
    let changed =
        sqlx::query("UPDATE run SET state = ?, row_version = row_version + 1, updated_at = ?, body = ? WHERE id = ? AND row_version = ?")
            .bind(run.state.name())
            .bind(run.updated_at.to_string())
            .bind(json(&run)?)
            .bind(run.id.to_string())
            .bind(before.row_version)
            .execute(&mut **transaction)
            .await
            .map_err(failed)?
            .rows_affected();
    match changed {
        1 => Ok(StoredRun { run, row_version: before.row_version + 1 }),
        _ => Err(changed_meanwhile(&before.run)),
    }
}

fn changed_meanwhile(run: &Run) -> SyncError {
    SyncError::new(ErrorCode::StateChanged, Stage::Stage, format!("run {} was changed by somebody else meanwhile", run.id))
}

impl StoredRun {
    /// True when only a person, or time, lets it go on.
    pub fn is_suspended(&self) -> bool {
        matches!(self.run.state, RunState::Waiting { .. } | RunState::Failed { .. })
    }
}
