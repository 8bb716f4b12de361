//! Proof after the fact: the chain of slices of every sync, the ledger's running totals, and what the
//! tables really hold.

use std::collections::{BTreeMap, BTreeSet};

use futures::{StreamExt as _, stream};
use serde::Serialize;

use super::replay::ReplayRecord;
use crate::destination::{Destination, Fetched};
use crate::encode;
use crate::model::ledger::RecordPlace;
use crate::model::{
    EntryKind, ErrorCode, FileFormat, Genesis, LedgerEntry, Manifest, Object, Stage, StagedFile, SyncError, SyncId, SyncKind, Table,
    TableTotals,
};

/// Files read at the same time.
const FILES_AT_ONCE: usize = 2;

/// One sync's chain, checked.
#[derive(Debug, Clone, Serialize)]
pub struct ChainReport {
    /// The sync.
    pub sync: SyncId,
    /// Committed runs.
    pub runs: u64,
    /// Gaps that a person skipped.
    pub skips: u64,
    /// Offsets from the chain's start to its checkpoint.
    pub offsets: u64,
    /// Offsets among them that a person gave up.
    pub skipped_offsets: u64,
    /// Records read.
    pub read: u64,
    /// Rows committed.
    pub rows: u64,
    /// Records dropped on purpose.
    pub filtered: u64,
    /// Records put aside.
    pub rejected: u64,
    /// Rejected records that a replay has settled (replays only).
    pub settled: u64,
}

/// One table, checked.
#[derive(Debug, Clone, Serialize)]
pub struct TableReport {
    /// The table.
    pub table: Table,
    /// What the ledger says.
    pub ledger: TableTotals,
    /// What is there.
    pub found: TableTotals,
}

/// What verification found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// The chains.
    pub chains: Vec<ChainReport>,
    /// The tables.
    pub tables: Vec<TableReport>,
    /// Files read.
    pub files: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Everything that is not as it should be, in words.
    pub findings: Vec<String>,
    /// Things worth knowing that are no faults, such as records that had expired before we came.
    pub notes: Vec<String>,
}

impl Report {
    /// True when nothing was found.
    pub fn is_clean(&self) -> bool {
        self.findings.is_empty()
    }
}

/// Checks everything that the destination's ledger says against itself and against the tables.
pub async fn verify(destination: &dyn Destination, genesis: &Genesis) -> Result<Report, SyncError> {
    let mut report = Report::default();
    let mut ledger: BTreeMap<Table, TableTotals> = BTreeMap::new();
    let mut all = Vec::new();
    for sync in Object::ALL.into_iter().flat_map(SyncId::chains) {
        let entries = destination.entries(genesis, sync).await?;
        if entries.is_empty() {
            continue;
        }
        let chain = check_chain(genesis, sync, &entries, &mut report.findings);
        report.chains.push(chain);
        if let Some(last) = entries.last() {
            for (table, totals) in &last.totals {
                *ledger.entry(*table).or_default() += *totals;
            }
        }
        all.extend(entries);
    }
    let found = recount(destination, &all, &mut report).await?;
    let tables: BTreeSet<Table> = ledger.keys().chain(found.keys()).copied().collect();
    for table in tables {
        let (ledger, found) = (ledger.get(&table).copied().unwrap_or_default(), found.get(&table).copied().unwrap_or_default());
        if ledger != found {
            report.findings.push(format!(
                "{table}: the ledger says {} rows with checksum {}, there are {} with {}",
                ledger.rows, ledger.checksum, found.rows, found.checksum
            ));
        }
        report.tables.push(TableReport { table, ledger, found });
    }
    for (object, stream) in &genesis.streams {
        if stream.expired() > 0 && genesis.window_start.is_none() {
            report.notes.push(format!(
                "{object}: {} offsets had expired from `{}` before the connection was made",
                stream.expired(),
                stream.topic
            ));
        }
    }
    Ok(report)
}

/// Reads every committed file again: its hash, its rows and their checksums.
async fn recount(
    destination: &dyn Destination,
    entries: &[LedgerEntry],
    report: &mut Report,
) -> Result<BTreeMap<Table, TableTotals>, SyncError> {
    let files = entries
        .iter()
        .filter_map(LedgerEntry::manifest)
        .flat_map(|manifest| manifest.files.iter().map(|file| (file, manifest.file_format)));
    let mut counted = stream::iter(files)
        .map(|(file, format)| async move { (file, count_file(destination, file, format).await) })
        .buffer_unordered(FILES_AT_ONCE);
    let mut found: BTreeMap<Table, TableTotals> = BTreeMap::new();
    while let Some((file, counted)) = counted.next().await {
        report.files += 1;
        report.bytes += file.bytes;
        match counted? {
            Ok(totals) => {
                *found.entry(file.table).or_default() += totals;
                if totals != file.totals {
                    report.findings.push(format!(
                        "file `{}` holds {} rows with checksum {}, not {} with {}",
                        file.final_key, totals.rows, totals.checksum, file.totals.rows, file.totals.checksum
                    ));
                }
            }
            Err(finding) => report.findings.push(format!("file `{}` {finding}", file.final_key)),
        }
    }
    Ok(found)
}

