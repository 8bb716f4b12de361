use super::*;
use crate::model::connection::{DestinationSettings, FolderSettings, History};
use crate::model::{Checkpoint, ConnectionSpec, FileFormat, Genesis, Object, SyncId};
use proptest::prelude::*;
use std::collections::BTreeMap;
use uuid::Uuid;

const HOUR: Duration = Duration::from_secs(3600);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn connection() -> Connection {
    let id = ConnectionId(Uuid::from_u128(99));
    Connection {
        id,
        spec: ConnectionSpec {
            name: "n".into(),
            objects: vec![Object::Events],
            exclude_integrations: vec![],
            selective_sync: vec![],
            history: History::All,
            destination: DestinationSettings::Folder(FolderSettings { path: "x".into(), format: FileFormat::NdjsonGzip }),
        },
        state: ConnectionState::Enabled,
        genesis: Some(Genesis {
            format: 1,
            generation: 1,
            connection: id,
            name: "n".into(),
            history: History::All,
            window_start: None,
            cut_time: 0,
            streams: BTreeMap::new(),
            created_at: at(0),
        }),
        created_at: at(0),
    }
}

fn sync(kind: SyncKind) -> Sync {
    Sync::new(SyncId::new(Object::Events, kind), Checkpoint::default())
}

#[test]
fn a_new_sync_is_due_at_once_and_then_by_the_hour() {
    let connection = connection();
    let mut periodic = sync(SyncKind::Periodic);
    assert_eq!(due(&connection, &periodic, None, at(0), HOUR), Due::Plan);
    periodic.looked_at = Some(at(0));
    periodic.caught_up_at = Some(at(0));
    let Due::At(next) = due(&connection, &periodic, None, at(1), HOUR) else { panic!() };
    assert!(next > at(0) && next <= at(3600));
    assert_eq!(due(&connection, &periodic, None, next, HOUR), Due::Plan);
    periodic.requested_at = Some(at(1));
    assert_eq!(due(&connection, &periodic, None, at(1), HOUR), Due::Plan, "somebody asked for it");
}

#[test]
fn what_was_missed_is_caught_up_without_waiting() {
    let mut periodic = sync(SyncKind::Periodic);
    periodic.looked_at = Some(at(10));
    periodic.caught_up_at = Some(at(0));
    assert_eq!(due(&connection(), &periodic, None, at(11), HOUR), Due::Plan);
}

#[test]
fn pause_while_idle() {
    for kind in [SyncKind::Periodic, SyncKind::Historical] {
        let mut paused = sync(kind);
        paused.intent = Intent::Pause;
        assert_eq!(due(&connection(), &paused, None, at(0), HOUR), Due::Nothing);
    }
    let mut disabled = connection();
    disabled.state = ConnectionState::Disabled;
    assert_eq!(due(&disabled, &sync(SyncKind::Periodic), None, at(0), HOUR), Due::Nothing);
}

#[test]
fn history_ends() {
    let mut history = sync(SyncKind::Historical);
    assert_eq!(due(&connection(), &history, None, at(0), HOUR), Due::Plan);
    history.completed_at = Some(at(0));
    assert_eq!(due(&connection(), &history, None, at(9_999_999), HOUR), Due::Nothing);
}

proptest! {
    #[test]
    fn slots_are_one_interval_apart_and_never_missed(second in 0i64..10_000_000, interval in 1u64..100_000) {
        let connection = connection().id;
        let interval = Duration::from_secs(interval);
        let slot = slot_after(connection, at(second), interval);
        prop_assert!(slot > at(second));
        prop_assert!(slot.duration_since(at(second)) <= jiff::SignedDuration::try_from(interval).unwrap());
        let next = slot_after(connection, slot, interval);
        prop_assert_eq!(next.duration_since(slot), jiff::SignedDuration::try_from(interval).unwrap());
    }
}
