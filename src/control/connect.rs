//! Making, changing and removing the connection.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use uuid::Uuid;

use super::Control;
use crate::destination::{self, CheckOutcome, CheckStep, Destination};
use crate::engine::verify;
use crate::model::connection::DestinationSettings;
use crate::model::ledger::{LEDGER_FORMAT, StreamGenesis};
use crate::model::position::Millis;
use crate::model::{
    Connection, ConnectionId, ConnectionSpec, ConnectionState, EntryKind, ErrorCode, Genesis, Object, Stage, Sync, SyncError, SyncId,
    SyncKind,
};
use crate::record::parse::PENDING_UNKNOWN_METRIC;

/// What to do when the destination holds an earlier connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takeover {
    /// Stop and ask.
    Ask,
    /// Go on where it stopped.
    Adopt,
    /// Start anew under a new connection id; the earlier one can commit no more.
    Fresh,
}

/// How connecting ended.
#[derive(Debug)]
pub struct Connected {
    /// The steps of the check.
    pub steps: Vec<CheckStep>,
    /// The connection, when it could be established.
    pub connection: Option<Connection>,
    /// An earlier connection was taken over.
    pub adopted: bool,
}

impl Control {
    /// Tries everything that a sync with these settings will need, source included.
    pub async fn check(&self, spec: &ConnectionSpec) -> Result<Vec<CheckStep>, SyncError> {
        let mut steps = Vec::new();
        for object in spec.synced_objects() {
            let source = self.source.clone();
            let bounds = tokio::task::spawn_blocking(move || source.bounds(object)).await;
            let bounds =
                bounds.map_err(|error| SyncError::internal(Stage::Connect, "a question to the source panicked").external(error))?;
            let name = format!("read the offsets of {} ({})", object, self.source.stream_name(object));
            steps.push(match bounds {
                Ok(_) => CheckStep { name, outcome: CheckOutcome::Passed, error: None },
                Err(error) => CheckStep { name, outcome: CheckOutcome::Failed, error: Some(error.at(Stage::Connect)) },
            });
        }
        match destination::open(&spec.destination) {
            Ok(destination) => steps.extend(destination.check().await),
            Err(error) => steps.push(CheckStep {
                name: "read the destination's settings and secrets".into(),
                outcome: CheckOutcome::Failed,
                error: Some(error),
            }),
        }
        Ok(steps)
    }

    /// Makes the connection: check, freeze the cut, write the genesis, create the syncs.
    pub async fn connect(&self, spec: ConnectionSpec, takeover: Takeover) -> Result<Connected, SyncError> {
        if let Some(existing) = self.store.connection().await? {
            let same = same_place(&existing.spec.destination, &spec.destination);
            // Recovering the one we have, or starting it anew, is no second connection; one that was never
            // established is none.
            if existing.genesis.is_some() && !(same && takeover != Takeover::Ask) {
                return Err(SyncError::new(
                    ErrorCode::ConfigurationInvalid,
                    Stage::Connect,
                    format!("there is a connection already: `{}` to {}", existing.spec.name, existing.spec.destination.describe()),
                )
                .hint("There is one connection at a time. `warehouse-sync connection edit FILE` changes it, `warehouse-sync disconnect` removes it."));
            }
        }
        let steps = self.check(&spec).await?;
        if steps.iter().any(|step| step.outcome == CheckOutcome::Failed) {
            let connection = Connection {
                id: ConnectionId(Uuid::now_v7()),
                spec,
                state: ConnectionState::UnableToConnect,
                genesis: None,
                created_at: self.clock.now(),
            };
            // What works already is not given up for what does not.
            if self.store.connection().await?.is_none_or(|existing| existing.genesis.is_none()) {
                self.store.replace_connection(&connection, &[]).await?;
            }
            return Ok(Connected { steps, connection: None, adopted: false });
        }
        let destination = destination::open(&spec.destination)?;
        let (genesis, adopted) = match (destination.genesis().await?, takeover) {
            (Some(found), Takeover::Adopt) => (found, true),
            (Some(found), Takeover::Ask) => {
                return Err(SyncError::new(
                    ErrorCode::ForeignConnection,
                    Stage::Connect,
                    format!(
                        "{} already holds the connection `{}` ({}, made {})",
                        destination.describe(),
                        found.name,
                        found.connection,
                        found.created_at
                    ),
                ));
            }
            (found, _) => (self.new_genesis(&spec, found.map_or(0, |found| found.generation)).await?, false),
        };
        // Repeatable, and for an adopted genesis it only completes what may have been cut short.
        destination.prepare(&genesis).await?;
        let syncs = self.recover(destination.as_ref(), &spec, &genesis).await?;
        let connection = Connection {
            id: genesis.connection,
            spec,
            state: ConnectionState::Enabled,
            created_at: genesis.created_at,
            genesis: Some(genesis),
        };
        self.store.replace_connection(&connection, &syncs).await?;
        Ok(Connected { steps, connection: Some(connection), adopted })
    }

