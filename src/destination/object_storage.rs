//! Amazon S3, S3-compatible endpoints and a local folder, with the same code.
//!
//! Object storage has no transaction. A run's files are staged under keys of their own; creating the
//! ledger entry, which names them all, is the commit; copying them to where readers look, and marking
//! that as done, can be repeated by anybody at any time (`roll_forward`).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::{ClientOptions, ObjectStore, ObjectStoreExt, PutMode, PutOptions, RetryConfig, WriteMultipart};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::object_ledger::{Created, to_json};
use super::{CheckOutcome, CheckStep, Destination, Fetched, refused_by, s3_errors};
use crate::boundary::boundary;
use crate::config;
use crate::model::connection::{DestinationSettings, FolderSettings, S3Settings};
use crate::model::ledger::LEDGER_FORMAT;
use crate::model::part::PartFile;
use crate::model::position::hex;
use crate::model::run::Receipt;
use crate::model::{
    Checkpoint, ConnectionId, EntryKind, ErrorCode, Genesis, LedgerEntry, Manifest, Object, RunId, RunSpec, Stage, StagedFile, SyncError,
    SyncId, Table, TableTotals,
};

/// Files up to this size are uploaded by one request; larger ones in chunks of it. S3 wants at least
/// 5 MiB a chunk and allows 10,000 of them.
const CHUNK_BYTES: usize = 8 * 1024 * 1024;
/// Chunks of one file in flight. With the chunk's size, what an upload adds to the memory budget.
const CHUNKS_IN_FLIGHT: usize = 2;
/// Small requests (look-ups, copies, deletions) in flight.
const REQUESTS_IN_FLIGHT: usize = 8;

/// A bucket or a folder.
pub struct ObjectStorage {
    pub(super) store: Arc<dyn ObjectStore>,
    prefix: String,
    place: String,
    local: bool,
    /// The folder did not exist before it was opened.
    made: Option<std::path::PathBuf>,
}

impl ObjectStorage {
    /// Opens the configured bucket or folder.
    pub fn open(settings: &DestinationSettings) -> Result<Self, SyncError> {
        match settings {
            DestinationSettings::S3(s3) => Self::open_s3(s3, settings.describe()),
            DestinationSettings::Folder(folder) => Self::open_folder(folder, settings.describe()),
        }
    }

