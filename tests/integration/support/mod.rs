//! What the tests share: topics on the real broker, lakes on real storage, the real binary.

pub mod broker;
pub mod engine;
pub mod lake;
pub mod process;
pub mod proxy;

use std::time::{Duration, Instant};

/// A variable that `tests/run` sets.
pub fn variable(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests by `tests/run`, which starts the servers they need"))
}

/// True when the long forms are asked for (`tests/run --long`).
pub fn long() -> bool {
    std::env::var_os("WAREHOUSE_SYNC_TEST_LONG").is_some()
}

/// Waits until a condition holds; fails loudly when it does not within `patience`.
pub fn wait_until(what: &str, patience: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < patience, "waited {patience:?} for: {what}");
        // The interval of the poll, not a guess at how long something takes.
        std::thread::sleep(Duration::from_millis(20));
    }
}
