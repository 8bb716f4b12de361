//! The boundaries of the commit protocol, named, so that tests can kill the real process at each of them.
//!
//! With `WAREHOUSE_SYNC_HALT_AT=name` (or `name#n` for the n-th time) in the environment, a thread that
//! comes to that boundary creates the file named by `WAREHOUSE_SYNC_HALT_FILE` and stands still; the
//! test sees the file and sends SIGKILL. Without the variable a boundary costs one comparison.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Every boundary, in the order in which a run passes them.
pub const BOUNDARIES: [&str; 13] = [
    "planned",
    "stage_started",
    "stage_file",
    "stage_loaded",
    "staged",
    "committing",
    "commit_before_point",
    "commit_after_point",
    "commit_copy",
    "commit_before_done",
    "commit_after_done",
    "committed",
    "cleaned",
];

struct Halt {
    name: String,
    nth: u64,
    file: std::path::PathBuf,
    passed: AtomicU64,
}

/// Marks a boundary of the protocol.
pub fn boundary(name: &'static str) {
    static HALT: OnceLock<Option<Halt>> = OnceLock::new();
    let halt = HALT.get_or_init(|| {
        let wanted = std::env::var("WAREHOUSE_SYNC_HALT_AT").ok()?;
        let file = std::env::var_os("WAREHOUSE_SYNC_HALT_FILE")?.into();
        let (name, nth) = wanted.split_once('#').unwrap_or((&wanted, "1"));
        Some(Halt { name: name.to_owned(), nth: nth.parse().ok()?, file, passed: AtomicU64::new(0) })
    });
    let Some(halt) = halt else { return };
    if halt.name == name && halt.passed.fetch_add(1, Ordering::SeqCst) + 1 == halt.nth {
        if let Err(error) = std::fs::write(&halt.file, name) {
            tracing::error!(%error, "cannot tell that the boundary {name} was reached");
        }
        loop {
            std::thread::park();
        }
    }
}
