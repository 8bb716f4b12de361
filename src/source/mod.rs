//! Where records come from: Kafka, or a folder of files.
//!
//! A [`Source`] answers three questions — which offsets exist, which offset belongs to a time, and
//! what stands in a slice — and knows nothing of checkpoints, filters or destinations.

pub mod folder;
pub mod kafka;
mod librdkafka;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::ProcessSettings;
use crate::model::position::Millis;
use crate::model::record::Record;
use crate::model::{ErrorCode, Object, Offset, Partition, Slice, Stage, SyncError};

/// The offsets that a stream holds now.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Bounds {
    /// The first offset that still exists, per partition.
    pub lowest: BTreeMap<Partition, Offset>,
    /// The offset that the next committed record will get, per partition; with open transactions, the
    /// first offset that they hold back (last stable offset).
    pub next: BTreeMap<Partition, Offset>,
    /// The topic's id, where the source can tell it.
    pub topic_id: Option<String>,
}

/// How a read ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadEnd {
    /// Everything in the slice was delivered.
    Complete,
    /// The stop token was cancelled.
    Stopped,
}

/// Takes the records of a slice, one at a time, each partition in order.
pub type RecordSink<'s> = dyn FnMut(Record<'_>) -> Result<(), SyncError> + Send + 's;

/// A place that holds streams. Every method may block for as long as the network takes; the engine
/// calls them on threads of their own. All of them may be called at the same time.
pub trait Source: Send + Sync {
    /// Kind and place, for people; without secrets.
    fn describe(&self) -> String;

    /// The topic or folder that an object is read from.
    fn stream_name(&self, object: Object) -> String;

    /// The offsets that the stream holds now.
    fn bounds(&self, object: Object) -> Result<Bounds, SyncError>;

    /// For each partition the first offset whose record was published at `since` or later. Where the
    /// source cannot tell, an earlier offset: the caller filters by time exactly, this only saves reading.
    fn offsets_since(&self, object: Object, since: Millis, bounds: &Bounds) -> Result<BTreeMap<Partition, Offset>, SyncError>;

    /// How long a compacted stream keeps deletions, or `None` when it is not compacted (or the source cannot tell).
    fn deletion_retention(&self, object: Object) -> Result<Option<Duration>, SyncError>;

    /// Delivers every record of `slice` to `sink`, each partition in order, and ends by itself. Holes
    /// (compaction, transaction markers, aborted transactions) are normal; a stream that ends below the
    /// slice's end is [`crate::model::ErrorCode::OffsetsReset`]. An error of the sink ends the read and is returned.
    fn read(&self, object: Object, slice: &Slice, stop: &CancellationToken, sink: &mut RecordSink<'_>) -> Result<ReadEnd, SyncError>;
}

/// Opens the configured source. Resolves secrets, connects nowhere.
pub fn open(settings: &ProcessSettings) -> Result<Arc<dyn Source>, SyncError> {
    match (&settings.kafka, &settings.folder) {
        (Some(kafka), None) => {
            let properties = ProcessSettings::kafka_properties(kafka)?;
            Ok(Arc::new(kafka::KafkaSource::new(kafka.bootstrap_servers.clone(), settings.streams.topics(), properties)))
        }
        (None, Some(folder)) => Ok(Arc::new(folder::FolderSource::new(folder.path.clone(), settings.partitions_file()))),
        _ => Err(SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Configuration, "there is one source: [kafka] or [folder]")),
    }
}
