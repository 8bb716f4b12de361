//! The library in this process, over any source and destination: for faults that cannot be made from
//! outside.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use warehouse_sync::clock::Clock;
use warehouse_sync::config::SyncSettings;
use warehouse_sync::destination::{CheckStep, Destination, Fetched};
use warehouse_sync::engine::{Engine, Outcome};
use warehouse_sync::model::connection::{ConnectionSpec, DestinationSettings, FolderSettings, History};
use warehouse_sync::model::ledger::{LEDGER_FORMAT, StreamGenesis};
use warehouse_sync::model::part::PartFile;
use warehouse_sync::model::position::Millis;
use warehouse_sync::model::record::Record;
use warehouse_sync::model::run::Receipt;
use warehouse_sync::model::{
    Connection, ConnectionId, ConnectionState, EntryKind, ErrorCode, FileFormat, Genesis, LedgerEntry, Manifest, Object, Offset, Partition,
    RunId, RunSpec, Slice, Stage, StagedFile, Sync as SyncRow, SyncError, SyncId, SyncKind, Table, TableTotals,
};
use warehouse_sync::source::{Bounds, ReadEnd, RecordSink, Source};
use warehouse_sync::store::Store;

/// A source in memory: what the engine does with it is what is tested.
#[derive(Default)]
pub struct MemorySource {
    streams: Mutex<HashMap<Object, BTreeMap<Partition, Vec<MemoryRecord>>>>,
    /// First offsets that still exist.
    pub lowest: Mutex<HashMap<(Object, Partition), Offset>>,
    /// The topics' id.
    pub topic_id: Mutex<Option<String>>,
}

/// One record in memory; `None` in place of it is a hole.
pub type MemoryRecord = Option<(Option<String>, Option<Vec<u8>>, Millis)>;

impl MemorySource {
    /// Appends a record and returns its offset.
    pub fn push(&self, object: Object, partition: Partition, record: MemoryRecord) -> Offset {
        let mut streams = self.streams.lock().unwrap();
        let records = streams.entry(object).or_default().entry(partition).or_default();
        records.push(record);
        records.len() as Offset - 1
    }

    /// Appends a published record.
    pub fn publish(&self, partition: Partition, record: warehouse_sync::demo::sample::SampleRecord) -> Offset {
        self.push(record.object, partition, Some((record.key, record.value, record.timestamp)))
    }
}

impl Source for MemorySource {
    fn describe(&self) -> String {
        "memory".into()
    }

    fn stream_name(&self, object: Object) -> String {
        object.name().into()
    }

    fn bounds(&self, object: Object) -> Result<Bounds, SyncError> {
        let streams = self.streams.lock().unwrap();
        let lowest = self.lowest.lock().unwrap();
        let partitions = streams.get(&object);
        let next: BTreeMap<_, _> =
            partitions.into_iter().flatten().map(|(partition, records)| (*partition, records.len() as Offset)).collect();
        Ok(Bounds {
            lowest: next.keys().map(|partition| (*partition, lowest.get(&(object, *partition)).copied().unwrap_or(0))).collect(),
            next,
            topic_id: self.topic_id.lock().unwrap().clone(),
        })
    }

    fn offsets_since(&self, _object: Object, _since: Millis, bounds: &Bounds) -> Result<BTreeMap<Partition, Offset>, SyncError> {
        Ok(bounds.lowest.clone())
    }

    fn deletion_retention(&self, _object: Object) -> Result<Option<Duration>, SyncError> {
        Ok(None)
    }

    fn read(&self, object: Object, slice: &Slice, stop: &CancellationToken, sink: &mut RecordSink<'_>) -> Result<ReadEnd, SyncError> {
        let records: Vec<(Partition, Offset, MemoryRecord)> = {
            let streams = self.streams.lock().unwrap();
            let of = streams.get(&object).cloned().unwrap_or_default();
            slice
                .ranges()
                .flat_map(|(partition, range)| (range.start..range.end).map(move |offset| (partition, offset)))
                .map(|(partition, offset)| (partition, offset, of[&partition][offset as usize].clone()))
                .collect()
        };
        for (partition, offset, record) in records {
            if stop.is_cancelled() {
                return Ok(ReadEnd::Stopped);
            }
            let Some((key, value, timestamp)) = record else { continue };
            sink(Record { partition, offset, timestamp, key: key.as_deref().map(str::as_bytes), value: value.as_deref() })?;
        }
        Ok(ReadEnd::Complete)
    }
}

/// What goes wrong with a call of the destination.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails and has done nothing.
    Before,
    /// It is done, but the answer is lost.
    AnswerLost,
    /// `load` alone: it says OK and has loaded nothing.
    LoadedNothing,
}

