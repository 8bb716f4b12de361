//! The real process is killed, with SIGKILL, at every boundary of the commit protocol and at random
//! moments; afterwards the tables hold every record of the input exactly once.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use warehouse_sync::boundary::BOUNDARIES;
use warehouse_sync::demo::sample::{SampleRecord, Shop, ShopSettings};
use warehouse_sync::model::Object;

use crate::support::broker::{Topics, event, metric, now_ms, tombstone};
use crate::support::lake::Lake;
use crate::support::process::{Installation, text};
use crate::support::{long, wait_until};

/// Small parts and chunks, so that a run has several files and history several runs; quick retries.
const KNOBS: &str = "interval = \"1s\"\nmax_part_bytes = \"64KiB\"\nchunk_bytes = \"150KiB\"\nretry_pause = \"100ms\"\n";

fn shop(seed: u64, events: usize) -> (Vec<SampleRecord>, Shop) {
    let mut shop = Shop::new(ShopSettings { seed, profiles: 40, events, until: now_ms() - 10_000, days: 365 });
    let mut records = shop.metrics();
    records.extend(shop.by_ref());
    (records, shop)
}

fn count(records: &[SampleRecord], object: Object) -> usize {
    records.iter().filter(|record| record.object == object).count()
}

/// Every record of the input stands in the object's table or among the rejected ones, exactly once.
async fn expect_exactly_once(lake: &Lake, input: &BTreeMap<Object, usize>, context: &str) {
    let rejected = lake.versions("klaviyo_rejected").await;
    for (object, expected) in input {
        let mut places = lake.places(object.table().name()).await;
        for row in rejected.iter().filter(|row| row["stream"] == object.name()) {
            let place = (row["_partition"].as_i64().unwrap(), row["_offset"].as_i64().unwrap());
            *places.entry(place).or_default() += 1;
        }
        let doubled: Vec<_> = places.iter().filter(|(_, count)| **count != 1).collect();
        assert!(doubled.is_empty(), "{context}: {object} rows that stand there more than once: {doubled:?}");
        assert_eq!(places.len(), *expected, "{context}: {object} rows");
    }
}

fn totals(records: &[SampleRecord]) -> BTreeMap<Object, usize> {
    Object::ALL.into_iter().map(|object| (object, count(records, object))).collect()
}

