//! How fast a topic is drained: records and bytes per second, CPU seconds per million records and peak
//! memory, each as the median of several runs, every run a process of its own.
//!
//! `benches/run` starts a real Kafka broker and SeaweedFS, fills the topics and calls this program. It
//! finds them by the variables that `tests/run` documents.

use std::collections::{BTreeMap, HashMap};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer as _, ThreadedProducer};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;
use warehouse_sync::clock::SystemClock;
use warehouse_sync::config::SyncSettings;
use warehouse_sync::control::planner;
use warehouse_sync::demo::sample::{EventShape, write_event};
use warehouse_sync::destination::{Destination, object_storage::ObjectStorage};
use warehouse_sync::engine::Engine;
use warehouse_sync::model::connection::{ConnectionSpec, DestinationSettings, FolderSettings, History, S3Settings, SecretReference};
use warehouse_sync::model::ledger::{LEDGER_FORMAT, StreamGenesis};
use warehouse_sync::model::run::FilterSpec;
use warehouse_sync::model::{
    Checkpoint, Connection, ConnectionId, ConnectionState, FileFormat, Genesis, Object, RunState, Sync as SyncRow, SyncId, SyncKind,
};
use warehouse_sync::record::filter::Filter;
use warehouse_sync::record::metrics::Catalogue;
use warehouse_sync::record::parse::Parser;
use warehouse_sync::source::{Source, kafka::KafkaSource};
use warehouse_sync::store::Store;

const PARTITIONS: i32 = 4;
/// A topic without records: the bench's events have no known metric.
const METRICS: &str = "bench-metrics";
const HISTORY: SyncId = SyncId::new(Object::Events, SyncKind::Historical);