    /// Freezes the cut and the start of history.
    async fn new_genesis(&self, spec: &ConnectionSpec, last_generation: u64) -> Result<Genesis, SyncError> {
        let now = self.clock.now();
        let window_start: Option<Millis> = spec.history.days().map(|days| (now - SignedDuration::from_hours(24 * days)).as_millisecond());
        let mut streams = BTreeMap::new();
        for object in Object::ALL {
            let source = self.source.clone();
            let looked = tokio::task::spawn_blocking(move || -> Result<StreamGenesis, SyncError> {
                let bounds = source.bounds(object)?;
                let history_start = match window_start {
                    Some(since) => source.offsets_since(object, since, &bounds)?,
                    None => bounds.lowest.clone(),
                };
                // A start past the cut would make history overlap with live.
                let history_start = history_start
                    .into_iter()
                    .map(|(partition, start)| (partition, bounds.next.get(&partition).map_or(start, |next| start.min(*next))))
                    .collect();
                Ok(StreamGenesis {
                    topic: source.stream_name(object),
                    topic_id: bounds.topic_id,
                    lowest: bounds.lowest,
                    history_start,
                    cut: bounds.next,
                })
            });
            let looked =
                looked.await.map_err(|error| SyncError::internal(Stage::Connect, "a question to the source panicked").external(error))?;
            match looked {
                Ok(stream) => drop(streams.insert(object, stream)),
                // An object that is not synced need not have a topic.
                Err(error) if !spec.synced_objects().contains(&object) && error.code == ErrorCode::TopicNotFound => {}
                Err(error) => return Err(error.at(Stage::Connect)),
            }
        }
        Ok(Genesis {
            format: LEDGER_FORMAT,
            generation: last_generation + 1,
            connection: ConnectionId(Uuid::now_v7()),
            name: spec.name.clone(),
            history: spec.history,
            window_start,
            cut_time: now.as_millisecond(),
            streams,
            created_at: now,
        })
    }

    /// The syncs as the destination's ledger has them.
    async fn recover(&self, destination: &dyn Destination, spec: &ConnectionSpec, genesis: &Genesis) -> Result<Vec<Sync>, SyncError> {
        let mut syncs = Vec::new();
        let replays = spec.synced_objects().into_iter().map(|object| SyncId::new(object, SyncKind::Replay));
        for id in spec.syncs().into_iter().chain(replays) {
            syncs.push(recovered(destination, genesis, id).await?);
        }
        Ok(syncs)
    }

