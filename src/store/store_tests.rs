use std::collections::BTreeMap;

use jiff::Timestamp;
use uuid::Uuid;

use super::*;
use crate::model::connection::{ConnectionSpec, DestinationSettings, FolderSettings, History};
use crate::model::run::{FilterSpec, RetryPolicy, RunEvent, VersionBounds};
use crate::model::{
    Checkpoint, ConnectionId, ConnectionState, FileFormat, Intent, Object, Position, Range, Run, RunSpec, Slice, Stage, Sync, SyncId,
    SyncKind,
};

fn connection() -> Connection {
    Connection {
        id: ConnectionId(Uuid::nil()),
        spec: ConnectionSpec {
            name: "n".into(),
            objects: vec![Object::Events],
            exclude_integrations: vec![],
            selective_sync: vec![],
            history: History::All,
            destination: DestinationSettings::Folder(FolderSettings { path: "x".into(), format: FileFormat::NdjsonGzip }),
        },
        state: ConnectionState::Enabled,
        genesis: None,
        created_at: Timestamp::now(),
    }
}

const EVENTS: SyncId = SyncId::new(Object::Events, SyncKind::Periodic);

fn run(sequence: u64) -> Run {
    let spec = RunSpec {
        connection: ConnectionId(Uuid::nil()),
        sync: EVENTS,
        sequence,
        slice: Slice::new([(0, Range { start: 0, end: 5 })]),
        start: Checkpoint::new([(0, Position::at(0))]),
        versions: VersionBounds::default(),
        filter: FilterSpec::default(),
        file_format: FileFormat::NdjsonGzip,
        frozen_at: Timestamp::now(),
        reaches_end: true,
        replay: vec![],
    };
    Run::planned(RunId(Uuid::now_v7()), spec, Timestamp::now())
}

async fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("deep/state.db")).await.unwrap();
    let syncs = [EVENTS, SyncId::new(Object::Events, SyncKind::Replay)].map(|id| Sync::new(id, Checkpoint::at(&BTreeMap::new())));
    store.replace_connection(&connection(), &syncs).await.unwrap();
    (folder, store)
}

#[tokio::test]
async fn planning_twice_is_harmless() {
    let (_folder, store) = store().await;
    let first = store.plan_run(&run(1)).await.unwrap();
    let second = store.plan_run(&run(1)).await.unwrap();
    assert_eq!(first, second);
    assert_eq!(store.runs(None, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_run_changes_once() {
    let (_folder, store) = store().await;
    let stored = store.plan_run(&run(1)).await.unwrap();
    let next = |attempt: &str| {
        let event = RunEvent::StageStarted { attempt: attempt.into() };
        stored.run.apply(event, Timestamp::now(), &RetryPolicy::default()).unwrap()
    };
    store.save_run(&stored, next("a")).await.unwrap();
    assert!(store.save_run(&stored, next("b")).await.is_err(), "it was changed meanwhile");
}

#[tokio::test]
async fn wishes_of_two_processes_are_both_kept() {
    let (folder, store) = store().await;
    let other = Store::open(&folder.path().join("deep/state.db")).await.unwrap();
    let before = store.change_counter().await.unwrap();
    for _ in 0..20 {
        let (one, two) =
            tokio::join!(store.update_sync(EVENTS, |sync| sync.sequence += 1), other.update_sync(EVENTS, |sync| sync.pending += 1));
        one.unwrap();
        two.unwrap();
    }
    other.update_sync(EVENTS, |sync| sync.intent = Intent::Pause).await.unwrap();
    let sync = store.sync(EVENTS).await.unwrap();
    assert_eq!((sync.sequence, sync.pending, sync.intent), (20, 20, Intent::Pause));
    assert!(store.change_counter().await.unwrap() > before);
}

#[tokio::test]
async fn failures_are_listed_newest_first() {
    let (_folder, store) = store().await;
    let now = Timestamp::now();
    for tries in 1..=3 {
        let error = SyncError::new(ErrorCode::Unavailable, Stage::Commit, format!("{tries}"));
        store.record_error(&RecordedError { at: now, sync: Some(EVENTS), run: None, tries, next_try: None, error }).await.unwrap();
    }
    let errors = store.errors(now - jiff::SignedDuration::from_secs(1), Some(EVENTS)).await.unwrap();
    assert_eq!(errors.iter().map(|error| error.tries).collect::<Vec<_>>(), [3, 2, 1]);
}
