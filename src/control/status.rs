//! The status of everything, derived from the connection, people's intents and the runs.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::plan::{Due, due};
use crate::config::SyncSettings;
use crate::model::{Connection, ConnectionState, Intent, Run, RunState, Sync, SyncError, SyncId, SyncKind};
use crate::store::{Progress, RecordedError, Store};

/// A sync's status: these seven and nothing else (product.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SyncStatus {
    /// Waits for its next run.
    Scheduled,
    /// Running.
    InProgress,
    /// Done; a historical sync will not run again by itself.
    Completed,
    /// Something failed, we keep trying.
    Errored,
    /// Gave up; needs a retry by a person.
    Failed,
    /// Paused by a person.
    Paused,
    /// The connection was disabled or removed.
    Disabled,
}

impl SyncStatus {
    /// As shown to people.
    pub const fn label(self) -> &'static str {
        match self {
            SyncStatus::Scheduled => "Scheduled",
            SyncStatus::InProgress => "In progress",
            SyncStatus::Completed => "Completed",
            SyncStatus::Errored => "Errored",
            SyncStatus::Failed => "Failed",
            SyncStatus::Paused => "Paused",
            SyncStatus::Disabled => "Disabled",
        }
    }
}

/// One sync, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct SyncView {
    /// Its name.
    pub sync: SyncId,
    /// Its status.
    pub status: SyncStatus,
    /// A pause was asked for and something is still being written.
    pub pausing: bool,
    /// Share of offsets done, in percent, while running.
    pub percent: Option<f64>,
    /// When it will be done, at the present pace (history).
    pub eta: Option<Timestamp>,
    /// Age of the oldest record that is not committed, in seconds (periodic). An upper bound: records
    /// published since the last complete look are taken to be as old as that look.
    pub freshness_seconds: Option<i64>,
    /// When its first run started.
    pub started_at: Option<Timestamp>,
    /// When it was completed (history).
    pub ended_at: Option<Timestamp>,
    /// When the source was last looked at.
    pub last_look: Option<Timestamp>,
    /// When something happens next by itself.
    pub next: Option<Timestamp>,
    /// Committed runs.
    pub runs: u64,
    /// Rejected records that wait for their metric (all of the object).
    pub pending: u64,
    /// What is wrong.
    pub error: Option<SyncError>,
    /// Failures in the last 24 hours.
    pub errors_24h: usize,
}

/// Everything, as shown.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// The connection, if there is one.
    pub connection: Option<ConnectionView>,
    /// Its syncs.
    pub syncs: Vec<SyncView>,
    /// True when a process executes runs.
    pub executing: bool,
    /// As of.
    pub now: Timestamp,
}

/// The connection, as shown: without secrets, which it never holds.
#[derive(Debug, Clone, Serialize)]
pub struct ConnectionView {
    /// The connection.
    #[serde(flatten)]
    pub connection: Connection,
    /// Where rows go, for people.
    pub destination: String,
}

/// Gathers the status.
pub async fn status(store: &Store, settings: &SyncSettings, executing: bool, now: Timestamp) -> Result<Status, SyncError> {
    let Some(connection) = store.connection().await? else {
        return Ok(Status { connection: None, syncs: Vec::new(), executing, now });
    };
    let since = now - SignedDuration::from_hours(24);
    let errors = store.errors(since, None).await?;
    let syncs = store.syncs().await?;
    let mut views = Vec::new();
    for sync in &syncs {
        let open = store.open_run(sync.id).await?.map(|stored| stored.run);
        // Replays show only while there is something to show.
        if sync.id.kind == SyncKind::Replay && open.is_none() {
            continue;
        }
        let facts = Facts {
            connection: &connection,
            sync,
            open: open.as_ref(),
            progress: store.progress(sync.id).await?,
            executing: executing && sync.executing,
            interval: settings.interval,
            now,
        };
        let mut view = facts.view(&errors);
        view.pending =
            syncs.iter().find(|other| other.id == SyncId::new(sync.id.object, SyncKind::Replay)).map_or(0, |replay| replay.pending);
        views.push(view);
    }
    let destination = connection.spec.destination.describe();
    Ok(Status { connection: Some(ConnectionView { connection, destination }), syncs: views, executing, now })
}

/// What a sync's view is derived from.
pub struct Facts<'f> {
    /// The connection.
    pub connection: &'f Connection,
    /// The sync.
    pub sync: &'f Sync,
    /// Its run that is neither committed nor cancelled.
    pub open: Option<&'f Run>,
    /// How far that has come.
    pub progress: Option<Progress>,
    /// A process works on it.
    pub executing: bool,
    /// Time between periodic runs.
    pub interval: Duration,
    /// The time.
    pub now: Timestamp,
}

