//! The loop that compares what should be with what is, and moves: it takes no input but the store and
//! the clock. A sync is worked on by one task at a time; syncs do not wait for each other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::plan::{Due, due};
use super::{pending, planner};
use crate::destination;
use crate::engine::{Engine, Outcome};
use crate::model::connection::DestinationSettings;
use crate::model::{Connection, ConnectionState, Intent, Object, SyncError, SyncId, SyncKind, Trouble};
use crate::source::Source;
use crate::store::{RecordedError, Store};

/// How often the store is asked whether somebody changed something.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// Makes engines for the connection as it is configured now.
pub struct Reconciler {
    /// Our state.
    pub store: Store,
    /// Where records come from.
    pub source: Arc<dyn Source>,
    /// The time.
    pub clock: Arc<dyn crate::clock::Clock>,
    /// Operator's knobs.
    pub settings: crate::config::SyncSettings,
    /// Folder for part files in flight.
    pub spool: std::path::PathBuf,
}

/// When the loop ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Nothing is due and nothing is running.
    Idle,
    /// Told to stop.
    Stopped,
}

struct Active {
    stop: CancellationToken,
}

impl Reconciler {
    /// Works until `until`. `stop` ends staging at once and lets commits finish.
    pub async fn work(&self, until: Until, stop: &CancellationToken) -> Result<(), SyncError> {
        self.take_over().await?;
        let mut engine: Option<(DestinationSettings, Arc<Engine>)> = None;
        let mut tasks: JoinSet<(SyncId, Result<(), SyncError>)> = JoinSet::new();
        let mut active: HashMap<SyncId, Active> = HashMap::new();
        let mut swept = false;
        loop {
            let mut wake_at: Option<Timestamp> = None;
            let mut nothing_due = true;
            let seen = self.store.change_counter().await?;
            let connection = self.store.connection().await?;
            let engine = match connection.as_ref().filter(|connection| connection.genesis.is_some()) {
                Some(connection) => self.engine_for(connection, &mut engine).await?,
                None => None,
            };
            if let (Some(connection), Some(engine)) = (&connection, engine) {
                if let (Some(genesis), false) = (&connection.genesis, swept) {
                    swept = self.sweep(&engine, genesis).await;
                }
                for sync in self.store.syncs().await? {
                    if let Some(task) = active.get(&sync.id) {
                        nothing_due = false;
                        if sync.intent == Intent::Pause || connection.state != ConnectionState::Enabled {
                            task.stop.cancel();
                        }
                        continue;
                    }
                    let open = self.store.open_run(sync.id).await?;
                    match due(connection, &sync, open.as_ref().map(|stored| &stored.run), self.clock.now(), self.settings.interval) {
                        Due::Execute | Due::Plan if !stop.is_cancelled() => {
                            nothing_due = false;
                            let task_stop = stop.child_token();
                            active.insert(sync.id, Active { stop: task_stop.clone() });
                            let (engine, connection, id) = (engine.clone(), connection.clone(), sync.id);
                            tasks.spawn(async move { (id, work_on(&engine, &connection, id, &task_stop).await) });
                        }
                        Due::At(at) => wake_at = Some(wake_at.map_or(at, |earliest| earliest.min(at))),
                        _ => {}
                    }
                }
            }
            if tasks.is_empty() && (stop.is_cancelled() || (until == Until::Idle && nothing_due)) {
                return Ok(());
            }
            tokio::select! {
                Some(ended) = tasks.join_next() => {
                    let (id, result) = ended.map_err(|error| SyncError::internal(crate::model::Stage::Stage, "a sync's task panicked").external(error))?;
                    active.remove(&id);
                    self.store.update_sync(id, |sync| sync.executing = false).await?;
                    if let Err(error) = result {
                        // Only our own state can fail here, and without it nothing can be done.
                        for task in active.values() {
                            task.stop.cancel();
                        }
                        while tasks.join_next().await.is_some() {}
                        return Err(error);
                    }
                }
                () = self.wait(seen, wake_at) => {}
                () = stop.cancelled(), if !stop.is_cancelled() => {}
            }
        }
    }

