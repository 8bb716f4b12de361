//! `status`, `syncs …`, `runs`, `errors`, `verify`.

use jiff::SignedDuration;

use super::arguments::{ErrorsOptions, RunsOptions, SyncsVerb};
use super::{Exit, output};
use crate::control::Control;
use crate::control::status::{Status, SyncView};
use crate::model::{ErrorCode, Run, RunId, RunState, Stage, SyncError, SyncId, Table};

pub(super) async fn status(control: &Control, json: bool) -> Result<Exit, SyncError> {
    let status = control.status().await?;
    if json {
        output::json(&status)?;
    } else {
        output::print(&render(&status))?;
    }
    Ok(Exit::Done)
}

/// The status, for people.
pub fn render(status: &Status) -> String {
    let Some(view) = &status.connection else {
        return "No connection yet. Write a connection.toml, then `warehouse-sync connect connection.toml`.\n".to_owned();
    };
    let connection = &view.connection;
    let errors: usize = status.syncs.iter().map(|sync| sync.errors_24h).sum();
    let worker = if status.executing { "running" } else { "not running (start `warehouse-sync serve`, or `run`)" };
    let mut text = format!(
        "{}: {} — {}\nErrors in the last 24 hours: {errors}. Engine: {worker}.\n\n",
        connection.spec.name,
        view.destination,
        connection.state.label()
    );
    text += &output::table(
        &["Sync", "Status", "Freshness", "Last look", "Next", "Runs", "Errors 24 h"],
        status.syncs.iter().map(|sync| row(sync, status.now)),
    );
    for sync in &status.syncs {
        if let Some(error) = &sync.error {
            text += &format!("\n{}: {} [{}]\n  what to do: {}\n", sync.sync, error.summary, error.code, error.hint);
        }
        if sync.pending > 0 {
            text +=
                &format!("\n{}: {} events wait for their metric to appear in the metrics stream\n", sync.sync, output::count(sync.pending));
        }
    }
    text
}

fn row(sync: &SyncView, now: jiff::Timestamp) -> Vec<String> {
    let mut label = if sync.pausing { "Pausing…".to_owned() } else { sync.status.label().to_owned() };
    if let Some(percent) = sync.percent {
        label += &format!(" {percent:.1} %");
    }
    if let Some(eta) = sync.eta {
        label += &format!(" (about {} left)", output::duration(eta.duration_since(now)));
    }
    let freshness = match (sync.freshness_seconds, sync.ended_at) {
        (Some(seconds), _) => output::duration(SignedDuration::from_secs(seconds)),
        (None, Some(ended)) => format!("ended {}", output::time(Some(ended))),
        (None, None) => "–".to_owned(),
    };
    let next = match sync.next {
        Some(next) if next <= now => "now".to_owned(),
        next => output::time(next),
    };
    vec![sync.sync.to_string(), label, freshness, output::time(sync.last_look), next, output::count(sync.runs), sync.errors_24h.to_string()]
}

pub(super) async fn run(control: &Control, verb: SyncsVerb) -> Result<Exit, SyncError> {
    match verb {
        SyncsVerb::Pause { sync } => {
            if control.pause(sync).await? {
                output::print("Paused. Nothing is being written any more; `syncs resume` goes on from the exact offset.\n")?;
                Ok(Exit::Done)
            } else {
                output::print("Pausing… A commit is still being finished; `status` shows when it is done.\n")?;
                Ok(Exit::Failed)
            }
        }
        SyncsVerb::Resume { sync } => {
            control.resume(sync).await?;
            output::print("Resumed.\n")?;
            Ok(Exit::Done)
        }
        SyncsVerb::Retry { sync, accept_rejected } => {
            let retried = control.retry(sync, accept_rejected).await?;
            match retried.is_empty() {
                true => output::print("Nothing to retry: nothing has failed or waits.\n")?,
                false => output::print(&format!("Trying again: {}\n", names(&retried)))?,
            }
            Ok(Exit::Done)
        }
        SyncsVerb::RunNow { sync } => {
            let asked = control.run_now(sync).await?;
            output::print(&format!("Asked for a look now: {}\n", names(&asked)))?;
            Ok(Exit::Done)
        }
        SyncsVerb::Skip { sync, reason } => {
            let skipped = control.skip(sync, &reason).await?;
            match skipped {
                0 => output::print("Accepted: deletions that expired unread stay unknown; the sync goes on.\n")?,
                _ => output::print(&format!(
                    "Skipped {} offsets; the gap is in the ledger and in every `verify`.\n",
                    output::count(skipped)
                ))?,
            }
            Ok(Exit::Done)
        }
    }
}

fn names(syncs: &[SyncId]) -> String {
    syncs.iter().map(|sync| sync.to_string()).collect::<Vec<_>>().join(", ")
}

