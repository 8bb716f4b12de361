//! The only offset arithmetic of the crate: partitions, offsets, slices and checkpoints.
//!
//! All ranges are half-open, `[start, end)`. A [`Checkpoint`] is the next offset to read for each
//! partition; a [`Slice`] is what one run reads. A checkpoint only advances by a slice that starts
//! exactly where the checkpoint stands: a gap or an overlap is an error, never a warning.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A partition number of a topic.
pub type Partition = i32;

/// An offset in a partition; the first record of a fresh partition has offset 0.
pub type Offset = i64;

/// Milliseconds since the Unix epoch, as Kafka stamps records.
pub type Millis = i64;

/// What we remember of the last record read in a partition, to notice that a topic was re-created
/// under the same name (architecture: source identity).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// Offset of the record.
    pub offset: Offset,
    /// xxh3-64 over key, value and timestamp of the record.
    pub hash: u64,
}

/// Where one partition stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The next offset to read.
    pub next: Offset,
    /// The greatest version given so far, in milliseconds: the running maximum of record timestamps.
    pub version: Option<Millis>,
    /// The last record read, if there was one.
    pub fingerprint: Option<Fingerprint>,
}

impl Position {
    /// A position that starts at `next` and remembers nothing.
    pub const fn at(next: Offset) -> Self {
        Self { next, version: None, fingerprint: None }
    }
}

/// A half-open range of offsets, `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// First offset.
    pub start: Offset,
    /// First offset past the end.
    pub end: Offset,
}

impl Range {
    /// The number of offsets in the range; not the number of records, since compaction and
    /// transaction markers leave holes.
    pub const fn len(&self) -> u64 {
        if self.end > self.start { (self.end - self.start) as u64 } else { 0 }
    }

    /// True when the range holds no offset.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }
}

/// What one run reads: a range of offsets for each partition, frozen when the run is planned.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Slice(#[serde(with = "by_partition")] BTreeMap<Partition, Range>);

impl Slice {
    /// A slice of the given ranges; empty ranges are left out.
    pub fn new(ranges: impl IntoIterator<Item = (Partition, Range)>) -> Self {
        Self(ranges.into_iter().filter(|(_, range)| !range.is_empty()).collect())
    }

    /// The ranges, by partition.
    pub fn ranges(&self) -> impl Iterator<Item = (Partition, Range)> + '_ {
        self.0.iter().map(|(partition, range)| (*partition, *range))
    }

    /// The range of one partition.
    pub fn range(&self, partition: Partition) -> Option<Range> {
        self.0.get(&partition).copied()
    }

    /// The number of offsets over all partitions.
    pub fn offsets(&self) -> u64 {
        self.0.values().map(Range::len).sum()
    }

    /// The number of partitions that have something to read.
    pub fn partitions(&self) -> usize {
        self.0.len()
    }

    /// True when there is nothing to read.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A stable digest of the ranges (SHA-256, hex, first 32 characters). Two runs that carry the
    /// same id must carry the same digest.
    pub fn digest(&self) -> String {
        let text: String = self.0.iter().map(|(partition, range)| format!("{partition}:{}-{};", range.start, range.end)).collect();
        hex(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()).as_ref())[..32].to_owned()
    }

    /// The first part of this slice with about `max_offsets` offsets. Each partition gives in
    /// proportion to what it has, so that all of them move through time together; the last part
    /// takes what is left.
    pub fn capped(&self, max_offsets: u64) -> Slice {
        let total = self.offsets();
        if total <= max_offsets.max(1) {
            return self.clone();
        }
        Slice::new(self.0.iter().map(|(partition, range)| {
            let share = u128::from(range.len()) * u128::from(max_offsets) / u128::from(total);
            let share = (share as u64).max(1).min(range.len());
            (*partition, Range { start: range.start, end: range.start + share as Offset })
        }))
    }
}

/// Maps by partition in JSON, whose keys are texts. Inside tagged or flattened types serde hands keys on
/// as texts and does not turn them into numbers again, so that is done here.
pub mod by_partition {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

    use super::Partition;

    /// Writes the map with its keys as texts.
    pub fn serialize<T: Serialize, S: Serializer>(map: &BTreeMap<Partition, T>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(map.iter().map(|(partition, value)| (partition.to_string(), value)))
    }

    /// Reads it back.
    pub fn deserialize<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<Partition, T>, D::Error> {
        let texts = BTreeMap::<String, T>::deserialize(deserializer)?;
        texts.into_iter().map(|(text, value)| text.parse().map(|partition| (partition, value)).map_err(D::Error::custom)).collect()
    }
}

/// Lower-case hexadecimal text of some bytes.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Why a checkpoint refused to advance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PositionError {
    /// The slice does not start where the checkpoint stands.
    #[error("partition {partition}: the slice starts at offset {start} but the checkpoint stands at {next}")]
    NotContiguous {
        /// The partition concerned.
        partition: Partition,
        /// Where the slice starts.
        start: Offset,
        /// Where the checkpoint stands.
        next: Offset,
    },
    /// A position to advance to lies outside of the slice's end.
    #[error("partition {partition}: the new position {next} is not the slice's end {end}")]
    NotAtEnd {
        /// The partition concerned.
        partition: Partition,
        /// The position offered.
        next: Offset,
        /// The slice's end.
        end: Offset,
    },
}

