//! A run: one execution of a sync over one frozen slice, and its state machine.
//!
//! ```text
//! Planned → Staging → Staged → Committing → Committed
//!    any of these → Waiting (backoff) → back       any of these → Failed → retry by a person → back
//!    Committing → Planned only when the stage is lost and the ledger lacks the run
//!    all but Committing → Cancelled
//! ```
//!
//! [`Run::apply`] is the only way to change a run. It is pure and total: every pair of state and event
//! gives a new run or an [`IllegalTransition`]. Pausing is an intent of the sync and no state here.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::connection::ConnectionId;
use super::error::{RetryHint, SyncError};
use super::ledger::{Counts, Manifest, RecordPlace, TableTotals};
use super::position::{Checkpoint, Millis, Slice};
use super::sync::SyncId;
use super::table::{FileFormat, Table};

/// Identifies a run: random, ordered by time of planning (UUIDv7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunId(pub Uuid);

impl std::fmt::Display for RunId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Which records of the slice become rows; fixed when the run is planned.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct FilterSpec {
    /// Ids or keys of integrations whose events are dropped.
    pub exclude_integrations: Vec<String>,
    /// Metric ids whose events are kept; empty keeps all.
    pub selective_sync: Vec<String>,
    /// Records published before, or dated before, are dropped (historical runs).
    pub window_start: Option<Millis>,
}

/// Bounds of the versions that a run gives: history is capped at the cut, live starts at it, so that a
/// live version always wins over a historical one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct VersionBounds {
    /// Least version.
    pub floor: Option<Millis>,
    /// Greatest version.
    pub cap: Option<Millis>,
}

impl VersionBounds {
    /// The version of a record, from the running maximum of timestamps in its partition.
    pub fn version(self, running_maximum: Millis) -> Millis {
        let version = self.floor.map_or(running_maximum, |floor| running_maximum.max(floor));
        self.cap.map_or(version, |cap| version.min(cap))
    }
}

/// Everything that a run was planned with. Nothing of it changes later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSpec {
    /// The connection.
    pub connection: ConnectionId,
    /// The sync.
    pub sync: SyncId,
    /// Number in the sync's chain, from 1.
    pub sequence: u64,
    /// What is read.
    pub slice: Slice,
    /// The positions of the slice's partitions at its start.
    pub start: Checkpoint,
    /// Bounds of versions.
    pub versions: VersionBounds,
    /// Filters.
    pub filter: FilterSpec,
    /// File format.
    pub file_format: FileFormat,
    /// When the slice's offsets were frozen.
    pub frozen_at: Timestamp,
    /// The slice reaches the end of the stream as it stood then; after it the sync has caught up.
    pub reaches_end: bool,
    /// Replays: the rejected records to try again. The slice is empty then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replay: Vec<RecordPlace>,
}

/// What the destination itself counted at the commit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// The ledger held the run before we asked: an earlier answer was lost.
    pub already: bool,
    /// Rows with a new id. On object storage files hold every version, so every row counts here.
    pub inserted: u64,
    /// Rows that replaced an older version.
    pub updated: u64,
    /// Rows that lost to a newer version, staged or stored.
    pub superseded: u64,
    /// Rows and checksum of the object's table after the commit, as the ledger has them for this chain.
    pub totals: BTreeMap<Table, TableTotals>,
}

/// The record of one run: what was read, what became of it, what the destination counted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    /// The run.
    pub run: RunId,
    /// The connection.
    pub connection: ConnectionId,
    /// The sync.
    pub sync: SyncId,
    /// Number in the sync's chain.
    pub sequence: u64,
    /// Offsets.
    pub slice: Slice,
    /// Digest of the slice.
    pub digest: String,
    /// Counts: read = staged + filtered + rejected.
    pub counts: Counts,
    /// Rows and checksum by table.
    pub tables: BTreeMap<Table, TableTotals>,
    /// Number of files.
    pub files: u64,
    /// Bytes of files.
    pub file_bytes: u64,
    /// What the destination counted: staged = inserted + updated + superseded.
    pub receipt: Receipt,
    /// When the slice was frozen.
    pub frozen_at: Timestamp,
    /// When the commit was known.
    pub committed_at: Timestamp,
    /// Failed tries before.
    pub failed_tries: u32,
}

/// Where a suspended run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Stage again, as a new attempt.
    Stage,
    /// Commit what was staged.
    Commit(Box<Manifest>),
}

