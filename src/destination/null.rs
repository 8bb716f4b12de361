//! A destination that keeps nothing but its ledger, in memory: what the benchmarks measure reading,
//! parsing and filtering against.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Mutex;

use async_trait::async_trait;

use super::{CheckStep, Destination, Fetched};
use crate::model::ledger::LEDGER_FORMAT;
use crate::model::part::PartFile;
use crate::model::run::Receipt;
use crate::model::{EntryKind, Genesis, LedgerEntry, Manifest, RunId, RunSpec, StagedFile, SyncError, SyncId, Table, TableTotals};

/// Counts rows and forgets them.
#[derive(Default)]
pub struct NullDestination {
    heads: Mutex<HashMap<SyncId, LedgerEntry>>,
}

#[async_trait]
impl Destination for NullDestination {
    fn describe(&self) -> String {
        "nowhere".to_owned()
    }

    async fn check(&self) -> Vec<CheckStep> {
        Vec::new()
    }

    async fn genesis(&self) -> Result<Option<Genesis>, SyncError> {
        Ok(None)
    }

    async fn prepare(&self, _genesis: &Genesis) -> Result<(), SyncError> {
        Ok(())
    }

    async fn stage(&self, _spec: &RunSpec, _run: RunId, _attempt: &str, file: &PartFile) -> Result<StagedFile, SyncError> {
        let (staged_key, final_key) = (String::new(), String::new());
        Ok(StagedFile { table: file.table, staged_key, final_key, totals: file.totals, bytes: file.bytes, sha256: file.sha256.clone() })
    }

    async fn load(&self, _spec: &RunSpec, manifest: &Manifest) -> Result<BTreeMap<Table, TableTotals>, SyncError> {
        Ok(manifest.tables.clone())
    }

    async fn commit(&self, genesis: &Genesis, spec: &RunSpec, manifest: &Manifest) -> Result<Receipt, SyncError> {
        let mut heads = self.heads.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let head = heads.get(&spec.sync);
        let before = head.map_or_else(|| genesis.start_of(spec.sync), |head| head.checkpoint.clone());
        let checkpoint = before.advanced(&manifest.slice, &manifest.reached).unwrap_or(before);
        let mut totals = head.map(|head| head.totals.clone()).unwrap_or_default();
        for (table, added) in &manifest.tables {
            *totals.entry(*table).or_default() += *added;
        }
        let kind = EntryKind::Run { manifest: manifest.clone() };
        let entry = LedgerEntry {
            format: LEDGER_FORMAT,
            connection: spec.connection,
            sync: spec.sync,
            sequence: spec.sequence,
            kind,
            checkpoint,
            totals: totals.clone(),
        };
        heads.insert(spec.sync, entry);
        Ok(Receipt { inserted: manifest.counts.staged, totals, ..Receipt::default() })
    }

    async fn append(&self, _genesis: &Genesis, sync: SyncId, _sequence: u64, _kind: EntryKind) -> Result<LedgerEntry, SyncError> {
        Err(SyncError::internal(crate::model::Stage::Commit, format!("nothing can be appended to {sync} here")))
    }

    async fn head(&self, _genesis: &Genesis, sync: SyncId, _known: u64) -> Result<Option<LedgerEntry>, SyncError> {
        Ok(self.heads.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&sync).cloned())
    }

    async fn entries(&self, _genesis: &Genesis, _sync: SyncId) -> Result<Vec<LedgerEntry>, SyncError> {
        Ok(Vec::new())
    }

    async fn fetch(&self, _file: &StagedFile) -> Result<Fetched, SyncError> {
        Ok(Fetched::Missing)
    }

    async fn discard(&self, _genesis: &Genesis, _run: RunId) -> Result<(), SyncError> {
        Ok(())
    }

    async fn sweep(&self, _genesis: &Genesis, _keep: &HashSet<RunId>) -> Result<usize, SyncError> {
        Ok(0)
    }
}
