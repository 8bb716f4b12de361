//! Executes one run: stage, account, commit, certify, clean. Every step can be cut and is then
//! repaired by doing it again.

pub mod catalogue;
pub mod guard;
pub mod replay;
pub mod rows;
pub mod stage;
pub mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::boundary::boundary;
use crate::clock::Clock;
use crate::config::SyncSettings;
use crate::destination::Destination;
use crate::model::run::{Receipt, RetryPolicy};
use crate::model::{
    Certificate, ErrorCode, Genesis, Manifest, Object, Range, Run, RunEvent, RunSpec, RunState, Slice, Stage, Sync, SyncError, SyncKind,
};
use crate::record::filter::Filter;
use crate::record::metrics::Catalogue;
use crate::record::parse::PENDING_UNKNOWN_METRIC;
use crate::source::{Bounds, Source};
use crate::store::{Progress, RecordedError, Store, StoredRun};
use crate::telemetry;

/// What one run in flight may need of the memory budget: the client's queue, batches, compressors and
/// two chunks of an upload.
const RUN_MEMORY: u64 = 32 * 1024 * 1024;
/// How often progress is written to the store.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(500);

/// How executing a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Committed.
    Committed,
    /// Waits for its next try, or for a person.
    Suspended,
    /// Stopped by a pause or by the process's end.
    Stopped,
}

/// Executes runs from one source into one destination.
pub struct Engine {
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// Where rows go.
    pub destination: Arc<dyn Destination>,
    /// Our state.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Operator's knobs.
    pub settings: SyncSettings,
    /// Folder for part files in flight.
    pub spool: PathBuf,
    permits: Semaphore,
    catalogue: catalogue::SharedCatalogue,
}

impl Engine {
    /// An engine.
    pub fn new(
        source: Arc<dyn Source>,
        destination: Arc<dyn Destination>,
        store: Store,
        clock: Arc<dyn Clock>,
        settings: SyncSettings,
        spool: PathBuf,
    ) -> Self {
        let runs_at_once = (settings.memory_budget.as_u64() / RUN_MEMORY).clamp(1, 16) as usize;
        Self { source, destination, store, clock, settings, spool, permits: Semaphore::new(runs_at_once), catalogue: Default::default() }
    }

    /// When and how often failed runs are tried again.
    pub fn retry_policy(&self) -> RetryPolicy {
        self.settings.retry_policy()
    }