impl Facts<'_> {
    /// The view.
    pub fn view(&self, errors: &[RecordedError]) -> SyncView {
        let sync = self.sync;
        let (percent, eta) = self.percent_and_eta();
        let status = self.status();
        let next = match due(self.connection, sync, self.open, self.now, self.interval) {
            Due::At(at) => Some(at),
            Due::Execute | Due::Plan => Some(self.now),
            Due::Nothing => None,
        };
        SyncView {
            sync: sync.id,
            status,
            pausing: sync.intent == Intent::Pause && self.executing,
            percent: percent
                .filter(|_| matches!(status, SyncStatus::InProgress | SyncStatus::Errored | SyncStatus::Failed | SyncStatus::Paused)),
            eta: eta.filter(|_| status == SyncStatus::InProgress),
            freshness_seconds: self.freshness(),
            started_at: sync.started_at,
            ended_at: sync.completed_at,
            last_look: sync.looked_at,
            next: next.filter(|_| !self.executing),
            runs: sync.sequence,
            pending: 0,
            error: self.error().cloned(),
            errors_24h: errors.iter().filter(|error| error.sync == Some(sync.id)).count(),
        }
    }

    fn error(&self) -> Option<&SyncError> {
        match self.open.map(|run| &run.state) {
            Some(RunState::Waiting { error, .. } | RunState::Failed { error, .. }) => Some(error),
            _ => self.sync.trouble.as_ref().map(|trouble| &trouble.error),
        }
    }

    /// One of the seven statuses.
    pub fn status(&self) -> SyncStatus {
        let selected = self.connection.spec.synced_objects().contains(&self.sync.id.object);
        if self.connection.state == ConnectionState::Disabled || !selected {
            return SyncStatus::Disabled;
        }
        if self.connection.state == ConnectionState::UnableToConnect {
            return SyncStatus::Failed;
        }
        if self.sync.intent == Intent::Pause && !self.executing {
            return SyncStatus::Paused;
        }
        match self.open.map(|run| &run.state) {
            Some(RunState::Failed { .. }) => return SyncStatus::Failed,
            Some(RunState::Waiting { .. }) => return SyncStatus::Errored,
            Some(_) => return SyncStatus::InProgress,
            None => {}
        }
        match &self.sync.trouble {
            Some(trouble) if trouble.until.is_none() => return SyncStatus::Failed,
            Some(_) => return SyncStatus::Errored,
            None => {}
        }
        match self.sync.id.kind {
            SyncKind::Historical if self.sync.completed_at.is_some() => SyncStatus::Completed,
            SyncKind::Historical if self.sync.sequence > 0 => SyncStatus::InProgress,
            _ if self.executing => SyncStatus::InProgress,
            _ => SyncStatus::Scheduled,
        }
    }

    /// Offsets done of offsets frozen: for history over the whole window, for a periodic run over its slice.
    fn percent_and_eta(&self) -> (Option<f64>, Option<Timestamp>) {
        let in_run = self.progress.as_ref().filter(|progress| self.open.is_some_and(|run| run.id == progress.run));
        let done_in_run = in_run.map_or(0, |progress| progress.offsets_done);
        let genesis = self.connection.genesis.as_ref();
        let history =
            genesis.and_then(|genesis| genesis.streams.get(&self.sync.id.object)).filter(|_| self.sync.id.kind == SyncKind::Historical);
        let (done, total) = match history {
            Some(stream) => {
                let total = crate::model::Checkpoint::at(&stream.history_start).until(&stream.cut).offsets();
                let left = self.sync.checkpoint.until(&stream.cut).offsets();
                (total.saturating_sub(left) + done_in_run, total)
            }
            None => (done_in_run, self.open.map_or(0, |run| run.spec.slice.offsets())),
        };
        if total == 0 {
            return (None, None);
        }
        let percent = 100.0 * done.min(total) as f64 / total as f64;
        let pace =
            in_run.filter(|progress| progress.offsets_done > 0).map(|progress| progress.elapsed_ms as f64 / progress.offsets_done as f64);
        let eta =
            pace.and_then(|pace| self.now.checked_add(SignedDuration::from_millis((pace * total.saturating_sub(done) as f64) as i64)).ok());
        (Some(percent), eta)
    }

    fn freshness(&self) -> Option<i64> {
        if self.sync.id.kind != SyncKind::Periodic {
            return None;
        }
        let covered = self.sync.caught_up_at.unwrap_or(self.connection.created_at);
        Some(self.now.duration_since(covered).as_secs().max(0))
    }
}
