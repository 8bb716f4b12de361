//! The pipeline of one attempt: read → parse → filter → encode → compress → upload.
//!
//! Two threads and the upload overlap: the reading thread turns records into batches of encoded rows,
//! the writing thread compresses batches into part files in the spool folder, and finished parts are
//! uploaded from there. The channels between them are short and the batches are handed back and
//! reused, so that memory does not depend on the backlog.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc as blocking;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::rows::Stager;
use crate::boundary::boundary;
use crate::destination::Destination;
use crate::encode::{Batch, PartWriter, RunStamp};
use crate::model::part::PartFile;
use crate::model::{Checkpoint, ErrorCode, FileFormat, Manifest, RunId, RunSpec, Slice, Stage, SyncError, Table, TableTotals};
use crate::record::filter::Filter;
use crate::source::{ReadEnd, Source};

/// Batches on their way from the reading to the writing thread.
const BATCHES_IN_FLIGHT: usize = 2;

/// How far an attempt has come; shared with whoever shows it.
#[derive(Debug, Default)]
pub struct Counters {
    /// Offsets passed, holes included.
    pub offsets: AtomicU64,
    /// Records read.
    pub records: AtomicU64,
    /// Bytes of keys and values read.
    pub bytes: AtomicU64,
}

/// What an attempt needs.
pub struct Attempt<'a> {
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// Where rows go.
    pub destination: Arc<dyn Destination>,
    /// The run.
    pub run: RunId,
    /// What it was planned with.
    pub spec: &'a RunSpec,
    /// The attempt's nonce.
    pub nonce: &'a str,
    /// Folder of the attempt's part files; removed at the end.
    pub spool: PathBuf,
    /// Compressed size at which a part is closed.
    pub max_part_bytes: u64,
    /// The slice, begun early where the last record read is to be seen again.
    pub reading: Slice,
    /// The run's filter, compiled.
    pub filter: Filter,
    /// How far the metric catalogue was read for it.
    pub catalogue: BTreeMap<i32, i64>,
    /// Replayed records, in place of the slice.
    pub replay: Vec<super::replay::ReplayRecord>,
    /// Where progress is counted.
    pub counters: Arc<Counters>,
    /// Stops the attempt.
    pub stop: CancellationToken,
}

/// Stages a run: the manifest, and the places of some rejected records. `None` when it was stopped.
pub async fn stage(attempt: Attempt<'_>) -> Result<Option<(Manifest, Vec<String>)>, SyncError> {
    let spool = Spool::create(attempt.spool.clone())?;
    let stamp = RunStamp { run: attempt.run, synced_at: attempt.spec.frozen_at };
    let format = attempt.spec.file_format;
    let (to_writer, batches) = blocking::sync_channel::<(Table, Batch)>(BATCHES_IN_FLIGHT);
    let (give_back, reusable) = blocking::channel::<(Table, Batch)>();
    let (to_upload, mut parts) = mpsc::channel::<PartFile>(1);

    let writing = {
        let (folder, max_part_bytes) = (spool.path.clone(), attempt.max_part_bytes);
        tokio::task::spawn_blocking(move || write_parts(&folder, format, max_part_bytes, &batches, &give_back, &to_upload))
    };
    let reading = {
        let (source, object, slice) = (attempt.source.clone(), attempt.spec.sync.object, attempt.reading.clone());
        let (stop, replay) = (attempt.stop.clone(), attempt.replay);
        let outlet = Outlet { format, stamp, full: to_writer, reusable, open: HashMap::new() };
        let mut stager = Stager::new(attempt.spec, attempt.filter, attempt.counters, outlet);
        tokio::task::spawn_blocking(move || {
            let end = match replay.is_empty() {
                true => source.read(object, &slice, &stop, &mut |record| stager.take(&record))?,
                false => {
                    replay.iter().try_for_each(|record| stager.replay(record))?;
                    ReadEnd::Complete
                }
            };
            stager.finish(end)
        })
    };

    let mut files = Vec::new();
    let mut upload_error = None;
    while let Some(part) = parts.recv().await {
        match attempt.destination.stage(attempt.spec, attempt.run, attempt.nonce, &part).await {
            Ok(file) => files.push(file),
            Err(error) => {
                // Dropping the receiver ends the writing thread, whose end ends the reading thread.
                upload_error = Some(error);
                break;
            }
        }
        boundary("stage_file");
        // Removed at once: the spool holds only what is in flight.
        drop(std::fs::remove_file(&part.path));
    }
    drop(parts);
    let (read, written) = (joined(reading.await), joined(writing.await));
    // The first cause counts: a failed upload breaks the writing thread, which breaks the reading thread.
    if let Some(error) = upload_error {
        return Err(error);
    }
    let read = match (written, read) {
        (Err(error), _) | (Ok(()), Err(error)) => return Err(error),
        (Ok(()), Ok(read)) => read,
    };
    let Some(read) = read else { return Ok(None) };
    files.sort_by(|a, b| a.staged_key.cmp(&b.staged_key));
    let mut tables: BTreeMap<Table, TableTotals> = BTreeMap::new();
    for file in &files {
        *tables.entry(file.table).or_default() += file.totals;
    }
    let manifest = Manifest {
        run: attempt.run,
        attempt: attempt.nonce.to_owned(),
        slice: attempt.spec.slice.clone(),
        digest: attempt.spec.slice.digest(),
        reached: read.reached,
        counts: read.counts,
        tables,
        files,
        file_format: format,
        catalogue: attempt.catalogue,
        frozen_at: attempt.spec.frozen_at,
        settled: read.settled,
    };
    let loaded = attempt.destination.load(attempt.spec, &manifest).await?;
    if loaded != manifest.tables {
        return Err(SyncError::new(
            ErrorCode::StageMismatch,
            Stage::Stage,
            format!("sent {:?}, but the destination holds {loaded:?}", manifest.tables),
        ));
    }
    boundary("stage_loaded");
    Ok(Some((manifest, read.samples)))
}

