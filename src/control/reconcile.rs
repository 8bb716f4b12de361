//! The loop that compares what should be with what is, and moves: it takes no input but the store and
//! the clock. A sync is worked on by one task at a time; syncs do not wait for each other.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::plan::{Due, due};
use super::{pending, planner};
use crate::destination;
use crate::engine::{Engine, Outcome};
use crate::model::connection::DestinationSettings;
use crate::model::{Connection, ConnectionState, ErrorCode, Genesis, Intent, Object, RunId, SyncError, SyncId, SyncKind, Trouble};
use crate::source::Source;
use crate::store::{RecordedError, Store};

/// How often the store is asked whether somebody changed something.
const WATCH_INTERVAL: Duration = Duration::from_millis(250);

/// A run that we do not know (its state was lost, or it is another engine's) may still be committed; after
/// this time nobody waits for it any more.
const STRANGER_AGE: SignedDuration = SignedDuration::from_hours(7 * 24);

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

/// An engine, with what it was opened with.
struct Opened {
    settings: DestinationSettings,
    fingerprint: u64,
    engine: Arc<Engine>,
}

struct Active {
    stop: CancellationToken,
}

impl Reconciler {
    /// Works until `until`. `stop` ends staging at once and lets commits finish.
    pub async fn work(&self, until: Until, stop: &CancellationToken) -> Result<(), SyncError> {
        self.take_over().await?;
        let mut engine: Option<Opened> = None;
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
                    self.sweep(&engine, genesis).await;
                    swept = true;
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
                    if let Err(error) = result.or_else(|error| if error.code == ErrorCode::StateChanged { Ok(()) } else { Err(error) }) {
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
                ErrorCode::LocalDisk,
                crate::model::Stage::Stage,
                format!("the spool {} cannot be emptied", self.spool.display()),
            )
            .external(error)),
        }
    }

    /// The engine for the destination as it is configured now. When it cannot be opened (a secret is
    /// missing), that becomes every sync's trouble and a person's to fix.
    async fn engine_for(&self, connection: &Connection, current: &mut Option<Opened>) -> Result<Option<Arc<Engine>>, SyncError> {
        let settings = &connection.spec.destination;
        let fingerprint = destination::secrets_fingerprint(settings);
        if let (Some(opened), Ok(fingerprint)) = (&current, &fingerprint)
            && (&opened.settings, opened.fingerprint) == (settings, *fingerprint)
        {
            return Ok(Some(opened.engine.clone()));
        }
        let opened = fingerprint.and_then(|fingerprint| Ok((fingerprint, destination::open(settings)?)));
        let (fingerprint, destination) = match opened {
            Ok(opened) => opened,
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
        *current = Some(Opened { settings: settings.clone(), fingerprint, engine: engine.clone() });
        Ok(Some(engine))
    }

    /// Removes what crashes have left staged: of runs that we know to be over, and of strangers' runs
    /// that are too old to be still on their way to a commit. Never fails: the next start tries again.
    async fn sweep(&self, engine: &Engine, genesis: &Genesis) {
        match self.swept(engine, genesis).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, "removed staged files of runs that are over"),
            Err(error) => tracing::warn!(code = %error.code, "staged leftovers cannot be removed: {}", error.summary),
        }
    }

    async fn swept(&self, engine: &Engine, genesis: &Genesis) -> Result<usize, SyncError> {
        let staged = engine.destination.staged_runs().await?;
        if staged.is_empty() {
            return Ok(0);
        }
        // An entry whose files were not copied yet still needs what it staged: complete it first.
        for sync in Object::ALL.into_iter().flat_map(SyncId::chains) {
            engine.destination.head(genesis, sync, 0).await?;
        }
        let mut count = 0;
        for (connection, run) in staged {
            let is_over = match self.store.run(run).await? {
                Some(run) => run.state.is_over(),
                None => age(run, self.clock.now()) > STRANGER_AGE,
            };
            if is_over {
                engine.destination.discard(connection, run).await?;
                count += 1;
            }
        }
        Ok(count)
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

/// Time since a run was planned: its id carries it.
fn age(run: RunId, now: Timestamp) -> SignedDuration {
    let planned = run.0.get_timestamp().and_then(|time| Timestamp::from_second(i64::try_from(time.to_unix().0).ok()?).ok());
    planned.map_or(SignedDuration::ZERO, |planned| now.duration_since(planned))
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
