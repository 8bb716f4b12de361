//! What every destination must keep, whatever it is: the same cases on a folder and on a real S3 server.

use std::sync::Arc;

use warehouse_sync::destination::{CheckOutcome, Destination, object_storage::ObjectStorage};
use warehouse_sync::engine::Outcome;
use warehouse_sync::model::connection::{DestinationSettings, FolderSettings, S3Settings, SecretReference};
use warehouse_sync::model::{ErrorCode, FileFormat, Object, SyncId, SyncKind};

use crate::support::broker::{event, metric, tombstone};
use crate::support::engine::{Fault, MemorySource, Rig, genesis};
use crate::support::lake::{Lake, integer};

/// A place, and how to open it as a destination.
struct Place {
    lake: Lake,
    _folder: tempfile::TempDir,
}

impl Place {
    fn new(kind: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let lake = if kind == "s3" { Lake::s3() } else { Lake::folder(folder.path()) };
        Self { lake, _folder: folder }
    }

    fn settings(&self) -> DestinationSettings {
        match &self.lake {
            Lake::Folder(path) => {
                DestinationSettings::Folder(FolderSettings { path: path.display().to_string(), format: FileFormat::NdjsonGzip })
            }
            Lake::S3 { prefix } => DestinationSettings::S3(S3Settings {
                bucket: "test-bucket".into(),
                region: "us-east-1".into(),
                access_key_id: Some("env:WAREHOUSE_SYNC_TEST_S3_KEY".into()),
                secret_access_key: Some(SecretReference("env:WAREHOUSE_SYNC_TEST_S3_SECRET".into())),
                session_token: None,
                prefix: Some(prefix.clone()),
                endpoint: Some(crate::support::variable("WAREHOUSE_SYNC_TEST_S3")),
                format: FileFormat::NdjsonGzip,
            }),
        }
    }

    fn open(&self) -> Arc<dyn Destination> {
        Arc::new(ObjectStorage::open(&self.settings()).unwrap())
    }
}

/// Every case, on every destination.
macro_rules! contract {
    ($($case:ident),+ $(,)?) => {
        mod folder {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case(super::Place::new("folder")).await; })+
        }
        mod s3 {
            $(#[tokio::test(flavor = "multi_thread")] async fn $case() { super::$case(super::Place::new("s3")).await; })+
        }
    };
}

contract!(
    an_empty_run_leaves_no_trace,
    one_row,
    wide_and_odd_values,
    several_part_files,
    every_format,
    store_lost_and_adopted,
    reconnected_fresh_closes_the_older_connection,
    same_commit_twice,
    retry_after_lost_commit_answer_loads_once,
    failed_upload_is_tried_again,
    a_load_that_loads_nothing_is_noticed,
    zombie_commit_is_refused,
    staged_files_lost_before_the_commit,
    stale_leftovers_are_found_and_removed,
    newest_wins,
    older_version_after_tombstone_stays_deleted,
    history_and_live_at_once_in_both_orders,
    the_check_passes_and_leaves_nothing,
    an_altered_file_is_noticed,
    an_emptied_destination_is_noticed,
    poison_records_are_put_aside_and_replayed,
    no_new_data_is_a_success,
);

fn source(events: u64) -> Arc<MemorySource> {
    let source = Arc::new(MemorySource::default());
    source.publish(0, metric("M", "Placed Order", "shopify", 1));
    for object in Object::ALL {
        // Partitions exist before anything is published.
        if object == Object::Profiles {
            source.push(object, 0, None);
        }
    }
    for number in 0..events {
        source.publish((number % 3) as i32, event(&format!("e{number}"), "M", number, 1000 + number as i64));
    }
    source
}

async fn an_empty_run_leaves_no_trace(place: Place) {
    let source = source(0);
    source.push(Object::Events, 0, None);
    let rig = Rig::new(source, place.open(), FileFormat::NdjsonGzip).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    assert_eq!(place.lake.versions("klaviyo_event").await.len(), 0);
    rig.verify().await;
}

