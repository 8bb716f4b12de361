//! L0: plain data. No I/O, no async, no clock, no driver types.

pub mod connection;
pub mod error;
pub mod ledger;
pub mod part;
pub mod position;
pub mod record;
pub mod row;
pub mod run;
pub mod sync;
pub mod table;
pub mod time;

pub use connection::{Connection, ConnectionId, ConnectionSpec, ConnectionState};
pub use error::{Blame, ErrorCode, RetryHint, Stage, SyncError};
pub use ledger::{Counts, EntryKind, Genesis, LedgerEntry, Manifest, StagedFile, TableTotals};
pub use position::{Checkpoint, Fingerprint, Offset, Partition, Position, Range, Slice};
pub use run::{Certificate, Run, RunEvent, RunId, RunSpec, RunState};
pub use sync::{Intent, Sync, SyncId, SyncKind, Trouble};
pub use table::{FileFormat, Object, Table};
