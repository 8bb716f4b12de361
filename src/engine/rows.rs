//! What happens to one record on the reading thread: it becomes a row, is dropped, or is put aside.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use base64::Engine as _;

use super::replay::ReplayRecord;
use super::stage::{Counters, Outlet, ReadResult};
use crate::model::ledger::RecordPlace;
use crate::model::position::Millis;
use crate::model::record::Record;
use crate::model::row::{Row, Value};
use crate::model::run::VersionBounds;
use crate::model::{
    Checkpoint, Counts, ErrorCode, Fingerprint, Object, Offset, Partition, Position, RunSpec, Slice, Stage, SyncError, Table,
};
use crate::record::filter::{Decision, DropReason, Filter};
use crate::record::metrics::Metric;
use crate::record::parse::{MAX_COLUMNS, Malformed, Parser, RejectReason};
use crate::source::ReadEnd;

/// How many rejected records are named when there are too many.
const SAMPLES: usize = 5;
/// How many records pass between two updates of the shared counters.
const COUNT_EVERY: u64 = 4096;

/// Turns the records of one attempt into rows and keeps the account of them.
pub struct Stager {
    object: Object,
    slice: Slice,
    versions: VersionBounds,
    filter: Filter,
    parser: Parser,
    outlet: Outlet,
    partitions: HashMap<Partition, PartitionState>,
    tally: Tally,
    settled: Vec<RecordPlace>,
    samples: Vec<String>,
    counters: Arc<Counters>,
}

struct PartitionState {
    start: Offset,
    end: Offset,
    /// The last record before the slice, which must still be what it was.
    before: Option<Fingerprint>,
    version: Option<Millis>,
    last: Option<Fingerprint>,
    passed: Offset,
}

#[derive(Default)]
struct Tally {
    read: u64,
    read_bytes: u64,
    staged: u64,
    deleted: u64,
    with_original: u64,
    offsets: u64,
    filtered: [u64; DropReason::ALL.len()],
    rejected: BTreeMap<RejectReason, u64>,
}

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Staged,
    Filtered(DropReason),
    Rejected(RejectReason),
}

impl Stager {
    /// A stager for one attempt.
    pub fn new(spec: &RunSpec, filter: Filter, counters: Arc<Counters>, outlet: Outlet) -> Self {
        let partitions = spec
            .slice
            .ranges()
            .map(|(partition, range)| {
                let position = spec.start.position(partition);
                let state = PartitionState {
                    start: range.start,
                    end: range.end,
                    before: position.fingerprint,
                    version: position.version,
                    last: position.fingerprint,
                    passed: range.start,
                };
                (partition, state)
            })
            .collect();
        let object = spec.sync.object;
        Self {
            object,
            slice: spec.slice.clone(),
            versions: spec.versions,
            filter,
            parser: Parser::new(object),
            outlet,
            partitions,
            tally: Tally::default(),
            settled: Vec::new(),
            samples: Vec::new(),
            counters,
        }
    }

    /// Takes one record of the stream.
    pub fn take(&mut self, record: &Record<'_>) -> Result<(), SyncError> {
        let Some(state) = self.partitions.get_mut(&record.partition) else { return Ok(()) };
        if record.offset < state.start {
            return unchanged(state, record);
        }
        state.version = Some(state.version.map_or(record.timestamp, |version| version.max(record.timestamp)));
        state.last = Some(Fingerprint { offset: record.offset, hash: record.fingerprint() });
        let version = self.versions.version(state.version.unwrap_or_default());
        self.tally.offsets += (record.offset + 1 - state.passed).max(0) as u64;
        state.passed = record.offset + 1;
        let fate = self.stage(record, version)?;
        self.account(record, fate);
        if self.tally.read.is_multiple_of(COUNT_EVERY) {
            self.publish();
        }
        Ok(())
    }

