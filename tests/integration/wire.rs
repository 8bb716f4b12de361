//! Faults on the wire to a real S3 server: whatever a proxy does to requests and answers, every record
//! is there exactly once afterwards.

use std::time::Duration;

use crate::support::broker::{Topics, event, metric, now_ms};
use crate::support::lake::Lake;
use crate::support::process::Installation;
use crate::support::proxy::{Proxy, Trouble};
use crate::support::variable;

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_or_doubled_by_a_bad_wire() {
    let target = variable("WAREHOUSE_SYNC_TEST_S3").trim_start_matches("http://").to_owned();
    let troubles = [
        Trouble::Answer(403, "AccessDenied"),
        Trouble::Answer(401, "InvalidToken"),
        Trouble::Answer(429, "TooManyRequests"),
        Trouble::Answer(500, "InternalError"),
        Trouble::Answer(503, "SlowDown"),
        Trouble::CutAnswer,
        Trouble::CutRequest(700),
        Trouble::Delay(Duration::from_millis(500)),
    ];
    let mut cases = 0;
    for trouble in &troubles {
        // The writes of a run: staged files, the ledger's entry, copies, the done mark, deletions.
        for nth in [0, 1, 2, 3, 4] {
            let topics = Topics::make(1);
            topics.publish([metric("M", "Name", "api", now_ms())]);
            topics.publish((0..50).map(|number| event(&format!("e{number}"), "M", number, now_ms())));
            let proxy = Proxy::start(&target).await;
            let installation = Installation::new(&topics, Some(Lake::s3()), "retry_pause = \"50ms\"\n");
            installation.write_connection("objects = [\"events\"]", "ndjson.gz");
            let text = std::fs::read_to_string(installation.connection()).unwrap();
            std::fs::write(installation.connection(), text.replace(&variable("WAREHOUSE_SYNC_TEST_S3"), &proxy.address)).unwrap();
            tokio::task::block_in_place(|| installation.connect(&[]));
            proxy.trouble(nth, trouble.clone());
            tokio::task::block_in_place(|| {
                for _ in 0..20 {
                    // What only a person can fix, a person retries.
                    drop(installation.try_run(&["syncs", "retry"]));
                    if installation.try_run(&["run"]).status.success() {
                        return;
                    }
                }
                panic!("{trouble:?} at write {nth} never comes to an end: {}", installation.run(&["status"]));
            });
            assert!(proxy.is_spent(), "{trouble:?} at write {nth} never happened");
            let places = installation.lake.places("klaviyo_event").await;
            assert!(places.len() == 50 && places.values().all(|count| *count == 1), "{trouble:?} at write {nth}: {} rows", places.len());
            tokio::task::block_in_place(|| installation.verify());
            cases += 1;
        }
    }
    println!("wire faults: {cases} cases, each compared and verified");
}
