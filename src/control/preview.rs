//! What a connection would read and write, before anything is written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::Control;
use crate::engine::catalogue;
use crate::model::connection::History;
use crate::model::position::Millis;
use crate::model::run::FilterSpec;
use crate::model::{Checkpoint, ConnectionSpec, Object, Slice, Stage, SyncError};
use crate::record::filter::{Decision, Filter};
use crate::record::metrics::Catalogue;
use crate::record::parse::Parser;
use crate::source::{Bounds, Source};

/// Records looked at for an estimate, about. Taken from the start, the middle and the end of each partition.
const SAMPLE_RECORDS: u64 = 20_000;

/// One choice of history for one object.
#[derive(Debug, Clone, Serialize)]
pub struct WindowPreview {
    /// The choice.
    pub history: History,
    /// Upper bound of the number of records: offsets between the start of the window and the end.
    pub records_at_most: u64,
    /// Bytes of these records in the stream, estimated from the sample.
    pub stream_bytes: u64,
    /// Rows that the filters keep, estimated from the sample.
    pub rows: u64,
    /// Uncompressed bytes of those rows, estimated from the sample.
    pub row_bytes: u64,
}

/// What the filters keep of one metric, in the sample.
#[derive(Debug, Clone, Serialize)]
pub struct MetricPreview {
    /// Metric id.
    pub metric_id: String,
    /// Its name, if known.
    pub name: Option<String>,
    /// Its integration, if known.
    pub integration: Option<String>,
    /// Events in the sample.
    pub sampled: u64,
    /// Events of them that the filters keep.
    pub kept: u64,
}

/// One object.
#[derive(Debug, Clone, Serialize)]
pub struct ObjectPreview {
    /// The object.
    pub object: Object,
    /// Its topic.
    pub topic: String,
    /// Partitions.
    pub partitions: usize,
    /// Time of the oldest record that the topic still holds.
    pub oldest: Option<Timestamp>,
    /// Offsets that have expired already.
    pub expired: u64,
    /// Records looked at.
    pub sampled: u64,
    /// The four choices.
    pub windows: Vec<WindowPreview>,
    /// What is kept of each metric (events).
    pub metrics: Vec<MetricPreview>,
}

/// The whole preview.
#[derive(Debug, Clone, Serialize)]
pub struct Preview {
    /// The objects that the connection would sync.
    pub objects: Vec<ObjectPreview>,
    /// How the figures were made.
    pub method: String,
}

#[derive(Default)]
struct Sample {
    records: u64,
    bytes: u64,
    kept: u64,
    kept_bytes: u64,
    oldest: Option<Millis>,
    metrics: BTreeMap<String, (u64, u64)>,
}

impl Control {
    /// Looks at the source and estimates. Writes nothing.
    pub async fn preview(&self, spec: &ConnectionSpec) -> Result<Preview, SyncError> {
        let (source, spec, now) = (self.source.clone(), spec.clone(), self.clock.now());
        tokio::task::spawn_blocking(move || preview(source.as_ref(), &spec, now))
            .await
            .map_err(|error| SyncError::internal(Stage::Plan, "a preview panicked").external(error))?
    }
}

fn preview(source: &dyn Source, spec: &ConnectionSpec, now: Timestamp) -> Result<Preview, SyncError> {
    let objects = spec.synced_objects();
    let catalogue = match objects.contains(&Object::Events) {
        true => catalogue::read_on(source, &Catalogue::default())?.unwrap_or_default(),
        false => Catalogue::default(),
    };
    let catalogue = Arc::new(catalogue);
    let objects = objects.into_iter().map(|object| preview_object(source, spec, object, &catalogue, now)).collect::<Result<Vec<_>, _>>()?;
    let method = format!(
        "Records: an upper bound, the offsets in the window (compaction and transactions leave holes). Bytes and rows: estimated from up to {SAMPLE_RECORDS} records at the start, the middle and the end of each partition."
    );
    Ok(Preview { objects, method })
}