    /// Gives a rejected record another try. It keeps its place and its version.
    pub fn replay(&mut self, replayed: &ReplayRecord) -> Result<(), SyncError> {
        let record = replayed.record();
        let fate = self.stage(&record, replayed.version)?;
        self.account(&record, fate);
        if !matches!(fate, Fate::Rejected(_)) {
            self.settled.push(RecordPlace { partition: record.partition, offset: record.offset });
        }
        Ok(())
    }

    /// Ends the attempt: hands over what is left and closes the account. `None` when it was stopped.
    pub fn finish(mut self, end: ReadEnd) -> Result<Option<ReadResult>, SyncError> {
        if end == ReadEnd::Stopped {
            return Ok(None);
        }
        self.outlet.flush()?;
        self.tally.offsets = self.slice.offsets();
        self.publish();
        let reached = self
            .partitions
            .iter()
            .map(|(partition, state)| (*partition, Position { next: state.end, version: state.version, fingerprint: state.last }));
        let counts = Counts {
            read: self.tally.read,
            read_bytes: self.tally.read_bytes,
            staged: self.tally.staged,
            deleted: self.tally.deleted,
            with_original: self.tally.with_original,
            filtered: DropReason::ALL
                .iter()
                .zip(self.tally.filtered)
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| (reason.name().to_owned(), count))
                .collect(),
            rejected: self.tally.rejected.iter().map(|(reason, count)| (reason.name().to_owned(), *count)).collect(),
        };
        Ok(Some(ReadResult { reached: Checkpoint::new(reached), counts, settled: self.settled, samples: self.samples }))
    }

    fn publish(&self) {
        self.counters.records.store(self.tally.read, Ordering::Relaxed);
        self.counters.bytes.store(self.tally.read_bytes, Ordering::Relaxed);
        self.counters.offsets.store(self.tally.offsets, Ordering::Relaxed);
    }

    fn account(&mut self, record: &Record<'_>, fate: Fate) {
        self.tally.read += 1;
        self.tally.read_bytes += (record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)) as u64;
        match fate {
            Fate::Staged => {
                self.tally.staged += 1;
                self.tally.deleted += u64::from(record.value.is_none());
            }
            Fate::Filtered(reason) => self.tally.filtered[reason as usize] += 1,
            Fate::Rejected(reason) => *self.tally.rejected.entry(reason).or_default() += 1,
        }
    }

    fn stage(&mut self, record: &Record<'_>, version: Millis) -> Result<Fate, SyncError> {
        let Some(value) = record.value else {
            return match record.key.and_then(|key| simdutf8::basic::from_utf8(key).ok()).filter(|key| !key.is_empty()) {
                Some(id) => self.delete(record, version, id),
                None => {
                    let detail = "the key is missing or no text";
                    self.reject(record, version, &Malformed { reason: RejectReason::DeletionWithoutKey, detail: detail.to_owned() })
                }
            };
        };
        match self.keep(record, version, value)? {
            Ok(fate) => Ok(fate),
            Err(malformed) => self.reject(record, version, &malformed),
        }
    }

    /// The inner result is the record's fault, the outer one the pipeline's.
    fn keep(&mut self, record: &Record<'_>, version: Millis, value: &[u8]) -> Result<Result<Fate, Malformed>, SyncError> {
        let resource = match self.parser.parse(value) {
            Ok(resource) => resource,
            Err(malformed) => return Ok(Err(malformed)),
        };
        let own_time = match resource.own_time() {
            Ok(own_time) => own_time,
            Err(malformed) => return Ok(Err(malformed)),
        };
        let metric = match self.filter.decide(record.timestamp, own_time, resource.metric_id.as_deref()) {
            Decision::Keep(metric) => metric,
            Decision::Drop(reason) => return Ok(Ok(Fate::Filtered(reason))),
            Decision::Pending => {
                let detail = format!("metric `{}` is not in the metrics stream yet", resource.metric_id.as_deref().unwrap_or_default());
                return Ok(Err(Malformed { reason: RejectReason::UnknownMetric, detail }));
            }
        };
        let mut values = [Value::Null; MAX_COLUMNS];
        let inexact = match resource.fill(&mut values) {
            Ok(inexact) => inexact,
            Err(malformed) => return Ok(Err(malformed)),
        };
        // The stream of metrics is small; its records are their own catalogue.
        let own = if self.object == Object::Metrics { Metric::parse(value) } else { None };
        match (self.object, metric, own.as_ref()) {
            (Object::Events, Some(metric), _) => {
                fill_metric(&mut values[3..7], &[&metric.name, &metric.integration_id, &metric.integration_key, &metric.integration_name])
            }
            (Object::Metrics, _, Some(metric)) => fill_metric(
                &mut values[2..6],
                &[&metric.integration_id, &metric.integration_key, &metric.integration_name, &metric.integration_category],
            ),
            _ => {}
        }
        let table = self.object.table();
        let row = Row {
            table,
            values: &values[..table.columns().len()],
            deleted: false,
            version,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            original: inexact.then_some(resource.original),
        };
        self.outlet.push(&row)?;
        self.tally.with_original += u64::from(inexact);
        Ok(Ok(Fate::Staged))
    }

    fn delete(&mut self, record: &Record<'_>, version: Millis, id: &str) -> Result<Fate, SyncError> {
        let table = self.object.table();
        let mut values = [Value::Null; MAX_COLUMNS];
        values[0] = Value::Text(id);
        self.outlet.push(&Row {
            table,
            values: &values[..table.columns().len()],
            deleted: true,
            version,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            original: None,
        })?;
        Ok(Fate::Staged)
    }

    fn reject(&mut self, record: &Record<'_>, version: Millis, malformed: &Malformed) -> Result<Fate, SyncError> {
        if self.samples.len() < SAMPLES {
            self.samples.push(format!("partition {} offset {}: {}", record.partition, record.offset, malformed.reason.name()));
        }
        let (key, value) = (Text::of(record.key), Text::of(record.value));
        let values = [
            Value::Text(self.object.name()),
            key.value(),
            key.encoding(),
            value.value(),
            value.encoding(),
            Value::Text(malformed.reason.name()),
            Value::Text(&malformed.detail),
        ];
        self.outlet.push(&Row {
            table: Table::Rejected,
            values: &values,
            deleted: false,
            version,
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp,
            original: None,
        })?;
        Ok(Fate::Rejected(malformed.reason))
    }
}

