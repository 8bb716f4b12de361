//! The product as a user meets it: the real binary against the real broker.

use std::time::Duration;

use warehouse_sync::demo::sample::{Shop, ShopSettings};
use warehouse_sync::model::Object;

use crate::support::broker::{Topics, event, metric, now_ms, tombstone};
use crate::support::lake::Lake;
use crate::support::process::{Installation, text};
use crate::support::wait_until;

const KNOBS: &str = "interval = \"1h\"\nretry_pause = \"100ms\"\n";

fn topics_with_events(count: u64) -> Topics {
    let topics = Topics::make(2);
    topics.publish([metric("S", "Placed Order", "shopify", now_ms()), metric("K", "Opened Email", "klaviyo", now_ms())]);
    topics.publish((0..count).map(|number| event(&format!("e{number}"), if number % 4 == 0 { "S" } else { "K" }, number, now_ms())));
    topics
}

#[tokio::test(flavor = "multi_thread")]
async fn check_preview_connect_run_status_verify() {
    let topics = topics_with_events(400);
    let installation = Installation::new(&topics, Some(Lake::s3()), KNOBS);
    installation.write_connection("exclude_integrations = [\"shopify\"]", "ndjson.gz");
    let checked = installation.run(&["check", "connection.toml"]);
    assert!(checked.contains("conditional write") && !checked.contains("FAILED"), "{checked}");
    let preview = installation.json(&["preview", "connection.toml", "--json"]);
    let events = preview["objects"].as_array().unwrap().iter().find(|object| object["object"] == "events").unwrap().clone();
    assert_eq!(events["windows"][3]["records_at_most"], 400);
    let kept: u64 = events["windows"][3]["rows"].as_u64().unwrap();
    assert!((290..=310).contains(&kept), "{kept} of 400 kept, by estimate");
    assert!(installation.run(&["preview", "connection.toml"]).contains("Opened Email"));
    assert!(installation.lake.names("").await.is_empty(), "nothing is written before connecting");
    let connected = installation.connect(&[]);
    assert!(connected.contains("Enabled") && connected.contains("shopify"), "{connected}");
    installation.run(&["run"]);
    assert_eq!(installation.status("events-historical").0, "completed");
    assert_eq!(installation.status("events-periodic").0, "scheduled");
    assert_eq!(installation.lake.versions("klaviyo_event").await.len(), 300);
    let report = installation.verify();
    let chain = report["chains"].as_array().unwrap().iter().find(|chain| chain["sync"] == "events-historical").unwrap().clone();
    assert_eq!((&chain["read"], &chain["rows"], &chain["filtered"]), (&400.into(), &300.into(), &100.into()));
    let runs = installation.json(&["runs", "events-historical", "--json"]);
    let id = runs[0]["id"].as_str().unwrap();
    assert!(installation.run(&["runs", "--run", id]).contains("excluded_integration 100"));
}