    fn open_s3(settings: &S3Settings, place: String) -> Result<Self, SyncError> {
        let mut builder = match (&settings.access_key_id, &settings.secret_access_key) {
            (Some(key), Some(secret)) => AmazonS3Builder::new()
                .with_access_key_id(config::value_or_reference(key)?.expose())
                .with_secret_access_key(config::secret(secret)?.expose()),
            // The standard AWS chain: environment, web identity, container and instance roles.
            _ => AmazonS3Builder::from_env(),
        };
        if let Some(token) = &settings.session_token {
            builder = builder.with_token(config::secret(token)?.expose());
        }
        if let Some(endpoint) = &settings.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        let retry = RetryConfig { max_retries: 4, retry_timeout: std::time::Duration::from_secs(60), ..RetryConfig::default() };
        let client = ClientOptions::new()
            .with_connect_timeout(std::time::Duration::from_secs(10))
            .with_timeout(std::time::Duration::from_secs(300))
            .with_allow_http(settings.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://")));
        let store =
            builder.with_bucket_name(&settings.bucket).with_region(&settings.region).with_client_options(client).with_retry(retry).build();
        let store = store.map_err(|error| s3_errors::classify(&error, Stage::Connect, &place, false))?;
        let prefix = settings.prefix.as_ref().map(|prefix| format!("{prefix}/")).unwrap_or_default();
        Ok(Self { store: Arc::new(store), prefix, place, local: false, made: None })
    }

    fn open_folder(settings: &FolderSettings, place: String) -> Result<Self, SyncError> {
        let failed = |error: std::io::Error| {
            SyncError::new(ErrorCode::BucketNotFound, Stage::Connect, format!("{place} cannot be created"))
                .external(error)
                .hint("Give a path below an existing folder that the user of warehouse-sync may write to.")
        };
        let made = (!std::path::Path::new(&settings.path).exists()).then(|| settings.path.clone().into());
        std::fs::create_dir_all(&settings.path).map_err(failed)?;
        let store = LocalFileSystem::new_with_prefix(&settings.path)
            .map_err(|error| s3_errors::classify(&error, Stage::Connect, &place, true))?
            .with_automatic_cleanup(true)
            // The commit must outlive a power cut, not only a killed process.
            .with_fsync(true);
        Ok(Self { store: Arc::new(store), prefix: String::new(), place, local: true, made })
    }

    pub(super) fn key(&self, relative: &str) -> Path {
        Path::from(format!("{}{relative}", self.prefix))
    }

    pub(super) fn failed(&self, error: &object_store::Error, stage: Stage) -> SyncError {
        s3_errors::classify(error, stage, &self.place, self.local)
    }

    async fn size_of(&self, key: &Path, stage: Stage) -> Result<Option<u64>, SyncError> {
        match self.store.head(key).await {
            Ok(found) => Ok(Some(found.size)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(&error, stage)),
        }
    }

    async fn upload(&self, key: &Path, file: &PartFile) -> Result<(), SyncError> {
        let disk =
            |error: std::io::Error| SyncError::new(ErrorCode::LocalDisk, Stage::Stage, "a spooled file cannot be read").external(error);
        let failed = |error: object_store::Error| self.failed(&error, Stage::Stage);
        if file.bytes <= CHUNK_BYTES as u64 {
            let content = tokio::fs::read(&file.path).await.map_err(disk)?;
            return match self.store.put_opts(key, content.into(), PutOptions::from(PutMode::Create)).await {
                // The key carries this attempt's nonce: what stands there is a repeated request of ours.
                Err(object_store::Error::AlreadyExists { .. }) if self.size_of(key, Stage::Stage).await? == Some(file.bytes) => Ok(()),
                Err(error) => Err(failed(error)),
                Ok(_) => Ok(()),
            };
        }
        let mut from = tokio::fs::File::open(&file.path).await.map_err(disk)?;
        let mut upload = WriteMultipart::new_with_chunk_size(self.store.put_multipart(key).await.map_err(failed)?, CHUNK_BYTES);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            let count = from.read(&mut buffer).await.map_err(disk)?;
            if count == 0 {
                break;
            }
            upload.wait_for_capacity(CHUNKS_IN_FLIGHT).await.map_err(failed)?;
            upload.write(&buffer[..count]);
        }
        upload.finish().await.map_err(failed)?;
        Ok(())
    }

    /// Brings the files of a committed entry to their final keys. Repeatable; ends with the `.done` object.
    pub(super) async fn roll_forward(&self, entry: &LedgerEntry) -> Result<(), SyncError> {
        let Some(manifest) = entry.manifest() else { return Ok(()) };
        let done = self.done_key(entry);
        if self.size_of(&done, Stage::Commit).await?.is_some() {
            return Ok(());
        }
        stream::iter(manifest.files.clone())
            .map(|file| async move {
                boundary("commit_copy");
                let (from, to) = (self.key(&file.staged_key), self.key(&file.final_key));
                match self.store.copy(&from, &to).await {
                    Ok(()) => Ok(()),
                    // An earlier try may have copied and cleaned already.
                    Err(object_store::Error::NotFound { .. }) if self.size_of(&to, Stage::Commit).await? == Some(file.bytes) => Ok(()),
                    Err(object_store::Error::NotFound { .. }) => Err(SyncError::new(
                        ErrorCode::ObjectChanged,
                        Stage::Commit,
                        format!("the committed file `{}` is gone, both where it was staged and where it belongs", file.final_key),
                    )),
                    Err(error) => Err(self.failed(&error, Stage::Commit)),
                }
            })
            .buffer_unordered(REQUESTS_IN_FLIGHT)
            .try_collect::<()>()
            .await?;
        boundary("commit_before_done");
        // Not empty: Trino does not see empty files.
        self.create(&done, bytes::Bytes::from_static(b"done\n"), Stage::Commit).await?;
        boundary("commit_after_done");
        Ok(())
    }