/// What a run is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RunState {
    /// Frozen, not started.
    Planned,
    /// Being read, encoded and uploaded.
    Staging {
        /// Nonce of the attempt, part of every key it writes.
        attempt: String,
    },
    /// Everything is staged; Kafka is not read again.
    Staged {
        /// What is to be committed.
        manifest: Box<Manifest>,
    },
    /// The commit was begun and may have happened.
    Committing {
        /// What is to be committed.
        manifest: Box<Manifest>,
        /// Number of the try, from 1.
        commit_try: u32,
    },
    /// Done.
    Committed {
        /// The proof.
        certificate: Box<Certificate>,
    },
    /// Failed for now; tried again at `until`.
    Waiting {
        /// Where it goes on.
        phase: Phase,
        /// Why it waits.
        error: SyncError,
        /// When it is tried again.
        until: Timestamp,
    },
    /// Failed for good; a person must act and retry.
    Failed {
        /// Where it goes on after a retry.
        phase: Phase,
        /// Why it failed.
        error: SyncError,
    },
    /// Given up on purpose; it has committed nothing.
    Cancelled,
}

impl RunState {
    /// The state in one word, as stored and shown.
    pub const fn name(&self) -> &'static str {
        match self {
            RunState::Planned => "planned",
            RunState::Staging { .. } => "staging",
            RunState::Staged { .. } => "staged",
            RunState::Committing { .. } => "committing",
            RunState::Committed { .. } => "committed",
            RunState::Waiting { .. } => "waiting",
            RunState::Failed { .. } => "failed",
            RunState::Cancelled => "cancelled",
        }
    }

    /// True once nothing can change any more.
    pub const fn is_over(&self) -> bool {
        matches!(self, RunState::Committed { .. } | RunState::Cancelled)
    }
}

/// When and how often a failed run is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// First pause.
    pub base: Duration,
    /// Longest pause.
    pub longest: Duration,
    /// A run fails for good once this many tries …
    pub tries: u32,
    /// … and this much time since the first failure have passed.
    pub patience: Duration,
}

impl Default for RetryPolicy {
    fn default() -> Self {
        Self { base: Duration::from_secs(30), longest: Duration::from_secs(30 * 60), tries: 10, patience: Duration::from_secs(3 * 60 * 60) }
    }
}

impl RetryPolicy {
    /// When something that failed is tried again; `None` when it has failed for good.
    pub fn next_try(
        &self,
        error: &SyncError,
        failed_tries: u32,
        first_failed_at: Timestamp,
        now: Timestamp,
        seed: u64,
    ) -> Option<Timestamp> {
        let since_first = Duration::try_from(now.duration_since(first_failed_at)).unwrap_or(Duration::ZERO);
        if error.retry == RetryHint::WhenFixed || (failed_tries >= self.tries && since_first >= self.patience) {
            return None;
        }
        let pause = match error.retry {
            RetryHint::After(duration) => duration.max(self.pause(failed_tries, seed)),
            RetryHint::Restage if failed_tries == 1 => Duration::ZERO,
            _ => self.pause(failed_tries, seed),
        };
        Some(now.checked_add(pause).unwrap_or(Timestamp::MAX))
    }

    /// The pause before the next try: doubles each time, up to the longest, spread by ±20 % so that
    /// many engines do not come back at once. `seed` makes it repeatable.
    pub fn pause(&self, failed_tries: u32, seed: u64) -> Duration {
        let doubled = self.base.saturating_mul(1u32.checked_shl(failed_tries.saturating_sub(1).min(20)).unwrap_or(u32::MAX));
        let spread = xxhash_rust::xxh3::xxh3_64_with_seed(&failed_tries.to_le_bytes(), seed) % 401;
        doubled.min(self.longest).mul_f64(0.8 + spread as f64 / 1000.0)
    }
}

/// What happens to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// An attempt began.
    StageStarted {
        /// Its nonce.
        attempt: String,
    },
    /// The attempt staged everything and its counts balance.
    StageDone {
        /// The result.
        manifest: Box<Manifest>,
    },
    /// The commit is about to be asked for.
    CommitStarted,
    /// The destination holds the run.
    CommitDone {
        /// The proof.
        certificate: Box<Certificate>,
    },
    /// A step failed.
    Failed {
        /// Why.
        error: SyncError,
    },
    /// The process stopped, or a person paused, while staging.
    Interrupted,
    /// The pause is over.
    Woken,
    /// A person asks for another try.
    Retry {
        /// Let the run pass although too many records were rejected.
        accept_rejected: bool,
    },
    /// A person gives the run up.
    Cancel,
}

/// An event that makes no sense in the state.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a run that is {state} cannot take the event {event}")]
pub struct IllegalTransition {
    /// The state's name.
    pub state: &'static str,
    /// The event's name.
    pub event: &'static str,
}