    /// Nobody else executes now, so whatever says so is left from a process that was killed.
    async fn take_over(&self) -> Result<(), SyncError> {
        for sync in self.store.syncs().await? {
            self.store.update_sync(sync.id, |sync| sync.executing = false).await?;
            self.store.set_progress(sync.id, None).await?;
        }
        match std::fs::remove_dir_all(&self.spool) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(SyncError::new(
                crate::model::ErrorCode::LocalDisk,
                crate::model::Stage::Stage,
                format!("the spool {} cannot be emptied", self.spool.display()),
            )
            .external(error)),
        }
    }

    /// The engine for the destination as it is configured now. When it cannot be opened (a secret is
    /// missing), that becomes every sync's trouble and a person's to fix.
    async fn engine_for(
        &self,
        connection: &Connection,
        current: &mut Option<(DestinationSettings, Arc<Engine>)>,
    ) -> Result<Option<Arc<Engine>>, SyncError> {
        if let Some((settings, engine)) = current
            && *settings == connection.spec.destination
        {
            return Ok(Some(engine.clone()));
        }
        let destination = match destination::open(&connection.spec.destination) {
            Ok(destination) => destination,
            Err(error) => {
                let now = self.clock.now();
                for sync in self.store.syncs().await?.into_iter().filter(|sync| sync.trouble.is_none()) {
                    tracing::warn!(sync = %sync.id, code = %error.code, "{}", error.summary);
                    let trouble = Trouble { error: error.clone(), failed_tries: 1, first_failed_at: now, until: None };
                    self.store.update_sync(sync.id, |sync| sync.trouble = Some(trouble)).await?;
                    self.store
                        .record_error(&RecordedError {
                            at: now,
                            sync: Some(sync.id),
                            run: None,
                            tries: 1,
                            next_try: None,
                            error: error.clone(),
                        })
                        .await?;
                }
                return Ok(None);
            }
        };
        let engine = Engine::new(
            self.source.clone(),
            destination,
            self.store.clone(),
            self.clock.clone(),
            self.settings.clone(),
            self.spool.clone(),
        );
        let engine = Arc::new(engine);
        *current = Some((connection.spec.destination.clone(), engine.clone()));
        Ok(Some(engine))
    }

    async fn sweep(&self, engine: &Engine, genesis: &crate::model::Genesis) -> bool {
        let keep: HashSet<_> = match self.store.open_runs().await {
            Ok(runs) => runs.iter().map(|stored| stored.run.id).collect(),
            Err(_) => return false,
        };
        match engine.destination.sweep(genesis, &keep).await {
            Ok(0) => true,
            Ok(count) => {
                tracing::info!(count, "swept staged files that crashes had left behind");
                true
            }
            Err(error) => {
                tracing::warn!(code = %error.code, "staged leftovers cannot be swept: {}", error.summary);
                true
            }
        }
    }

    async fn wait(&self, seen: i64, wake_at: Option<Timestamp>) {
        loop {
            tokio::time::sleep(WATCH_INTERVAL).await;
            let due = wake_at.is_some_and(|at| at <= self.clock.now());
            if due || self.store.change_counter().await.is_ok_and(|counter| counter != seen) {
                return;
            }
        }
    }
}

/// Works on one sync until there is nothing to do for now.
async fn work_on(engine: &Engine, connection: &Connection, id: SyncId, stop: &CancellationToken) -> Result<(), SyncError> {
    let Some(genesis) = &connection.genesis else { return Ok(()) };
    engine.store.update_sync(id, |sync| sync.executing = true).await?;
    let sync = engine.store.sync(id).await?;
    let stored = match engine.store.open_run(id).await? {
        Some(stored) => stored,
        None => match planner::plan(engine, connection, genesis, &sync).await? {
            Some(stored) => stored,
            None => return Ok(()),
        },
    };
    let outcome = engine.execute(stored, genesis, stop).await?;
    // A commit of events may have left some pending, one of metrics may have made theirs known.
    if outcome == Outcome::Committed
        && id.object != Object::Profiles
        && id.kind != SyncKind::Replay
        && connection.spec.objects.contains(&Object::Events)
    {
        pending::replay_known(engine, connection, genesis).await?;
    }
    Ok(())
}
