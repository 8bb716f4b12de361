//! What can be said on the command line. The doc comments are the help.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::model::SyncId;
use crate::telemetry::LogFormat;

/// Keeps KLAVIYO_PROFILE, KLAVIYO_EVENT and KLAVIYO_METRIC in your warehouse complete and current: every
/// record of the stream exactly once, or you are told which one is not and why.
///
/// To look around without a broker or an account: `warehouse-sync demo`.
///
/// First steps: write warehouse-sync.toml (where Kafka is) and connection.toml (what goes where), then
/// `check`, `preview`, `connect`, `serve`.
#[derive(Debug, Parser)]
#[command(
    name = "warehouse-sync",
    version,
    max_term_width = 110,
    after_help = "Exit codes: 0 done; 1 something failed, and it was said why; 2 wrong usage or configuration; 3 cannot connect; 4 verification found a difference."
)]
pub struct Arguments {
    /// Settings of the process [default: ./warehouse-sync.toml, then /etc/warehouse-sync/warehouse-sync.toml]
    #[arg(long, global = true, value_name = "FILE", env = "WAREHOUSE_SYNC_CONFIG")]
    pub config: Option<PathBuf>,

    /// How log lines look
    #[arg(long, global = true, value_enum, default_value = "text")]
    pub log_format: LogFormat,

    /// What to do
    #[command(subcommand)]
    pub verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show everything on an embedded Kafka broker and a local folder; needs nothing installed
    Demo(DemoOptions),
    /// Try everything that a connection will need, step by step, and change nothing
    Check {
        /// The connection's settings
        file: PathBuf,
    },
    /// Count and estimate what a connection would read and write, before anything is written
    Preview {
        /// The connection's settings
        file: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the connection: check, freeze the cut between history and live, write the ledger's first entry
    Connect(ConnectOptions),
    /// Remove the connection from our state; what is in the destination stays
    Disconnect,
    /// Show or change the connection
    Connection {
        /// What to do with it
        #[command(subcommand)]
        verb: ConnectionVerb,
    },
    /// Keep everything in sync until stopped; answers /healthz, /readyz and /metrics
    Serve,
    /// Do all that is due once, then exit (for cron)
    Run(RunOptions),
    /// Show the connection and its syncs: status, progress, freshness, errors
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Pause, resume, retry, run now or skip
    Syncs {
        /// What to do
        #[command(subcommand)]
        verb: SyncsVerb,
    },
    /// List runs, newest first; or show one with its certificate
    Runs(RunsOptions),
    /// List failures, newest first
    Errors(ErrorsOptions),
    /// List, export or replay the records that were put aside
    Rejected {
        /// What to do
        #[command(subcommand)]
        verb: RejectedVerb,
    },
    /// Prove that the destination holds exactly what its ledger says
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// Options of `demo`.
#[derive(Debug, Clone, Args)]
pub struct DemoOptions {
    /// Where to put everything [default: a new folder below the system's temporary folder]
    #[arg(long, value_name = "FOLDER")]
    pub folder: Option<PathBuf>,
    /// Events of the sample year
    #[arg(long, default_value_t = 250_000)]
    pub events: usize,
    /// Go on serving, with a new "hour" every few seconds, until stopped with Ctrl-C
    #[arg(long)]
    pub keep: bool,
}

/// Options of `connect`.
#[derive(Debug, Args)]
pub struct ConnectOptions {
    /// The connection's settings
    pub file: PathBuf,
    /// Go on where the connection stopped that the destination already holds
    #[arg(long, conflicts_with = "fresh")]
    pub adopt: bool,
    /// Start anew under a new connection id; an engine that still serves the earlier one can commit no more
    #[arg(long)]
    pub fresh: bool,
}

/// Verbs of `connection`.
#[derive(Debug, Subcommand)]
pub enum ConnectionVerb {
    /// Show its settings, without secrets
    Show {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Change credentials or the selection; filters apply from the next run on
    Edit {
        /// The new settings
        file: PathBuf,
    },
    /// Try to establish it again
    Retry,
    /// Switch it off; can be enabled again
    Disable,
    /// Switch it on again
    Enable,
    /// Remove it from our state; what is in the destination stays
    Remove,
}

/// Options of `run`.
#[derive(Debug, Args)]
pub struct RunOptions {
    /// Look at periodic syncs now, not at their scheduled time
    #[arg(long)]
    pub now: bool,
}

/// Verbs of `syncs`.
#[derive(Debug, Subcommand)]
pub enum SyncsVerb {
    /// Pause; returns once nothing is being written any more
    Pause {
        /// The sync; all when left out
        sync: Option<SyncId>,
    },
    /// Go on, from the exact offset
    Resume {
        /// The sync; all when left out
        sync: Option<SyncId>,
    },
    /// Try again now what has failed or waits; goes on where it stopped
    Retry {
        /// The sync; all when left out
        sync: Option<SyncId>,
        /// Let a run pass although too many of its records are rejected
        #[arg(long)]
        accept_rejected: bool,
    },
    /// Look for new records now, not at the scheduled time
    RunNow {
        /// The sync; all periodic ones when left out
        sync: Option<SyncId>,
    },
    /// Give up offsets that the source has lost, book the gap in the ledger, and go on behind it
    Skip {
        /// The sync
        sync: SyncId,
        /// Why, for whoever reads the ledger
        #[arg(long, default_value = "skipped by a person")]
        reason: String,
    },
}

/// Options of `runs`.
#[derive(Debug, Args)]
pub struct RunsOptions {
    /// The sync; all when left out
    pub sync: Option<SyncId>,
    /// Show one run with its certificate
    #[arg(long, value_name = "RUN")]
    pub run: Option<uuid::Uuid>,
    /// How many
    #[arg(long, default_value_t = 20)]
    pub limit: u32,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Options of `errors`.
#[derive(Debug, Args)]
pub struct ErrorsOptions {
    /// The sync; all when left out
    pub sync: Option<SyncId>,
    /// How far back, such as `24h` or `7d`
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    pub since: std::time::Duration,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Verbs of `rejected`.
#[derive(Debug, Subcommand)]
pub enum RejectedVerb {
    /// List the records that were put aside and not settled since
    List {
        /// Those of one run only
        #[arg(long, value_name = "RUN")]
        run: Option<uuid::Uuid>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Write them, with their values, as lines of JSON
    Export {
        /// The file; standard output when left out
        file: Option<PathBuf>,
    },
    /// Give them another try; what becomes a row this time is settled
    Replay {
        /// Those of one run only
        #[arg(long, value_name = "RUN")]
        run: Option<uuid::Uuid>,
    },
}