pub(super) async fn runs(control: &Control, options: &RunsOptions) -> Result<Exit, SyncError> {
    if let Some(id) = options.run {
        let run = control.store.run(RunId(id)).await?.ok_or_else(|| {
            SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Verify, format!("there is no run {id}"))
                .hint("`warehouse-sync runs` lists them.")
        })?;
        match (&run.state, options.json) {
            (RunState::Committed { certificate }, false) => output::print(&super::output::certificate(certificate))?,
            _ => output::json(&run)?,
        }
        return Ok(Exit::Done);
    }
    let runs = control.store.runs(options.sync, options.limit).await?;
    if options.json {
        output::json(&runs)?;
    } else {
        output::print(&output::table(
            &["Run", "Sync", "No.", "State", "Read", "Rows", "Filtered", "Rejected", "Planned", "Message"],
            runs.iter().map(run_row),
        ))?;
    }
    Ok(Exit::Done)
}

fn run_row(run: &Run) -> Vec<String> {
    let mut cells = vec![run.id.to_string(), run.spec.sync.to_string(), run.spec.sequence.to_string(), run.state.name().to_owned()];
    match &run.state {
        RunState::Committed { certificate } => {
            let counts = &certificate.counts;
            cells.extend([counts.read, counts.staged, counts.filtered_total(), counts.rejected_total()].map(output::count));
        }
        _ => cells.extend(["–"; 4].map(str::to_owned)),
    }
    cells.push(output::time(Some(run.planned_at)));
    cells.push(match &run.state {
        RunState::Waiting { error, until, .. } => format!("{error}; next try {}", output::time(Some(*until))),
        RunState::Failed { error, .. } => error.to_string(),
        _ => String::new(),
    });
    cells
}

pub(super) async fn errors(control: &Control, options: &ErrorsOptions) -> Result<Exit, SyncError> {
    let back = SignedDuration::try_from(options.since).unwrap_or(SignedDuration::MAX);
    let since = control.clock.now().checked_sub(back).unwrap_or(jiff::Timestamp::MIN);
    let errors = control.store.errors(since, options.sync).await?;
    if options.json {
        output::json(&errors)?;
        return Ok(Exit::Done);
    }
    if errors.is_empty() {
        output::print("No failures.\n")?;
    }
    for record in &errors {
        let error = &record.error;
        let place = [record.sync.map(|sync| sync.to_string()), record.run.map(|run| format!("run {run}"))]
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .join(", ");
        let next = match record.next_try {
            Some(next) => format!("tried again {}", output::time(Some(next))),
            None => "waits for a person".to_owned(),
        };
        output::print(&format!(
            "{}  {}  {place}\n  summary:  {}\n  said:     {}\n  who acts: {}\n  to do:    {}\n  try {}, {next}\n\n",
            output::time(Some(record.at)),
            error.code,
            error.summary,
            error.external.as_deref().unwrap_or("–"),
            error.blame.who_must_act(),
            error.hint,
            record.tries,
        ))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn verify(control: &Control, json: bool) -> Result<Exit, SyncError> {
    let report = control.verify().await?;
    if json {
        output::json(&report)?;
    } else {
        output::print(&render_report(&report))?;
    }
    Ok(if report.is_clean() { Exit::Done } else { Exit::Different })
}

/// A verification's report, for people.
pub fn render_report(report: &crate::engine::verify::Report) -> String {
    let chains = report.chains.iter().map(|chain| {
        let skipped =
            if chain.skips > 0 { format!("{} ({} offsets)", chain.skips, output::count(chain.skipped_offsets)) } else { "0".to_owned() };
        let mut cells = vec![chain.sync.to_string(), chain.runs.to_string(), skipped];
        cells.extend([chain.offsets, chain.read, chain.rows, chain.filtered, chain.rejected, chain.settled].map(output::count));
        cells
    });
    let mut text = output::table(&["Chain", "Runs", "Skips", "Offsets", "Read", "Rows", "Filtered", "Rejected", "Settled"], chains);
    let tables = report.tables.iter().map(|table| {
        let name: Table = table.table;
        let verdict = if table.ledger == table.found { "equal" } else { "DIFFERENT" };
        vec![
            name.to_string(),
            output::count(table.ledger.rows),
            output::count(table.found.rows),
            table.ledger.checksum.to_string(),
            table.found.checksum.to_string(),
            verdict.to_owned(),
        ]
    });
    text += "\n";
    text += &output::table(&["Table", "Rows (ledger)", "Rows (found)", "Checksum (ledger)", "Checksum (found)", ""], tables);
    text += &format!("\n{} files, {} read and hashed.\n", output::count(report.files), output::bytes(report.bytes));
    for note in &report.notes {
        text += &format!("note: {note}\n");
    }
    for finding in &report.findings {
        text += &format!("DIFFERENCE: {finding}\n");
    }
    if report.is_clean() {
        text += "Verified: every slice follows the one before, every file is whole, and rows and checksums equal the ledger.\n";
    }
    text
}
