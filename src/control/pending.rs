//! Events that wait for their metric: replayed by themselves once the metric is known.

use super::planner;
use crate::engine::{Engine, verify};
use crate::model::ledger::RecordPlace;
use crate::model::{Connection, Genesis, Object, SyncError, SyncId, SyncKind};
use crate::record::parse::{PENDING_UNKNOWN_METRIC, Parser};

/// Plans a replay of the pending events whose metric has become known. The reconciler executes it.
pub async fn replay_known(engine: &Engine, connection: &Connection, genesis: &Genesis) -> Result<(), SyncError> {
    let id = SyncId::new(Object::Events, SyncKind::Replay);
    let sync = engine.store.sync(id).await?;
    if sync.pending == 0 || engine.store.open_run(id).await?.is_some() {
        return Ok(());
    }
    match known(engine, genesis).await {
        Ok(places) if places.is_empty() => Ok(()),
        Ok(places) => planner::plan_replay(engine, connection, genesis, &sync, places).await.map(|_| ()),
        Err(error) => {
            // Nothing is lost: the next run looks again.
            tracing::warn!(code = %error.code, "pending events cannot be looked at: {}", error.summary);
            Ok(())
        }
    }
}

async fn known(engine: &Engine, genesis: &Genesis) -> Result<Vec<RecordPlace>, SyncError> {
    let catalogue = engine.catalogue().await?;
    let open = verify::open_rejected(engine.destination.as_ref(), genesis, Object::Events).await?;
    let mut parser = Parser::new(Object::Events);
    let mut places = Vec::new();
    for (_, record) in open.iter().filter(|(_, record)| record.reason == PENDING_UNKNOWN_METRIC) {
        let Some(resource) = record.value.as_deref().and_then(|value| parser.parse(value).ok()) else { continue };
        if resource.metric_id.as_deref().is_some_and(|id| catalogue.get(id).is_some()) {
            places.push(RecordPlace { partition: record.partition, offset: record.offset });
        }
    }
    Ok(places)
}
