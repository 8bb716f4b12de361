//! Our own state, in SQLite: a cache of the destination's ledger, and people's wishes.
//!
//! [`Store`] owns all SQL. Updates are read, changed and written within one transaction, so that the
//! command line and a running server never lose each other's changes; runs change by compare-and-swap.

mod errors;
mod runs;
mod syncs;

use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Row as _, Sqlite, Transaction};

use crate::model::{Connection, ErrorCode, RunId, Stage, SyncError};

pub use errors::RecordedError;
pub use runs::StoredRun;

/// The migrations, in order; their number is kept in SQLite's `user_version`.
const MIGRATIONS: &[&str] = &[include_str!("../../sql/state/0001_initial.sql")];

/// How far a running run has come. Only for show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// The run.
    pub run: RunId,
    /// Offsets passed.
    pub offsets_done: u64,
    /// Records read.
    pub records: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Milliseconds since the attempt began.
    pub elapsed_ms: u64,
}

/// The state.
#[derive(Debug, Clone)]
pub struct Store {
    pool: SqlitePool,
}

impl Store {
    /// Opens the file, creates it if need be, and brings it to the newest form.
    pub async fn open(path: &Path) -> Result<Self, SyncError> {
        let failed = |error: sqlx::Error| {
            SyncError::new(ErrorCode::LocalDisk, Stage::Configuration, format!("the state {} cannot be opened", path.display()))
                .external(error)
                .hint("Set state.path to a file in a folder that this user may write to.")
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(|error| failed(sqlx::Error::Io(error)))?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // What a run has staged must not be forgotten by a power cut.
            .synchronous(SqliteSynchronous::Full)
            .busy_timeout(Duration::from_secs(20));
        let pool = SqlitePoolOptions::new().max_connections(4).connect_with(options).await.map_err(failed)?;
        let store = Self { pool };
        store.migrate().await?;
        Ok(store)
    }

    async fn migrate(&self) -> Result<(), SyncError> {
        let mut transaction = self.begin().await?;
        let row = sqlx::query("PRAGMA user_version").fetch_one(&mut *transaction).await.map_err(failed)?;
        let done: i64 = row.try_get(0).map_err(failed)?;
        let done = usize::try_from(done).unwrap_or(0);
        if done > MIGRATIONS.len() {
            return Err(SyncError::new(
                ErrorCode::LocalDisk,
                Stage::Configuration,
                "the state was written by a newer version of warehouse-sync",
            )
            .hint("Use that version, or point state.path elsewhere and `connect --adopt`."));
        }
        for migration in &MIGRATIONS[done..] {
            sqlx::raw_sql(*migration).execute(&mut *transaction).await.map_err(failed)?;
        }
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("PRAGMA user_version = {}", MIGRATIONS.len())))
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)
    }

    /// A transaction that may write: it takes the write lock at once, so that it never fails half-way for want of it.
    async fn begin(&self) -> Result<Transaction<'static, Sqlite>, SyncError> {
        self.pool.begin_with("BEGIN IMMEDIATE").await.map_err(failed)
    }

    /// The one connection, if there is one.
    pub async fn connection(&self) -> Result<Option<Connection>, SyncError> {
        let row = sqlx::query("SELECT body FROM connection").fetch_optional(&self.pool).await.map_err(failed)?;
        row.map(|row| body(&row)).transpose()
    }

    /// Stores a new connection with its syncs; everything that belonged to an earlier one goes.
    pub async fn replace_connection(&self, connection: &Connection, syncs: &[crate::model::Sync]) -> Result<(), SyncError> {
        let mut transaction = self.begin().await?;
        for table in ["DELETE FROM connection", "DELETE FROM sync", "DELETE FROM run", "DELETE FROM progress"] {
            sqlx::query(table).execute(&mut *transaction).await.map_err(failed)?;
        }
        sqlx::query("INSERT INTO connection (only_one, row_version, body) VALUES (1, 1, ?)")
            .bind(json(connection)?)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        for sync in syncs {
            syncs::write(&mut transaction, sync).await?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// Changes the connection.
    pub async fn update_connection<T: Send>(
        &self,
        change: impl FnOnce(&mut Connection) -> Result<T, SyncError> + Send,
    ) -> Result<T, SyncError> {
        let mut transaction = self.begin().await?;
        let row = sqlx::query("SELECT body FROM connection").fetch_optional(&mut *transaction).await.map_err(failed)?;
        let mut connection: Connection = row.map(|row| body(&row)).transpose()?.ok_or_else(no_connection)?;
        let result = change(&mut connection)?;
        sqlx::query("UPDATE connection SET row_version = row_version + 1, body = ?")
            .bind(json(&connection)?)
            .execute(&mut *transaction)
            .await
            .map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        Ok(result)
    }

    /// Forgets the connection and everything that belongs to it. What is in the destination stays.
    pub async fn remove_connection(&self) -> Result<(), SyncError> {
        let mut transaction = self.begin().await?;
        for table in ["DELETE FROM connection", "DELETE FROM sync", "DELETE FROM run", "DELETE FROM progress"] {
            sqlx::query(table).execute(&mut *transaction).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    /// A number that grows with every change made by anybody else: cheap to ask, and a reason to look again.
    pub async fn change_counter(&self) -> Result<i64, SyncError> {
        // Summed row versions rather than SQLite's data_version, which is blind to the asking connection's own pool.
        let sum = "SELECT COALESCE((SELECT SUM(row_version) FROM connection), 0) + COALESCE((SELECT SUM(row_version) FROM sync), 0) + COALESCE((SELECT SUM(row_version) FROM run), 0)";
        let row = sqlx::query(sum).fetch_one(&self.pool).await.map_err(failed)?;
        row.try_get(0).map_err(failed)
    }

    /// Notes how far a run has come.
    pub async fn set_progress(&self, sync: crate::model::SyncId, progress: Option<&Progress>) -> Result<(), SyncError> {
        match progress {
            Some(progress) => {
                sqlx::query("INSERT INTO progress (sync, body) VALUES (?, ?) ON CONFLICT (sync) DO UPDATE SET body = excluded.body")
                    .bind(sync.name())
                    .bind(json(progress)?)
                    .execute(&self.pool)
                    .await
                    .map_err(failed)?
            }
            None => sqlx::query("DELETE FROM progress WHERE sync = ?").bind(sync.name()).execute(&self.pool).await.map_err(failed)?,
        };
        Ok(())
    }

    /// How far the run of a sync has come.
    pub async fn progress(&self, sync: crate::model::SyncId) -> Result<Option<Progress>, SyncError> {
        let row =
            sqlx::query("SELECT body FROM progress WHERE sync = ?").bind(sync.name()).fetch_optional(&self.pool).await.map_err(failed)?;
        row.map(|row| body(&row)).transpose()
    }

    /// Closes the file cleanly.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// There is nothing to act on.
pub fn no_connection() -> SyncError {
    SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Configuration, "there is no connection yet")
        .hint("Write a connection.toml (deploy/connection.toml is an example), then `warehouse-sync connect connection.toml`.")
}

fn failed(error: sqlx::Error) -> SyncError {
    SyncError::new(ErrorCode::LocalDisk, Stage::Stage, "our own state cannot be read or written").external(error)
}

fn json(value: &impl Serialize) -> Result<String, SyncError> {
    serde_json::to_string(value).map_err(|error| SyncError::internal(Stage::Stage, "a value cannot be stored").external(error))
}

fn body<T: DeserializeOwned>(row: &sqlx::sqlite::SqliteRow) -> Result<T, SyncError> {
    let text: &str = row.try_get("body").map_err(failed)?;
    serde_json::from_str(text).map_err(|error| {
        SyncError::internal(Stage::Stage, "our state holds something that this version does not understand").external(error)
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
