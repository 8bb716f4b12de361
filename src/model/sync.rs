//! A sync: one object, historical or periodic, and what a person wants of it.

use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::SyncError;
use super::position::Checkpoint;
use super::run::RetryPolicy;
use super::table::Object;

/// Which part of an object's stream a sync owns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SyncKind {
    /// Everything before the cut, oldest first.
    Historical,
    /// Everything from the cut on (metrics: everything).
    Periodic,
    /// Rejected records, given another try.
    Replay,
}

/// The name of a sync, such as `events-historical`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SyncId {
    /// The object.
    pub object: Object,
    /// The part.
    pub kind: SyncKind,
}

impl SyncId {
    /// A sync's name.
    pub const fn new(object: Object, kind: SyncKind) -> Self {
        Self { object, kind }
    }

    /// The syncs that exist for an object: metrics have no historical one, since their periodic sync
    /// starts at the beginning of the topic.
    pub fn of(object: Object) -> &'static [SyncKind] {
        match object {
            Object::Metrics => &[SyncKind::Periodic],
            Object::Profiles | Object::Events => &[SyncKind::Historical, SyncKind::Periodic],
        }
    }

    /// The chains of ledger entries that may exist for an object: its syncs and its replays.
    pub fn chains(object: Object) -> impl Iterator<Item = SyncId> {
        Self::of(object).iter().chain(&[SyncKind::Replay]).map(move |kind| SyncId::new(object, *kind))
    }

    /// The text form.
    pub fn name(self) -> String {
        let kind = match self.kind {
            SyncKind::Historical => "historical",
            SyncKind::Periodic => "periodic",
            SyncKind::Replay => "replay",
        };
        format!("{}-{kind}", self.object)
    }
}

impl std::fmt::Display for SyncId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.name())
    }
}

impl FromStr for SyncId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Object::ALL
            .into_iter()
            .flat_map(SyncId::chains)
            .find(|sync| sync.name() == text)
            .ok_or_else(|| format!("there is no sync `{text}`; the syncs are events-historical, events-periodic, profiles-historical, profiles-periodic and metrics-periodic"))
    }
}

impl Serialize for SyncId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.name())
    }
}

impl<'de> Deserialize<'de> for SyncId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// What a person wants of a sync. Not a state: what is happening is told by the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intent {
    /// Run when due.
    #[default]
    Run,
    /// Start nothing; stop what is being staged.
    Pause,
}

/// Why no run can be planned: the source cannot be asked, or does not hold what is to be read next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Why.
    pub error: SyncError,
    /// Failed tries so far.
    pub failed_tries: u32,
    /// When the first of them failed.
    pub first_failed_at: Timestamp,
    /// When it is tried again; `None` when only a person can help.
    pub until: Option<Timestamp>,
}

impl Trouble {
    /// What follows from another failure.
    pub fn after(before: Option<&Trouble>, error: SyncError, now: Timestamp, policy: &RetryPolicy, seed: u64) -> Self {
        let failed_tries = before.map_or(0, |before| before.failed_tries) + 1;
        let first_failed_at = before.map_or(now, |before| before.first_failed_at);
        let until = policy.next_try(&error, failed_tries, first_failed_at, now, seed);
        Self { error, failed_tries, first_failed_at, until }
    }
}

/// A sync as our store holds it. The checkpoint is a copy of what the destination's ledger says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sync {
    /// The name.
    pub id: SyncId,
    /// What a person wants.
    pub intent: Intent,
    /// Sequence number of the newest committed ledger entry; 0 before the first.
    pub sequence: u64,
    /// The next offset to read, for each partition.
    pub checkpoint: Checkpoint,
    /// Everything that was published before this time is committed (periodic).
    pub caught_up_at: Option<Timestamp>,
    /// When the source was last looked at for this sync. Later than `caught_up_at`: there is more to read.
    pub looked_at: Option<Timestamp>,
    /// Somebody asked for a run at this time, and none has started since.
    pub requested_at: Option<Timestamp>,
    /// Historical: when its first run started.
    pub started_at: Option<Timestamp>,
    /// Historical: when the cut was reached.
    pub completed_at: Option<Timestamp>,
    /// Mean size of a record in the stream, in bytes, measured over the last run.
    pub bytes_per_offset: Option<f64>,
    /// True while a process is working on it.
    pub executing: bool,
    /// Replays: rejected records that wait for their metric to become known.
    #[serde(default)]
    pub pending: u64,
    /// Why no run can be planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<Trouble>,
    /// A person's answer to the guard of expired deletions: accepted for rests that began before this time.
    pub accepted_rest_until: Option<Timestamp>,
}

impl Sync {
    /// A sync that has never run.
    pub fn new(id: SyncId, checkpoint: Checkpoint) -> Self {
        Self {
            id,
            intent: Intent::Run,
            sequence: 0,
            checkpoint,
            caught_up_at: None,
            looked_at: None,
            requested_at: None,
            started_at: None,
            completed_at: None,
            bytes_per_offset: None,
            executing: false,
            pending: 0,
            trouble: None,
            accepted_rest_until: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for object in Object::ALL {
            for sync in SyncId::chains(object) {
                assert_eq!(sync.name().parse::<SyncId>().unwrap(), sync);
            }
        }
        assert!("metrics-historical".parse::<SyncId>().is_err());
    }
}