async fn killed_at_every_boundary(lake: fn() -> Option<Lake>, name: &str) {
    let nths: &[u64] = if long() { &[1, 2, 3, 5] } else { &[1, 3] };
    let mut cases = 0;
    for boundary in BOUNDARIES {
        for nth in nths {
            let topics = Topics::make(2);
            let (records, _) = shop(*nth, 300);
            topics.publish(records.clone());
            let installation = Installation::new(&topics, lake(), KNOBS);
            installation.connect(&[]);
            let halted = installation.folder.path().join("halted");
            let at = format!("{boundary}#{nth}");
            let environment = [("WAREHOUSE_SYNC_HALT_AT", at.clone()), ("WAREHOUSE_SYNC_HALT_FILE", halted.display().to_string())];
            let mut running = installation.start_with(&["serve"], &environment);
            wait_until(&format!("{at} on {name}"), Duration::from_secs(60), || halted.exists());
            running.kill();
            // Later records must follow, too.
            let later: Vec<_> = (0..20).map(|number| event(&format!("later{number}"), "M", number, now_ms())).collect();
            topics.publish(later.clone());
            installation.run(&["run", "--now"]);
            let all: Vec<_> = records.into_iter().chain(later).collect();
            expect_exactly_once(&installation.lake, &totals(&all), &format!("killed at {at} on {name}")).await;
            installation.verify();
            assert!(installation.lake.names("_staging").await.is_empty(), "leftovers after {at} on {name}");
            cases += 1;
        }
    }
    println!("crash matrix on {name}: {cases} cases, each killed by SIGKILL, compared and verified");
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_boundary_on_a_folder() {
    killed_at_every_boundary(|| None, "folder").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_every_boundary_on_s3() {
    killed_at_every_boundary(|| Some(Lake::s3()), "s3").await;
}

/// `serve` is killed again and again while the topics grow.
async fn killed_at_random_moments(lake: Option<Lake>, kills: usize, seed: u64) {
    let topics = Topics::make(3);
    let (mut records, mut shop) = shop(seed, 2_000);
    topics.publish(records.clone());
    let installation = Installation::new(&topics, lake, KNOBS);
    installation.connect(&[]);
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..kills {
        let mut running = installation.start(&["serve"], &[]);
        let now = now_ms();
        let more = shop.hour(now - 500, now, 60);
        topics.publish(more.clone());
        records.extend(more);
        // A random moment is what is tested here; nothing is waited for.
        std::thread::sleep(Duration::from_millis(random.random_range(20..900)));
        running.kill();
    }
    installation.run(&["run", "--now"]);
    expect_exactly_once(&installation.lake, &totals(&records), &format!("{kills} random kills")).await;
    let report = installation.verify();
    println!("random kills: {kills} SIGKILLs, {} records, exactly once; chains {}", records.len(), report["chains"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_on_a_folder() {
    killed_at_random_moments(None, if long() { 200 } else { 25 }, 11).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn killed_at_random_moments_on_s3() {
    killed_at_random_moments(Some(Lake::s3()), if long() { 200 } else { 15 }, 12).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_by_a_signal_it_goes_on_where_it_was() {
    let topics = Topics::make(2);
    let (records, _) = shop(3, 2_000);
    topics.publish(records.clone());
    topics.publish([tombstone(Object::Events, "nothing", now_ms()), metric("M", "Name", "api", now_ms())]);
    let installation = Installation::new(&topics, None, KNOBS);
    installation.connect(&[]);
    let running = installation.start(&["serve"], &[]);
    wait_until("the first file", Duration::from_secs(30), || installation.lake_has_events());
    let status = running.stop();
    assert!(status.success(), "{status}: {}", text(&std::fs::read(installation.log()).unwrap()));
    installation.run(&["run", "--now"]);
    let mut expected = totals(&records);
    *expected.get_mut(&Object::Events).unwrap() += 1;
    *expected.get_mut(&Object::Metrics).unwrap() += 1;
    expect_exactly_once(&installation.lake, &expected, "stopped and started").await;
    installation.verify();
}

/// Another engine, or an old copy of the state, must not remove what an entry of the ledger still needs:
/// the commit has happened, its files are not copied yet, and the run is a stranger to this state.
#[tokio::test(flavor = "multi_thread")]
async fn a_strangers_commit_is_completed_before_leftovers_are_removed() {
    let topics = Topics::make(1);
    let (records, _) = shop(4, 300);
    topics.publish(records.clone());
    let installation = Installation::new(&topics, None, KNOBS);
    installation.connect(&[]);
    let state = installation.folder.path().join("state.db");
    let copy = installation.folder.path().join("copy.db");
    std::fs::copy(&state, &copy).unwrap();
    let halted = installation.folder.path().join("halted");
    let environment =
        [("WAREHOUSE_SYNC_HALT_AT", "commit_after_point".to_owned()), ("WAREHOUSE_SYNC_HALT_FILE", halted.display().to_string())];
    let mut running = installation.start_with(&["serve"], &environment);
    wait_until("a commit without its files", Duration::from_secs(60), || halted.exists());
    running.kill();
    for name in ["state.db-wal", "state.db-shm"] {
        drop(std::fs::remove_file(installation.folder.path().join(name)));
    }
    std::fs::copy(&copy, &state).unwrap();
    let output = installation.try_run(&["run"]);
    assert_eq!(output.status.code(), Some(1), "an old copy of the state must notice: {}", text(&output.stdout));
    installation.connect(&["--adopt"]);
    installation.run(&["run", "--now"]);
    expect_exactly_once(&installation.lake, &totals(&records), "an old copy of the state").await;
    installation.verify();
}