fn preview_object(
    source: &dyn Source,
    spec: &ConnectionSpec,
    object: Object,
    catalogue: &Arc<Catalogue>,
    now: Timestamp,
) -> Result<ObjectPreview, SyncError> {
    let bounds = source.bounds(object)?;
    let filter_spec = FilterSpec {
        exclude_integrations: spec.exclude_integrations.clone(),
        selective_sync: spec.selective_sync.clone(),
        window_start: None,
    };
    let filter = Filter::new(object, &filter_spec, catalogue.clone());
    let sample = Mutex::new(Sample::default());
    let mut parser = Parser::new(object);
    let mut take = |record: crate::model::record::Record<'_>| {
        let mut sample = sample.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let bytes = (record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len)) as u64;
        sample.records += 1;
        sample.bytes += bytes;
        sample.oldest = Some(sample.oldest.map_or(record.timestamp, |oldest| oldest.min(record.timestamp)));
        let Some(resource) = record.value.and_then(|value| parser.parse(value).ok()) else { return Ok(()) };
        let kept = matches!(filter.decide(record.timestamp, None, resource.metric_id.as_deref()), Decision::Keep(_));
        if let Some(id) = &resource.metric_id {
            let counts = sample.metrics.entry(id.to_string()).or_default();
            counts.0 += 1;
            counts.1 += u64::from(kept);
        }
        if kept {
            sample.kept += 1;
            // A row is its record and about 250 bytes of columns of ours.
            sample.kept_bytes += bytes + 250;
        }
        Ok(())
    };
    for slice in samples(&bounds) {
        source.read(object, &slice, &CancellationToken::new(), &mut take)?;
    }
    let sample = sample.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mean = |total: u64| if sample.records == 0 { 0.0 } else { total as f64 / sample.records as f64 };
    let mut windows = Vec::new();
    for history in History::CHOICES {
        let start = match history.days() {
            Some(days) => source.offsets_since(object, (now - SignedDuration::from_hours(24 * days)).as_millisecond(), &bounds)?,
            None => bounds.lowest.clone(),
        };
        let records = Checkpoint::at(&start).until(&bounds.next).offsets();
        windows.push(WindowPreview {
            history,
            records_at_most: records,
            stream_bytes: (records as f64 * mean(sample.bytes)) as u64,
            rows: (records as f64 * mean(sample.kept)) as u64,
            row_bytes: (records as f64 * mean(sample.kept_bytes)) as u64,
        });
    }
    let metrics = sample
        .metrics
        .iter()
        .map(|(id, (sampled, kept))| {
            let metric = catalogue.get(id);
            MetricPreview {
                metric_id: id.clone(),
                name: metric.and_then(|metric| metric.name.clone()),
                integration: metric.and_then(|metric| metric.integration_name.clone()),
                sampled: *sampled,
                kept: *kept,
            }
        })
        .collect();
    Ok(ObjectPreview {
        object,
        topic: source.stream_name(object),
        partitions: bounds.next.len(),
        oldest: sample.oldest.and_then(|oldest| Timestamp::from_millisecond(oldest).ok()),
        expired: bounds.lowest.values().map(|lowest| (*lowest).max(0) as u64).sum(),
        sampled: sample.records,
        windows,
        metrics,
    })
}

/// Three short slices of each partition.
fn samples(bounds: &Bounds) -> Vec<Slice> {
    use crate::model::Range;
    let each = (SAMPLE_RECORDS / 3 / bounds.next.len().max(1) as u64).max(20) as i64;
    let place = |part: i64| {
        Slice::new(bounds.next.iter().map(|(partition, next)| {
            let lowest = bounds.lowest.get(partition).copied().unwrap_or(0);
            let start = lowest + (next - lowest - each).max(0) / 2 * part;
            // What an earlier sample has read already is not read again.
            let start = if part > 0 { start.max(lowest + each * part) } else { start };
            (*partition, Range { start, end: (start + each).min(*next) })
        }))
    };
    (0..3).map(place).filter(|slice| !slice.is_empty()).collect()
}
