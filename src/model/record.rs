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
    /// xxh3-64 over value, key and timestamp, each seeding the next: what a checkpoint remembers of the last record read.
    pub fn fingerprint(&self) -> u64 {
        let hash = |part: Option<&[u8]>, seed: u64| match part {
            Some(bytes) => xxhash_rust::xxh3::xxh3_64_with_seed(bytes, seed),
            None => seed.rotate_left(17) ^ u64::MAX,
        };
        hash(self.value, hash(self.key, self.timestamp as u64))
    }
}
