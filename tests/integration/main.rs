//! Everything that needs more than one module: real Kafka, real object storage, the real binary.
//!
//! `tests/run` installs and starts what these tests need and sets `WAREHOUSE_SYNC_TEST_*`. A missing
//! server fails the tests; none is skipped in silence.

mod architecture;
mod contract;
mod crash;
mod duckdb;
mod golden;
mod kafka;
mod memory;
mod model;
mod support;
mod sync;
mod wire;