    /// Changes the selection or the credentials. The destination itself cannot be exchanged: that is another connection.
    pub async fn edit(&self, spec: ConnectionSpec) -> Result<Vec<CheckStep>, SyncError> {
        let existing = self.connection().await?;
        let Some(genesis) = existing.genesis.clone() else {
            return Ok(self.connect(spec, Takeover::Ask).await?.steps);
        };
        if !same_place(&existing.spec.destination, &spec.destination) {
            return Err(SyncError::new(
                ErrorCode::ConfigurationInvalid,
                Stage::Connect,
                "an edit cannot move a connection to another destination",
            )
            .hint("`warehouse-sync disconnect`, then `warehouse-sync connect FILE`."));
        }
        if existing.spec.history != spec.history {
            return Err(SyncError::new(
                ErrorCode::ConfigurationInvalid,
                Stage::Connect,
                "how much history is synced is fixed when connecting",
            )
            .hint("Leave `history` as it is; or connect again with --fresh."));
        }
        if let Some(object) = spec.synced_objects().into_iter().find(|object| !genesis.streams.contains_key(object)) {
            let summary =
                format!("the stream of the {object} did not exist when the connection was made, so it has no cut between history and live");
            return Err(SyncError::new(ErrorCode::ConfigurationInvalid, Stage::Connect, summary).hint("Connect again with --fresh."));
        }
        let steps = self.check(&spec).await?;
        let failed = steps.iter().any(|step| step.outcome == CheckOutcome::Failed);
        let destination = (!failed).then(|| destination::open(&spec.destination)).transpose()?;
        if let Some(destination) = destination {
            for sync in self.recover(destination.as_ref(), &spec, &genesis).await? {
                self.store.ensure_sync(&sync).await?;
            }
        }
        self.store
            .update_connection(move |connection| {
                connection.spec = spec;
                connection.state = match (failed, connection.state) {
                    (true, _) => ConnectionState::UnableToConnect,
                    (false, ConnectionState::Disabled) => ConnectionState::Disabled,
                    (false, _) => ConnectionState::Enabled,
                };
                Ok(())
            })
            .await?;
        if !failed {
            // What had failed for want of the change goes on by itself.
            self.retry(None, false).await?;
        }
        Ok(steps)
    }

    /// Tries to establish the connection again as it is configured.
    pub async fn retry_connection(&self) -> Result<Vec<CheckStep>, SyncError> {
        let spec = self.connection().await?.spec;
        self.edit(spec).await
    }

    /// Removes the connection from our state. What is in the destination stays.
    pub async fn disconnect(&self) -> Result<Connection, SyncError> {
        let connection = self.connection().await?;
        if self.somebody_executes() {
            self.set_enabled(false).await.or_else(|error| if connection.genesis.is_none() { Ok(()) } else { Err(error) })?;
            self.pause(None).await?;
        }
        self.store.remove_connection().await?;
        Ok(connection)
    }
}

/// A sync as the ledger has it.
async fn recovered(destination: &dyn Destination, genesis: &Genesis, id: SyncId) -> Result<Sync, SyncError> {
    let mut sync = Sync::new(id, genesis.start_of(id));
    if id.kind == SyncKind::Replay {
        if let Some(head) = destination.head(genesis, id, 0).await? {
            sync.sequence = head.sequence;
        }
        let open = verify::open_rejected(destination, genesis, id.object).await?;
        sync.pending = open.iter().filter(|(_, record)| record.reason == PENDING_UNKNOWN_METRIC).count() as u64;
        return Ok(sync);
    }
    if let Some(head) = destination.head(genesis, id, 0).await? {
        match &head.kind {
            EntryKind::Closed { .. } => return Err(destination::refused_by(&head, head.sequence)),
            EntryKind::Run { manifest } => {
                sync.started_at = Some(genesis.created_at);
                sync.looked_at = Some(manifest.frozen_at);
            }
            EntryKind::Skip { at, .. } => sync.looked_at = Some(*at),
        }
        sync.sequence = head.sequence;
        sync.checkpoint = head.checkpoint;
    }
    let is_history = id.kind == SyncKind::Historical && sync.sequence > 0;
    if let Some(stream) = genesis.streams.get(&id.object).filter(|_| is_history)
        && sync.checkpoint.until(&stream.cut).is_empty()
    {
        sync.completed_at = sync.looked_at;
    }
    Ok(sync)
}

/// Credentials and format may change; the place may not.
fn same_place(one: &DestinationSettings, other: &DestinationSettings) -> bool {
    match (one, other) {
        (DestinationSettings::S3(one), DestinationSettings::S3(other)) => {
            (&one.bucket, &one.prefix, &one.endpoint) == (&other.bucket, &other.prefix, &other.endpoint)
        }
        (DestinationSettings::Folder(one), DestinationSettings::Folder(other)) => one.path == other.path,
        _ => false,
    }
}
