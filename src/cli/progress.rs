//! Progress bars on a terminal; nothing when piped, where the log tells what happens.

use std::collections::HashMap;
use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

use crate::control::status::{SyncStatus, status};
use crate::model::{SyncId, SyncKind};
use crate::store::Store;

const REFRESH: Duration = Duration::from_millis(250);

/// Shows how the syncs come along until `done`.
pub async fn show(store: Store, settings: crate::config::SyncSettings, done: CancellationToken) {
    if !std::io::stderr().is_terminal() {
        return;
    }
    let bars = MultiProgress::new();
    let mut shown: HashMap<SyncId, ProgressBar> = HashMap::new();
    let style = ProgressStyle::with_template("{prefix:20} {bar:30.cyan/blue} {msg}").unwrap_or_else(|_| ProgressStyle::default_bar());
    while !done.is_cancelled() {
        if let Ok(status) = status(&store, &settings, true, jiff::Timestamp::now()).await {
            for view in status.syncs.iter().filter(|view| view.sync.kind == SyncKind::Historical || view.status == SyncStatus::InProgress) {
                let bar = shown
                    .entry(view.sync)
                    .or_insert_with(|| bars.add(ProgressBar::new(1000).with_style(style.clone()).with_prefix(view.sync.name())));
                let percent = if view.status == SyncStatus::Completed { 100.0 } else { view.percent.unwrap_or(0.0) };
                bar.set_position((percent * 10.0) as u64);
                let left = view
                    .eta
                    .map(|eta| format!(", about {} left", super::output::duration(eta.duration_since(status.now))))
                    .unwrap_or_default();
                bar.set_message(format!("{percent:5.1} % {}{left}", view.status.label()));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(REFRESH) => {}
            () = done.cancelled() => {}
        }
    }
    for bar in shown.values() {
        bar.finish_and_clear();
    }
}