    /// Asks the source on a thread of its own.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&dyn Source) -> Result<T, SyncError> + Send + 'static,
    ) -> Result<T, SyncError> {
        let source = self.source.clone();
        let answer = tokio::task::spawn_blocking(move || question(source.as_ref())).await;
        answer.unwrap_or_else(|error| Err(SyncError::internal(Stage::Plan, "a question to the source panicked").external(error)))
    }

    /// The offsets that a stream holds now.
    pub async fn bounds(&self, object: Object) -> Result<Bounds, SyncError> {
        self.ask(move |source| source.bounds(object)).await
    }

    /// The metric catalogue, read to the end that the metrics stream has now.
    pub async fn catalogue(&self) -> Result<Arc<Catalogue>, SyncError> {
        self.catalogue.refreshed(self).await
    }

    /// Drives a run until it is committed, suspended or stopped. `stop` ends staging; a commit that has
    /// begun is finished.
    pub async fn execute(&self, mut stored: StoredRun, genesis: &Genesis, stop: &CancellationToken) -> Result<Outcome, SyncError> {
        let _permit =
            self.permits.acquire().await.map_err(|error| SyncError::internal(Stage::Stage, "the engine has ended").external(error))?;
        let started = Instant::now();
        loop {
            let sync = stored.run.spec.sync;
            match stored.run.state.clone() {
                RunState::Committed { .. } | RunState::Cancelled => return Ok(Outcome::Committed),
                RunState::Failed { .. } => return Ok(Outcome::Suspended),
                RunState::Waiting { until, .. } => {
                    if until > self.clock.now() {
                        return Ok(Outcome::Suspended);
                    }
                    stored = self.apply(stored, RunEvent::Woken).await?;
                }
                // The process that staged it is gone.
                RunState::Staging { .. } => stored = self.apply(stored, RunEvent::Interrupted).await?,
                RunState::Planned => {
                    if stop.is_cancelled() {
                        return Ok(Outcome::Stopped);
                    }
                    boundary("planned");
                    let nonce = uuid::Uuid::now_v7().simple().to_string();
                    stored = self.apply(stored, RunEvent::StageStarted { attempt: nonce.clone() }).await?;
                    boundary("stage_started");
                    tracing::info!(%sync, run = %stored.run.id, offsets = stored.run.spec.slice.offsets(), "staging");
                    let staged = self.stage(&stored.run, &nonce, genesis, stop).await;
                    stored = match staged.and_then(|manifest| manifest.map(|manifest| self.account(&stored.run, manifest)).transpose()) {
                        Ok(Some(manifest)) => self.apply(stored, RunEvent::StageDone { manifest: Box::new(manifest) }).await?,
                        Ok(None) => {
                            self.apply(stored, RunEvent::Interrupted).await?;
                            return Ok(Outcome::Stopped);
                        }
                        Err(error) => self.suspend(stored, error).await?,
                    };
                    boundary("staged");
                }
                RunState::Staged { manifest } | RunState::Committing { manifest, .. } => {
                    stored = self.apply(stored, RunEvent::CommitStarted).await?;
                    boundary("committing");
                    match self.destination.commit(genesis, &stored.run.spec, &manifest).await {
                        Ok(receipt) => {
                            let id = stored.run.id;
                            self.certify(stored, &manifest, receipt, started).await?;
                            self.clean(genesis, id).await;
                            return Ok(Outcome::Committed);
                        }
                        Err(error) => stored = self.suspend(stored, error).await?,
                    }
                }
            }
        }
    }

    async fn apply(&self, stored: StoredRun, event: RunEvent) -> Result<StoredRun, SyncError> {
        let run = stored.run.apply(event, self.clock.now(), &self.retry_policy()).map_err(illegal)?;
        self.store.save_run(&stored, run).await
    }

    /// Notes a failure, and when the run is tried again.
    async fn suspend(&self, stored: StoredRun, error: SyncError) -> Result<StoredRun, SyncError> {
        let stored = self.apply(stored, RunEvent::Failed { error: error.clone() }).await?;
        let run = &stored.run;
        let (next_try, outcome) = match &run.state {
            RunState::Waiting { until, .. } => (Some(*until), "waiting"),
            _ => (None, "failed"),
        };
        let sync = run.spec.sync;
        tracing::warn!(%sync, run = %run.id, code = %error.code, external = error.external.as_deref(), next_try = next_try.map(tracing::field::display), "{}", error.summary);
        metrics::counter!(telemetry::ERRORS, "sync" => sync.name(), "code" => error.code.text()).increment(1);
        metrics::counter!(telemetry::RUNS, "sync" => sync.name(), "outcome" => outcome).increment(1);
        self.store
            .record_error(&RecordedError {
                at: self.clock.now(),
                sync: Some(sync),
                run: Some(run.id),
                tries: run.failed_tries,
                next_try,
                error,
            })
            .await?;
        Ok(stored)
    }

    async fn stage(
        &self,
        run: &Run,
        nonce: &str,
        genesis: &Genesis,
        stop: &CancellationToken,
    ) -> Result<Option<(Manifest, Vec<String>)>, SyncError> {
        let spec = &run.spec;
        let object = spec.sync.object;
        let catalogue = match object {
            Object::Events => self.catalogue().await?,
            Object::Profiles | Object::Metrics => Default::default(),
        };
        let replay = match spec.sync.kind {
            SyncKind::Replay => self.replayed(genesis, spec).await?,
            SyncKind::Historical | SyncKind::Periodic => Vec::new(),
        };
        let reading = match spec.slice.is_empty() {
            true => Slice::default(),
            false => reading(spec.slice.ranges(), run, &self.bounds(object).await?),
        };
        let counters = Arc::new(stage::Counters::default());
        let attempt = stage::Attempt {
            source: self.source.clone(),
            destination: self.destination.clone(),
            run: run.id,
            spec,
            nonce,
            spool: self.spool.join(nonce),
            max_part_bytes: self.settings.max_part_bytes.as_u64(),
            reading,
            filter: Filter::new(object, &spec.filter, catalogue.clone()),
            catalogue: catalogue.read_to.clone(),
            replay,
            counters: counters.clone(),
            stop: stop.clone(),
        };
        let staging = stage::stage(attempt);
        tokio::pin!(staging);
        let started = Instant::now();
        let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
        let staged = loop {
            tokio::select! {
                staged = &mut staging => break staged,
                _ = ticks.tick() => {
                    use std::sync::atomic::Ordering::Relaxed;
                    let progress = Progress {
                        run: run.id,
                        offsets_done: counters.offsets.load(Relaxed),
                        records: counters.records.load(Relaxed),
                        bytes: counters.bytes.load(Relaxed),
                        elapsed_ms: started.elapsed().as_millis() as u64,
                    };
                    self.store.set_progress(spec.sync, Some(&progress)).await?;
                }
            }
        };
        self.store.set_progress(spec.sync, None).await?;
        staged
    }

    /// read = staged + filtered + rejected, and not too many of them rejected.
    fn account(&self, run: &Run, (manifest, samples): (Manifest, Vec<String>)) -> Result<Manifest, SyncError> {
        let counts = &manifest.counts;
        let rows = |table| manifest.tables.get(&table).map_or(0, |totals: &crate::model::TableTotals| totals.rows);
        let object_rows = rows(run.spec.sync.object.table());
        if !counts.balances() || object_rows != counts.staged || rows(crate::model::Table::Rejected) != counts.rejected_total() {
            return Err(SyncError::new(
                ErrorCode::AccountMismatch,
                Stage::Account,
                format!("counts do not balance: {counts:?}, tables {:?}", manifest.tables),
            ));
        }
        let pending = counts.rejected.get(PENDING_UNKNOWN_METRIC).copied().unwrap_or(0);
        let bad = counts.rejected_total() - pending;
        let share = bad as f64 / counts.read.max(1) as f64;
        // A replay's records are known to be bad.
        let guarded = run.spec.sync.kind != SyncKind::Replay && !run.accept_rejected;
        if guarded && bad > self.settings.max_rejected_count && share > self.settings.max_rejected_share {
            let summary = format!("{bad} of {} records ({:.1} %) are no Klaviyo resources", counts.read, share * 100.0);
            return Err(SyncError::new(ErrorCode::TooManyRejected, Stage::Account, summary).external(format!(
                "{:?}; the first ones: {}",
                counts.rejected,
                samples.join("; ")
            )));
        }
        Ok(manifest)
    }

    async fn certify(&self, stored: StoredRun, manifest: &Manifest, receipt: Receipt, started: Instant) -> Result<(), SyncError> {
        let run = &stored.run;
        let (spec, sync) = (run.spec.clone(), run.spec.sync);
        if manifest.counts.staged != receipt.inserted + receipt.updated + receipt.superseded {
            tracing::error!(%sync, run = %run.id, ?receipt, "the destination's counts do not balance");
        }
        let now = self.clock.now();
        let certificate = Certificate {
            run: run.id,
            connection: spec.connection,
            sync,
            sequence: spec.sequence,
            slice: spec.slice.clone(),
            digest: manifest.digest.clone(),
            counts: manifest.counts.clone(),
            tables: manifest.tables.clone(),
            files: manifest.files.len() as u64,
            file_bytes: manifest.files.iter().map(|file| file.bytes).sum(),
            receipt,
            frozen_at: spec.frozen_at,
            committed_at: now,
            failed_tries: run.failed_tries,
        };
        let (id, reaches_end) = (run.id, spec.reaches_end);
        let committed =
            run.apply(RunEvent::CommitDone { certificate: Box::new(certificate) }, now, &self.retry_policy()).map_err(illegal)?;
        self.store.save_run_and_syncs(&stored, committed, |of| settle(of, &spec, manifest, now)).await?;
        if reaches_end {
            metrics::gauge!(telemetry::LAG_OFFSETS, "sync" => sync.name()).set(0.0);
        }
        boundary("committed");
        let counts = &manifest.counts;
        tracing::info!(%sync, run = %id, read = counts.read, rows = counts.staged, filtered = counts.filtered_total(), rejected = counts.rejected_total(), "committed");
        metrics::counter!(telemetry::RECORDS_READ, "sync" => sync.name()).increment(counts.read);
        metrics::counter!(telemetry::BYTES_READ, "sync" => sync.name()).increment(counts.read_bytes);
        metrics::counter!(telemetry::ROWS_COMMITTED, "sync" => sync.name()).increment(counts.staged);
        metrics::counter!(telemetry::RUNS, "sync" => sync.name(), "outcome" => "committed").increment(1);
        metrics::histogram!(telemetry::RUN_SECONDS, "sync" => sync.name()).record(started.elapsed().as_secs_f64());
        for (name, reasons) in [(telemetry::RECORDS_REJECTED, &counts.rejected), (telemetry::RECORDS_FILTERED, &counts.filtered)] {
            for (reason, count) in reasons {
                metrics::counter!(name, "sync" => sync.name(), "reason" => reason.clone()).increment(*count);
            }
        }
        Ok(())
    }

    /// Removes what a committed run staged. What it cannot remove is left to the sweeper.
    async fn clean(&self, genesis: &Genesis, run: crate::model::RunId) {
        if let Err(error) = self.destination.discard(genesis.connection, run).await {
            tracing::warn!(%run, code = %error.code, "staged files are left for the sweeper: {}", error.summary);
        }
        boundary("cleaned");
    }

    async fn replayed(&self, genesis: &Genesis, spec: &RunSpec) -> Result<Vec<replay::ReplayRecord>, SyncError> {
        let wanted: std::collections::BTreeSet<_> = spec.replay.iter().copied().collect();
        let open = verify::open_rejected(self.destination.as_ref(), genesis, spec.sync.object).await?;
        let found: Vec<_> = open
            .into_iter()
            .map(|(_, record)| record)
            .filter(|record| wanted.contains(&crate::model::ledger::RecordPlace { partition: record.partition, offset: record.offset }))
            .collect();
        match found.len() == wanted.len() {
            true => Ok(found),
            false => Err(SyncError::new(ErrorCode::Conflict, Stage::Stage, "some of the records to replay are settled already")
                .hint("Run the replay again: it looks anew at what is open.")),
        }
    }
}

