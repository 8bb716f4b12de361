//! One record of a stream.

use super::position::{Millis, Offset, Partition};

/// One record, borrowed from the source's buffer for the time of one call.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Partition.
    pub partition: Partition,
    /// Offset.
    pub offset: Offset,
    /// Time of publication, as the source stamps it.
    pub timestamp: Millis,
    /// Key: the resource's id.
    pub key: Option<&'a [u8]>,
    /// Value: the resource, or `None` for a deletion.
    pub value: Option<&'a [u8]>,
}

impl Record<'_> {
    /// xxh3-64 over key, value and timestamp: what a checkpoint remembers of the last record read.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for part in [self.key, self.value] {
            hasher.update(&part.map_or(u64::MAX, |bytes| bytes.len() as u64).to_le_bytes());
            hasher.update(part.unwrap_or_default());
        }
        hasher.update(&self.timestamp.to_le_bytes());
        hasher.digest()
    }
}
