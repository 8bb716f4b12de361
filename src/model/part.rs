//! A part file on its way from the encoder to the destination.

use std::path::PathBuf;

use super::ledger::TableTotals;
use super::table::Table;

/// A finished part file on local disk.
#[derive(Debug, Clone)]
pub struct PartFile {
    /// The table.
    pub table: Table,
    /// Number within the attempt and table, from 0.
    pub part: u32,
    /// Where it lies.
    pub path: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 of the bytes, hex.
    pub sha256: String,
    /// Rows and checksum.
    pub totals: TableTotals,
}
