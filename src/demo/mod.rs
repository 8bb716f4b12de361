//! `demo`: the whole product on an embedded broker and a local folder, in under a minute.

mod broker;
pub mod sample;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::cli::arguments::DemoOptions;
use crate::cli::output::{self, count, print};
use crate::cli::{Exit, progress, syncs};
use crate::clock::SystemClock;
use crate::config;
use crate::control::Control;
use crate::control::connect::Takeover;
use crate::control::reconcile::{Reconciler, Until};
use crate::lease::Lease;
use crate::model::{ErrorCode, Object, RunState, Stage, SyncError, SyncId, SyncKind};
use crate::source;
use crate::store::Store;
use broker::EmbeddedBroker;
use sample::{Shop, ShopSettings};

/// Events of one "hour" after the history.
const HOUR_EVENTS: usize = 2_000;
const HOUR_MS: i64 = 3_600_000;

/// Runs the demo.
pub async fn run(options: DemoOptions) -> Result<Exit, SyncError> {
    let started = Instant::now();
    let folder = folder(options.folder)?;
    let broker = EmbeddedBroker::start()?;
    let address = broker.address();
    print(&format!("1. An embedded Kafka broker listens on {address}; any Kafka client on this machine can read from it.\n"))?;

    let now = jiff::Timestamp::now().as_millisecond();
    let profiles = (options.events / 12).max(100);
    let mut shop = Shop::new(ShopSettings { seed: 7, profiles, events: options.events, until: now - HOUR_MS, days: 365 });
    let metrics = shop.metrics();
    let published = broker.publish(metrics.into_iter())? + broker.publish(shop.by_ref())?;
    print(&format!(
        "2. A shop's year is published: {} records of profiles, events and metrics ({:.1} s).\n",
        count(published),
        started.elapsed().as_secs_f64()
    ))?;

    let control = configure(&folder, &address).await?;
    let spec = config::load_connection(&folder.join("connection.toml"))?;
    print(&format!("3. Connecting to {}. Events of Klaviyo's own integration stay out, to show a filter.\n", spec.destination.describe()))?;
    let connected = control.connect(spec, Takeover::Ask).await?;
    output::steps(&connected.steps)?;
    if connected.connection.is_none() {
        return Ok(Exit::CannotConnect);
    }
    let _lease = Lease::take(&control.settings.lock_file())?;
    let reconciler = Reconciler {
        store: control.store.clone(),
        source: control.source.clone(),
        clock: control.clock.clone(),
        settings: control.settings.sync.clone(),
        spool: control.settings.spool_folder(),
    };

    print("4. History, everything the topics hold:\n")?;
    let reading = Instant::now();
    work(&control, &reconciler).await?;
    print(&format!("   done in {:.1} s\n", reading.elapsed().as_secs_f64()))?;

    print("5. Three hours of new data, run one after the other:\n")?;
    for hour in 0..3 {
        let from = now + hour * HOUR_MS / 3600;
        let published = broker.publish(shop.hour(from, from + 1000, HOUR_EVENTS).into_iter())?;
        control.run_now(None).await?;
        work(&control, &reconciler).await?;
        print(&format!("   hour {}: {} records published, {}\n", hour + 1, count(published), last_runs(&control).await?))?;
    }

    print("6. Pause, more data, resume: nothing is lost.\n")?;
    let periodic = SyncId::new(Object::Events, SyncKind::Periodic);
    control.pause(Some(periodic)).await?;
    let published = broker.publish(shop.hour(now + 4000, now + 5000, HOUR_EVENTS).into_iter())?;
    control.run_now(None).await?;
    work(&control, &reconciler).await?;
    print(&format!("   paused, {} records published:\n\n", count(published)))?;
    print(&syncs::render(&control.status().await?))?;
    control.resume(Some(periodic)).await?;
    work(&control, &reconciler).await?;
    print(&format!("\n   resumed, {}\n\n", last_runs(&control).await?))?;

    print("7. The run's certificate: what was read, what became of it, what the destination counted.\n\n")?;
    for run in control.store.runs(Some(periodic), 1).await? {
        if let RunState::Committed { certificate } = &run.state {
            print(&output::certificate(certificate))?;
        }
    }
    rejected(&control).await?;

    print("9. The proof: every file is read again and compared with the ledger.\n\n")?;
    let report = control.verify().await?;
    print(&syncs::render_report(&report))?;
    farewell(&folder, &address, started.elapsed())?;
    if options.keep {
        keep(&control, &reconciler, &broker, &mut shop).await?;
    } else {
        print("The broker ends with this process; `demo --keep` goes on serving.\n")?;
    }
    control.store.close().await;
    Ok(if report.is_clean() { Exit::Done } else { Exit::Different })
}