    /// Where a chain stands: its newest entry, completed, or its beginning.
    async fn stand(
        &self,
        genesis: &Genesis,
        sync: SyncId,
        known: u64,
    ) -> Result<(u64, Checkpoint, BTreeMap<Table, TableTotals>), SyncError> {
        match self.head(genesis, sync, known).await? {
            Some(entry) => {
                if let EntryKind::Closed { .. } = entry.kind {
                    return Err(refused_by(&entry, entry.sequence));
                }
                Ok((entry.sequence, entry.checkpoint, entry.totals))
            }
            None => Ok((0, genesis.start_of(sync), BTreeMap::new())),
        }
    }

    /// Creates the entry, or says who was first.
    async fn create_entry(&self, entry: &LedgerEntry) -> Result<Option<LedgerEntry>, SyncError> {
        let key = self.entry_key(entry.connection, entry.sync, entry.sequence);
        match self.create(&key, to_json(entry, Stage::Commit)?, Stage::Commit).await? {
            Created::New => Ok(None),
            Created::Exists => match self.entry(entry.connection, entry.sync, entry.sequence, Stage::Commit).await? {
                Some(first) => Ok(Some(first)),
                // S3 answers a conflict of two writers like an existing object; neither need have won.
                None => Err(SyncError::new(ErrorCode::Unavailable, Stage::Commit, "two writers met at a ledger entry and neither won")),
            },
        }
    }

    async fn expect_genesis(&self, genesis: &Genesis) -> Result<(), SyncError> {
        match self.read_json::<Genesis>(&self.genesis_key(genesis.generation), Stage::Commit).await? {
            Some(found) if found.connection == genesis.connection => Ok(()),
            Some(found) => Err(SyncError::new(
                ErrorCode::TakenOver,
                Stage::Commit,
                format!("the destination belongs to connection {}", found.connection),
            )),
            None => Err(SyncError::new(ErrorCode::GenesisMissing, Stage::Commit, format!("{} no longer holds our ledger", self.place))),
        }
    }

    async fn expect_staged(&self, manifest: &Manifest) -> Result<(), SyncError> {
        stream::iter(manifest.files.clone())
            .map(|file| async move {
                match self.size_of(&self.key(&file.staged_key), Stage::Commit).await? {
                    Some(bytes) if bytes == file.bytes => Ok(()),
                    found => Err(SyncError::new(
                        ErrorCode::StageLost,
                        Stage::Commit,
                        format!("the staged file `{}` has {found:?} bytes instead of {}", file.staged_key, file.bytes),
                    )),
                }
            })
            .buffer_unordered(REQUESTS_IN_FLIGHT)
            .try_collect::<()>()
            .await
    }
}

#[async_trait]
impl Destination for ObjectStorage {
    fn describe(&self) -> String {
        self.place.clone()
    }

    async fn check(&self) -> Vec<CheckStep> {
        let probe = self.key(&format!("_probe/{}", uuid::Uuid::now_v7()));
        let copy = Path::from(format!("{probe}.copy"));
        let stage = Stage::Connect;
        let mut steps = Steps::default();
        let list = self.key("_ledger");
        steps
            .run(if self.local { "open the folder" } else { "reach the endpoint, sign in, find the bucket, list it" }, async {
                self.names(&list, None, stage).await.map(|_| ())
            })
            .await;
        steps.run("write an object", async { self.create(&probe, "probe".into(), stage).await.map(|_| ()) }).await;
        steps
            .run("refuse to write it twice (conditional write)", async {
                match self.create(&probe, "again".into(), stage).await? {
                    Created::Exists => Ok(()),
                    Created::New => Err(SyncError::new(
                        ErrorCode::ConditionalWriteUnsupported,
                        stage,
                        "the endpoint replaced an object that it was told not to replace",
                    )),
                }
            })
            .await;
        steps
            .run("read it back", async {
                let content = self.store.get(&probe).await.map_err(|error| self.failed(&error, stage))?;
                let content = content.bytes().await.map_err(|error| self.failed(&error, stage))?;
                if content.as_ref() == b"probe" {
                    Ok(())
                } else {
                    Err(SyncError::new(ErrorCode::ObjectMismatch, stage, "an object reads differently from what was written"))
                }
            })
            .await;
        steps.run("copy it", async { self.store.copy(&probe, &copy).await.map_err(|error| self.failed(&error, stage)) }).await;
        steps
            .run("delete both", async {
                for key in [&copy, &probe] {
                    self.store.delete(key).await.map_err(|error| self.failed(&error, stage))?;
                }
                Ok(())
            })
            .await;
        if steps.has_failed() {
            // What an early step wrote must not stay behind because a later one failed.
            for key in [&copy, &probe] {
                let _ = self.store.delete(key).await;
            }
        }
        if let Some(made) = &self.made {
            // Only a folder that is still empty goes; the first write makes it anew.
            let _ = std::fs::remove_dir(made);
        }
        steps.done
    }

