//! The source against a real Apache Kafka broker: time index, compaction, transactions, retention,
//! re-created topics, restarts, authentication.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer as _};
use tokio_util::sync::CancellationToken;
use warehouse_sync::model::{ErrorCode, Object, Offset, Partition, Range, Slice, SyncError};
use warehouse_sync::source::kafka::KafkaSource;
use warehouse_sync::source::{ReadEnd, Source};

use crate::support::broker::{Topics, event, metric, now_ms, producer};
use crate::support::process::Installation;
use crate::support::{variable, wait_until};

fn source(topics: &Topics) -> KafkaSource {
    source_with(topics, &topics.bootstrap, &[])
}

fn source_with(topics: &Topics, bootstrap: &str, properties: &[(&str, &str)]) -> KafkaSource {
    let properties = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    KafkaSource::new(bootstrap.to_owned(), topics.names.topics(), properties)
}

/// Reads everything that the topic holds; offsets by partition.
fn read_all(source: &KafkaSource) -> Result<BTreeMap<Partition, Vec<Offset>>, SyncError> {
    let bounds = source.bounds(Object::Events)?;
    let slice = Slice::new(bounds.next.iter().map(|(partition, next)| (*partition, Range { start: bounds.lowest[partition], end: *next })));
    read(source, &slice)
}

fn read(source: &KafkaSource, slice: &Slice) -> Result<BTreeMap<Partition, Vec<Offset>>, SyncError> {
    let mut offsets: BTreeMap<Partition, Vec<Offset>> = BTreeMap::new();
    let end = source.read(Object::Events, slice, &CancellationToken::new(), &mut |record| {
        offsets.entry(record.partition).or_default().push(record.offset);
        Ok(())
    })?;
    assert_eq!(end, ReadEnd::Complete);
    Ok(offsets)
}

#[test]
fn a_slice_is_read_exactly_and_in_order() {
    let topics = Topics::make(3);
    topics.publish((0..3000).map(|number| event(&format!("e{number}"), "M", number, now_ms())));
    let source = source(&topics);
    let bounds = source.bounds(Object::Events).unwrap();
    assert_eq!(bounds.next.values().sum::<Offset>(), 3000);
    assert!(bounds.topic_id.is_some(), "a real broker tells the topic's id");
    let slice = Slice::new(bounds.next.iter().map(|(partition, next)| (*partition, Range { start: 5, end: *next - 7 })));
    for (partition, offsets) in read(&source, &slice).unwrap() {
        assert_eq!(offsets, (5..bounds.next[&partition] - 7).collect::<Vec<_>>());
    }
}

#[test]
fn history_starts_by_the_time_index() {
    let topics = Topics::make(1);
    let now = now_ms();
    topics.publish((0..100).map(|number| event(&format!("e{number}"), "M", number, now - (100 - number as i64) * 86_400_000)));
    let source = source(&topics);
    let bounds = source.bounds(Object::Events).unwrap();
    let since = source.offsets_since(Object::Events, now - 30 * 86_400_000, &bounds).unwrap();
    assert_eq!(since[&0], 70);
    let nothing_that_young = source.offsets_since(Object::Events, now + 86_400_000, &bounds).unwrap();
    assert_eq!(nothing_that_young[&0], 0, "the beginning is right, if slow; the filter is exact");
}

#[test]
fn compacted_gap_is_not_a_loss() {
    let settings =
        [("cleanup.policy", "compact"), ("segment.ms", "100"), ("min.cleanable.dirty.ratio", "0.01"), ("delete.retention.ms", "86400000")];
    let topics = Topics::make_with(&variable("WAREHOUSE_SYNC_TEST_KAFKA"), 1, &settings);
    let source = source(&topics);
    assert_eq!(source.deletion_retention(Object::Events).unwrap(), Some(Duration::from_secs(86_400)));
    topics.publish((0..300).map(|number| event(&format!("e{}", number % 10), "M", number, now_ms())));
    let mut extra = 0;
    wait_until("the cleaner to have worked", Duration::from_secs(60), || {
        // Only an append rolls the active segment, which the cleaner never touches.
        topics.publish([event("roll", "M", 1, now_ms())]);
        extra += 1;
        read_all(&source).unwrap()[&0].len() < 200
    });
    let bounds = source.bounds(Object::Events).unwrap();
    assert_eq!(bounds.next[&0], 300 + extra);
    // A slice whose last offsets were compacted away ends by the end of the partition or by a later record.
    let offsets = read(&source, &Slice::new([(0, Range { start: 0, end: 200 })])).unwrap();
    assert!(offsets.get(&0).is_none_or(|offsets| offsets.len() < 200));
}