fn folder(wanted: Option<PathBuf>) -> Result<PathBuf, SyncError> {
    let failed = |error: std::io::Error| {
        SyncError::new(ErrorCode::LocalDisk, Stage::Configuration, "the demo's folder cannot be made").external(error)
    };
    let Some(folder) = wanted else {
        return tempfile::Builder::new().prefix("warehouse-sync-demo-").tempdir().map(tempfile::TempDir::keep).map_err(failed);
    };
    if folder.join("warehouse-sync.db").exists() {
        return Err(SyncError::new(
            ErrorCode::ConfigurationInvalid,
            Stage::Configuration,
            format!("{} holds an earlier demo", folder.display()),
        )
        .hint("Name another folder, or remove that one."));
    }
    std::fs::create_dir_all(&folder).map_err(failed)?;
    std::path::absolute(&folder).map_err(failed)
}

/// Writes the two files that a user would write, and opens them.
async fn configure(folder: &Path, address: &str) -> Result<Control, SyncError> {
    let state = folder.join("warehouse-sync.db");
    let process = format!(
        "# Written by `warehouse-sync demo`.\n[kafka]\nbootstrap_servers = \"{address}\"\n\n[state]\npath = {:?}\n\n[http]\nlisten = \"127.0.0.1:0\"\n\n[sync]\nmax_part_bytes = \"8MiB\"\n",
        state.display().to_string()
    );
    let connection = format!(
        "# Written by `warehouse-sync demo`.\nname = \"Demo shop\"\nobjects = [\"profiles\", \"events\"]\nexclude_integrations = [\"klaviyo\"]\nhistory = \"all\"\n\n[destination]\ntype = \"folder\"\npath = {:?}\n",
        folder.join("lake").display().to_string()
    );
    let settings_file = folder.join("warehouse-sync.toml");
    for (file, text) in [(&settings_file, process), (&folder.join("connection.toml"), connection)] {
        std::fs::write(file, text).map_err(|error| {
            SyncError::new(ErrorCode::LocalDisk, Stage::Configuration, format!("{} cannot be written", file.display())).external(error)
        })?;
    }
    let settings = config::load(Some(&settings_file))?;
    let source = source::open(&settings)?;
    let store = Store::open(&settings.state.path).await?;
    Ok(Control { store, source, clock: Arc::new(SystemClock), settings })
}

async fn work(control: &Control, reconciler: &Reconciler) -> Result<(), SyncError> {
    let done = CancellationToken::new();
    let bars = tokio::spawn(progress::show(control.store.clone(), control.settings.sync.clone(), done.clone()));
    let worked = reconciler.work(Until::Idle, &CancellationToken::new()).await;
    done.cancel();
    drop(bars.await);
    worked
}

/// What the newest run of each periodic sync did, on one line.
async fn last_runs(control: &Control) -> Result<String, SyncError> {
    let mut parts = Vec::new();
    for object in [Object::Events, Object::Profiles] {
        for run in control.store.runs(Some(SyncId::new(object, SyncKind::Periodic)), 1).await? {
            if let RunState::Committed { certificate } = &run.state {
                let counts = &certificate.counts;
                parts.push(format!(
                    "{object}: {} read, {} rows, {} filtered, {} rejected",
                    count(counts.read),
                    count(counts.staged),
                    count(counts.filtered_total()),
                    count(counts.rejected_total())
                ));
            }
        }
    }
    Ok(parts.join("; "))
}