/// What the reading thread found.
#[derive(Debug)]
pub struct ReadResult {
    /// Positions reached.
    pub reached: Checkpoint,
    /// What became of the records.
    pub counts: crate::model::Counts,
    /// Replays: the records that became rows or were dropped.
    pub settled: Vec<crate::model::ledger::RecordPlace>,
    /// Places and reasons of the first rejected records.
    pub samples: Vec<String>,
}

/// Where the reading thread puts rows.
pub struct Outlet {
    format: FileFormat,
    stamp: RunStamp,
    full: blocking::SyncSender<(Table, Batch)>,
    reusable: blocking::Receiver<(Table, Batch)>,
    open: HashMap<Table, Batch>,
}

impl Outlet {
    /// Encodes a row into its table's batch and hands the batch over once it is full.
    pub fn push(&mut self, row: &crate::model::row::Row<'_>) -> Result<(), SyncError> {
        let batch = match self.open.get_mut(&row.table) {
            Some(batch) => batch,
            None => {
                let batch = self.empty(row.table);
                self.open.entry(row.table).or_insert(batch)
            }
        };
        batch.push(row);
        if batch.bytes() >= crate::encode::BATCH_BYTES {
            self.hand_over(row.table)?;
        }
        Ok(())
    }

    /// Hands over what is left.
    pub fn flush(&mut self) -> Result<(), SyncError> {
        let tables: Vec<Table> = self.open.keys().copied().collect();
        tables.into_iter().try_for_each(|table| self.hand_over(table))
    }

    fn empty(&mut self, table: Table) -> Batch {
        while let Ok((of, mut batch)) = self.reusable.try_recv() {
            if of == table {
                batch.clear();
                return batch;
            }
        }
        Batch::new(table, self.format, &self.stamp)
    }

    fn hand_over(&mut self, table: Table) -> Result<(), SyncError> {
        match self.open.remove(&table) {
            Some(batch) if batch.bytes() > 0 => {
                // Fails only when the writing thread has ended, whose own error is the one to report.
                self.full.send((table, batch)).map_err(|_| SyncError::internal(Stage::Stage, "the writing thread has ended"))
            }
            _ => Ok(()),
        }
    }
}

fn write_parts(
    folder: &Path,
    format: FileFormat,
    max_part_bytes: u64,
    batches: &blocking::Receiver<(Table, Batch)>,
    give_back: &blocking::Sender<(Table, Batch)>,
    to_upload: &mpsc::Sender<PartFile>,
) -> Result<(), SyncError> {
    let disk = |error: std::io::Error| {
        SyncError::new(ErrorCode::LocalDisk, Stage::Stage, format!("the spool {} cannot be written", folder.display())).external(error)
    };
    let upload = |writer: PartWriter| -> Result<(), SyncError> {
        let part = writer.finish().map_err(disk)?;
        to_upload.blocking_send(part).map_err(|_| SyncError::internal(Stage::Stage, "the upload has ended"))
    };
    let mut open: HashMap<Table, PartWriter> = HashMap::new();
    let mut next_part: HashMap<Table, u32> = HashMap::new();
    for (table, batch) in batches {
        let mut writer = match open.remove(&table) {
            Some(writer) => writer,
            None => {
                let part = next_part.entry(table).or_default();
                let path = folder.join(format!("{table}-{part:05}.{}", format.extension()));
                let writer = PartWriter::create(table, *part, format, path).map_err(disk)?;
                *part += 1;
                writer
            }
        };
        writer.write(&batch).map_err(disk)?;
        // Nobody waits for it any more once the reading thread is done.
        drop(give_back.send((table, batch)));
        if writer.compressed_bytes() >= max_part_bytes {
            upload(writer)?;
        } else {
            open.insert(table, writer);
        }
    }
    open.into_values().try_for_each(upload)
}

fn joined<T>(result: Result<Result<T, SyncError>, tokio::task::JoinError>) -> Result<T, SyncError> {
    result.unwrap_or_else(|error| Err(SyncError::internal(Stage::Stage, "a thread of the pipeline panicked").external(error)))
}

/// Removes the attempt's folder at the end, whatever happened.
struct Spool {
    path: PathBuf,
}

impl Spool {
    fn create(path: PathBuf) -> Result<Self, SyncError> {
        std::fs::create_dir_all(&path).map_err(|error| {
            SyncError::new(ErrorCode::LocalDisk, Stage::Stage, format!("the spool {} cannot be made", path.display())).external(error)
        })?;
        Ok(Self { path })
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(%error, spool = %self.path.display(), "a spool folder cannot be removed");
        }
    }
}
