//! `rejected list|export|replay`.

use std::collections::BTreeMap;
use std::io::Write as _;

use serde_json::json;

use super::arguments::RejectedVerb;
use super::{Exit, output};
use crate::control::Control;
use crate::engine::replay::ReplayRecord;
use crate::engine::verify;
use crate::model::{ErrorCode, Object, RunId, Stage, SyncError};

/// Rows that `list` shows; the counts are always complete.
const SHOWN: usize = 50;

pub(super) async fn run(control: &Control, verb: RejectedVerb) -> Result<Exit, SyncError> {
    match verb {
        RejectedVerb::List { run, json } => list(control, run.map(RunId), json).await,
        RejectedVerb::Export { file } => export(control, file.as_deref()).await,
        RejectedVerb::Replay { run } => {
            let planned = control.replay(run.map(RunId)).await?;
            match planned {
                0 => output::print("Nothing to replay.\n")?,
                _ => output::print(&format!("{} records get another try; `serve` or `run` does the work.\n", output::count(planned)))?,
            }
            Ok(Exit::Done)
        }
    }
}

async fn open(control: &Control) -> Result<Vec<(Object, ReplayRecord)>, SyncError> {
    let (engine, connection, genesis) = control.engine().await?;
    let mut all = Vec::new();
    for object in connection.spec.synced_objects() {
        let open = verify::open_rejected(engine.destination.as_ref(), &genesis, object).await?;
        all.extend(open.into_iter().map(|(_, record)| (object, record)));
    }
    Ok(all)
}

fn as_json(object: Object, record: &ReplayRecord) -> serde_json::Value {
    let text = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    json!({
        "stream": object.name(), "_partition": record.partition, "_offset": record.offset, "_timestamp_ms": record.timestamp,
        "key": text(&record.key), "value": text(&record.value), "reason": record.reason, "detail": record.detail,
        "_run_id": record.run.map(|run| run.to_string()),
    })
}

async fn list(control: &Control, run: Option<RunId>, json: bool) -> Result<Exit, SyncError> {
    let mut records = open(control).await?;
    records.retain(|(_, record)| run.is_none() || record.run == run);
    if json {
        output::json(&records.iter().map(|(object, record)| as_json(*object, record)).collect::<Vec<_>>())?;
        return Ok(Exit::Done);
    }
    let mut reasons: BTreeMap<(Object, String), u64> = BTreeMap::new();
    for (object, record) in &records {
        *reasons.entry((*object, record.reason.clone())).or_default() += 1;
    }
    let rows = records.iter().take(SHOWN).map(|(object, record)| {
        let place = format!("{}/{}", record.partition, record.offset);
        vec![
            object.to_string(),
            place,
            record.reason.clone(),
            record.detail.clone(),
            record.run.map(|run| run.to_string()).unwrap_or_default(),
        ]
    });
    output::print(&output::table(&["Stream", "Partition/offset", "Reason", "Detail", "Run"], rows))?;
    if records.len() > SHOWN {
        output::print(&format!("… and {} more; `rejected export` writes all of them.\n", output::count((records.len() - SHOWN) as u64)))?;
    }
    for ((object, reason), number) in reasons {
        output::print(&format!("{object} {reason}: {}\n", output::count(number)))?;
    }
    Ok(Exit::Done)
}

async fn export(control: &Control, file: Option<&std::path::Path>) -> Result<Exit, SyncError> {
    let records = open(control).await?;
    let disk = |error: std::io::Error| SyncError::new(ErrorCode::LocalDisk, Stage::Verify, "the export cannot be written").external(error);
    let Some(file) = file else {
        for (object, record) in &records {
            output::print(&format!("{}\n", as_json(*object, record)))?;
        }
        return Ok(Exit::Done);
    };
    let mut to = std::io::BufWriter::new(std::fs::File::create(file).map_err(disk)?);
    for (object, record) in &records {
        writeln!(to, "{}", as_json(*object, record)).map_err(disk)?;
    }
    to.flush().map_err(disk)?;
    output::print(&format!("{} records written to {}\n", output::count(records.len() as u64), file.display()))?;
    Ok(Exit::Done)
}
