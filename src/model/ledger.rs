//! What the destination's ledger holds: the genesis of a connection, and one entry per committed run.
//!
//! These types are stored as JSON in the customer's warehouse for years. Fields may be added, never
//! renamed; golden files under `tests/golden/` pin the form.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::connection::{ConnectionId, History};
use super::position::{Checkpoint, Millis, Offset, Partition, Slice, by_partition};
use super::run::RunId;
use super::sync::{SyncId, SyncKind};
use super::table::{FileFormat, Object, Table};

/// The version of the stored form that this program writes.
pub const LEDGER_FORMAT: u32 = 1;

/// One stream, as it stood when the connection was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamGenesis {
    /// The topic's name, or the folder's.
    pub topic: String,
    /// The topic's id, where the source can tell it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub topic_id: Option<String>,
    /// The first offsets that the topic still held. Above 0, earlier records had expired before we came.
    #[serde(with = "by_partition")]
    pub lowest: BTreeMap<Partition, Offset>,
    /// Where history begins: the first record published within the window.
    #[serde(with = "by_partition")]
    pub history_start: BTreeMap<Partition, Offset>,
    /// Where history ends and live begins.
    #[serde(with = "by_partition")]
    pub cut: BTreeMap<Partition, Offset>,
}

impl StreamGenesis {
    /// Offsets that had expired before we came, over all partitions.
    pub fn expired(&self) -> u64 {
        self.lowest.values().map(|offset| (*offset).max(0) as u64).sum()
    }
}

/// The first ledger entry of a connection: everything that its later entries are checked against.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Version of this form.
    pub format: u32,
    /// Counts the connections that this destination has had, from 1.
    pub generation: u64,
    /// The connection.
    pub connection: ConnectionId,
    /// Its name, for whoever finds this file.
    pub name: String,
    /// How much history was chosen.
    pub history: History,
    /// Records published before this time are not part of history; `None` for all.
    pub window_start: Option<Millis>,
    /// The time of the cut. Versions of history are capped at it, live ones start at it.
    pub cut_time: Millis,
    /// The streams.
    pub streams: BTreeMap<Object, StreamGenesis>,
    /// When this was written.
    pub created_at: Timestamp,
}

impl Genesis {
    /// Where a sync's chain begins.
    pub fn start_of(&self, sync: SyncId) -> Checkpoint {
        let Some(stream) = self.streams.get(&sync.object) else { return Checkpoint::default() };
        match (sync.object, sync.kind) {
            (Object::Metrics, SyncKind::Periodic) => Checkpoint::at(&stream.lowest),
            (_, SyncKind::Historical) => Checkpoint::at(&stream.history_start),
            (_, SyncKind::Periodic) => Checkpoint::at(&stream.cut),
            (_, SyncKind::Replay) => Checkpoint::default(),
        }
    }
}

/// Rows and their checksum. The checksum is the sum of the rows' `_checksum` columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TableTotals {
    /// Number of rows.
    pub rows: u64,
    /// Sum of `_checksum` (31 bits each, so the sum stays exact for four billion rows).
    pub checksum: u64,
}

impl std::ops::AddAssign for TableTotals {
    fn add_assign(&mut self, other: Self) {
        self.rows += other.rows;
        self.checksum += other.checksum;
    }
}

/// One encoded file, staged under a key that carries the attempt's nonce.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// The table whose rows it holds.
    pub table: Table,
    /// Where it was staged, relative to the destination's root.
    pub staged_key: String,
    /// Where it belongs once committed (object storage).
    pub final_key: String,
    /// Rows and checksum.
    #[serde(flatten)]
    pub totals: TableTotals,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes, hex.
    pub sha256: String,
}

/// What became of the records of a slice.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Records read.
    pub read: u64,
    /// Bytes of keys and values read.
    pub read_bytes: u64,
    /// Rows staged in the object's table.
    pub staged: u64,
    /// Of those, tombstones.
    pub deleted: u64,
    /// Of those, rows that carry `_original`, since a column cannot hold a value exactly.
    #[serde(default)]
    pub with_original: u64,
    /// Records dropped on purpose, by reason.
    pub filtered: BTreeMap<String, u64>,
    /// Records put aside in `KLAVIYO_REJECTED`, by reason.
    pub rejected: BTreeMap<String, u64>,
}

impl Counts {
    /// Sum of [`Counts::filtered`].
    pub fn filtered_total(&self) -> u64 {
        self.filtered.values().sum()
    }

    /// Sum of [`Counts::rejected`].
    pub fn rejected_total(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// True when every record read is accounted for.
    pub fn balances(&self) -> bool {
        self.read == self.staged + self.filtered_total() + self.rejected_total()
    }
}

/// A record among the rejected ones, by its place in the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordPlace {
    /// Partition.
    pub partition: Partition,
    /// Offset.
    pub offset: Offset,
}

/// What one run commits: exactly these files, nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// The run.
    pub run: RunId,
    /// The attempt that staged the files.
    pub attempt: String,
    /// The offsets read.
    pub slice: Slice,
    /// Digest of the slice.
    pub digest: String,
    /// Positions reached, for the slice's partitions.
    pub reached: Checkpoint,
    /// What became of the records.
    pub counts: Counts,
    /// Rows and checksum of each table.
    pub tables: BTreeMap<Table, TableTotals>,
    /// The files.
    pub files: Vec<StagedFile>,
    /// File format.
    pub file_format: FileFormat,
    /// How far the metric catalogue was read for this attempt.
    #[serde(with = "by_partition")]
    pub catalogue: BTreeMap<Partition, Offset>,
    /// When the slice's offsets were frozen; `_synced_at` of every row.
    pub frozen_at: Timestamp,
    /// Replays: the rejected records that are now settled.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settled: Vec<RecordPlace>,
}

/// What a ledger entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum EntryKind {
    /// A run was committed.
    Run {
        /// What it committed.
        manifest: Box<Manifest>,
    },
    /// A person chose to go on behind a gap.
    Skip {
        /// The offsets given up.
        slice: Slice,
        /// Where the chain stands afterwards, for the slice's partitions.
        reached: Checkpoint,
        /// Why.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// A newer connection has taken the destination over; nothing follows.
    Closed {
        /// The newer connection.
        by: ConnectionId,
    },
}

/// One link of a sync's chain in the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Version of this form.
    pub format: u32,
    /// The connection.
    pub connection: ConnectionId,
    /// The sync.
    pub sync: SyncId,
    /// Number in the chain, from 1.
    pub sequence: u64,
    /// What happened.
    #[serde(flatten)]
    pub kind: EntryKind,
    /// Where the whole chain stands after this entry, all partitions.
    pub checkpoint: Checkpoint,
    /// Rows and checksum of the whole chain after this entry, by table.
    pub totals: BTreeMap<Table, TableTotals>,
}

impl LedgerEntry {
    /// The manifest, when the entry is a run.
    pub fn manifest(&self) -> Option<&Manifest> {
        match &self.kind {
            EntryKind::Run { manifest } => Some(manifest),
            EntryKind::Skip { .. } | EntryKind::Closed { .. } => None,
        }
    }
}