async fn one_row(place: Place) {
    let rig = Rig::new(source(1), place.open(), FileFormat::NdjsonGzip).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    rig.settle(Object::Metrics, SyncKind::Periodic).await;
    let rows = place.lake.versions("klaviyo_event").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0]["id"], "e0");
    assert_eq!(rows[0]["metric_name"], "Placed Order");
    assert_eq!(rows[0]["integration_key"], "shopify");
    assert_eq!(rows[0]["event_properties"], serde_json::json!({"number": 0}));
    assert_eq!(place.lake.versions("klaviyo_metric").await.len(), 1);
    assert!(place.lake.names("_staging").await.is_empty(), "staged files are cleaned");
    rig.verify().await;
}

async fn wide_and_odd_values(place: Place) {
    let source = source(0);
    let deep = format!("{}1{}", "{\"a\":".repeat(10), "}".repeat(10));
    let odd = [
        r#"{"emoji":"😀","nul":"\u0000","quote":"\"\\"}"#.to_owned(),
        r#"{"big":123456789012345678901234567890,"small":0.1000000000000000055511151231257827}"#.to_owned(),
        format!(r#"{{"wide":"{}"}}"#, "x".repeat(3_000_000)),
        deep,
        "[]".to_owned(),
    ];
    for (number, properties) in odd.iter().enumerate() {
        let value = format!(
            r#"{{"type":"event","id":"odd{number}","attributes":{{"datetime":"2021-05-17 23:45:24+00:00","event_properties":{properties}}}}}"#
        );
        source.push(Object::Events, 0, Some((Some(format!("odd{number}")), Some(value.into_bytes()), 5)));
    }
    let rig = Rig::new(source, place.open(), FileFormat::NdjsonGzip).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    let rows = place.lake.newest("klaviyo_event").await;
    assert_eq!(rows.len(), odd.len());
    for (number, properties) in odd.iter().enumerate() {
        let row = &rows[&format!("odd{number}")];
        assert_eq!(row["datetime"], "2021-05-17T23:45:24Z");
        if !properties.contains("big") {
            let expected: serde_json::Value = serde_json::from_str(properties).unwrap();
            assert_eq!(row["event_properties"], expected);
        }
    }
    rig.verify().await;
}

async fn several_part_files(place: Place) {
    let source = source(0);
    for number in 0..3000u64 {
        let noise: String = (0..40).map(|at| format!("{:016x}", (number * 7919 + at).wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
        let value = format!(r#"{{"type":"event","id":"n{number}","attributes":{{"event_properties":{{"noise":"{noise}"}}}}}}"#);
        source.push(Object::Events, 0, Some((Some(format!("n{number}")), Some(value.into_bytes()), 5)));
    }
    let rig = Rig::new(source, place.open(), FileFormat::NdjsonGzip).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    let files = place.lake.names("klaviyo_event").await;
    assert!(files.len() > 1, "{files:?}");
    let places = place.lake.places("klaviyo_event").await;
    assert_eq!(places.len(), 3000);
    assert!(places.values().all(|count| *count == 1));
    rig.verify().await;
}

async fn every_format(place: Place) {
    let source = source(200);
    source.publish(0, tombstone(Object::Events, "e0", 9999));
    let mut seen = Vec::new();
    for format in [FileFormat::NdjsonGzip, FileFormat::NdjsonZstd, FileFormat::Parquet] {
        let place = Place::new(if matches!(place.lake, Lake::S3 { .. }) { "s3" } else { "folder" });
        let rig = Rig::new(source.clone(), place.open(), format).await;
        rig.engine
            .store
            .update_connection(|connection| {
                if let DestinationSettings::Folder(folder) = &mut connection.spec.destination {
                    folder.format = format;
                }
                Ok(())
            })
            .await
            .unwrap();
        rig.settle(Object::Events, SyncKind::Historical).await;
        let report = rig.verify().await;
        assert_eq!(report.tables[0].found.rows, 201);
        let mut newest = place.lake.newest("klaviyo_event").await;
        for row in newest.values_mut() {
            for column in ["_checksum", "_run_id", "_synced_at"] {
                row.remove(column);
            }
        }
        seen.push(newest);
    }
    assert_eq!(seen[0].len(), 199, "one of 200 was deleted");
    assert_eq!(seen[0], seen[1]);
    assert_eq!(seen[0], seen[2], "Parquet holds the same rows");
}

async fn store_lost_and_adopted(place: Place) {
    let source = source(100);
    let rig = Rig::new(source.clone(), place.open(), FileFormat::NdjsonGzip).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    let genesis = place.open().genesis().await.unwrap().unwrap();
    assert_eq!(genesis, rig.genesis);
    drop(rig);
    for number in 100..150 {
        source.publish(0, event(&format!("e{number}"), "M", number, 5000));
    }
    let rig = Rig::on(source, place.open(), FileFormat::NdjsonGzip, genesis).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    rig.settle(Object::Events, SyncKind::Periodic).await;
    let places = place.lake.places("klaviyo_event").await;
    assert_eq!(places.len(), 150);
    assert!(places.values().all(|count| *count == 1), "nothing twice after adoption");
    rig.verify().await;
}

async fn reconnected_fresh_closes_the_older_connection(place: Place) {
    let source = source(10);
    let older = Rig::new(source.clone(), place.open(), FileFormat::NdjsonGzip).await;
    older.settle(Object::Events, SyncKind::Historical).await;
    let foreign = genesis(source.as_ref(), 1);
    let refused = place.open().prepare(&foreign).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::ForeignConnection);
    let newer = genesis(source.as_ref(), 2);
    place.open().prepare(&newer).await.unwrap();
    place.open().prepare(&newer).await.unwrap();
    source.publish(0, event("late", "M", 1, 9000));
    assert_eq!(older.run(Object::Events, SyncKind::Periodic).await, Some(Outcome::Suspended));
    assert_eq!(older.error(Object::Events, SyncKind::Periodic).await, Some(ErrorCode::TakenOver));
    let newer = Rig::on(source, place.open(), FileFormat::NdjsonGzip, newer).await;
    newer.settle(Object::Events, SyncKind::Historical).await;
    newer.settle(Object::Events, SyncKind::Periodic).await;
    newer.verify().await;
    assert_eq!(place.lake.newest("klaviyo_event").await.len(), 11);
}

async fn same_commit_twice(place: Place) {
    let rig = Rig::new(source(50), place.open(), FileFormat::NdjsonGzip).await;
    rig.destination.fail_next("commit", Fault::AnswerLost);
    rig.destination.fail_next("commit", Fault::AnswerLost);
    rig.settle(Object::Events, SyncKind::Historical).await;
    assert_eq!(rig.destination.commits.load(std::sync::atomic::Ordering::SeqCst), 3);
    let places = place.lake.places("klaviyo_event").await;
    assert!(places.len() == 50 && places.values().all(|count| *count == 1));
    rig.verify().await;
}

async fn retry_after_lost_commit_answer_loads_once(place: Place) {
    let source = source(50);
    let rig = Rig::new(source.clone(), place.open(), FileFormat::NdjsonGzip).await;
    rig.destination.fail_next("commit", Fault::AnswerLost);
    assert_eq!(rig.run(Object::Events, SyncKind::Historical).await, Some(Outcome::Suspended));
    assert_eq!(rig.error(Object::Events, SyncKind::Historical).await, Some(ErrorCode::Unavailable));
    rig.settle(Object::Events, SyncKind::Historical).await;
    let run = rig.engine.store.runs(Some(SyncId::new(Object::Events, SyncKind::Historical)), 1).await.unwrap().remove(0);
    let warehouse_sync::model::RunState::Committed { certificate } = run.state else { panic!("{run:?}") };
    assert!(certificate.receipt.already);
    assert_eq!(certificate.failed_tries, 1);
    assert_eq!(place.lake.versions("klaviyo_event").await.len(), 50);
    rig.verify().await;
}

async fn failed_upload_is_tried_again(place: Place) {
    let rig = Rig::new(source(50), place.open(), FileFormat::NdjsonGzip).await;
    for method in ["stage", "stage", "load", "commit"] {
        rig.destination.fail_next(method, Fault::Before);
    }
    rig.destination.fail_next("stage", Fault::AnswerLost);
    rig.settle(Object::Events, SyncKind::Historical).await;
    assert_eq!(place.lake.versions("klaviyo_event").await.len(), 50);
    rig.verify().await;
}

async fn a_load_that_loads_nothing_is_noticed(place: Place) {
    let rig = Rig::new(source(50), place.open(), FileFormat::NdjsonGzip).await;
    rig.destination.fail_next("load", Fault::LoadedNothing);
    assert_eq!(rig.run(Object::Events, SyncKind::Historical).await, Some(Outcome::Committed), "staged again at once");
    let run = rig.engine.store.runs(Some(SyncId::new(Object::Events, SyncKind::Historical)), 1).await.unwrap().remove(0);
    assert_eq!(run.failed_tries, 1);
    assert_eq!(place.lake.versions("klaviyo_event").await.len(), 50);
    rig.verify().await;
}

async fn zombie_commit_is_refused(place: Place) {
    let source = source(50);
    let zombie = Rig::new(source.clone(), place.open(), FileFormat::NdjsonGzip).await;
    // It stages, then sleeps through its commit.
    zombie.destination.fail_next("commit", Fault::Before);
    assert_eq!(zombie.run(Object::Events, SyncKind::Historical).await, Some(Outcome::Suspended));
    let successor = Rig::on(source, place.open(), FileFormat::NdjsonGzip, zombie.genesis.clone()).await;
    successor.settle(Object::Events, SyncKind::Historical).await;
    zombie.clock.advance(std::time::Duration::from_secs(3600));
    assert_eq!(zombie.run(Object::Events, SyncKind::Historical).await, Some(Outcome::Suspended));
    assert_eq!(zombie.error(Object::Events, SyncKind::Historical).await, Some(ErrorCode::Conflict));
    let places = place.lake.places("klaviyo_event").await;
    assert!(places.len() == 50 && places.values().all(|count| *count == 1));
    successor.verify().await;
}

async fn staged_files_lost_before_the_commit(place: Place) {
    let rig = Rig::new(source(50), place.open(), FileFormat::NdjsonGzip).await;
    rig.destination.fail_next("commit", Fault::Before);
    assert_eq!(rig.run(Object::Events, SyncKind::Historical).await, Some(Outcome::Suspended));
    let (store, prefix) = place.lake.store();
    for name in place.lake.names("_staging").await {
        use object_store::ObjectStoreExt as _;
        store.delete(&format!("{prefix}{name}").into()).await.unwrap();
    }
    rig.clock.advance(std::time::Duration::from_secs(3600));
    rig.settle(Object::Events, SyncKind::Historical).await;
    assert_eq!(place.lake.versions("klaviyo_event").await.len(), 50);
    rig.verify().await;
}

async fn stale_leftovers_are_found_and_removed(place: Place) {
    let rig = Rig::new(source(50), place.open(), FileFormat::NdjsonGzip).await;
    rig.destination.fail_next("discard", Fault::Before);
    rig.settle(Object::Events, SyncKind::Historical).await;
    assert!(!place.lake.names("_staging").await.is_empty());
    let staged = place.open().staged_runs().await.unwrap();
    assert_eq!(staged.len(), 1);
    for (connection, run) in staged {
        assert_eq!(connection, rig.genesis.connection);
        place.open().discard(connection, run).await.unwrap();
    }
    assert!(place.lake.names("_staging").await.is_empty());
    rig.verify().await;
}

async fn newest_wins(place: Place) {
    let source = source(0);
    source.publish(0, event("a", "M", 1, 1000));
    // An older timestamp behind a newer one: the log's order counts.
    source.publish(0, event("a", "M", 2, 500));
    let rig = Rig::new(source.clone(), place.open(), FileFormat::NdjsonGzip).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    assert_eq!(place.lake.newest("klaviyo_event").await["a"]["event_properties"]["number"], 2);
    source.publish(0, event("a", "M", 3, 400));
    rig.settle(Object::Events, SyncKind::Periodic).await;
    assert_eq!(place.lake.newest("klaviyo_event").await["a"]["event_properties"]["number"], 3);
    assert_eq!(place.lake.versions("klaviyo_event").await.len(), 3, "files hold every version");
    rig.verify().await;
}

async fn older_version_after_tombstone_stays_deleted(place: Place) {
    let source = source(0);
    source.publish(0, event("a", "M", 1, 1000));
    source.publish(0, event("b", "M", 1, 1000));
    let rig = Rig::new(source.clone(), place.open(), FileFormat::NdjsonGzip).await;
    source.publish(0, tombstone(Object::Events, "a", 2000));
    // Live first, history with the older version afterwards.
    rig.settle(Object::Events, SyncKind::Periodic).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    let newest = place.lake.newest("klaviyo_event").await;
    assert!(!newest.contains_key("a") && newest.contains_key("b"));
    let deleted: Vec<_> = place.lake.versions("klaviyo_event").await.into_iter().filter(|row| row["_deleted"] == true).collect();
    assert_eq!(deleted.len(), 1);
    assert!(!deleted[0].contains_key("event_properties"), "a deletion keeps the id only");
    rig.verify().await;
}

async fn history_and_live_at_once_in_both_orders(place: Place) {
    for live_first in [false, true] {
        let place = Place::new(if matches!(place.lake, Lake::S3 { .. }) { "s3" } else { "folder" });
        let source = source(0);
        for number in 0..40 {
            source.publish(0, event(&format!("e{}", number % 10), "M", number, 1000 + number as i64));
        }
        let rig = Rig::new(source.clone(), place.open(), FileFormat::NdjsonGzip).await;
        for number in 40..60 {
            source.publish(0, event(&format!("e{}", number % 10), "M", number, 100));
        }
        let order = if live_first { [SyncKind::Periodic, SyncKind::Historical] } else { [SyncKind::Historical, SyncKind::Periodic] };
        for kind in order {
            rig.settle(Object::Events, kind).await;
        }
        for (id, row) in place.lake.newest("klaviyo_event").await {
            let number = row["event_properties"]["number"].as_i64().unwrap();
            assert!(number >= 50, "{id} shows version {number}, live_first {live_first}");
            assert!(integer(&row, "_version") >= rig.genesis.cut_time);
        }
        rig.verify().await;
    }
}

async fn the_check_passes_and_leaves_nothing(place: Place) {
    let steps = place.open().check().await;
    assert!(steps.len() >= 5 && steps.iter().all(|step| step.outcome == CheckOutcome::Passed), "{steps:?}");
    assert!(place.lake.names("_probe").await.is_empty());
}

async fn an_altered_file_is_noticed(place: Place) {
    use object_store::ObjectStoreExt as _;
    let rig = Rig::new(source(50), place.open(), FileFormat::NdjsonGzip).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    let (store, prefix) = place.lake.store();
    let name = place.lake.names("klaviyo_event").await.remove(0);
    let path = object_store::path::Path::from(format!("{prefix}{name}"));
    let content = store.get(&path).await.unwrap().bytes().await.unwrap();
    store.put(&path, content.slice(..content.len() - 1).into()).await.unwrap();
    let report = warehouse_sync::engine::verify::verify(rig.destination.as_ref(), &rig.genesis).await.unwrap();
    assert!(report.findings.iter().any(|finding| finding.contains("was altered")), "{:?}", report.findings);
    store.delete(&path).await.unwrap();
    let report = warehouse_sync::engine::verify::verify(rig.destination.as_ref(), &rig.genesis).await.unwrap();
    assert!(report.findings.iter().any(|finding| finding.contains("is missing")), "{:?}", report.findings);
}

async fn an_emptied_destination_is_noticed(place: Place) {
    use object_store::ObjectStoreExt as _;
    let source = source(50);
    let rig = Rig::new(source.clone(), place.open(), FileFormat::NdjsonGzip).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    let (store, prefix) = place.lake.store();
    for folder in ["klaviyo_event", "_ledger"] {
        for name in place.lake.names(folder).await {
            store.delete(&format!("{prefix}{name}").into()).await.unwrap();
        }
    }
    source.publish(0, event("late", "M", 1, 9000));
    assert_eq!(rig.run(Object::Events, SyncKind::Periodic).await, Some(Outcome::Suspended));
    assert_eq!(rig.error(Object::Events, SyncKind::Periodic).await, Some(ErrorCode::GenesisMissing));
}

async fn poison_records_are_put_aside_and_replayed(place: Place) {
    let source = source(10);
    for (number, value) in [&b"not json"[..], b"\xff\xfe", b"{\"type\":\"profile\",\"id\":\"x\"}"].iter().enumerate() {
        source.push(Object::Events, 1, Some((Some(format!("bad{number}")), Some(value.to_vec()), 7)));
    }
    source.push(Object::Events, 1, Some((None, None, 7)));
    source.publish(1, event("after", "M", 1, 8));
    let rig = Rig::new(source, place.open(), FileFormat::NdjsonGzip).await;
    rig.settle(Object::Events, SyncKind::Historical).await;
    assert_eq!(place.lake.newest("klaviyo_event").await.len(), 11);
    let rejected = place.lake.versions("klaviyo_rejected").await;
    let mut reasons: Vec<&str> = rejected.iter().map(|row| row["reason"].as_str().unwrap()).collect();
    reasons.sort_unstable();
    assert_eq!(reasons, ["deletion_without_key", "not_json", "not_utf8", "wrong_type"]);
    let binary = rejected.iter().find(|row| row["reason"] == "not_utf8").unwrap();
    assert_eq!((&binary["value"], &binary["value_encoding"]), (&"//4=".into(), &"base64".into()));
    let open = warehouse_sync::engine::verify::open_rejected(rig.destination.as_ref(), &rig.genesis, Object::Events).await.unwrap();
    assert_eq!(open.len(), 4);
    rig.verify().await;
}

async fn no_new_data_is_a_success(place: Place) {
    let rig = Rig::new(source(5), place.open(), FileFormat::NdjsonGzip).await;
    assert_eq!(rig.run(Object::Events, SyncKind::Periodic).await, None);
    let sync = rig.engine.store.sync(SyncId::new(Object::Events, SyncKind::Periodic)).await.unwrap();
    assert_eq!(sync.caught_up_at, sync.looked_at);
    assert!(sync.looked_at.is_some());
}

/// S3 alone: what a service refuses.
mod s3_refusals {
    use super::*;

    fn settings(change: impl FnOnce(&mut S3Settings)) -> DestinationSettings {
        let DestinationSettings::S3(mut s3) = Place::new("s3").settings() else { unreachable!() };
        change(&mut s3);
        DestinationSettings::S3(s3)
    }

    async fn first_failure(settings: &DestinationSettings) -> ErrorCode {
        let steps = ObjectStorage::open(settings).unwrap().check().await;
        let failed: Vec<_> = steps.iter().filter(|step| step.outcome == CheckOutcome::Failed).collect();
        assert_eq!(failed.len(), 1, "{steps:?}");
        failed[0].error.as_ref().unwrap().code
    }

    fn secret(text: &str) -> SecretReference {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path().keep().unwrap();
        std::fs::write(&path, text).unwrap();
        SecretReference(format!("file:{}", path.display()))
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn wrong_secret() {
        assert_eq!(first_failure(&settings(|s3| s3.secret_access_key = Some(secret("wrong")))).await, ErrorCode::AuthInvalid);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn unknown_key() {
        assert_eq!(first_failure(&settings(|s3| s3.access_key_id = Some("nobody".into()))).await, ErrorCode::AuthInvalid);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn missing_bucket() {
        assert_eq!(first_failure(&settings(|s3| s3.bucket = "no-such-bucket".into())).await, ErrorCode::BucketNotFound);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn missing_grant() {
        let settings = settings(|s3| {
            s3.access_key_id = Some("read-only-key".into());
            s3.secret_access_key = Some(secret("read-only-secret"));
        });
        assert_eq!(first_failure(&settings).await, ErrorCode::PermissionDenied);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn nobody_listens() {
        assert_eq!(first_failure(&settings(|s3| s3.endpoint = Some("http://127.0.0.1:1".into()))).await, ErrorCode::HostUnreachable);
    }
}
