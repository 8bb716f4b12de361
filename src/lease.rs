//! Who executes: at most one process at a time for one state file.
//!
//! A lock on a file beside the state, held by the operating system for the life of the process: it is
//! gone the moment the process is, however it ended. Exactly-once does not depend on it (the ledger
//! decides); it only keeps `run` beside `serve` from doing the same work twice.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::path::Path;

use crate::model::{ErrorCode, Stage, SyncError};

/// The right to execute runs; given back when dropped.
#[derive(Debug)]
pub struct Lease {
    _file: File,
}

impl Lease {
    /// Takes the lease, or says who holds it.
    pub fn take(path: &Path) -> Result<Self, SyncError> {
        let failed = |error: std::io::Error| {
            SyncError::new(ErrorCode::LocalDisk, Stage::Configuration, format!("the lock {} cannot be taken", path.display()))
                .external(error)
        };
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        let mut file = OpenOptions::new().create(true).truncate(false).read(true).write(true).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {
                file.set_len(0).and_then(|()| file.rewind()).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
                Ok(Self { _file: file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                drop(file.read_to_string(&mut holder));
                let summary = format!("another warehouse-sync (process {}) works on this state already", holder.trim());
                Err(SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Configuration, summary)
                    .hint("It does the work; stop it first if you want this one to."))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    /// True when some process holds the lease.
    pub fn is_held(path: &Path) -> bool {
        OpenOptions::new().read(true).open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s.lock");
        assert!(!Lease::is_held(&path));
        let lease = Lease::take(&path).unwrap();
        assert!(Lease::is_held(&path));
        let error = Lease::take(&path).unwrap_err();
        assert!(error.summary.contains(&std::process::id().to_string()), "{}", error.summary);
        drop(lease);
        Lease::take(&path).unwrap();
    }
}
