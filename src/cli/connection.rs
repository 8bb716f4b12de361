//! `check`, `preview`, `connect`, `disconnect`, `connection …`.

use std::path::Path;

use super::Exit;
use super::arguments::{ConnectOptions, ConnectionVerb};
use super::output;
use crate::config;
use crate::control::Control;
use crate::control::connect::Takeover;
use crate::destination::{CheckOutcome, CheckStep};
use crate::model::{Connection, SyncError};

fn failed(steps: &[CheckStep]) -> bool {
    steps.iter().any(|step| step.outcome == CheckOutcome::Failed)
}

pub(super) async fn check(control: &Control, file: &Path) -> Result<Exit, SyncError> {
    let spec = config::load_connection(file)?;
    let steps = control.check(&spec).await?;
    output::print(&format!("Checking {}\n", spec.destination.describe()))?;
    output::steps(&steps)?;
    Ok(if failed(&steps) { Exit::CannotConnect } else { Exit::Done })
}

pub(super) async fn preview(control: &Control, file: &Path, json: bool) -> Result<Exit, SyncError> {
    let spec = config::load_connection(file)?;
    let preview = control.preview(&spec).await?;
    if json {
        output::json(&preview)?;
        return Ok(Exit::Done);
    }
    for object in &preview.objects {
        let reach = match object.oldest {
            Some(oldest) => {
                let days = control.clock.now().duration_since(oldest).as_hours() / 24;
                let asked = spec.history.days().filter(|asked| *asked > days);
                let asked = asked.map(|asked| format!("; you asked for {asked} days")).unwrap_or_default();
                format!("the topic holds {days} days{asked}")
            }
            None => "the topic is empty".to_owned(),
        };
        let expired =
            if object.expired > 0 { format!(", {} offsets have expired already", output::count(object.expired)) } else { String::new() };
        output::print(&format!("\n{} from `{}` ({} partitions): {reach}{expired}\n", object.object, object.topic, object.partitions))?;
        let rows = object.windows.iter().map(|window| {
            let chosen = if window.history == spec.history { "→ " } else { "  " };
            vec![
                format!("{chosen}{}", window.history.text()),
                output::count(window.records_at_most),
                output::bytes(window.stream_bytes),
                output::count(window.rows),
                output::bytes(window.row_bytes),
            ]
        });
        output::print(&output::table(
            &["  History", "Records (at most)", "In the stream (est.)", "Rows kept (est.)", "Uncompressed (est.)"],
            rows,
        ))?;
        if !object.metrics.is_empty() {
            let mut metrics: Vec<_> = object.metrics.iter().collect();
            metrics.sort_by_key(|metric| std::cmp::Reverse(metric.sampled));
            let rows = metrics.iter().map(|metric| {
                vec![
                    metric.metric_id.clone(),
                    metric.name.clone().unwrap_or_else(|| "(unknown)".into()),
                    metric.integration.clone().unwrap_or_else(|| "–".into()),
                    output::count(metric.sampled),
                    output::count(metric.kept),
                ]
            });
            output::print(&output::table(&["Metric", "Name", "Integration", "In the sample", "Kept"], rows))?;
        }
    }
    output::print(&format!(
        "\n{}\nLarge amounts of history can cause charges by the warehouse: storage, requests and load.\n",
        preview.method
    ))?;
    if !control.settings.network.egress_addresses.is_empty() {
        output::print(&format!("A firewall must admit: {}\n", control.settings.network.egress_addresses.join(" ")))?;
    }
    Ok(Exit::Done)
}

pub(super) async fn connect(control: &Control, options: &ConnectOptions) -> Result<Exit, SyncError> {
    let spec = config::load_connection(&options.file)?;
    let takeover = match (options.adopt, options.fresh) {
        (true, _) => Takeover::Adopt,
        (_, true) => Takeover::Fresh,
        _ => Takeover::Ask,
    };
    let connected = control.connect(spec, takeover).await?;
    output::steps(&connected.steps)?;
    let Some(connection) = connected.connection else {
        output::print("\nUnable to connect. Correct what failed, then `warehouse-sync connection retry`, or `connection edit FILE`.\n")?;
        return Ok(Exit::CannotConnect);
    };
    output::print(if connected.adopted { "\nEnabled: going on where the earlier connection stopped.\n" } else { "\nEnabled.\n" })?;
    review(control, &connection)?;
    output::print("\nNext: `warehouse-sync serve` keeps it in sync; `warehouse-sync run` does what is due once.\n")?;
    Ok(Exit::Done)
}

fn review(control: &Control, connection: &Connection) -> Result<(), SyncError> {
    let cadence = match control.settings.sync.interval.as_secs() {
        3600 => "hourly".to_owned(),
        _ => format!("every {}", humantime::format_duration(control.settings.sync.interval)),
    };
    let spec = &connection.spec;
    let or = |list: &[String], none: &str| if list.is_empty() { none.to_owned() } else { list.join(", ") };
    let objects: Vec<&str> = spec.synced_objects().into_iter().map(crate::model::Object::name).collect();
    let window = match connection.genesis.as_ref().and_then(|genesis| genesis.window_start) {
        Some(start) => format!("{} (since {})", spec.history.text(), output::time(jiff::Timestamp::from_millisecond(start).ok())),
        None => spec.history.text().to_owned(),
    };
    let rows = [
        ("Name", spec.name.clone()),
        ("Status", connection.state.label().to_owned()),
        ("Destination", spec.destination.describe()),
        ("Format", spec.destination.format().extension().to_owned()),
        ("Shared", objects.join(", ")),
        ("Excluded integrations", or(&spec.exclude_integrations, "none")),
        ("Selected events", or(&spec.selective_sync, "all")),
        ("Cadence", cadence),
        ("History", window),
        ("Connection id", connection.id.to_string()),
    ];
    output::print(&output::table(&["", ""], rows.into_iter().map(|(name, value)| vec![name.to_owned(), value])))
}

pub(super) async fn run(control: &Control, verb: ConnectionVerb) -> Result<Exit, SyncError> {
    match verb {
        ConnectionVerb::Show { json } => {
            let connection = control.connection().await?;
            if json {
                output::json(&connection)?
            } else {
                review(control, &connection)?
            }
            Ok(Exit::Done)
        }
        ConnectionVerb::Edit { file } => {
            let steps = control.edit(config::load_connection(&file)?).await?;
            report(&steps, "Changed. Filters apply from the next run on.\n")
        }
        ConnectionVerb::Retry => {
            let steps = control.retry_connection().await?;
            report(&steps, "Enabled.\n")
        }
        ConnectionVerb::Disable => {
            control.set_enabled(false).await?;
            output::print("Disabled. `warehouse-sync connection enable` goes on where it stopped.\n")?;
            Ok(Exit::Done)
        }
        ConnectionVerb::Enable => {
            control.set_enabled(true).await?;
            output::print("Enabled.\n")?;
            Ok(Exit::Done)
        }
        ConnectionVerb::Remove => remove(control).await,
    }
}

fn report(steps: &[CheckStep], done: &str) -> Result<Exit, SyncError> {
    output::steps(steps)?;
    if failed(steps) {
        output::print("Unable to connect. Correct what failed, then try again.\n")?;
        return Ok(Exit::CannotConnect);
    }
    output::print(done)?;
    Ok(Exit::Done)
}

pub(super) async fn remove(control: &Control) -> Result<Exit, SyncError> {
    let removed = control.disconnect().await?;
    output::print(&format!("Removed `{}`. What is in {} stays.\n", removed.spec.name, removed.spec.destination.describe()))?;
    Ok(Exit::Done)
}