    async fn genesis(&self) -> Result<Option<Genesis>, SyncError> {
        self.newest_genesis(Stage::Connect).await
    }

    async fn prepare(&self, genesis: &Genesis) -> Result<(), SyncError> {
        let stage = Stage::Connect;
        let key = self.genesis_key(genesis.generation);
        if let Created::Exists = self.create(&key, to_json(genesis, stage)?, stage).await? {
            let found: Option<Genesis> = self.read_json(&key, stage).await?;
            if found.as_ref().map(|found| found.connection) != Some(genesis.connection) {
                let name = found.map_or_else(String::new, |found| format!(" `{}`", found.name));
                return Err(SyncError::new(
                    ErrorCode::ForeignConnection,
                    stage,
                    format!("{} already holds the connection{name}", self.place),
                ));
            }
        }
        for older in 1..genesis.generation {
            let Some(older) = self.read_json::<Genesis>(&self.genesis_key(older), stage).await? else { continue };
            for sync in Object::ALL.into_iter().flat_map(SyncId::chains) {
                self.close(&older, sync, genesis).await?;
            }
        }
        Ok(())
    }

    async fn stage(&self, spec: &RunSpec, run: RunId, attempt: &str, file: &PartFile) -> Result<StagedFile, SyncError> {
        let name = format!("{}-{:05}.{}", file.table, file.part, spec.file_format.extension());
        let staged_key = format!("_staging/{}/{run}/{attempt}/{name}", spec.connection);
        let hour = spec.frozen_at.strftime("dt=%Y-%m-%d/hr=%H");
        let final_key = format!("{}/{hour}/{run}-{:05}.{}", file.table, file.part, spec.file_format.extension());
        self.upload(&self.key(&staged_key), file).await?;
        Ok(StagedFile { table: file.table, staged_key, final_key, totals: file.totals, bytes: file.bytes, sha256: file.sha256.clone() })
    }

    async fn load(&self, _spec: &RunSpec, manifest: &Manifest) -> Result<BTreeMap<Table, TableTotals>, SyncError> {
        // There is nothing to load. The files' sizes tell whether they arrived whole; their rows and
        // checksums are then those of the hashed bytes.
        self.expect_staged(manifest).await.map_err(|error| error.at(Stage::Stage))?;
        let mut totals: BTreeMap<Table, TableTotals> = BTreeMap::new();
        for file in &manifest.files {
            *totals.entry(file.table).or_default() += file.totals;
        }
        Ok(totals)
    }