/// A case: its name, the topic's shape, where rows go, and how they are written.
const CASES: &[(&str, Topic, Target, FileFormat)] = &[
    ("filter only", Topic::LineItems, Target::Nowhere, FileFormat::NdjsonZstd),
    ("Kafka → folder, NDJSON gzip", Topic::LineItems, Target::Folder, FileFormat::NdjsonGzip),
    ("Kafka → folder, NDJSON zstd", Topic::LineItems, Target::Folder, FileFormat::NdjsonZstd),
    ("Kafka → folder, Parquet", Topic::LineItems, Target::Folder, FileFormat::Parquet),
    ("Kafka → S3, NDJSON gzip", Topic::LineItems, Target::S3, FileFormat::NdjsonGzip),
    ("Kafka → S3, NDJSON zstd", Topic::LineItems, Target::S3, FileFormat::NdjsonZstd),
    ("drain-4x1M-250B → folder", Topic::Small, Target::Folder, FileFormat::NdjsonZstd),
    ("drain-4x1M-250B → S3", Topic::Small, Target::S3, FileFormat::NdjsonZstd),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Topic {
    /// One million events of about 1 KB.
    LineItems,
    /// Four million events of about 250 B.
    Small,
}

impl Topic {
    const fn name(self) -> &'static str {
        match self {
            Topic::LineItems => "bench-line-items",
            Topic::Small => "bench-small",
        }
    }

    const fn records(self) -> u64 {
        match self {
            Topic::LineItems => 1_000_000,
            Topic::Small => 4_000_000,
        }
    }

    const fn shape(self) -> EventShape {
        match self {
            Topic::LineItems => EventShape::LineItems,
            Topic::Small => EventShape::Small,
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Target {
    Nowhere,
    Folder,
    S3,
}

#[derive(Debug, Serialize, Deserialize)]
struct Measured {
    records: u64,
    bytes: u64,
    seconds: f64,
    cpu_seconds: f64,
    peak_mib: f64,
    written_bytes: u64,
}

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    match arguments.first().map(String::as_str) {
        Some("case") => {
            let index: usize = arguments.get(1).context("which case?")?.parse()?;
            println!("{}", serde_json::to_string(&measure(CASES.get(index).context("no such case")?)?)?);
            Ok(())
        }
        Some("fill") => [Topic::LineItems, Topic::Small].into_iter().try_for_each(fill),
        _ => report(arguments.first().map(|runs| runs.parse()).transpose()?.unwrap_or(5)),
    }
}

fn bootstrap() -> Result<String> {
    std::env::var("WAREHOUSE_SYNC_TEST_KAFKA").context("WAREHOUSE_SYNC_TEST_KAFKA is not set: use benches/run")
}

/// Makes and fills a topic unless it is full already.
fn fill(topic: Topic) -> Result<()> {
    let bootstrap = bootstrap()?;
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", &bootstrap).create()?;
    let new = [topic.name(), METRICS].map(|name| NewTopic::new(name, PARTITIONS, TopicReplication::Fixed(1)));
    drop(futures::executor::block_on(admin.create_topics(&new, &AdminOptions::new()))?);
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("compression.type", "lz4")
        .set("linger.ms", "50")
        .set("batch.size", "1000000")
        .set("queue.buffering.max.messages", "500000")
        .create()?;
    let mut value = Vec::new();
    for number in 0..topic.records() {
        value.clear();
        write_event(topic.shape(), number, 1, 1_780_000_000_000 + number as i64, &mut value);
        let key = format!("{number:011}");
        let mut message =
            BaseRecord::<[u8], [u8]>::to(topic.name()).key(key.as_bytes()).payload(&value).partition((number % PARTITIONS as u64) as i32);
        while let Err((error, back)) = producer.send(message) {
            ensure!(error.rdkafka_error_code() == Some(rdkafka::types::RDKafkaErrorCode::QueueFull), "{error}");
            message = back;
            drop(producer.flush(Duration::from_millis(50)));
        }
    }
    producer.flush(Duration::from_secs(120))?;
    eprintln!("{}: {} records of about {} bytes", topic.name(), topic.records(), value.len());
    Ok(())
}

fn report(runs: usize) -> Result<()> {
    println!("| case | records/s | MB/s | CPU s per million | peak MiB | seconds | written MB |\n|---|---|---|---|---|---|---|");
    for (index, case) in CASES.iter().enumerate() {
        let mut measured = Vec::new();
        for _ in 0..runs {
            let output = Command::new(std::env::current_exe()?).args(["case", &index.to_string()]).output()?;
            ensure!(output.status.success(), "{}: {}", case.0, String::from_utf8_lossy(&output.stderr));
            measured.push(serde_json::from_slice::<Measured>(&output.stdout)?);
        }
        let median = |figure: &dyn Fn(&Measured) -> f64| {
            let mut figures: Vec<f64> = measured.iter().map(figure).collect();
            figures.sort_by(f64::total_cmp);
            figures[figures.len() / 2]
        };
        println!(
            "| {} | {:.0} | {:.0} | {:.2} | {:.0} | {:.2} | {:.0} |",
            case.0,
            median(&|one| one.records as f64 / one.seconds),
            median(&|one| one.bytes as f64 / 1e6 / one.seconds),
            median(&|one| one.cpu_seconds / one.records as f64 * 1e6),
            median(&|one| one.peak_mib),
            median(&|one| one.seconds),
            median(&|one| one.written_bytes as f64 / 1e6),
        );
    }
    Ok(())
}

fn measure((_, topic, target, format): &(&str, Topic, Target, FileFormat)) -> Result<Measured> {
    let topics = HashMap::from([(Object::Events, topic.name().to_owned()), (Object::Metrics, METRICS.to_owned())]);
    let source = Arc::new(KafkaSource::new(bootstrap()?, topics, BTreeMap::new()));
    let started = Instant::now();
    let (records, bytes, written_bytes) = match target {
        Target::Nowhere => filter_only(source.as_ref())?,
        Target::Folder | Target::S3 => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
            runtime.block_on(drain(source, *target, *format))?
        }
    };
    let seconds = started.elapsed().as_secs_f64();
    ensure!(records == topic.records(), "{records} records instead of {}", topic.records());
    Ok(Measured { records, bytes, seconds, cpu_seconds: cpu_seconds()?, peak_mib: peak_mib()?, written_bytes })
}

/// Read, parse, filter; no row is made.
fn filter_only(source: &KafkaSource) -> Result<(u64, u64, u64)> {
    let bounds = source.bounds(Object::Events)?;
    let slice = Checkpoint::at(&bounds.lowest).until(&bounds.next);
    let spec = FilterSpec { exclude_integrations: vec![], selective_sync: vec!["none".into()], window_start: None };
    let filter = Filter::new(Object::Events, &spec, Arc::new(Catalogue::default()));
    let mut parser = Parser::new(Object::Events);
    let (mut records, mut bytes) = (0, 0);
    source.read(Object::Events, &slice, &CancellationToken::new(), &mut |record| {
        let value = record.value.unwrap_or_default();
        records += 1;
        bytes += value.len() as u64;
        if let Ok(resource) = parser.parse(value) {
            let own_time = resource.own_time().ok().flatten();
            std::hint::black_box(filter.decide(record.timestamp, own_time, resource.metric_id.as_deref()));
        }
        Ok(())
    })?;
    Ok((records, bytes, 0))
}

/// The whole path: plan, stage, commit, clean, for as many runs as it takes.
async fn drain(source: Arc<KafkaSource>, target: Target, format: FileFormat) -> Result<(u64, u64, u64)> {
    let folder = tempfile::tempdir()?;
    let settings = match target {
        Target::S3 => DestinationSettings::S3(S3Settings {
            bucket: "test-bucket".into(),
            region: "us-east-1".into(),
            access_key_id: Some("env:WAREHOUSE_SYNC_TEST_S3_KEY".into()),
            secret_access_key: Some(SecretReference("env:WAREHOUSE_SYNC_TEST_S3_SECRET".into())),
            session_token: None,
            prefix: Some(format!("bench/{}", uuid::Uuid::now_v7())),
            endpoint: Some(std::env::var("WAREHOUSE_SYNC_TEST_S3")?),
            format,
        }),
        _ => DestinationSettings::Folder(FolderSettings { path: folder.path().join("lake").display().to_string(), format }),
    };
    let destination: Arc<dyn Destination> = Arc::new(ObjectStorage::open(&settings)?);
    let store = Store::open(&folder.path().join("state.db")).await?;
    let engine = Engine::new(
        source.clone(),
        destination,
        store.clone(),
        Arc::new(SystemClock),
        SyncSettings::default(),
        folder.path().join("spool"),
    );
    let (connection, genesis) = connection(source.as_ref(), settings)?;
    engine.destination.prepare(&genesis).await?;
    let replay = SyncId::new(Object::Events, SyncKind::Replay);
    store.replace_connection(&connection, &[HISTORY, replay].map(|id| SyncRow::new(id, genesis.start_of(id)))).await?;
    let (mut records, mut bytes, mut written) = (0, 0, 0);
    while let Some(run) = planner::plan(&engine, &connection, &genesis, &store.sync(HISTORY).await?).await? {
        let id = run.run.id;
        engine.execute(run, &genesis, &CancellationToken::new()).await?;
        match store.run(id).await?.map(|run| run.state) {
            Some(RunState::Committed { certificate }) => {
                records += certificate.counts.read;
                bytes += certificate.counts.read_bytes;
                written += certificate.file_bytes;
            }
            other => bail!("the run ended as {other:?}"),
        }
    }
    Ok((records, bytes, written))
}

fn connection(source: &KafkaSource, destination: DestinationSettings) -> Result<(Connection, Genesis)> {
    let bounds = source.bounds(Object::Events)?;
    let stream = StreamGenesis {
        topic: source.stream_name(Object::Events),
        topic_id: bounds.topic_id,
        history_start: bounds.lowest.clone(),
        lowest: bounds.lowest,
        cut: bounds.next,
    };
    // The bench's topics have no metrics; an empty stream stands for them.
    let empty = StreamGenesis {
        topic: "none".into(),
        topic_id: None,
        lowest: BTreeMap::new(),
        history_start: BTreeMap::new(),
        cut: BTreeMap::new(),
    };
    let now = jiff::Timestamp::now();
    let genesis = Genesis {
        format: LEDGER_FORMAT,
        generation: 1,
        connection: ConnectionId(uuid::Uuid::now_v7()),
        name: "bench".into(),
        history: History::All,
        window_start: None,
        cut_time: now.as_millisecond(),
        streams: BTreeMap::from([(Object::Events, stream), (Object::Metrics, empty)]),
        created_at: now,
    };
    let spec = ConnectionSpec {
        name: "bench".into(),
        objects: vec![Object::Events],
        exclude_integrations: vec![],
        selective_sync: vec![],
        history: History::All,
        destination,
    };
    let connection =
        Connection { id: genesis.connection, spec, state: ConnectionState::Enabled, genesis: Some(genesis.clone()), created_at: now };
    Ok((connection, genesis))
}

/// User and system time of this process, threads included (proc(5), fields 14 and 15 of stat, in
/// hundredths of a second on every Linux of today).
fn cpu_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit(") ").next().context("no stat")?;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    Ok((fields[11].parse::<f64>()? + fields[12].parse::<f64>()?) / 100.0)
}

fn peak_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).context("no VmHWM")?;
    Ok(line.split_whitespace().nth(1).context("no number")?.parse::<f64>()? / 1024.0)
}
