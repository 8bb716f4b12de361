//! Freezes the next slice of a sync.

use jiff::Timestamp;
use uuid::Uuid;

use super::plan::chunk_offsets;
use crate::engine::{Engine, guard};
use crate::model::run::{FilterSpec, VersionBounds};
use crate::model::{
    Checkpoint, Connection, ErrorCode, Genesis, Object, Run, RunId, RunSpec, Slice, Stage, Sync, SyncError, SyncKind, Trouble,
};
use crate::source::Bounds;
use crate::store::{RecordedError, StoredRun};

/// Looks at the source and plans the next run of a sync. `None` when there is nothing new. A source
/// that cannot be asked, or does not hold what is next, becomes the sync's trouble.
pub async fn plan(engine: &Engine, connection: &Connection, genesis: &Genesis, sync: &Sync) -> Result<Option<StoredRun>, SyncError> {
    // Taken before the offsets: whatever they do not include was published later.
    let now = engine.clock.now();
    let looked = look(engine, genesis, sync, now).await;
    match looked {
        Ok(bounds) => plan_within(engine, connection, genesis, sync, &bounds, now).await,
        Err(error) => {
            note_trouble(engine, sync, error, now).await?;
            Ok(None)
        }
    }
}

async fn look(engine: &Engine, genesis: &Genesis, sync: &Sync, now: Timestamp) -> Result<Bounds, SyncError> {
    let object = sync.id.object;
    let bounds = engine.bounds(object).await?;
    let stream = genesis.streams.get(&object);
    let limit = stream.filter(|_| sync.id.kind == SyncKind::Historical);
    guard::check(&engine.source.stream_name(object), stream, &sync.checkpoint, limit, &bounds)?;
    if let Some(rested_since) = sync.looked_at.max(sync.accepted_rest_until) {
        let rested = now.duration_since(rested_since);
        // Deletions are kept for a day unless somebody says otherwise; shorter rests need no question.
        if rested > jiff::SignedDuration::from_mins(10) {
            let kept = engine.ask(move |source| source.deletion_retention(object)).await?;
            if let Some(kept) = kept.and_then(|kept| jiff::SignedDuration::try_from(kept).ok()).filter(|kept| rested > *kept) {
                let summary = format!("the sync rested for {rested:#}, and the topic keeps deletions for {kept:#}");
                return Err(SyncError::new(ErrorCode::TombstonesExpired, Stage::Plan, summary));
            }
        }
    }
    Ok(bounds)
}

async fn plan_within(
    engine: &Engine,
    connection: &Connection,
    genesis: &Genesis,
    sync: &Sync,
    bounds: &Bounds,
    now: Timestamp,
) -> Result<Option<StoredRun>, SyncError> {
    let ends = match (sync.id.kind, genesis.streams.get(&sync.id.object)) {
        (SyncKind::Historical, Some(stream)) => &stream.cut,
        _ => &bounds.next,
    };
    let all = sync.checkpoint.until(ends);
    metrics::gauge!(crate::telemetry::LAG_OFFSETS, "sync" => sync.id.name()).set(all.offsets() as f64);
    let slice = all.capped(chunk_offsets(engine.settings.chunk_bytes.as_u64(), sync.bytes_per_offset));
    let run = (!slice.is_empty()).then(|| {
        let reaches_end = slice == all;
        Run::planned(RunId(Uuid::now_v7()), spec(engine, connection, genesis, sync, slice, reaches_end, now), now)
    });
    // Planned before it is noted that somebody looked: after a crash in between, we look again.
    let stored = match &run {
        Some(run) => Some(engine.store.plan_run(run).await?),
        None => None,
    };
    let nothing_new = run.is_none();
    engine
        .store
        .update_sync(sync.id, |sync| {
            sync.looked_at = Some(now);
            sync.requested_at = None;
            sync.trouble = None;
            sync.started_at = sync.started_at.or(Some(now));
            if nothing_new {
                sync.caught_up_at = Some(now);
                if sync.id.kind == SyncKind::Historical {
                    sync.completed_at = Some(now);
                }
            }
        })
        .await?;
    Ok(stored)
}

fn spec(
    engine: &Engine,
    connection: &Connection,
    genesis: &Genesis,
    sync: &Sync,
    slice: Slice,
    reaches_end: bool,
    now: Timestamp,
) -> RunSpec {
    let is_history = sync.id.kind == SyncKind::Historical;
    let versions = match (sync.id.object, is_history) {
        // Metrics have one sync only, so nothing has to be kept apart.
        (Object::Metrics, _) => VersionBounds::default(),
        (_, true) => VersionBounds { floor: None, cap: Some(genesis.cut_time) },
        (_, false) => VersionBounds { floor: Some(genesis.cut_time), cap: None },
    };
    let start = Checkpoint::new(slice.ranges().map(|(partition, _)| (partition, sync.checkpoint.position(partition))));
    RunSpec {
        connection: connection.id,
        sync: sync.id,
        sequence: sync.sequence + 1,
        slice,
        start,
        versions,
        filter: FilterSpec {
            exclude_integrations: connection.spec.exclude_integrations.clone(),
            selective_sync: connection.spec.selective_sync.clone(),
            window_start: genesis.window_start.filter(|_| is_history),
        },
        file_format: connection.spec.destination.format(),
        frozen_at: engine.clock.now().max(now),
        reaches_end,
        replay: Vec::new(),
    }
}

/// Plans a run that gives rejected records another try.
pub async fn plan_replay(
    engine: &Engine,
    connection: &Connection,
    genesis: &Genesis,
    sync: &Sync,
    places: Vec<crate::model::ledger::RecordPlace>,
) -> Result<StoredRun, SyncError> {
    let now = engine.clock.now();
    let mut spec = spec(engine, connection, genesis, sync, Slice::default(), false, now);
    // Records keep the versions that they were given when they were first read.
    spec.versions = VersionBounds::default();
    spec.replay = places;
    engine.store.plan_run(&Run::planned(RunId(Uuid::now_v7()), spec, now)).await
}

async fn note_trouble(engine: &Engine, sync: &Sync, error: SyncError, now: Timestamp) -> Result<(), SyncError> {
    let seed = xxhash_rust::xxh3::xxh3_64(sync.id.name().as_bytes());
    let trouble = Trouble::after(sync.trouble.as_ref(), error.clone(), now, &engine.retry_policy(), seed);
    let (tries, next_try) = (trouble.failed_tries, trouble.until);
    tracing::warn!(sync = %sync.id, code = %error.code, external = error.external.as_deref(), next_try = next_try.map(tracing::field::display), "{}", error.summary);
    metrics::counter!(crate::telemetry::ERRORS, "sync" => sync.id.name(), "code" => error.code.text()).increment(1);
    engine.store.update_sync(sync.id, |sync| sync.trouble = Some(trouble)).await?;
    engine.store.record_error(&RecordedError { at: now, sync: Some(sync.id), run: None, tries, next_try, error }).await
}