/// A destination whose calls fail as told.
pub struct Faulty {
    inner: Arc<dyn Destination>,
    faults: Mutex<Vec<(&'static str, Fault)>>,
    /// Calls of `commit` so far.
    pub commits: AtomicUsize,
}

impl Faulty {
    /// Wraps a destination.
    pub fn new(inner: Arc<dyn Destination>) -> Arc<Self> {
        Arc::new(Self { inner, faults: Mutex::default(), commits: AtomicUsize::new(0) })
    }

    /// Lets the next call of a method fail.
    pub fn fail_next(&self, method: &'static str, fault: Fault) {
        self.faults.lock().unwrap().push((method, fault));
    }

    async fn call<T>(&self, method: &'static str, call: impl Future<Output = Result<T, SyncError>>) -> Result<T, SyncError> {
        let fault = {
            let mut faults = self.faults.lock().unwrap();
            faults.iter().position(|(of, _)| *of == method).map(|at| faults.remove(at).1)
        };
        let lost = || SyncError::new(ErrorCode::Unavailable, Stage::Commit, format!("injected into {method}"));
        match fault {
            Some(Fault::Before | Fault::LoadedNothing) => Err(lost()),
            Some(Fault::AnswerLost) => {
                call.await?;
                Err(lost())
            }
            None => call.await,
        }
    }
}

#[async_trait]
impl Destination for Faulty {
    fn describe(&self) -> String {
        self.inner.describe()
    }
    async fn check(&self) -> Vec<CheckStep> {
        self.inner.check().await
    }
    async fn genesis(&self) -> Result<Option<Genesis>, SyncError> {
        self.inner.genesis().await
    }
    async fn prepare(&self, genesis: &Genesis) -> Result<(), SyncError> {
        self.inner.prepare(genesis).await
    }
    async fn stage(&self, spec: &RunSpec, run: RunId, attempt: &str, file: &PartFile) -> Result<StagedFile, SyncError> {
        self.call("stage", self.inner.stage(spec, run, attempt, file)).await
    }
    async fn load(&self, spec: &RunSpec, manifest: &Manifest) -> Result<BTreeMap<Table, TableTotals>, SyncError> {
        let nothing = {
            let mut faults = self.faults.lock().unwrap();
            faults.iter().position(|fault| *fault == ("load", Fault::LoadedNothing)).map(|at| faults.remove(at))
        };
        match nothing {
            Some(_) => Ok(BTreeMap::new()),
            None => self.call("load", self.inner.load(spec, manifest)).await,
        }
    }
    async fn commit(&self, genesis: &Genesis, spec: &RunSpec, manifest: &Manifest) -> Result<Receipt, SyncError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
        self.call("commit", self.inner.commit(genesis, spec, manifest)).await
    }
    async fn append(&self, genesis: &Genesis, sync: SyncId, sequence: u64, kind: EntryKind) -> Result<LedgerEntry, SyncError> {
        self.inner.append(genesis, sync, sequence, kind).await
    }
    async fn head(&self, genesis: &Genesis, sync: SyncId, known: u64) -> Result<Option<LedgerEntry>, SyncError> {
        self.inner.head(genesis, sync, known).await
    }
    async fn entries(&self, genesis: &Genesis, sync: SyncId) -> Result<Vec<LedgerEntry>, SyncError> {
        self.inner.entries(genesis, sync).await
    }
    async fn fetch(&self, file: &StagedFile) -> Result<Fetched, SyncError> {
        self.inner.fetch(file).await
    }
    async fn discard(&self, connection: ConnectionId, run: RunId) -> Result<(), SyncError> {
        self.call("discard", self.inner.discard(connection, run)).await
    }
    async fn staged_runs(&self) -> Result<Vec<(ConnectionId, RunId)>, SyncError> {
        self.inner.staged_runs().await
    }
}

/// A clock that the test sets.
pub struct TestClock(Mutex<Timestamp>);

