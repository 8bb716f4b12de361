//! The metric catalogue, kept up to date: read to its end before each attempt, from where it was left.

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::Engine;
use crate::model::{Checkpoint, Object, Position, SyncError};
use crate::record::metrics::Catalogue;

/// A catalogue that all runs share.
#[derive(Debug, Default)]
pub struct SharedCatalogue(Mutex<Arc<Catalogue>>);

impl SharedCatalogue {
    /// The catalogue, read to the end that the metrics stream has now.
    pub async fn refreshed(&self, engine: &Engine) -> Result<Arc<Catalogue>, SyncError> {
        let mut current = self.0.lock().await;
        let known = current.clone();
        let refreshed = engine.ask(move |source| read_on(source, &known)).await?;
        if let Some(refreshed) = refreshed {
            *current = Arc::new(refreshed);
        }
        Ok(current.clone())
    }
}

/// Reads what was published since. `None` when there is nothing new.
pub fn read_on(source: &dyn crate::source::Source, known: &Catalogue) -> Result<Option<Catalogue>, SyncError> {
    let bounds = source.bounds(Object::Metrics)?;
    let from = Checkpoint::new(bounds.lowest.iter().map(|(partition, lowest)| {
        let read_to = known.read_to.get(partition).copied().unwrap_or(0);
        (*partition, Position::at(read_to.max(*lowest)))
    }));
    let slice = from.until(&bounds.next);
    if slice.is_empty() {
        return Ok(None);
    }
    let mut catalogue = known.clone();
    source.read(Object::Metrics, &slice, &CancellationToken::new(), &mut |record| {
        catalogue.take(&record);
        Ok(())
    })?;
    catalogue.read_to = bounds.next;
    Ok(Some(catalogue))
}