/// The inner error is what is wrong with the file, in words.
async fn count_file(
    destination: &dyn Destination,
    file: &StagedFile,
    format: FileFormat,
) -> Result<Result<TableTotals, String>, SyncError> {
    let table = file.table;
    let counted = match destination.fetch(file).await? {
        Fetched::Missing => return Ok(Err("is missing".to_owned())),
        Fetched::Altered => return Ok(Err("was altered: its SHA-256 is not the one that was committed".to_owned())),
        Fetched::Whole(copy) => tokio::task::spawn_blocking(move || encode::recount(copy.path(), table, format)).await,
    };
    let counted = counted.map_err(|error| SyncError::internal(Stage::Verify, "a reader of files panicked").external(error))?;
    Ok(counted.map_err(|error| format!("cannot be read: {error}")))
}

/// Walks a chain from its start: every slice must begin where the one before ended, every total must
/// follow from the one before.
pub fn check_chain(genesis: &Genesis, sync: SyncId, entries: &[LedgerEntry], findings: &mut Vec<String>) -> ChainReport {
    let mut chain =
        ChainReport { sync, runs: 0, skips: 0, offsets: 0, skipped_offsets: 0, read: 0, rows: 0, filtered: 0, rejected: 0, settled: 0 };
    let mut checkpoint = genesis.start_of(sync);
    let mut totals: BTreeMap<Table, TableTotals> = BTreeMap::new();
    for (index, entry) in entries.iter().enumerate() {
        let place = format!("{sync} entry {}", entry.sequence);
        if entry.sequence != index as u64 + 1 {
            findings.push(format!("{place}: expected entry {}", index + 1));
        }
        let (slice, reached) = match &entry.kind {
            EntryKind::Run { manifest } => {
                chain.runs += 1;
                chain.read += manifest.counts.read;
                chain.rows += manifest.counts.staged;
                chain.filtered += manifest.counts.filtered_total();
                chain.rejected += manifest.counts.rejected_total();
                chain.settled += manifest.settled.len() as u64;
                if !manifest.counts.balances() {
                    findings.push(format!("{place}: read {} is not staged + filtered + rejected", manifest.counts.read));
                }
                if manifest.digest != manifest.slice.digest() {
                    findings.push(format!("{place}: the digest is not that of its slice"));
                }
                if sync.kind != SyncKind::Replay && manifest.counts.read > manifest.slice.offsets() {
                    findings.push(format!("{place}: more records than offsets"));
                }
                let mut of_files: BTreeMap<Table, TableTotals> = BTreeMap::new();
                for file in &manifest.files {
                    *of_files.entry(file.table).or_default() += file.totals;
                }
                if of_files != manifest.tables {
                    findings.push(format!("{place}: its files do not add up to its tables"));
                }
                for (table, added) in &manifest.tables {
                    *totals.entry(*table).or_default() += *added;
                }
                (&manifest.slice, &manifest.reached)
            }
            EntryKind::Skip { slice, reached, .. } => {
                chain.skips += 1;
                chain.skipped_offsets += slice.offsets();
                (slice, reached)
            }
            EntryKind::Closed { .. } => continue,
        };
        chain.offsets += slice.offsets();
        match checkpoint.advanced(slice, reached) {
            Ok(next) => checkpoint = next,
            Err(error) => findings.push(format!("{place}: {error}")),
        }
        if checkpoint != entry.checkpoint {
            findings.push(format!("{place}: its checkpoint does not follow from the one before"));
            checkpoint = entry.checkpoint.clone();
        }
        if totals != entry.totals {
            findings.push(format!("{place}: its totals do not follow from the ones before"));
            totals = entry.totals.clone();
        }
    }
    chain
}

/// The rejected records of an object that no replay has settled, each with the entry that rejected it.
pub async fn open_rejected(
    destination: &dyn Destination,
    genesis: &Genesis,
    object: Object,
) -> Result<Vec<(SyncId, ReplayRecord)>, SyncError> {
    let mut open: BTreeMap<RecordPlace, (SyncId, ReplayRecord)> = BTreeMap::new();
    let mut settled = BTreeSet::new();
    for sync in SyncId::chains(object) {
        for entry in destination.entries(genesis, sync).await? {
            let Some(manifest) = entry.manifest() else { continue };
            settled.extend(manifest.settled.iter().copied());
            // A replay that rejects a record again leaves it where it was.
            if sync.kind == SyncKind::Replay || manifest.counts.rejected_total() == 0 {
                continue;
            }
            for record in rejected(destination, manifest).await? {
                open.insert(RecordPlace { partition: record.partition, offset: record.offset }, (sync, record));
            }
        }
    }
    open.retain(|place, _| !settled.contains(place));
    Ok(open.into_values().collect())
}

/// The records that a run put aside.
async fn rejected(destination: &dyn Destination, manifest: &Manifest) -> Result<Vec<ReplayRecord>, SyncError> {
    let mut records = Vec::new();
    let format = manifest.file_format;
    let unreadable = |file: &StagedFile| {
        SyncError::new(ErrorCode::ObjectChanged, Stage::Verify, format!("the file `{}` is missing or was altered", file.final_key))
    };
    for file in manifest.files.iter().filter(|file| file.table == Table::Rejected) {
        let Fetched::Whole(copy) = destination.fetch(file).await? else { return Err(unreadable(file)) };
        let read = tokio::task::spawn_blocking(move || {
            let mut rows = Vec::new();
            encode::rows(copy.path(), format, &mut |row| {
                rows.push(row);
                Ok(())
            })
            .map(|()| rows)
        });
        let rows = read.await.map_err(|error| SyncError::internal(Stage::Verify, "a reader of files panicked").external(error))?;
        for row in rows.map_err(|error| unreadable(file).external(error))? {
            records.push(ReplayRecord::from_row(&row)?);
        }
    }
    Ok(records)
}