/// The last record before the slice must be the one that was read then, unless compaction has removed it.
fn unchanged(state: &PartitionState, record: &Record<'_>) -> Result<(), SyncError> {
    match state.before {
        Some(before) if before.offset == record.offset && before.hash != record.fingerprint() => Err(SyncError::new(
            ErrorCode::TopicRecreated,
            Stage::Stage,
            format!("partition {} offset {} holds another record than the one that was read", record.partition, record.offset),
        )),
        _ => Ok(()),
    }
}

fn fill_metric<'v>(values: &mut [Value<'v>], fields: &[&'v Option<String>]) {
    for (value, field) in values.iter_mut().zip(fields) {
        *value = field.as_deref().map_or(Value::Null, Value::Text);
    }
}

/// Bytes as text: as they are when they are UTF-8, else base64.
enum Text<'a> {
    Null,
    Plain(&'a str),
    Base64(String),
}

impl<'a> Text<'a> {
    fn of(bytes: Option<&'a [u8]>) -> Self {
        match bytes.map(|bytes| (bytes, simdutf8::basic::from_utf8(bytes))) {
            None => Text::Null,
            Some((_, Ok(text))) => Text::Plain(text),
            Some((bytes, Err(_))) => Text::Base64(base64::engine::general_purpose::STANDARD.encode(bytes)),
        }
    }

    fn value(&self) -> Value<'_> {
        match self {
            Text::Null => Value::Null,
            Text::Plain(text) => Value::Text(text),
            Text::Base64(text) => Value::Text(text),
        }
    }

    fn encoding(&self) -> Value<'static> {
        match self {
            Text::Null => Value::Null,
            Text::Plain(_) => Value::Text("text"),
            Text::Base64(_) => Value::Text("base64"),
        }
    }
}