#[test]
fn aborted_transactions_are_not_read_and_markers_are_holes() {
    let topics = Topics::make(1);
    let transactional = producer(&topics.bootstrap, &[("transactional.id", &topics.names.events)]);
    transactional.init_transactions(Duration::from_secs(30)).unwrap();
    let send = |id: &str| {
        let record = event(id, "M", 1, now_ms());
        transactional
            .send(BaseRecord::<[u8], [u8]>::to(&topics.names.events).key(id.as_bytes()).payload(record.value.as_deref().unwrap()))
            .unwrap();
    };
    for (round, commit) in [(0, true), (1, false), (2, true), (3, false)] {
        transactional.begin_transaction().unwrap();
        for number in 0..10 {
            send(&format!("t{round}-{number}"));
        }
        transactional.flush(Duration::from_secs(30)).unwrap();
        if commit {
            transactional.commit_transaction(Duration::from_secs(30)).unwrap();
        } else {
            transactional.abort_transaction(Duration::from_secs(30)).unwrap();
        }
    }
    let source = source(&topics);
    let bounds = source.bounds(Object::Events).unwrap();
    assert_eq!(bounds.next[&0], 44, "40 records and 4 markers");
    let offsets = read_all(&source).unwrap();
    assert_eq!(offsets[&0], (0..10).chain(22..32).collect::<Vec<_>>());
    // An open transaction holds back the end.
    transactional.begin_transaction().unwrap();
    send("open");
    transactional.flush(Duration::from_secs(30)).unwrap();
    assert_eq!(source.bounds(Object::Events).unwrap().next[&0], 44);
    transactional.abort_transaction(Duration::from_secs(30)).unwrap();
}

#[test]
fn a_read_beyond_the_end_of_a_cut_topic_fails() {
    let topics = Topics::make(1);
    topics.publish((0..10).map(|number| event(&format!("e{number}"), "M", number, now_ms())));
    let error = read(&source(&topics), &Slice::new([(0, Range { start: 0, end: 20 })])).unwrap_err();
    assert_eq!(error.code, ErrorCode::OffsetsReset);
}

#[test]
fn a_read_below_the_beginning_fails_as_an_overrun() {
    let topics = Topics::make(1);
    topics.publish((0..10).map(|number| event(&format!("e{number}"), "M", number, now_ms())));
    topics.delete_records(&topics.names.events, 0, 5);
    let source = source(&topics);
    wait_until("the records are gone", Duration::from_secs(20), || source.bounds(Object::Events).unwrap().lowest[&0] == 5);
    let error = read(&source, &Slice::new([(0, Range { start: 3, end: 10 })])).unwrap_err();
    assert_eq!(error.code, ErrorCode::RetentionOverrun);
}

#[test]
fn failures_are_named() {
    let topics = Topics::make(1);
    topics.publish([event("e", "M", 1, now_ms())]);
    let nobody = source_with(&topics, "127.0.0.1:1", &[("socket.connection.setup.timeout.ms", "2000")]);
    assert_eq!(nobody.bounds(Object::Events).unwrap_err().code, ErrorCode::BrokerUnreachable);
    let missing =
        KafkaSource::new(topics.bootstrap.clone(), HashMap::from([(Object::Events, "no-such-topic".to_owned())]), BTreeMap::new());
    assert_eq!(missing.bounds(Object::Events).unwrap_err().code, ErrorCode::TopicNotFound);
    let wrong_property = source_with(&topics, &topics.bootstrap, &[("no.such.property", "1")]);
    assert_eq!(wrong_property.bounds(Object::Events).unwrap_err().code, ErrorCode::ConfigurationInvalid);
}

#[test]
fn passwords_are_checked() {
    let topics = Topics::make(1);
    topics.publish([event("e", "M", 1, now_ms())]);
    let sasl = variable("WAREHOUSE_SYNC_TEST_KAFKA_SASL");
    let with = |password: &'static str| {
        let properties = [
            ("security.protocol", "SASL_PLAINTEXT"),
            ("sasl.mechanism", "SCRAM-SHA-256"),
            ("sasl.username", "sync"),
            ("sasl.password", password),
        ];
        source_with(&topics, &sasl, &properties)
    };
    assert_eq!(read_all(&with("sync-secret")).unwrap()[&0], [0]);
    let error = with("wrong").bounds(Object::Events).unwrap_err();
    assert_eq!(error.code, ErrorCode::KafkaAuthInvalid, "{error:?}");
    assert!(!format!("{error:?}").contains("wrong"), "the password is not shown");
    let error = read(&with("wrong"), &Slice::new([(0, Range { start: 0, end: 1 })])).unwrap_err();
    assert_eq!(error.code, ErrorCode::KafkaAuthInvalid, "{error:?}");
}

#[test]
fn large_records_pass() {
    let topics = Topics::make_with(&variable("WAREHOUSE_SYNC_TEST_KAFKA"), 1, &[("max.message.bytes", "10000000")]);
    let large = producer(&topics.bootstrap, &[("message.max.bytes", "10000000"), ("compression.type", "none")]);
    let value = vec![b'x'; 9_000_000];
    for key in ["a", "b", "c"] {
        large.send(BaseRecord::<[u8], [u8]>::to(&topics.names.events).key(key.as_bytes()).payload(&value)).unwrap();
    }
    large.flush(Duration::from_secs(30)).unwrap();
    assert_eq!(read_all(&source(&topics)).unwrap()[&0], [0, 1, 2]);
}

