//! Logs and metrics. Every metric's name stands here, once.

use std::io::IsTerminal as _;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// Records read from the source, by `sync`.
pub const RECORDS_READ: &str = "warehouse_sync_records_read_total";
/// Bytes of keys and values read from the source, by `sync`.
pub const BYTES_READ: &str = "warehouse_sync_bytes_read_total";
/// Rows committed, by `sync`.
pub const ROWS_COMMITTED: &str = "warehouse_sync_rows_committed_total";
/// Records put aside, by `sync` and `reason`.
pub const RECORDS_REJECTED: &str = "warehouse_sync_records_rejected_total";
/// Records dropped on purpose, by `sync` and `reason`.
pub const RECORDS_FILTERED: &str = "warehouse_sync_records_filtered_total";
/// Runs that ended, by `sync` and `outcome` (`committed`, `waiting`, `failed`).
pub const RUNS: &str = "warehouse_sync_runs_total";
/// Seconds from the start of a run's attempt to its commit, by `sync`.
pub const RUN_SECONDS: &str = "warehouse_sync_run_duration_seconds";
/// Failures, by `sync` and `code`.
pub const ERRORS: &str = "warehouse_sync_errors_total";
/// Age of the oldest record that is not committed, in seconds, by `sync` (an upper bound, as in `status`).
pub const FRESHNESS_SECONDS: &str = "warehouse_sync_freshness_seconds";
/// Offsets planned or published and not committed, by `sync`.
pub const LAG_OFFSETS: &str = "warehouse_sync_lag_offsets";

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// Starts logging to standard error. `RUST_LOG` decides what is logged; by default warnings, and
/// everything that concerns runs; librdkafka's failures are reported where they are handled.
pub fn start_logging(format: LogFormat, quiet: bool) {
    let standard = if quiet { "error,librdkafka=off,rdkafka=off" } else { "warn,warehouse_sync=info,librdkafka=off,rdkafka=off" };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(standard));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    // A second start in one process (tests) keeps the first.
    drop(started);
}

/// Starts collecting metrics and gives what renders them for Prometheus.
pub fn start_metrics() -> Option<PrometheusHandle> {
    let handle = PrometheusBuilder::new().install_recorder().ok()?;
    metrics::describe_counter!(RECORDS_READ, "Records read from the source");
    metrics::describe_counter!(BYTES_READ, metrics::Unit::Bytes, "Bytes read from the source");
    metrics::describe_counter!(ROWS_COMMITTED, "Rows committed");
    metrics::describe_counter!(RECORDS_REJECTED, "Records put aside in KLAVIYO_REJECTED");
    metrics::describe_counter!(RECORDS_FILTERED, "Records dropped on purpose");
    metrics::describe_counter!(RUNS, "Runs that ended");
    metrics::describe_histogram!(RUN_SECONDS, metrics::Unit::Seconds, "Duration of runs");
    metrics::describe_counter!(ERRORS, "Failures");
    metrics::describe_gauge!(FRESHNESS_SECONDS, metrics::Unit::Seconds, "Age of the oldest record that is not committed");
    metrics::describe_gauge!(LAG_OFFSETS, "Offsets not committed yet");
    Some(handle)
}
