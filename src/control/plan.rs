//! What is due. Pure: values in, decisions out.

use std::time::Duration;

use jiff::Timestamp;

use crate::model::{Connection, ConnectionId, ConnectionState, Intent, Run, RunState, Sync, SyncKind};

/// What is to be done with a sync now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Due {
    /// Go on with its open run.
    Execute,
    /// Look at the source and plan the next run.
    Plan,
    /// Nothing before this time.
    At(Timestamp),
    /// Nothing, until a person or a commit changes something.
    Nothing,
}

/// Decides for one sync. `open` is its run that is neither committed nor cancelled.
pub fn due(connection: &Connection, sync: &Sync, open: Option<&Run>, now: Timestamp, interval: Duration) -> Due {
    if connection.state != ConnectionState::Enabled || connection.genesis.is_none() || sync.intent == Intent::Pause {
        return Due::Nothing;
    }
    // An edit may have taken the object out of the selection.
    if !connection.spec.synced_objects().contains(&sync.id.object) {
        return Due::Nothing;
    }
    if let Some(run) = open {
        return match &run.state {
            RunState::Waiting { until, .. } if *until > now => Due::At(*until),
            RunState::Failed { .. } | RunState::Committed { .. } | RunState::Cancelled => Due::Nothing,
            _ => Due::Execute,
        };
    }
    if let Some(trouble) = &sync.trouble {
        match trouble.until {
            None => return Due::Nothing,
            Some(until) if until > now => return Due::At(until),
            Some(_) => return Due::Plan,
        }
    }
    match sync.id.kind {
        SyncKind::Historical if sync.completed_at.is_some() => Due::Nothing,
        SyncKind::Historical => Due::Plan,
        SyncKind::Replay => Due::Nothing,
        SyncKind::Periodic => match next_look(connection.id, sync, interval) {
            Some(at) if at > now => Due::At(at),
            _ => Due::Plan,
        },
    }
}

/// When a periodic sync looks at the source next; `None` for at once.
pub fn next_look(connection: ConnectionId, sync: &Sync, interval: Duration) -> Option<Timestamp> {
    let looked_at = sync.looked_at?;
    let is_behind = sync.caught_up_at.is_none_or(|caught_up_at| caught_up_at < looked_at);
    if is_behind || sync.requested_at.is_some() {
        return None;
    }
    Some(slot_after(connection, looked_at, interval))
}

/// The first scheduled time after `time`. Slots lie one interval apart, at a minute that is fixed for a
/// connection and spread over connections, so that they do not all start on the hour.
pub fn slot_after(connection: ConnectionId, time: Timestamp, interval: Duration) -> Timestamp {
    let interval = i64::try_from(interval.as_millis()).unwrap_or(i64::MAX).max(1);
    let jitter = (xxhash_rust::xxh3::xxh3_64(connection.0.as_bytes()) % interval.unsigned_abs()) as i64;
    let since = time.as_millisecond() - jitter;
    let slot = (since.div_euclid(interval) + 1).saturating_mul(interval).saturating_add(jitter);
    Timestamp::from_millisecond(slot).unwrap_or(Timestamp::MAX)
}

/// About how many offsets make a chunk of `chunk_bytes`, from the mean size seen in the last run.
/// Before anything was read, records are taken to be of 1 KiB.
pub fn chunk_offsets(chunk_bytes: u64, bytes_per_offset: Option<f64>) -> u64 {
    let mean = bytes_per_offset.unwrap_or(1024.0).max(16.0);
    ((chunk_bytes as f64 / mean) as u64).max(1)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
