//! The source's identity: is this still the stream that was read so far, and does it still hold what
//! is to be read next? Pure; each failure is a named error that only a person can answer.

use crate::model::ledger::StreamGenesis;
use crate::model::{Checkpoint, ErrorCode, Offset, Partition, Range, Slice, Stage, SyncError};
use crate::source::Bounds;

/// Checks the stream as it stands now against where a sync stands. `limits` are the offsets that the
/// sync never passes (the cut of a historical sync).
pub fn check(
    name: &str,
    genesis: Option<&StreamGenesis>,
    checkpoint: &Checkpoint,
    limit: Option<&StreamGenesis>,
    now: &Bounds,
) -> Result<(), SyncError> {
    let stop = |code: ErrorCode, summary: String| Err(SyncError::new(code, Stage::Plan, summary));
    if let (Some(before), Some(after)) = (genesis.and_then(|genesis| genesis.topic_id.as_deref()), now.topic_id.as_deref())
        && before != after
    {
        return stop(ErrorCode::TopicRecreated, format!("`{name}` has the id {after}, but the one that was read has {before}"));
    }
    for (partition, position) in checkpoint.positions() {
        if is_done(limit, partition, position.next) {
            continue;
        }
        let Some(next) = now.next.get(&partition) else {
            return stop(ErrorCode::PartitionMissing, format!("partition {partition} of `{name}` is gone"));
        };
        if *next < position.next {
            let summary = format!("partition {partition} of `{name}` ends at offset {next}, but offsets up to {} were read", position.next);
            return stop(ErrorCode::OffsetsReset, summary);
        }
    }
    if let Some((partition, range)) = gap(checkpoint, limit, now).ranges().next() {
        return if checkpoint.knows(partition) {
            let summary = format!(
                "partition {partition} of `{name}` begins at offset {}, but {} is the next to read: {} offsets expired unread",
                range.end,
                range.start,
                range.len()
            );
            stop(ErrorCode::RetentionOverrun, summary)
        } else {
            stop(
                ErrorCode::PartitionAddedLate,
                format!("the new partition {partition} of `{name}` begins at offset {}, not at 0", range.end),
            )
        };
    }
    Ok(())
}

/// The offsets that are next to be read and do not exist any more.
pub fn gap(checkpoint: &Checkpoint, limit: Option<&StreamGenesis>, now: &Bounds) -> Slice {
    Slice::new(now.lowest.iter().filter_map(|(partition, lowest)| {
        let start = checkpoint.position(*partition).next;
        let end = match limit {
            // History never reads partitions that came after the cut, nor anything behind it.
            Some(genesis) => (*lowest).min(genesis.cut.get(partition).copied().unwrap_or(0)),
            None => *lowest,
        };
        (end > start).then_some((*partition, Range { start, end }))
    }))
}

fn is_done(limit: Option<&StreamGenesis>, partition: Partition, next: Offset) -> bool {
    limit.is_some_and(|genesis| genesis.cut.get(&partition).is_none_or(|cut| next >= *cut))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn bounds(partitions: &[(Partition, Offset, Offset)], id: &str) -> Bounds {
        Bounds {
            lowest: partitions.iter().map(|(partition, lowest, _)| (*partition, *lowest)).collect(),
            next: partitions.iter().map(|(partition, _, next)| (*partition, *next)).collect(),
            topic_id: Some(id.to_owned()),
        }
    }

    fn genesis(cut: &[(Partition, Offset)]) -> StreamGenesis {
        StreamGenesis {
            topic: "t".into(),
            topic_id: Some("id".into()),
            lowest: BTreeMap::new(),
            history_start: BTreeMap::new(),
            cut: cut.iter().copied().collect(),
        }
    }

    fn code(checkpoint: &[(Partition, Offset)], limited: bool, now: &Bounds) -> Option<ErrorCode> {
        let genesis = genesis(&[(0, 50), (1, 50)]);
        let checkpoint = Checkpoint::at(&checkpoint.iter().copied().collect());
        check("t", Some(&genesis), &checkpoint, limited.then_some(&genesis), now).err().map(|error| error.code)
    }

    #[test]
    fn topic_recreated_stops_the_sync() {
        assert_eq!(code(&[(0, 10)], false, &bounds(&[(0, 0, 100)], "other")), Some(ErrorCode::TopicRecreated));
        assert_eq!(code(&[(0, 10)], false, &bounds(&[(0, 0, 5)], "id")), Some(ErrorCode::OffsetsReset));
        assert_eq!(code(&[(0, 10), (1, 3)], false, &bounds(&[(0, 0, 20)], "id")), Some(ErrorCode::PartitionMissing));
        assert_eq!(code(&[(0, 10)], false, &bounds(&[(0, 0, 10)], "id")), None);
    }

    #[test]
    fn retention_overrun_stops_the_sync() {
        assert_eq!(code(&[(0, 10)], false, &bounds(&[(0, 11, 100)], "id")), Some(ErrorCode::RetentionOverrun));
        assert_eq!(code(&[(0, 10)], false, &bounds(&[(0, 10, 100)], "id")), None);
    }

    #[test]
    fn added_partitions_are_read_from_their_beginning_or_stop_the_sync() {
        assert_eq!(code(&[(0, 10)], false, &bounds(&[(0, 0, 100), (7, 0, 5)], "id")), None);
        assert_eq!(code(&[(0, 10)], false, &bounds(&[(0, 0, 100), (7, 1, 5)], "id")), Some(ErrorCode::PartitionAddedLate));
        assert_eq!(code(&[(0, 10)], true, &bounds(&[(0, 0, 100), (7, 1, 5)], "id")), None, "history does not read them");
    }

    #[test]
    fn what_history_has_finished_may_expire() {
        assert_eq!(code(&[(0, 50)], true, &bounds(&[(0, 80, 100)], "id")), None);
        let checkpoint = Checkpoint::at(&BTreeMap::from([(0, 10)]));
        let gap = gap(&checkpoint, Some(&genesis(&[(0, 50)])), &bounds(&[(0, 80, 100)], "id"));
        assert_eq!(gap.range(0), Some(Range { start: 10, end: 50 }));
    }
}