    async fn commit(&self, genesis: &Genesis, spec: &RunSpec, manifest: &Manifest) -> Result<Receipt, SyncError> {
        self.expect_genesis(genesis).await?;
        let (connection, sync, sequence) = (spec.connection, spec.sync, spec.sequence);
        let entry = match self.entry(connection, sync, sequence, Stage::Commit).await? {
            Some(entry) => (entry, true),
            None => {
                let (newest, checkpoint, mut totals) = self.stand(genesis, sync, sequence.saturating_sub(2)).await?;
                let conflict = |why: String| SyncError::new(ErrorCode::Conflict, Stage::Commit, why);
                if newest + 1 != sequence {
                    return Err(conflict(format!("the ledger of {sync} stands at entry {newest}, the run wants to be entry {sequence}")));
                }
                let checkpoint = checkpoint.advanced(&manifest.slice, &manifest.reached).map_err(|error| conflict(error.to_string()))?;
                for (table, added) in &manifest.tables {
                    *totals.entry(*table).or_default() += *added;
                }
                self.expect_staged(manifest).await?;
                let kind = EntryKind::Run { manifest: Box::new(manifest.clone()) };
                let entry = LedgerEntry { format: LEDGER_FORMAT, connection, sync, sequence, kind, checkpoint, totals };
                boundary("commit_before_point");
                match self.create_entry(&entry).await? {
                    None => (entry, false),
                    Some(first) => (first, true),
                }
            }
        };
        let (entry, already) = entry;
        match entry.manifest() {
            Some(committed) if committed.run == manifest.run && committed.digest == manifest.digest => {}
            _ => return Err(refused_by(&entry, sequence)),
        }
        boundary("commit_after_point");
        self.roll_forward(&entry).await?;
        let rows = entry.manifest().and_then(|manifest| manifest.tables.get(&sync.object.table())).copied().unwrap_or_default().rows;
        Ok(Receipt { already, inserted: rows, updated: 0, superseded: 0, totals: entry.totals })
    }

    async fn append(&self, genesis: &Genesis, sync: SyncId, sequence: u64, kind: EntryKind) -> Result<LedgerEntry, SyncError> {
        self.expect_genesis(genesis).await?;
        let (newest, mut checkpoint, totals) = self.stand(genesis, sync, sequence.saturating_sub(2)).await?;
        if newest + 1 != sequence {
            return Err(SyncError::new(
                ErrorCode::Conflict,
                Stage::Commit,
                format!("the ledger of {sync} stands at entry {newest}, not at {}", sequence - 1),
            ));
        }
        if let EntryKind::Skip { slice, reached, .. } = &kind {
            checkpoint = checkpoint
                .advanced(slice, reached)
                .map_err(|error| SyncError::new(ErrorCode::Conflict, Stage::Commit, error.to_string()))?;
        }
        let entry = LedgerEntry { format: LEDGER_FORMAT, connection: genesis.connection, sync, sequence, kind, checkpoint, totals };
        match self.create_entry(&entry).await? {
            None => Ok(entry),
            Some(first) if first == entry => Ok(entry),
            Some(first) => Err(refused_by(&first, sequence)),
        }
    }

    async fn head(&self, genesis: &Genesis, sync: SyncId, known: u64) -> Result<Option<LedgerEntry>, SyncError> {
        let newest = self.newest_sequence(genesis.connection, sync, known, Stage::Commit).await?;
        if newest == 0 {
            return Ok(None);
        }
        let Some(entry) = self.entry(genesis.connection, sync, newest, Stage::Commit).await? else {
            let summary = format!("entry {newest} of the ledger of {sync} is gone from {}", self.place);
            return Err(SyncError::new(ErrorCode::GenesisMissing, Stage::Commit, summary));
        };
        self.roll_forward(&entry).await?;
        Ok(Some(entry))
    }

    async fn entries(&self, genesis: &Genesis, sync: SyncId) -> Result<Vec<LedgerEntry>, SyncError> {
        let newest = match self.head(genesis, sync, 0).await? {
            Some(entry) => entry.sequence,
            None => return Ok(Vec::new()),
        };
        stream::iter(1..=newest)
            .map(|sequence| async move {
                self.entry(genesis.connection, sync, sequence, Stage::Verify).await?.ok_or_else(|| {
                    SyncError::new(ErrorCode::GenesisMissing, Stage::Verify, format!("entry {sequence} of the ledger of {sync} is gone"))
                })
            })
            .buffered(REQUESTS_IN_FLIGHT)
            .try_collect()
            .await
    }