impl TestClock {
    /// Moves on.
    pub fn advance(&self, by: Duration) {
        let mut now = self.0.lock().unwrap();
        *now = now.checked_add(by).unwrap();
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

/// An engine on a memory source, with a connection and its syncs.
pub struct Rig {
    /// The destination, with faults on demand.
    pub destination: Arc<Faulty>,
    /// The time.
    pub clock: Arc<TestClock>,
    /// The engine.
    pub engine: Engine,
    /// The connection.
    pub connection: Connection,
    /// Its genesis.
    pub genesis: Genesis,
    /// Keeps the state's folder.
    _folder: tempfile::TempDir,
}

impl Rig {
    /// A rig on a destination. The cut is where the source stands now.
    pub async fn new(source: Arc<MemorySource>, inner: Arc<dyn Destination>, format: FileFormat) -> Self {
        let genesis = genesis(source.as_ref(), 1);
        inner.prepare(&genesis).await.unwrap();
        Self::on(source, inner, format, genesis).await
    }

    /// A rig for a connection that exists in the destination.
    pub async fn on(source: Arc<MemorySource>, inner: Arc<dyn Destination>, format: FileFormat, genesis: Genesis) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("state.db")).await.unwrap();
        let clock = Arc::new(TestClock(Mutex::new(Timestamp::now())));
        let destination = Faulty::new(inner);
        let settings = SyncSettings { max_part_bytes: bytesize::ByteSize::kib(64), ..SyncSettings::default() };
        let engine = Engine::new(source.clone(), destination.clone(), store.clone(), clock.clone(), settings, folder.path().join("spool"));
        let spec = ConnectionSpec {
            name: "rig".into(),
            objects: vec![Object::Profiles, Object::Events],
            exclude_integrations: vec![],
            selective_sync: vec![],
            history: History::All,
            destination: DestinationSettings::Folder(FolderSettings { path: "rig".into(), format }),
        };
        let connection = Connection {
            id: genesis.connection,
            spec,
            state: ConnectionState::Enabled,
            genesis: Some(genesis.clone()),
            created_at: genesis.created_at,
        };
        let mut syncs = Vec::new();
        for id in Object::ALL.into_iter().flat_map(SyncId::chains) {
            let mut sync = SyncRow::new(id, genesis.start_of(id));
            if let Some(head) = destination.head(&genesis, id, 0).await.unwrap() {
                sync.sequence = head.sequence;
                sync.checkpoint = head.checkpoint;
            }
            syncs.push(sync);
        }
        store.replace_connection(&connection, &syncs).await.unwrap();
        Self { destination, clock, engine, connection, genesis, _folder: folder }
    }

    /// Plans and executes one run. `None` when there is nothing new.
    pub async fn run(&self, object: Object, kind: SyncKind) -> Option<Outcome> {
        let id = SyncId::new(object, kind);
        let store = &self.engine.store;
        let stored = match store.open_run(id).await.unwrap() {
            Some(stored) => stored,
            None => {
                let sync = store.sync(id).await.unwrap();
                warehouse_sync::control::planner::plan(&self.engine, &self.connection, &self.genesis, &sync).await.unwrap()?
            }
        };
        Some(self.engine.execute(stored, &self.genesis, &CancellationToken::new()).await.unwrap())
    }

    /// Executes runs until nothing is left, moving the clock over every backoff.
    pub async fn settle(&self, object: Object, kind: SyncKind) {
        for _ in 0..50 {
            match self.run(object, kind).await {
                None => return,
                Some(Outcome::Suspended) => self.clock.advance(Duration::from_secs(3600)),
                Some(_) => {}
            }
        }
        panic!("{object} {kind:?} does not come to an end");
    }

    /// The code of the error that a sync's open run or trouble carries.
    pub async fn error(&self, object: Object, kind: SyncKind) -> Option<ErrorCode> {
        use warehouse_sync::model::RunState;
        let id = SyncId::new(object, kind);
        let open = self.engine.store.open_run(id).await.unwrap();
        match open.map(|stored| stored.run.state) {
            Some(RunState::Waiting { error, .. } | RunState::Failed { error, .. }) => Some(error.code),
            _ => self.engine.store.sync(id).await.unwrap().trouble.map(|trouble| trouble.error.code),
        }
    }

    /// Verification must find nothing.
    pub async fn verify(&self) -> warehouse_sync::engine::verify::Report {
        let report = warehouse_sync::engine::verify::verify(self.destination.as_ref(), &self.genesis).await.unwrap();
        assert!(report.is_clean(), "{:?}", report.findings);
        report
    }
}

/// A genesis with the cut where the source stands now.
pub fn genesis(source: &MemorySource, generation: u64) -> Genesis {
    let streams = Object::ALL
        .into_iter()
        .map(|object| {
            let bounds = source.bounds(object).unwrap();
            let stream = StreamGenesis {
                topic: object.name().into(),
                topic_id: bounds.topic_id,
                history_start: bounds.lowest.clone(),
                lowest: bounds.lowest,
                cut: bounds.next,
            };
            (object, stream)
        })
        .collect();
    Genesis {
        format: LEDGER_FORMAT,
        generation,
        connection: ConnectionId(uuid::Uuid::now_v7()),
        name: "rig".into(),
        history: History::All,
        window_start: None,
        cut_time: super::broker::now_ms(),
        streams,
        created_at: Timestamp::now(),
    }
}
