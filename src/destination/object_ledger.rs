//! The ledger on object storage: objects that are only ever created, never replaced.
//!
//! ```text
//! _ledger/genesis/00000001.json                 the connections that this destination has had
//! _ledger/{connection}/{sync}/{sequence}.json   creating it IS the commit; holds the whole manifest
//! _ledger/{connection}/{sync}/{sequence}.done   its files stand at their final keys
//! ```
//!
//! `If-None-Match: *` lets exactly one writer create an object. Whoever loses has changed nothing.

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::object_storage::ObjectStorage;
use crate::model::ledger::LEDGER_FORMAT;
use crate::model::{ConnectionId, ErrorCode, Genesis, LedgerEntry, Stage, SyncError, SyncId};

/// What came of trying to create an object.
#[derive(Debug)]
pub enum Created {
    /// It is ours.
    New,
    /// Something stands there already.
    Exists,
}

impl ObjectStorage {
    pub(super) fn genesis_key(&self, generation: u64) -> Path {
        self.key(&format!("_ledger/genesis/{generation:08}.json"))
    }

    pub(super) fn entry_key(&self, connection: ConnectionId, sync: SyncId, sequence: u64) -> Path {
        self.key(&format!("_ledger/{connection}/{sync}/{sequence:020}.json"))
    }

    pub(super) fn done_key(&self, entry: &LedgerEntry) -> Path {
        self.key(&format!("_ledger/{}/{}/{:020}.done", entry.connection, entry.sync, entry.sequence))
    }

    /// Creates an object unless it exists.
    pub(super) async fn create(&self, key: &Path, content: Bytes, stage: Stage) -> Result<Created, SyncError> {
        match self.store.put_opts(key, content.into(), PutOptions::from(PutMode::Create)).await {
            Ok(_) => Ok(Created::New),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(Created::Exists),
            Err(error) => Err(self.failed(&error, stage)),
        }
    }

    pub(super) async fn read_json<T: DeserializeOwned>(&self, key: &Path, stage: Stage) -> Result<Option<T>, SyncError> {
        let content = match self.store.get(key).await {
            Ok(found) => found.bytes().await.map_err(|error| self.failed(&error, stage))?,
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(self.failed(&error, stage)),
        };
        serde_json::from_slice(&content).map(Some).map_err(|error| {
            SyncError::new(ErrorCode::LedgerCorrupt, stage, format!("the ledger object `{key}` cannot be understood")).external(error)
        })
    }

    /// The names directly or indirectly below a folder, in order, behind `after` if that is given.
    pub(super) async fn names(&self, folder: &Path, after: Option<&Path>, stage: Stage) -> Result<Vec<Path>, SyncError> {
        let listed = match after {
            Some(after) => self.store.list_with_offset(Some(folder), after),
            None => self.store.list(Some(folder)),
        };
        let mut names: Vec<Path> =
            listed.map_ok(|object| object.location).try_collect().await.map_err(|error| self.failed(&error, stage))?;
        names.sort();
        Ok(names)
    }

    /// The newest genesis.
    pub(super) async fn newest_genesis(&self, stage: Stage) -> Result<Option<Genesis>, SyncError> {
        let names = self.names(&self.key("_ledger/genesis"), None, stage).await?;
        match names.iter().rfind(|name| name.extension() == Some("json")) {
            Some(name) => {
                let genesis: Option<Genesis> = self.read_json(name, stage).await?;
                match genesis {
                    Some(genesis) if genesis.format > LEDGER_FORMAT => Err(SyncError::new(
                        ErrorCode::LedgerCorrupt,
                        stage,
                        format!("`{name}` was written by a newer version of warehouse-sync"),
                    )),
                    genesis => Ok(genesis),
                }
            }
            None => Ok(None),
        }
    }

    /// The newest sequence number of a chain, 0 when it has no entry.
    pub(super) async fn newest_sequence(&self, connection: ConnectionId, sync: SyncId, known: u64, stage: Stage) -> Result<u64, SyncError> {
        let folder = self.key(&format!("_ledger/{connection}/{sync}"));
        let after = (known > 0).then(|| self.entry_key(connection, sync, known));
        let names = self.names(&folder, after.as_ref(), stage).await?;
        let newest = names.iter().filter_map(|name| name.filename()?.strip_suffix(".json")?.parse::<u64>().ok()).max();
        Ok(newest.unwrap_or(0).max(known))
    }

    pub(super) async fn entry(
        &self,
        connection: ConnectionId,
        sync: SyncId,
        sequence: u64,
        stage: Stage,
    ) -> Result<Option<LedgerEntry>, SyncError> {
        let key = self.entry_key(connection, sync, sequence);
        let entry: Option<LedgerEntry> = self.read_json(&key, stage).await?;
        if let Some(entry) = &entry {
            let expected = (connection, sync, sequence);
            if (entry.connection, entry.sync, entry.sequence) != expected || entry.format > LEDGER_FORMAT {
                return Err(SyncError::new(
                    ErrorCode::LedgerCorrupt,
                    stage,
                    format!("the ledger object `{key}` is not what its name says"),
                ));
            }
        }
        Ok(entry)
    }
}

/// The stored form of a ledger object: indented, since people look at it when something is wrong.
pub(super) fn to_json(value: &impl Serialize, stage: Stage) -> Result<Bytes, SyncError> {
    let text = serde_json::to_vec_pretty(value)
        .map_err(|error| SyncError::internal(stage, "a ledger object cannot be written").external(error))?;
    Ok(text.into())
}
