//! The metric catalogue: which metric belongs to which integration, read from the metrics stream.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde_json::Value as Json;

use crate::model::record::Record;
use crate::model::{Offset, Partition};

/// What is known of a metric.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metric {
    /// Metric id; names are not unique and get renamed.
    pub id: String,
    /// Display name.
    pub name: Option<String>,
    /// Integration id.
    pub integration_id: Option<String>,
    /// Integration key, such as `shopify`.
    pub integration_key: Option<String>,
    /// Integration name.
    pub integration_name: Option<String>,
    /// Integration category.
    pub integration_category: Option<String>,
}

/// Every metric seen so far, by id. A deleted metric stays known: its events do not vanish.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalogue {
    metrics: HashMap<String, Arc<Metric>>,
    /// The next offset of the metrics stream to read.
    pub read_to: BTreeMap<Partition, Offset>,
}

impl Catalogue {
    /// Takes in one record of the metrics stream. What is not a metric is left to the metrics sync,
    /// which rejects it with its reason.
    pub fn take(&mut self, record: &Record<'_>) {
        if let Some(metric) = record.value.and_then(Metric::parse) {
            self.metrics.insert(metric.id.clone(), Arc::new(metric));
        }
    }

    /// The metric of an id.
    pub fn get(&self, id: &str) -> Option<&Arc<Metric>> {
        self.metrics.get(id)
    }

    /// Every metric, ordered by integration and name.
    pub fn metrics(&self) -> Vec<Arc<Metric>> {
        let mut metrics: Vec<_> = self.metrics.values().cloned().collect();
        metrics.sort_by(|a, b| (&a.integration_name, &a.name, &a.id).cmp(&(&b.integration_name, &b.name, &b.id)));
        metrics
    }
}

impl Metric {
    /// The metric of a resource; `None` when it is none.
    pub fn parse(value: &[u8]) -> Option<Metric> {
        let resource: Json = serde_json::from_slice(value).ok()?;
        if resource.get("type")?.as_str()? != "metric" {
            return None;
        }
        let text = |value: Option<&Json>| value.and_then(Json::as_str).map(str::to_owned);
        let attributes = resource.get("attributes");
        let integration = attributes.and_then(|attributes| attributes.get("integration"));
        Some(Metric {
            id: text(resource.get("id"))?,
            name: text(attributes.and_then(|attributes| attributes.get("name"))),
            integration_id: text(integration.and_then(|integration| integration.get("id"))),
            integration_key: text(integration.and_then(|integration| integration.get("key"))),
            integration_name: text(integration.and_then(|integration| integration.get("name"))),
            integration_category: integration.and_then(|integration| category(integration.get("category"))),
        })
    }
}

/// `category` is a text, or an object with a text of the same name (klaviyo.md C6).
fn category(value: Option<&Json>) -> Option<String> {
    match value? {
        Json::Object(object) => category(object.get("category")),
        other => other.as_str().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(value: &str) -> Record<'_> {
        Record { partition: 0, offset: 0, timestamp: 0, key: None, value: Some(value.as_bytes()) }
    }

    #[test]
    fn same_metric_name_two_integrations() {
        let mut catalogue = Catalogue::default();
        for (id, key) in [("A", "shopify"), ("B", "api")] {
            let text = format!(
                r#"{{"type":"metric","id":"{id}","attributes":{{"name":"Placed Order","integration":{{"id":"i{id}","key":"{key}","name":"N","category":{{"category":"eCommerce"}}}}}}}}"#
            );
            catalogue.take(&record(&text));
        }
        assert_eq!(catalogue.get("A").unwrap().integration_key.as_deref(), Some("shopify"));
        assert_eq!(catalogue.get("B").unwrap().integration_key.as_deref(), Some("api"));
        assert_eq!(catalogue.get("B").unwrap().integration_category.as_deref(), Some("eCommerce"));
    }

    #[test]
    fn integration_may_be_null_and_broken_records_are_passed_over() {
        let mut catalogue = Catalogue::default();
        for text in
            ["nonsense", "{}", r#"{"type":"event","id":"E"}"#, r#"{"type":"metric","id":"M","attributes":{"name":"X","integration":null}}"#]
        {
            catalogue.take(&record(text));
        }
        assert_eq!(catalogue.metrics().len(), 1);
        assert_eq!(catalogue.get("M").unwrap().integration_id, None);
    }
}