/// What a commit means for its sync, and for the object's replays.
fn settle(of: &mut Sync, spec: &RunSpec, manifest: &Manifest, now: Timestamp) {
    if of.id.kind == SyncKind::Replay {
        of.pending += manifest.counts.rejected.get(PENDING_UNKNOWN_METRIC).copied().unwrap_or(0);
    }
    if of.id != spec.sync {
        return;
    }
    of.sequence = spec.sequence;
    if of.id.kind == SyncKind::Replay {
        of.pending = of.pending.saturating_sub(manifest.counts.read);
    }
    for (partition, position) in manifest.reached.positions() {
        of.checkpoint.set(partition, position);
    }
    let offsets = spec.slice.offsets();
    if offsets > 0 {
        of.bytes_per_offset = Some(manifest.counts.read_bytes as f64 / offsets as f64);
    }
    if spec.reaches_end {
        of.caught_up_at = Some(spec.frozen_at);
        if of.id.kind == SyncKind::Historical {
            of.completed_at = Some(now);
        }
    }
}

/// The slice, begun at the last record that was read before it, where that record still exists: seeing
/// it again proves that this is still the same topic.
fn reading(ranges: impl Iterator<Item = (i32, Range)>, run: &Run, bounds: &Bounds) -> Slice {
    Slice::new(ranges.map(|(partition, range)| {
        let seen = run.spec.start.position(partition).fingerprint.map(|fingerprint| fingerprint.offset);
        let lowest = bounds.lowest.get(&partition).copied().unwrap_or(range.start);
        let start = seen.filter(|offset| *offset >= lowest && *offset < range.start).unwrap_or(range.start);
        (partition, Range { start, end: range.end })
    }))
}

fn illegal(error: crate::model::run::IllegalTransition) -> SyncError {
    SyncError::internal(Stage::Stage, error.to_string())
}
