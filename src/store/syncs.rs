//! Syncs in the store.

use sqlx::{Sqlite, Transaction};

use super::{Store, body, failed, json};
use crate::model::{ErrorCode, Stage, Sync, SyncError, SyncId};

impl Store {
    /// Every sync, in the order in which they are shown.
    pub async fn syncs(&self) -> Result<Vec<Sync>, SyncError> {
        let rows = sqlx::query("SELECT body FROM sync").fetch_all(&self.pool).await.map_err(failed)?;
        let mut syncs = rows.iter().map(body::<Sync>).collect::<Result<Vec<_>, _>>()?;
        syncs.sort_by_key(|sync| sync.id);
        Ok(syncs)
    }

    /// One sync.
    pub async fn sync(&self, id: SyncId) -> Result<Sync, SyncError> {
        let row = sqlx::query("SELECT body FROM sync WHERE name = ?").bind(id.name()).fetch_optional(&self.pool).await.map_err(failed)?;
        row.map(|row| body(&row)).transpose()?.ok_or_else(|| unknown(id))
    }

    /// Adds a sync unless it exists.
    pub async fn ensure_sync(&self, sync: &Sync) -> Result<(), SyncError> {
        sqlx::query("INSERT INTO sync (name, row_version, body) VALUES (?, 1, ?) ON CONFLICT (name) DO NOTHING")
            .bind(sync.id.name())
            .bind(json(sync)?)
            .execute(&self.pool)
            .await
            .map_err(failed)?;
        Ok(())
    }

    /// Changes a sync.
    pub async fn update_sync<T: Send>(&self, id: SyncId, change: impl FnOnce(&mut Sync) -> T + Send) -> Result<T, SyncError> {
        let mut transaction = self.begin().await?;
        let mut sync = read(&mut transaction, id).await?;
        let before = sync.clone();
        let result = change(&mut sync);
        if sync != before {
            write(&mut transaction, &sync).await?;
        }
        transaction.commit().await.map_err(failed)?;
        Ok(result)
    }
}

pub(super) async fn read(transaction: &mut Transaction<'static, Sqlite>, id: SyncId) -> Result<Sync, SyncError> {
    let row =
        sqlx::query("SELECT body FROM sync WHERE name = ?").bind(id.name()).fetch_optional(&mut **transaction).await.map_err(failed)?;
    row.map(|row| body(&row)).transpose()?.ok_or_else(|| unknown(id))
}

pub(super) async fn write(transaction: &mut Transaction<'static, Sqlite>, sync: &Sync) -> Result<(), SyncError> {
    sqlx::query("INSERT INTO sync (name, row_version, body) VALUES (?, 1, ?) ON CONFLICT (name) DO UPDATE SET row_version = row_version + 1, body = excluded.body")
        .bind(sync.id.name())
        .bind(json(sync)?)
        .execute(&mut **transaction)
        .await
        .map_err(failed)?;
    Ok(())
}

fn unknown(id: SyncId) -> SyncError {
    SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Configuration, format!("the connection has no sync {id}"))
        .hint("`warehouse-sync status` lists the syncs.")
}
