//! The command line: one file for each group of verbs.

pub mod arguments;
mod connection;
pub mod output;
pub mod progress;
mod rejected;
mod serve;
pub mod syncs;

use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser as _;

use crate::clock::SystemClock;
use crate::config;
use crate::control::Control;
use crate::model::{ErrorCode, Stage, SyncError};
use crate::source;
use crate::store::Store;
use crate::telemetry;

use arguments::{Arguments, Verb};

/// How a command ends, as its exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: done.
    Done,
    /// 1: something failed, and it was said why.
    Failed,
    /// 3: cannot connect.
    CannotConnect,
    /// 4: verification found a difference.
    Different,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(match exit {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::CannotConnect => 3,
            Exit::Different => 4,
        })
    }
}

/// The program.
pub fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let quiet = matches!(arguments.verb, Verb::Demo(_)) || !matches!(arguments.verb, Verb::Serve | Verb::Run(_));
    telemetry::start_logging(arguments.log_format, quiet);
    // Several libraries share rustls; with more than one provider compiled in, it must be told which to use.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: no threads can be started: {error}");
            return ExitCode::from(1);
        }
    };
    let result = runtime.block_on(run(arguments));
    // Blocking reads end by their stop token; what still hangs is not worth waiting for.
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            output::error(&error);
            ExitCode::from(match (error.code, error.stage) {
                (ErrorCode::ConfigurationInvalid | ErrorCode::SecretUnreadable, _) => 2,
                (_, Stage::Connect) => 3,
                _ => 1,
            })
        }
    }
}

async fn run(arguments: Arguments) -> Result<Exit, SyncError> {
    if let Verb::Demo(options) = arguments.verb {
        return crate::demo::run(options).await;
    }
    let settings = config::load(arguments.config.as_deref())?;
    let source = source::open(&settings)?;
    let store = Store::open(&settings.state.path).await?;
    let control = Control { store, source, clock: Arc::new(SystemClock), settings };
    let exit = match arguments.verb {
        Verb::Demo(_) => Ok(Exit::Done),
        Verb::Check { file } => connection::check(&control, &file).await,
        Verb::Preview { file, json } => connection::preview(&control, &file, json).await,
        Verb::Connect(options) => connection::connect(&control, &options).await,
        Verb::Disconnect => connection::remove(&control).await,
        Verb::Connection { verb } => connection::run(&control, verb).await,
        Verb::Serve => serve::serve(&control).await,
        Verb::Run(options) => serve::run(&control, &options).await,
        Verb::Status { json } => syncs::status(&control, json).await,
        Verb::Syncs { verb } => syncs::run(&control, verb).await,
        Verb::Runs(options) => syncs::runs(&control, &options).await,
        Verb::Errors(options) => syncs::errors(&control, &options).await,
        Verb::Rejected { verb } => rejected::run(&control, verb).await,
        Verb::Verify { json } => syncs::verify(&control, json).await,
    };
    control.store.close().await;
    exit
}