/// The next offset to read, for each partition.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Checkpoint(#[serde(with = "by_partition")] BTreeMap<Partition, Position>);

impl Checkpoint {
    /// A checkpoint of the given positions.
    pub fn new(positions: impl IntoIterator<Item = (Partition, Position)>) -> Self {
        Self(positions.into_iter().collect())
    }

    /// A checkpoint that stands at the given offsets and remembers nothing else.
    pub fn at(offsets: &BTreeMap<Partition, Offset>) -> Self {
        Self(offsets.iter().map(|(partition, offset)| (*partition, Position::at(*offset))).collect())
    }

    /// The position of one partition. A partition that was never seen stands at offset 0: partitions
    /// may be added to a topic, and then they are read from their beginning.
    pub fn position(&self, partition: Partition) -> Position {
        self.0.get(&partition).copied().unwrap_or(Position::at(0))
    }

    /// True when the partition has been seen before.
    pub fn knows(&self, partition: Partition) -> bool {
        self.0.contains_key(&partition)
    }

    /// The positions, by partition.
    pub fn positions(&self) -> impl Iterator<Item = (Partition, Position)> + '_ {
        self.0.iter().map(|(partition, position)| (*partition, *position))
    }

    /// What lies between this checkpoint and the given ends.
    pub fn until(&self, ends: &BTreeMap<Partition, Offset>) -> Slice {
        Slice::new(ends.iter().map(|(partition, end)| (*partition, Range { start: self.position(*partition).next, end: *end })))
    }

    /// Fails unless `slice` starts exactly where this checkpoint stands.
    pub fn expect_start_of(&self, slice: &Slice) -> Result<(), PositionError> {
        for (partition, range) in slice.ranges() {
            let next = self.position(partition).next;
            if next != range.start {
                return Err(PositionError::NotContiguous { partition, start: range.start, next });
            }
        }
        Ok(())
    }

    /// The checkpoint after `slice` was read up to `reached`. Every partition of the slice must start
    /// where this checkpoint stands and reach its end.
    pub fn advanced(&self, slice: &Slice, reached: &Checkpoint) -> Result<Checkpoint, PositionError> {
        self.expect_start_of(slice)?;
        let mut after = self.clone();
        for (partition, range) in slice.ranges() {
            let position = reached.position(partition);
            if position.next != range.end {
                return Err(PositionError::NotAtEnd { partition, next: position.next, end: range.end });
            }
            after.0.insert(partition, position);
        }
        Ok(after)
    }

    /// Sets the position of one partition.
    pub fn set(&mut self, partition: Partition, position: Position) {
        self.0.insert(partition, position);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: Offset, end: Offset) -> Range {
        Range { start, end }
    }

    #[test]
    fn offset_zero_is_a_position() {
        let checkpoint = Checkpoint::at(&BTreeMap::from([(0, 0)]));
        let slice = checkpoint.until(&BTreeMap::from([(0, 3)]));
        assert_eq!(slice.range(0), Some(range(0, 3)));
        assert!(checkpoint.until(&BTreeMap::from([(0, 0)])).is_empty());
    }

    #[test]
    fn a_gap_or_an_overlap_is_refused() {
        let checkpoint = Checkpoint::at(&BTreeMap::from([(0, 10)]));
        for start in [9, 11] {
            let slice = Slice::new([(0, range(start, 20))]);
            assert_eq!(checkpoint.expect_start_of(&slice), Err(PositionError::NotContiguous { partition: 0, start, next: 10 }));
        }
    }

    #[test]
    fn a_checkpoint_does_not_advance_short_of_the_end() {
        let checkpoint = Checkpoint::default();
        let slice = Slice::new([(0, range(0, 5))]);
        let reached = Checkpoint::new([(0, Position::at(4))]);
        assert_eq!(checkpoint.advanced(&slice, &reached), Err(PositionError::NotAtEnd { partition: 0, next: 4, end: 5 }));
    }

    #[test]
    fn capped_parts_add_up_to_the_whole() {
        let whole = Slice::new([(0, range(0, 1000)), (1, range(50, 60)), (2, range(7, 8))]);
        let mut checkpoint = Checkpoint::new([(1, Position::at(50)), (2, Position::at(7))]);
        let ends = BTreeMap::from([(0, 1000), (1, 60), (2, 8)]);
        let mut parts = 0;
        loop {
            let rest = checkpoint.until(&ends);
            if rest.is_empty() {
                break;
            }
            let part = rest.capped(100);
            assert!(part.offsets() <= 103);
            let reached = Checkpoint::new(part.ranges().map(|(p, r)| (p, Position::at(r.end))));
            checkpoint = checkpoint.advanced(&part, &reached).unwrap();
            parts += 1;
        }
        assert_eq!(checkpoint.until(&ends), Slice::default());
        assert!((10..=13).contains(&parts), "{parts} parts");
        assert_eq!(whole.offsets(), 1011);
    }

    #[test]
    fn digest_tells_slices_apart() {
        let one = Slice::new([(0, range(0, 5)), (1, range(0, 5))]);
        let other = Slice::new([(0, range(0, 5)), (1, range(0, 6))]);
        assert_ne!(one.digest(), other.digest());
        assert_eq!(one.digest(), one.clone().digest());
    }
}
