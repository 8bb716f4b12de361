//! What people do: connect, pause, resume, retry, skip, verify. Everything goes through the store, so
//! that it works beside a running server.

pub mod connect;
pub mod pending;
pub mod plan;
pub mod planner;
pub mod preview;
pub mod reconcile;
pub mod status;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::clock::Clock;
use crate::destination;
use crate::engine::{Engine, guard, verify};
use crate::model::run::RunEvent;
use crate::model::{
    Checkpoint, Connection, ConnectionState, EntryKind, ErrorCode, Genesis, Intent, Position, RunState, Stage, Sync, SyncError, SyncId,
    SyncKind,
};
use crate::source::Source;
use crate::store::{Store, no_connection};

/// How long a pause may take to be true before we stop waiting for it.
const PAUSE_PATIENCE: Duration = Duration::from_secs(60);

/// Acts on the one connection.
pub struct Control {
    /// Our state.
    pub store: Store,
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The process's settings.
    pub settings: crate::config::ProcessSettings,
}

impl Control {
    /// The connection, which must exist.
    pub async fn connection(&self) -> Result<Connection, SyncError> {
        self.store.connection().await?.ok_or_else(no_connection)
    }

    /// An engine for looking at things; runs are executed by the reconciler.
    pub async fn engine(&self) -> Result<(Engine, Connection, Genesis), SyncError> {
        let connection = self.connection().await?;
        let genesis = connection.genesis.clone().ok_or_else(|| {
            SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Connect, "the connection was never established")
                .hint("`warehouse-sync connection retry` tries again; `warehouse-sync connection edit FILE` changes it.")
        })?;
        let destination = destination::open(&connection.spec.destination)?;
        let engine = Engine::new(
            self.source.clone(),
            destination,
            self.store.clone(),
            self.clock.clone(),
            self.settings.sync.clone(),
            self.settings.spool_folder(),
        );
        Ok((engine, connection, genesis))
    }

    /// The syncs meant by a name, or all of them.
    pub async fn named(&self, name: Option<SyncId>) -> Result<Vec<Sync>, SyncError> {
        self.connection().await?;
        match name {
            Some(id) => Ok(vec![self.store.sync(id).await?]),
            None => Ok(self.store.syncs().await?.into_iter().filter(|sync| sync.id.kind != SyncKind::Replay).collect()),
        }
    }

    /// Pauses syncs. Returns once nothing is being written for them any more, or with `false` when that takes too long.
    pub async fn pause(&self, name: Option<SyncId>) -> Result<bool, SyncError> {
        let ids: Vec<SyncId> = self.named(name).await?.into_iter().map(|sync| sync.id).collect();
        for id in &ids {
            self.store.update_sync(*id, |sync| sync.intent = Intent::Pause).await?;
        }
        let waiting = tokio::time::Instant::now();
        loop {
            let mut busy = false;
            for id in &ids {
                busy |= self.store.sync(*id).await?.executing;
            }
            if !busy || !self.somebody_executes() {
                return Ok(true);
            }
            if waiting.elapsed() > PAUSE_PATIENCE {
                return Ok(false);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Lets paused syncs go on, from the exact offset where they stopped.
    pub async fn resume(&self, name: Option<SyncId>) -> Result<(), SyncError> {
        for sync in self.named(name).await? {
            self.store.update_sync(sync.id, |sync| sync.intent = Intent::Run).await?;
        }
        Ok(())
    }

    /// Tries again what has failed or waits, now. Returns the syncs that had something to try.
    pub async fn retry(&self, name: Option<SyncId>, accept_rejected: bool) -> Result<Vec<SyncId>, SyncError> {
        let mut retried = Vec::new();
        for sync in self.named(name).await? {
            let had_trouble = self.store.update_sync(sync.id, |sync| sync.trouble.take().is_some()).await?;
            let mut run_retried = false;
            if let Some(stored) = self.store.open_run(sync.id).await?.filter(|stored| stored.is_suspended()) {
                let policy = self.settings.sync.retry_policy();
                let run = stored.run.apply(RunEvent::Retry { accept_rejected }, self.clock.now(), &policy);
                let run = run.map_err(|error| SyncError::internal(Stage::Plan, error.to_string()))?;
                self.store.save_run(&stored, run).await?;
                run_retried = true;
            }
            if had_trouble || run_retried {
                retried.push(sync.id);
            }
        }
        Ok(retried)
    }

    /// Asks for a periodic run now.
    pub async fn run_now(&self, name: Option<SyncId>) -> Result<Vec<SyncId>, SyncError> {
        let now = self.clock.now();
        let mut asked = Vec::new();
        for sync in self.named(name).await?.into_iter().filter(|sync| sync.id.kind == SyncKind::Periodic) {
            self.store.update_sync(sync.id, |sync| sync.requested_at = Some(now)).await?;
            asked.push(sync.id);
        }
        match (asked.is_empty(), name) {
            (true, Some(name)) => Err(SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Plan, format!("{name} is no periodic sync"))
                .hint("A historical sync runs by itself until it is completed.")),
            _ => Ok(asked),
        }
    }

    /// Goes on behind a gap that cannot be filled any more; the gap is booked in the ledger. Returns the
    /// number of offsets given up.
    pub async fn skip(&self, id: SyncId, reason: &str) -> Result<u64, SyncError> {
        let (engine, _, genesis) = self.engine().await?;
        let sync = self.store.sync(id).await?;
        let now = self.clock.now();
        let waits_for_tombstones = sync.trouble.as_ref().is_some_and(|trouble| trouble.error.code == ErrorCode::TombstonesExpired);
        let bounds = engine.bounds(id.object).await?;
        let limit = genesis.streams.get(&id.object).filter(|_| id.kind == SyncKind::Historical);
        let gap = guard::gap(&sync.checkpoint, limit, &bounds);
        if gap.is_empty() && !waits_for_tombstones {
            return Err(SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Plan, format!("{id} has no gap to skip"))
                .hint("`warehouse-sync status` shows what it waits for."));
        }
        self.cancel_open_run(id).await?;
        let sequence = sync.sequence + 1;
        let reached =
            Checkpoint::new(gap.ranges().map(|(partition, range)| {
                (partition, Position { next: range.end, fingerprint: None, ..sync.checkpoint.position(partition) })
            }));
        if !gap.is_empty() {
            let kind = EntryKind::Skip { slice: gap.clone(), reached: reached.clone(), reason: reason.to_owned(), at: now };
            engine.destination.append(&genesis, id, sequence, kind).await?;
        }
        let skipped = gap.offsets();
        self.store
            .update_sync(id, |sync| {
                sync.trouble = None;
                sync.accepted_rest_until = Some(now);
                if skipped > 0 {
                    sync.sequence = sequence;
                    for (partition, position) in reached.positions() {
                        sync.checkpoint.set(partition, position);
                    }
                }
            })
            .await?;
        Ok(skipped)
    }

    /// Gives up the open run of a sync, if it has staged nothing that may be committed.
    async fn cancel_open_run(&self, id: SyncId) -> Result<(), SyncError> {
        let Some(stored) = self.store.open_run(id).await? else { return Ok(()) };
        let run = stored.run.apply(RunEvent::Cancel, self.clock.now(), &self.settings.sync.retry_policy()).map_err(|_| {
            SyncError::new(ErrorCode::Conflict, Stage::Plan, format!("a run of {id} may be committing right now"))
                .hint("Wait until it is done, or retry it first.")
        })?;
        self.store.save_run(&stored, run).await.map(|_| ())
    }

    /// Switches the connection off or on. What is in the destination stays.
    pub async fn set_enabled(&self, enabled: bool) -> Result<(), SyncError> {
        let state = if enabled { ConnectionState::Enabled } else { ConnectionState::Disabled };
        self.store
            .update_connection(move |connection| {
                if enabled && connection.genesis.is_none() {
                    return Err(SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Connect, "the connection was never established")
                        .hint("`warehouse-sync connection retry` tries again."));
                }
                connection.state = state;
                Ok(())
            })
            .await
    }

    /// Proves that the destination holds what its ledger says.
    pub async fn verify(&self) -> Result<verify::Report, SyncError> {
        let (engine, _, genesis) = self.engine().await?;
        verify::verify(engine.destination.as_ref(), &genesis).await
    }

    /// Plans a replay of rejected records: those of one run, or all that are open. Returns how many.
    pub async fn replay(&self, run: Option<crate::model::RunId>) -> Result<u64, SyncError> {
        let (engine, connection, genesis) = self.engine().await?;
        let mut planned = 0;
        let of_run = match run {
            Some(id) => match self.store.run(id).await?.map(|run| run.state) {
                Some(RunState::Committed { .. }) => Some(id),
                _ => return Err(SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Plan, format!("there is no committed run {id}"))),
            },
            None => None,
        };
        for object in connection.spec.synced_objects() {
            let id = SyncId::new(object, SyncKind::Replay);
            if self.store.open_run(id).await?.is_some() {
                continue;
            }
            let open = verify::open_rejected(engine.destination.as_ref(), &genesis, object).await?;
            let places: Vec<_> = open
                .into_iter()
                .filter(|(_, record)| of_run.is_none_or(|run| record.run == Some(run)))
                .map(|(_, record)| crate::model::ledger::RecordPlace { partition: record.partition, offset: record.offset })
                .collect();
            if places.is_empty() {
                continue;
            }
            planned += places.len() as u64;
            let sync = self.store.sync(id).await?;
            planner::plan_replay(&engine, &connection, &genesis, &sync, places).await?;
        }
        Ok(planned)
    }

    /// True when some process on this machine executes runs for this state.
    pub fn somebody_executes(&self) -> bool {
        crate::lease::Lease::is_held(&self.settings.lock_file())
    }

    /// The status of everything, as shown to people.
    pub async fn status(&self) -> Result<status::Status, SyncError> {
        let now: Timestamp = self.clock.now();
        status::status(&self.store, &self.settings.sync, self.somebody_executes(), now).await
    }
}