#[tokio::test(flavor = "multi_thread")]
async fn pause_resume_and_run_now_beside_a_server() {
    let topics = topics_with_events(50);
    let installation = Installation::new(&topics, None, KNOBS);
    installation.connect(&[]);
    let running = installation.start(&["serve"], &[]);
    wait_until("history is done", Duration::from_secs(60), || installation.status("events-historical").0 == "completed");
    installation.run(&["syncs", "pause", "events-periodic"]);
    assert_eq!(installation.status("events-periodic").0, "paused");
    topics.publish((0..30).map(|number| event(&format!("p{number}"), "K", number, now_ms())));
    installation.run(&["syncs", "run-now"]);
    wait_until("the metrics were looked at again", Duration::from_secs(30), || {
        let status = installation.json(&["status", "--json"]);
        status["syncs"]
            .as_array()
            .unwrap()
            .iter()
            .any(|sync| sync["sync"] == "metrics-periodic" && sync["freshness_seconds"].as_i64() < Some(5))
    });
    assert_eq!(installation.lake.places("klaviyo_event").await.len(), 50, "paused means paused");
    installation.run(&["syncs", "resume"]);
    installation.run(&["syncs", "run-now", "events-periodic"]);
    let lake = installation.lake.clone();
    let runtime = tokio::runtime::Handle::current();
    wait_until("the paused records arrive", Duration::from_secs(30), || {
        tokio::task::block_in_place(|| runtime.block_on(lake.places("klaviyo_event")).len() == 80)
    });
    // A second worker on the same state is refused.
    let second = installation.try_run(&["run"]);
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("works on this state already"), "{}", text(&second.stderr));
    assert!(running.stop().success());
    installation.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn pending_events_are_replayed_once_their_metric_is_known() {
    let topics = topics_with_events(20);
    topics.publish((0..7).map(|number| event(&format!("new{number}"), "LATER", number, now_ms())));
    topics.publish((0..5).map(|number| event(&format!("shop{number}"), "LATER2", number, now_ms())));
    let installation = Installation::new(&topics, None, KNOBS);
    installation.write_connection("exclude_integrations = [\"shopify\"]", "ndjson.gz");
    installation.connect(&[]);
    installation.run(&["run"]);
    assert_eq!(installation.lake.newest("klaviyo_event").await.len(), 15);
    let pending = installation.json(&["rejected", "list", "--json"]);
    assert_eq!(pending.as_array().unwrap().len(), 12);
    assert_eq!(pending[0]["reason"], "pending_unknown_metric");
    topics.publish([metric("LATER", "Support Ticket", "api", now_ms()), metric("LATER2", "Refunded Order", "shopify", now_ms())]);
    installation.run(&["run", "--now"]);
    let rows = installation.lake.newest("klaviyo_event").await;
    assert_eq!(rows.len(), 22, "kept ones are there, excluded ones are not");
    assert_eq!(rows["new3"]["metric_name"], "Support Ticket");
    assert_eq!(installation.json(&["rejected", "list", "--json"]).as_array().unwrap().len(), 0);
    let report = installation.verify();
    let replay = report["chains"].as_array().unwrap().iter().find(|chain| chain["sync"] == "events-replay").unwrap().clone();
    assert_eq!((&replay["settled"], &replay["rows"], &replay["filtered"]), (&12.into(), &7.into(), &5.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn too_many_rejected_records_wait_for_a_person() {
    let topics = topics_with_events(50);
    topics.publish((0..30).map(|number| {
        let mut record = event(&format!("bad{number}"), "K", number, now_ms());
        record.value = Some(b"broken".to_vec());
        record
    }));
    let installation = Installation::new(&topics, None, &format!("{KNOBS}max_rejected_count = 10\nmax_rejected_share = 0.1\n"));
    installation.connect(&[]);
    assert_eq!(installation.try_run(&["run"]).status.code(), Some(1));
    assert_eq!(installation.status("events-historical"), ("failed".into(), Some("TOO_MANY_REJECTED".into())));
    assert_eq!(installation.status("metrics-periodic").0, "scheduled", "one object failing does not stop the other");
    assert_eq!(installation.lake.versions("klaviyo_event").await.len(), 0, "nothing was committed");
    installation.run(&["syncs", "retry", "events-historical", "--accept-rejected"]);
    installation.run(&["run"]);
    assert_eq!(installation.lake.versions("klaviyo_event").await.len(), 50);
    assert_eq!(installation.lake.versions("klaviyo_rejected").await.len(), 30);
    installation.verify();
    let export = installation.folder.path().join("rejected.ndjson");
    installation.run(&["rejected", "export", export.to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(export).unwrap().lines().count(), 30);
    // Given another try they are still broken, and stay where they are.
    assert!(installation.run(&["rejected", "replay"]).contains("30 records"));
    installation.run(&["run"]);
    assert_eq!(installation.json(&["rejected", "list", "--json"]).as_array().unwrap().len(), 30);
    installation.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn store_lost_is_adopted_and_a_copy_of_it_cannot_commit() {
    let topics = topics_with_events(40);
    let first = Installation::new(&topics, Some(Lake::s3()), KNOBS);
    first.connect(&[]);
    first.run(&["run"]);
    let mut second = Installation::new(&topics, Some(first.lake.clone()), KNOBS);
    second.lake = first.lake.clone();
    // A new engine that finds a connection asks.
    let asked = second.try_run(&["connect", "connection.toml"]);
    assert_eq!(asked.status.code(), Some(3));
    assert!(text(&asked.stderr).contains("--adopt") && text(&asked.stderr).contains("--fresh"), "{}", text(&asked.stderr));
    second.connect(&["--adopt"]);
    topics.publish((0..10).map(|number| event(&format!("x{number}"), "K", number, now_ms())));
    second.run(&["run", "--now"]);
    // The first one still believes in its old state: it must not commit the same records again.
    assert_eq!(first.try_run(&["run", "--now"]).status.code(), Some(1));
    assert_eq!(first.status("events-periodic").1, Some("CONFLICT".into()));
    let places = first.lake.places("klaviyo_event").await;
    assert!(places.len() == 50 && places.values().all(|count| *count == 1));
    // What its message says to do.
    first.connect(&["--adopt"]);
    first.run(&["run", "--now"]);
    assert_eq!(first.lake.places("klaviyo_event").await.len(), 50);
    first.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_credentials_then_edited() {
    let topics = topics_with_events(10);
    let installation = Installation::new(&topics, Some(Lake::s3()), KNOBS);
    let right = std::fs::read_to_string(installation.connection()).unwrap();
    let wrong = installation.folder.path().join("wrong-secret");
    std::fs::write(&wrong, "not the secret").unwrap();
    std::fs::write(installation.connection(), right.replace("env:WAREHOUSE_SYNC_TEST_S3_SECRET", &format!("file:{}", wrong.display())))
        .unwrap();
    let refused = installation.try_run(&["connect", "connection.toml"]);
    assert_eq!(refused.status.code(), Some(3), "{}", text(&refused.stdout));
    assert!(text(&refused.stdout).contains("AUTH_INVALID") && !text(&refused.stdout).contains("not the secret"));
    assert_eq!(installation.json(&["status", "--json"])["connection"]["state"], "unable_to_connect");
    std::fs::write(installation.connection(), right).unwrap();
    installation.run(&["connection", "edit", "connection.toml"]);
    assert_eq!(installation.json(&["status", "--json"])["connection"]["state"], "enabled");
    installation.run(&["run"]);
    assert_eq!(installation.lake.versions("klaviyo_event").await.len(), 10);
    // A second connection is refused and the first one named.
    let second = installation.try_run(&["connect", "connection.toml"]);
    assert_eq!(second.status.code(), Some(2));
    assert!(text(&second.stderr).contains("`Test`"), "{}", text(&second.stderr));
    installation.run(&["connection", "disable"]);
    assert_eq!(installation.status("events-periodic").0, "disabled");
    installation.run(&["connection", "enable"]);
    installation.run(&["disconnect"]);
    assert!(installation.run(&["status"]).contains("No connection yet"));
}

#[test]
fn mistakes_end_with_exit_code_2() {
    let topics = Topics::make(1);
    let installation = Installation::new(&topics, None, KNOBS);
    for arguments in [&["nonsense"][..], &["syncs", "pause", "no-such-sync"], &["check", "no-such-file.toml"], &["syncs", "resume"]] {
        let output = installation.try_run(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output.stderr));
    }
    std::fs::write(installation.connection(), "name = 7").unwrap();
    let output = installation.try_run(&["check", "connection.toml"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("connection.toml") && text(&output.stderr).contains("line 1"), "{}", text(&output.stderr));
}

#[tokio::test(flavor = "multi_thread")]
async fn history_window_and_live_stay_apart() {
    let topics = Topics::make(1);
    let day = 86_400_000;
    let now = now_ms();
    topics.publish([metric("K", "Opened Email", "klaviyo", now)]);
    // Published 100 days ago; published lately but dated long ago; within the window.
    topics.publish((0..10).map(|number| event(&format!("old{number}"), "K", number, now - 100 * day)));
    topics.publish((0..10).map(|number| event(&format!("dated{number}"), "K", number, now - day)));
    topics.publish((0..10).map(|number| {
        let mut record = event(&format!("in{number}"), "K", number, now - day);
        let text = String::from_utf8(record.value.take().unwrap()).unwrap();
        let today = jiff::Timestamp::from_millisecond(now - day).unwrap().to_string();
        record.value = Some(text.replace("2026-09-04T13:38:55+00:00", &today).into_bytes());
        record
    }));
    topics.publish([tombstone(Object::Events, "deleted", now - day)]);
    let installation = Installation::new(&topics, None, KNOBS);
    installation.write_connection("history = \"30d\"\nobjects = [\"events\"]", "ndjson.gz");
    installation.connect(&[]);
    // Live is not bound by the window.
    topics.publish((0..10).map(|number| event(&format!("live{number}"), "K", number, now)));
    installation.run(&["run"]);
    let in_window = |id: &str| !(id.starts_with("old") || id.starts_with("dated") && dated_is_too_old(now));
    let newest = installation.lake.newest("klaviyo_event").await;
    assert!(newest.keys().all(|id| in_window(id)), "{:?}", newest.keys());
    assert!((0..10).all(|number| newest.contains_key(&format!("in{number}")) && newest.contains_key(&format!("live{number}"))));
    assert_eq!(
        installation.lake.versions("klaviyo_event").await.iter().filter(|row| row["_deleted"] == true).count(),
        1,
        "deletions pass every window"
    );
    installation.verify();
}

/// The support's events are dated 2026-09-04.
fn dated_is_too_old(now: i64) -> bool {
    let dated = "2026-09-04T13:38:55Z".parse::<jiff::Timestamp>().unwrap().as_millisecond();
    dated < now - 30 * 86_400_000
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shops_year_arrives_whole_in_every_format() {
    for format in ["ndjson.gz", "ndjson.zst", "parquet"] {
        let topics = Topics::make(3);
        let mut shop = Shop::new(ShopSettings { seed: 5, profiles: 200, events: 3_000, until: now_ms() - 10_000, days: 365 });
        let mut records = shop.metrics();
        records.extend(shop.by_ref());
        topics.publish(records.clone());
        let installation = Installation::new(&topics, None, &format!("{KNOBS}max_part_bytes = \"256KiB\"\n"));
        installation.write_connection("", format);
        installation.connect(&[]);
        installation.run(&["run"]);
        let rejected = installation.lake.versions("klaviyo_rejected").await.len();
        let mut rows = rejected;
        for object in Object::ALL {
            rows += installation.lake.versions(object.table().name()).await.len();
        }
        assert_eq!(rows, records.len(), "{format}");
        assert!(rejected > 0, "the sample has broken records");
        installation.verify();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_of_files_is_a_source() {
    let topics = Topics::make(1);
    let installation = Installation::new(&topics, None, "chunk_bytes = \"10KiB\"\n");
    let streams = installation.folder.path().join("streams");
    for name in ["profiles", "events", "metrics"] {
        std::fs::create_dir_all(streams.join(name)).unwrap();
    }
    let line = |record: warehouse_sync::demo::sample::SampleRecord| format!("{}\n", text(&record.value.unwrap()));
    let lines = |range: std::ops::Range<u64>| range.map(|number| line(event(&format!("e{number}"), "M", number, 1))).collect::<String>();
    std::fs::write(streams.join("metrics/all.ndjson"), line(metric("M", "Name", "api", 1))).unwrap();
    std::fs::write(streams.join("events/a.ndjson"), lines(0..200)).unwrap();
    let packed = zstd::stream::encode_all(lines(200..300).as_bytes(), 1).unwrap();
    std::fs::write(streams.join("events/b.ndjson.zst"), packed).unwrap();
    let settings = format!(
        "[folder]\npath = \"{}\"\n[state]\npath = \"{}\"\n",
        streams.display(),
        installation.folder.path().join("state.db").display()
    );
    std::fs::write(installation.settings(), settings).unwrap();
    installation.connect(&[]);
    installation.run(&["run"]);
    assert_eq!(installation.lake.places("klaviyo_event").await.len(), 300);
    // Files grow, a deletion is written as an envelope, a broken line is put aside.
    let more = format!("{}{{\"key\":\"e0\",\"value\":null,\"timestamp\":2}}\nbroken\n", lines(300..310));
    std::fs::write(streams.join("events/a.ndjson"), lines(0..200) + &more).unwrap();
    installation.run(&["run", "--now"]);
    let newest = installation.lake.newest("klaviyo_event").await;
    assert!(newest.len() == 309 && !newest.contains_key("e0"), "{}", newest.len());
    assert_eq!(installation.lake.versions("klaviyo_rejected").await.len(), 1);
    installation.verify();
}

#[test]
fn the_demo_runs_and_proves_itself() {
    let folder = tempfile::tempdir().unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_warehouse-sync"))
        .args(["demo", "--events", "20000", "--folder"])
        .arg(folder.path().join("demo"))
        .output()
        .unwrap();
    let out = text(&output.stdout);
    assert!(output.status.success(), "{out}\n{}", text(&output.stderr));
    for part in ["embedded Kafka broker", "Paused", "Certificate", "Verified:", "read_json"] {
        assert!(out.contains(part), "{part} is missing in:\n{out}");
    }
}
