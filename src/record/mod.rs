//! From a record of the stream to a row: parse, know the metrics, filter.

pub mod filter;
pub mod metrics;
pub mod parse;