/// One execution of a sync over one frozen slice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What it was planned with.
    pub spec: RunSpec,
    /// What it is doing.
    #[serde(flatten)]
    pub state: RunState,
    /// Failed tries so far, since planning or the last retry by a person.
    pub failed_tries: u32,
    /// When the first of them failed.
    pub first_failed_at: Option<Timestamp>,
    /// A person accepted that too many records are rejected.
    pub accept_rejected: bool,
    /// When it was planned.
    pub planned_at: Timestamp,
    /// When its state last changed.
    pub updated_at: Timestamp,
}

impl Run {
    /// A planned run.
    pub fn planned(id: RunId, spec: RunSpec, now: Timestamp) -> Self {
        Self {
            id,
            spec,
            state: RunState::Planned,
            failed_tries: 0,
            first_failed_at: None,
            accept_rejected: false,
            planned_at: now,
            updated_at: now,
        }
    }

    /// The run after `event`.
    pub fn apply(&self, event: RunEvent, now: Timestamp, policy: &RetryPolicy) -> Result<Run, IllegalTransition> {
        use RunState::{Cancelled, Committed, Committing, Failed, Planned, Staged, Staging, Waiting};
        let illegal = IllegalTransition { state: self.state.name(), event: event.name() };
        let mut next = Run { updated_at: now, ..self.clone() };
        next.state = match (self.state.clone(), event) {
            (Planned, RunEvent::StageStarted { attempt }) => Staging { attempt },
            (Staging { attempt }, RunEvent::StageDone { manifest }) if manifest.attempt == attempt => Staged { manifest },
            (Staged { manifest }, RunEvent::CommitStarted) => Committing { manifest, commit_try: 1 },
            (Committing { manifest, commit_try }, RunEvent::CommitStarted) => Committing { manifest, commit_try: commit_try + 1 },
            (Committing { .. }, RunEvent::CommitDone { certificate }) => Committed { certificate },
            (state @ (Planned | Staging { .. } | Staged { .. } | Committing { .. }), RunEvent::Failed { error }) => {
                next.failed_tries += 1;
                next.first_failed_at = next.first_failed_at.or(Some(now));
                let phase = match state {
                    _ if error.retry == RetryHint::Restage => Phase::Stage,
                    Staged { manifest } | Committing { manifest, .. } => Phase::Commit(manifest),
                    _ => Phase::Stage,
                };
                next.suspended(phase, error, now, policy)
            }
            (Staging { .. } | Planned, RunEvent::Interrupted) => Planned,
            (state @ (Staged { .. } | Committing { .. } | Waiting { .. } | Failed { .. }), RunEvent::Interrupted) => state,
            (Waiting { phase, .. }, RunEvent::Woken) => phase.resumed(),
            (Waiting { phase, .. } | Failed { phase, .. }, RunEvent::Retry { accept_rejected }) => {
                next.failed_tries = 0;
                next.first_failed_at = None;
                next.accept_rejected |= accept_rejected;
                phase.resumed()
            }
            (
                Waiting { phase: Phase::Stage, .. } | Failed { phase: Phase::Stage, .. } | Planned | Staging { .. } | Staged { .. },
                RunEvent::Cancel,
            ) => Cancelled,
            _ => return Err(illegal),
        };
        Ok(next)
    }

    fn suspended(&self, phase: Phase, error: SyncError, now: Timestamp, policy: &RetryPolicy) -> RunState {
        let first = self.first_failed_at.unwrap_or(now);
        match policy.next_try(&error, self.failed_tries, first, now, self.seed()) {
            Some(until) => RunState::Waiting { phase, error, until },
            None => RunState::Failed { phase, error },
        }
    }

    fn seed(&self) -> u64 {
        self.id.0.as_u64_pair().1
    }
}

impl Phase {
    /// The state in which the phase goes on. A commit goes on as `Committing`: it may have happened.
    fn resumed(self) -> RunState {
        match self {
            Phase::Stage => RunState::Planned,
            Phase::Commit(manifest) => RunState::Committing { manifest, commit_try: 0 },
        }
    }
}

impl RunEvent {
    const fn name(&self) -> &'static str {
        match self {
            RunEvent::StageStarted { .. } => "stage started",
            RunEvent::StageDone { .. } => "stage done",
            RunEvent::CommitStarted => "commit started",
            RunEvent::CommitDone { .. } => "commit done",
            RunEvent::Failed { .. } => "failed",
            RunEvent::Interrupted => "interrupted",
            RunEvent::Woken => "woken",
            RunEvent::Retry { .. } => "retry",
            RunEvent::Cancel => "cancel",
        }
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
