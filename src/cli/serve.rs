//! `serve` and `run`: the verbs that do the work.

use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::arguments::RunOptions;
use super::{Exit, output, progress};
use crate::control::Control;
use crate::control::reconcile::{Reconciler, Until};
use crate::http;
use crate::lease::Lease;
use crate::model::{ErrorCode, RunState, Stage, SyncError};
use crate::telemetry;

fn reconciler(control: &Control) -> Reconciler {
    Reconciler {
        store: control.store.clone(),
        source: control.source.clone(),
        clock: control.clock.clone(),
        settings: control.settings.sync.clone(),
        spool: control.settings.spool_folder(),
    }
}

/// Keeps everything in sync until stopped.
pub(super) async fn serve(control: &Control) -> Result<Exit, SyncError> {
    let started = Instant::now();
    let _lease = Lease::take(&control.settings.lock_file())?;
    let metrics = telemetry::start_metrics();
    let listener = http::bind(control.settings.http.listen).await?;
    let address = listener.local_addr().unwrap_or(control.settings.http.listen);
    let stop = stop_on_signal()?;
    let serving = tokio::spawn(http::serve(
        listener,
        http::Served { store: control.store.clone(), settings: control.settings.sync.clone(), metrics },
        stop.clone(),
    ));
    tracing::info!(%address, source = control.source.describe(), ready_ms = started.elapsed().as_millis() as u64, "serving");
    let worked = reconciler(control).work(Until::Stopped, &stop).await;
    stop.cancel();
    let served = serving.await.map_err(|error| SyncError::internal(Stage::Configuration, "the HTTP server panicked").external(error))?;
    worked?;
    served?;
    tracing::info!("stopped");
    Ok(Exit::Done)
}

/// Does all that is due once.
pub(super) async fn run(control: &Control, options: &RunOptions) -> Result<Exit, SyncError> {
    control.connection().await?;
    let _lease = Lease::take(&control.settings.lock_file())?;
    if options.now {
        control.run_now(None).await?;
    }
    let stop = stop_on_signal()?;
    let shown = CancellationToken::new();
    let bars = tokio::spawn(progress::show(control.store.clone(), control.settings.sync.clone(), shown.clone()));
    let worked = reconciler(control).work(Until::Idle, &stop).await;
    shown.cancel();
    drop(bars.await);
    worked?;
    output::print(&super::syncs::render(&control.status().await?))?;
    let mut failed = stop.is_cancelled();
    for sync in control.store.syncs().await? {
        let open = control.store.open_run(sync.id).await?;
        failed |= sync.trouble.is_some()
            || open.is_some_and(|stored| matches!(stored.run.state, RunState::Failed { .. } | RunState::Waiting { .. }));
    }
    Ok(if failed { Exit::Failed } else { Exit::Done })
}

/// The first signal stops staging and lets commits finish; the second ends the process. Either way the
/// next start goes on correctly.
fn stop_on_signal() -> Result<CancellationToken, SyncError> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed =
        |error: std::io::Error| SyncError::new(ErrorCode::Internal, Stage::Configuration, "signals cannot be received").external(error);
    let (mut interrupt, mut terminate) =
        (signal(SignalKind::interrupt()).map_err(failed)?, signal(SignalKind::terminate()).map_err(failed)?);
    let stop = CancellationToken::new();
    let told = stop.clone();
    tokio::spawn(async move {
        for count in 1.. {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if count == 2 {
                tracing::warn!("second signal: stopping at once");
                std::process::exit(1);
            }
            tracing::info!("stopping: staging is given up, commits are finished (signal again to stop at once)");
            told.cancel();
        }
    });
    Ok(stop)
}
