//! Where rows go.
//!
//! The [`Destination`] seam is the commit protocol of architecture.md section 3: stage what nobody
//! sees, then make exactly one manifest visible, once. The destination's own ledger is the truth; our
//! store only remembers it.

pub mod object_ledger;
pub mod object_storage;
pub mod s3_errors;

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use serde::Serialize;

use crate::config;
use crate::model::connection::DestinationSettings;
use crate::model::part::PartFile;
use crate::model::run::Receipt;
use crate::model::{
    ConnectionId, EntryKind, ErrorCode, Genesis, LedgerEntry, Manifest, RunId, RunSpec, StagedFile, SyncError, SyncId, Table, TableTotals,
};

/// How a step of a check ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckOutcome {
    /// It works.
    Passed,
    /// It does not.
    Failed,
    /// Not tried, since an earlier step failed.
    Skipped,
}

/// One step of a connection's check.
#[derive(Debug, Clone, Serialize)]
pub struct CheckStep {
    /// What was tried.
    pub name: String,
    /// How it ended.
    pub outcome: CheckOutcome,
    /// Why it failed, with what would fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<SyncError>,
}

/// A committed file, brought back.
#[derive(Debug)]
pub enum Fetched {
    /// It is not there.
    Missing,
    /// It is there, and its SHA-256 is not the one that was committed.
    Altered,
    /// It is as committed; the copy is removed when this is dropped.
    Whole(tempfile::NamedTempFile),
}

/// A warehouse, bucket or folder.
///
/// *Concurrency.* All methods may be called at the same time; runs of one sync are committed one after
/// the other, runs of different syncs side by side.
/// *Crashes.* Every method may be cut at any point and called again with the same arguments.
/// *Lost answers.* An error never means that nothing happened: the engine calls again and the ledger decides.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Kind and place, for people; without secrets.
    fn describe(&self) -> String;

    /// Tries everything that a sync will need, step by step, and leaves nothing behind.
    async fn check(&self) -> Vec<CheckStep>;

    /// The genesis of the connection that holds this destination, if there ever was one.
    async fn genesis(&self) -> Result<Option<Genesis>, SyncError>;

    /// Makes `genesis` the newest connection of this destination, at connect only. Creates what is
    /// missing, never drops anything. Fails with [`ErrorCode::ForeignConnection`] when another
    /// connection has the same generation, and closes the chains of all older ones.
    async fn prepare(&self, genesis: &Genesis) -> Result<(), SyncError>;

    /// Uploads a part file where no reader sees it, under a key that carries the attempt's nonce.
    async fn stage(&self, spec: &RunSpec, run: RunId, attempt: &str, file: &PartFile) -> Result<StagedFile, SyncError>;

    /// Brings the staged files as far as they get without being visible (SQL warehouses: into the
    /// attempt's stage table) and counts what is there: every bulk path has a way to load nothing and say OK.
    async fn load(&self, spec: &RunSpec, manifest: &Manifest) -> Result<BTreeMap<Table, TableTotals>, SyncError>;

    /// Makes exactly the manifest's rows visible, once. Answers with [`Receipt::already`] when the
    /// ledger holds the run; fails with [`ErrorCode::Conflict`] when the chain does not stand where the
    /// run's slice starts, with [`ErrorCode::TakenOver`] when a newer connection has closed it, and with
    /// [`ErrorCode::StageLost`] when what was staged is gone and the ledger lacks the run.
    async fn commit(&self, genesis: &Genesis, spec: &RunSpec, manifest: &Manifest) -> Result<Receipt, SyncError>;

    /// Appends an entry that is no run (a person's decision to skip a gap) to a chain whose newest
    /// entry is `sequence - 1`.
    async fn append(&self, genesis: &Genesis, sync: SyncId, sequence: u64, kind: EntryKind) -> Result<LedgerEntry, SyncError>;

    /// The newest entry of a chain; completes it first if its commit was cut short. `known` is a
    /// sequence number that surely exists (0 for none) and saves looking at everything before it.
    async fn head(&self, genesis: &Genesis, sync: SyncId, known: u64) -> Result<Option<LedgerEntry>, SyncError>;

    /// Every entry of a chain, in order.
    async fn entries(&self, genesis: &Genesis, sync: SyncId) -> Result<Vec<LedgerEntry>, SyncError>;

    /// Brings back a file that was committed, to be counted anew or to read what was rejected.
    async fn fetch(&self, file: &StagedFile) -> Result<Fetched, SyncError>;

    /// Removes what a run staged. Never touches what a reader sees.
    async fn discard(&self, connection: ConnectionId, run: RunId) -> Result<(), SyncError>;

    /// Every run, of any connection that this destination has had, that has left something staged.
    async fn staged_runs(&self) -> Result<Vec<(ConnectionId, RunId)>, SyncError>;
}

/// Opens the configured destination. Resolves secrets, connects nowhere.
pub fn open(settings: &DestinationSettings) -> Result<Arc<dyn Destination>, SyncError> {
    Ok(Arc::new(object_storage::ObjectStorage::open(settings)?))
}

/// Changes when a secret does that the settings refer to, so that a rotated one is noticed.
pub fn secrets_fingerprint(settings: &DestinationSettings) -> Result<u64, SyncError> {
    let DestinationSettings::S3(s3) = settings else { return Ok(0) };
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    if let Some(key) = &s3.access_key_id {
        hasher.update(config::value_or_reference(key)?.expose().as_bytes());
    }
    for reference in [&s3.secret_access_key, &s3.session_token].into_iter().flatten() {
        hasher.update(config::secret(reference)?.expose().as_bytes());
    }
    Ok(hasher.digest())
}

/// What a newer or foreign entry means for somebody who wanted to write in its place.
pub(crate) fn refused_by(entry: &LedgerEntry, sequence: u64) -> SyncError {
    use crate::model::Stage;
    match &entry.kind {
        EntryKind::Closed { by } => {
            SyncError::new(ErrorCode::TakenOver, Stage::Commit, format!("connection {by} has taken this destination over"))
        }
        EntryKind::Run { .. } | EntryKind::Skip { .. } => SyncError::new(
            ErrorCode::Conflict,
            Stage::Commit,
            format!("the ledger of {} already holds entry {sequence}, written by another engine", entry.sync),
        ),
    }
}
