//! Exactly-once export of Klaviyo profile, event and metric streams to a warehouse.
//!
//! ```text
//!  Kafka / folder      L2 source     read a frozen slice, each partition in order
//!        │
//!     records          L2 record     parse just what is needed, know the metrics, filter
//!        │
//!       rows           L2 encode     NDJSON or Parquet, checksum each row, compress
//!        │
//!    part files        L3 engine     stage → account → commit → certify → clean
//!        │
//!  S3 / folder         L2 destination  the ledger there is the truth; creating an entry is the commit
//!
//!  L4 control          what people want, what is due, the loop that reconciles the two
//!  L2 store            our cache of the ledger and people's wishes (SQLite)
//!  L5 cli, http, demo  how people talk to it
//! ```
//!
//! A file imports only from lower-numbered layers; L0 is [`model`], L1 are [`config`], [`clock`],
//! [`telemetry`], [`lease`] and [`boundary`]. `tests/integration/architecture.rs` enforces it.

pub mod boundary;
pub mod cli;
pub mod clock;
pub mod config;
pub mod control;
pub mod demo;
pub mod destination;
pub mod encode;
pub mod engine;
pub mod http;
pub mod lease;
pub mod model;
pub mod record;
pub mod source;
pub mod store;
pub mod telemetry;