/// Shows one record that was put aside, and how many there are.
async fn rejected(control: &Control) -> Result<(), SyncError> {
    let (engine, _, genesis) = control.engine().await?;
    let open = crate::engine::verify::open_rejected(engine.destination.as_ref(), &genesis, Object::Events).await?;
    print(&format!(
        "\n8. {} records of the events are no Klaviyo resources (or wait for their metric). They lie in klaviyo_rejected/, none is lost. One of them:\n",
        count(open.len() as u64)
    ))?;
    if let Some((_, record)) = open.first() {
        let value = record.value.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        let value: String = value.chars().take(100).collect();
        print(&format!(
            "   partition {} offset {}: {} — {}\n   value: {value}\n\n",
            record.partition, record.offset, record.reason, record.detail
        ))?;
    }
    Ok(())
}

fn farewell(folder: &Path, address: &str, elapsed: Duration) -> Result<(), SyncError> {
    let lake = folder.join("lake");
    let lake = lake.display();
    print(&format!(
        "
That took {:.0} s. Everything is in {}:
  lake/                 the tables and their ledger
  warehouse-sync.toml   settings of the process     connection.toml   settings of the connection
Broker: {address} (topics klaviyo.events, klaviyo.profiles, klaviyo.metrics)

Three queries for DuckDB:

  -- rows of every table: files hold versions, so count the newest
  SELECT count(*) AS versions, count(DISTINCT id) AS events FROM read_json('{lake}/klaviyo_event/**/*.gz', columns = {{id: 'VARCHAR', _deleted: 'BOOLEAN'}});

  -- revenue by month
  SELECT date_trunc('month', datetime) AS month, round(sum((event_properties->>'$.\"$value\"')::DOUBLE), 2) AS revenue
  FROM read_json('{lake}/klaviyo_event/**/*.gz', columns = {{id: 'VARCHAR', datetime: 'TIMESTAMP', metric_name: 'VARCHAR', integration_key: 'VARCHAR', event_properties: 'JSON', _version: 'BIGINT', _partition: 'INT', _offset: 'BIGINT'}})
  WHERE metric_name = 'Placed Order' AND integration_key = 'shopify'
  GROUP BY 1 ORDER BY 1;

  -- what was put aside, and why
  SELECT stream, reason, count(*) FROM read_json('{lake}/klaviyo_rejected/**/*.gz', columns = {{stream: 'VARCHAR', reason: 'VARCHAR'}}) GROUP BY ALL;

sql/s3/duckdb.sql has the views that show the newest, undeleted row of every id.
",
        elapsed.as_secs_f64(),
        folder.display(),
    ))
}

/// Goes on serving: a new hour every few seconds, until Ctrl-C.
async fn keep(control: &Control, reconciler: &Reconciler, broker: &EmbeddedBroker, shop: &mut Shop) -> Result<(), SyncError> {
    let config = control.settings.state.path.with_file_name("warehouse-sync.toml");
    print(&format!("\nServing. In another terminal: warehouse-sync --config {} status\nStop with Ctrl-C.\n", config.display()))?;
    let stop = CancellationToken::new();
    let working = reconciler.work(Until::Stopped, &stop);
    tokio::pin!(working);
    let mut hours = tokio::time::interval(Duration::from_secs(5));
    hours.tick().await;
    loop {
        tokio::select! {
            worked = &mut working => return worked,
            _ = tokio::signal::ctrl_c(), if !stop.is_cancelled() => stop.cancel(),
            _ = hours.tick(), if !stop.is_cancelled() => {
                let now = jiff::Timestamp::now().as_millisecond();
                let published = broker.publish(shop.hour(now - 1000, now, HOUR_EVENTS).into_iter())?;
                control.run_now(None).await?;
                print(&format!("{} records published; {}\n", count(published), last_runs(control).await?))?;
            }
        }
    }
}