const KNOBS: &str = "interval = \"1h\"\nretry_pause = \"100ms\"\n";

fn ready(topics: &Topics) -> Installation {
    topics.publish([metric("M", "Placed Order", "api", now_ms())]);
    topics.publish((0..100).map(|number| event(&format!("e{number}"), "M", number, now_ms())));
    let installation = Installation::new(topics, None, KNOBS);
    installation.write_connection("objects = [\"events\"]", "ndjson.gz");
    installation.connect(&[]);
    installation.run(&["run"]);
    installation
}

async fn ids(installation: &Installation) -> usize {
    let places = installation.lake.places("klaviyo_event").await;
    assert!(places.values().all(|count| *count == 1), "{places:?}");
    places.len()
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_added_are_read_from_their_beginning() {
    let topics = Topics::make(1);
    let installation = ready(&topics);
    topics.add_partitions(&topics.names.events, 4);
    topics.publish((0..200).map(|number| event(&format!("f{number}"), "M", number, now_ms())));
    installation.run(&["run", "--now"]);
    assert_eq!(ids(&installation).await, 300);
    installation.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn topic_recreated_stops_the_sync() {
    let topics = Topics::make(1);
    let installation = ready(&topics);
    topics.delete(&topics.names.events);
    topics.create(&topics.names.events, 1, &[]);
    topics.publish((0..500).map(|number| event(&format!("new{number}"), "M", number, now_ms())));
    let output = installation.try_run(&["run", "--now"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(installation.status("events-periodic"), ("failed".into(), Some("TOPIC_RECREATED".into())));
    assert_eq!(ids(&installation).await, 100, "nothing of the other topic was committed");
    // The way forward that the message names.
    installation.run(&["connect", "connection.toml", "--fresh"]);
    installation.run(&["run", "--now"]);
    assert_eq!(installation.lake.newest("klaviyo_event").await.len(), 600);
    installation.verify();
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_overrun_stops_the_sync_until_a_person_skips() {
    let topics = Topics::make(1);
    let installation = ready(&topics);
    topics.publish((0..50).map(|number| event(&format!("lost{number}"), "M", number, now_ms())));
    topics.delete_records(&topics.names.events, 0, 130);
    let output = installation.try_run(&["run", "--now"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(installation.status("events-periodic"), ("failed".into(), Some("RETENTION_OVERRUN".into())));
    let said = installation.run(&["syncs", "skip", "events-periodic", "--reason", "retention was too short"]);
    assert!(said.contains("30 offsets"), "{said}");
    installation.run(&["run", "--now"]);
    assert_eq!(ids(&installation).await, 120);
    let report = installation.verify();
    let chain = report["chains"].as_array().unwrap().iter().find(|chain| chain["sync"] == "events-periodic").unwrap().clone();
    assert_eq!((&chain["skips"], &chain["skipped_offsets"]), (&1.into(), &30.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_restarts_in_the_middle_loses_nothing() {
    let script = variable("WAREHOUSE_SYNC_TEST_KAFKA_SCRIPT");
    let folder = format!("{}/second-{}", variable("WAREHOUSE_SYNC_TEST_DIR"), uuid::Uuid::now_v7().simple());
    let control = |arguments: &[&str]| {
        let output = std::process::Command::new(&script).args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    let bootstrap = control(&["start", &folder, "auto"]);
    let topics = Topics::make_with(&bootstrap, 2, &[]);
    let padding = "x".repeat(2000);
    let records = 60_000;
    topics.publish((0..records).map(|number| {
        let mut record = event(&format!("e{number}"), "M", number, now_ms());
        let text = String::from_utf8(record.value.take().unwrap()).unwrap().replace("\"uuid\":\"u\"", &format!("\"uuid\":\"{padding}\""));
        record.value = Some(text.into_bytes());
        record
    }));
    let installation = Installation::new(&topics, None, "chunk_bytes = \"20MiB\"\nretry_pause = \"500ms\"\n");
    installation.write_connection("objects = [\"events\"]", "ndjson.zst");
    installation.connect(&[]);
    let running = installation.start(&["serve"], &[]);
    wait_until("the first committed file", Duration::from_secs(60), || installation.lake_has_events());
    control(&["kill9", &folder]);
    control(&["start", &folder, bootstrap.rsplit(':').next().unwrap()]);
    wait_until("history to be completed", Duration::from_secs(120), || installation.status("events-historical").0 == "completed");
    assert!(running.stop().success());
    assert_eq!(ids(&installation).await, records as usize);
    installation.verify();
    control(&["stop", &folder]);
}