    async fn fetch(&self, file: &StagedFile) -> Result<Fetched, SyncError> {
        let disk =
            |error: std::io::Error| SyncError::new(ErrorCode::LocalDisk, Stage::Verify, "no temporary file can be written").external(error);
        let found = match self.store.get(&self.key(&file.final_key)).await {
            Ok(found) => found,
            Err(object_store::Error::NotFound { .. }) => return Ok(Fetched::Missing),
            Err(error) => return Err(self.failed(&error, Stage::Verify)),
        };
        let copy = tempfile::NamedTempFile::new().map_err(disk)?;
        let mut to = tokio::fs::File::create(copy.path()).await.map_err(disk)?;
        let mut hasher = aws_lc_rs::digest::Context::new(&aws_lc_rs::digest::SHA256);
        let mut content = found.into_stream();
        while let Some(chunk) = content.try_next().await.map_err(|error| self.failed(&error, Stage::Verify))? {
            hasher.update(&chunk);
            to.write_all(&chunk).await.map_err(disk)?;
        }
        to.flush().await.map_err(disk)?;
        Ok(if hex(hasher.finish().as_ref()) == file.sha256 { Fetched::Whole(copy) } else { Fetched::Altered })
    }

    async fn discard(&self, connection: ConnectionId, run: RunId) -> Result<(), SyncError> {
        let folder = self.key(&format!("_staging/{connection}/{run}"));
        self.delete_all(self.names(&folder, None, Stage::Verify).await?).await
    }

    async fn staged_runs(&self) -> Result<Vec<(ConnectionId, RunId)>, SyncError> {
        let folder = self.key("_staging");
        let mut runs: Vec<_> = self
            .names(&folder, None, Stage::Verify)
            .await?
            .iter()
            .filter_map(|name| {
                let mut parts = name.prefix_match(&folder)?;
                let connection = parts.next()?.as_ref().parse().ok().map(ConnectionId)?;
                Some((connection, parts.next()?.as_ref().parse().ok().map(RunId)?))
            })
            .collect();
        runs.dedup();
        Ok(runs)
    }
}

impl ObjectStorage {
    async fn delete_all(&self, names: Vec<Path>) -> Result<(), SyncError> {
        stream::iter(names)
            .map(|name| async move {
                match self.store.delete(&name).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(self.failed(&error, Stage::Verify)),
                }
            })
            .buffer_unordered(REQUESTS_IN_FLIGHT)
            .try_collect()
            .await
    }

    /// Ends a chain of an older connection, so that an engine that still works on it cannot commit any more.
    async fn close(&self, older: &Genesis, sync: SyncId, newer: &Genesis) -> Result<(), SyncError> {
        loop {
            let (sequence, checkpoint, totals) = match self.stand(older, sync, 0).await {
                Ok(stand) => stand,
                Err(error) if error.code == ErrorCode::TakenOver => return Ok(()),
                Err(error) => return Err(error),
            };
            let kind = EntryKind::Closed { by: newer.connection };
            let entry =
                LedgerEntry { format: LEDGER_FORMAT, connection: older.connection, sync, sequence: sequence + 1, kind, checkpoint, totals };
            // When its engine commits at the same moment it may be first; then its entry counts and the next one is tried.
            if self.create_entry(&entry).await?.is_none() {
                return Ok(());
            }
        }
    }
}

/// Collects steps; the first that fails lets the rest be skipped.
#[derive(Default)]
struct Steps {
    done: Vec<CheckStep>,
}

impl Steps {
    async fn run(&mut self, name: &'static str, step: impl Future<Output = Result<(), SyncError>> + Send) {
        let (outcome, error) = if self.has_failed() {
            (CheckOutcome::Skipped, None)
        } else {
            match step.await {
                Ok(()) => (CheckOutcome::Passed, None),
                Err(error) => (CheckOutcome::Failed, Some(error)),
            }
        };
        self.done.push(CheckStep { name: name.to_owned(), outcome, error });
    }

    fn has_failed(&self) -> bool {
        self.done.iter().any(|step| step.outcome == CheckOutcome::Failed)
    }
}
