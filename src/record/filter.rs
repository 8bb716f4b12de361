//! Which records become rows. A pure decision on a few fields of the record.

use std::collections::HashSet;
use std::sync::Arc;

use super::metrics::{Catalogue, Metric};
use crate::model::Object;
use crate::model::position::Millis;
use crate::model::run::FilterSpec;

/// Why a record is dropped on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// Published or dated before the history window.
    BeforeWindow,
    /// The event's metric is not among those selected.
    UnselectedMetric,
    /// The event's integration is excluded.
    ExcludedIntegration,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [DropReason; 3] = [DropReason::BeforeWindow, DropReason::UnselectedMetric, DropReason::ExcludedIntegration];

    /// As counted and shown.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::BeforeWindow => "before_window",
            DropReason::UnselectedMetric => "unselected_metric",
            DropReason::ExcludedIntegration => "excluded_integration",
        }
    }
}

/// What is to be done with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision<'c> {
    /// It becomes a row; its metric, when that is known.
    Keep(Option<&'c Metric>),
    /// It is dropped.
    Drop(DropReason),
    /// It waits until its metric is known.
    Pending,
}

/// A run's filter, compiled against the catalogue as it stands when the attempt begins.
#[derive(Debug, Clone)]
pub struct Filter {
    object: Object,
    excluded: HashSet<String>,
    selected: HashSet<String>,
    window_start: Option<Millis>,
    catalogue: Arc<Catalogue>,
}

impl Filter {
    /// Compiles a filter.
    pub fn new(object: Object, spec: &FilterSpec, catalogue: Arc<Catalogue>) -> Self {
        // Exclusions and selective sync never concern profiles or metrics.
        let of_events = |list: &[String]| match object {
            Object::Events => list.iter().cloned().collect(),
            Object::Profiles | Object::Metrics => HashSet::new(),
        };
        Self {
            object,
            excluded: of_events(&spec.exclude_integrations),
            selected: of_events(&spec.selective_sync),
            window_start: spec.window_start,
            catalogue,
        }
    }

    /// Decides on a record that is not a deletion (deletions pass every filter).
    ///
    /// `published` is the stream's timestamp, `own_time` the record's own in microseconds. A record
    /// without an own time is judged by its publication alone. There is no upper bound: an event dated
    /// in the future is delivered when it is published.
    pub fn decide(&self, published: Millis, own_time: Option<i64>, metric_id: Option<&str>) -> Decision<'_> {
        if let Some(start) = self.window_start {
            let own_too_early = own_time.is_some_and(|micros| micros < start.saturating_mul(1000));
            if published < start || own_too_early {
                return Decision::Drop(DropReason::BeforeWindow);
            }
        }
        if self.object != Object::Events {
            return Decision::Keep(None);
        }
        if !self.selected.is_empty() && !metric_id.is_some_and(|id| self.selected.contains(id)) {
            return Decision::Drop(DropReason::UnselectedMetric);
        }
        let metric = metric_id.and_then(|id| self.catalogue.get(id)).map(Arc::as_ref);
        if !self.excluded.is_empty() {
            match metric {
                Some(metric) if self.excludes(metric) => return Decision::Drop(DropReason::ExcludedIntegration),
                // An event that names no metric at all belongs to no integration.
                None if metric_id.is_some() => return Decision::Pending,
                _ => {}
            }
        }
        Decision::Keep(metric)
    }

    fn excludes(&self, metric: &Metric) -> bool {
        [&metric.integration_id, &metric.integration_key].into_iter().flatten().any(|name| self.excluded.contains(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::record::Record;

    fn filter(object: Object, exclude: &[&str], select: &[&str], window_start: Option<Millis>) -> Filter {
        let mut catalogue = Catalogue::default();
        for (id, integration) in [("S", r#"{"id":"0eMvjm","key":"shopify"}"#), ("K", r#"{"id":"0rG4eQ","key":"klaviyo"}"#), ("N", "null")] {
            let text = format!(r#"{{"type":"metric","id":"{id}","attributes":{{"name":"x","integration":{integration}}}}}"#);
            catalogue.take(&Record { partition: 0, offset: 0, timestamp: 0, key: None, value: Some(text.as_bytes()) });
        }
        let list = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect();
        let spec = FilterSpec { exclude_integrations: list(exclude), selective_sync: list(select), window_start };
        Filter::new(object, &spec, Arc::new(catalogue))
    }

    #[test]
    fn integrations_are_excluded_by_id_or_key() {
        for name in ["0eMvjm", "shopify"] {
            let filter = filter(Object::Events, &[name], &[], None);
            assert_eq!(filter.decide(0, None, Some("S")), Decision::Drop(DropReason::ExcludedIntegration));
            assert!(matches!(filter.decide(0, None, Some("K")), Decision::Keep(Some(_))));
            assert!(matches!(filter.decide(0, None, Some("N")), Decision::Keep(Some(_))), "no integration");
            assert_eq!(filter.decide(0, None, None), Decision::Keep(None), "no metric");
            assert_eq!(filter.decide(0, None, Some("?")), Decision::Pending, "unknown metric");
        }
    }

    #[test]
    fn an_unknown_metric_waits_only_when_a_filter_must_know_it() {
        assert_eq!(filter(Object::Events, &[], &[], None).decide(0, None, Some("?")), Decision::Keep(None));
        assert_eq!(filter(Object::Events, &[], &["?"], None).decide(0, None, Some("?")), Decision::Keep(None));
        let both = filter(Object::Events, &["shopify"], &["K"], None);
        assert_eq!(both.decide(0, None, Some("?")), Decision::Drop(DropReason::UnselectedMetric));
        assert_eq!(filter(Object::Events, &["shopify"], &["?"], None).decide(0, None, Some("?")), Decision::Pending);
    }

    #[test]
    fn exclusions_never_concern_profiles() {
        let filter = filter(Object::Profiles, &["shopify"], &["K"], None);
        assert_eq!(filter.decide(0, None, None), Decision::Keep(None));
    }

    #[test]
    fn the_window_looks_at_both_times() {
        let filter = filter(Object::Events, &[], &[], Some(1000));
        assert_eq!(filter.decide(999, Some(5_000_000), None), Decision::Drop(DropReason::BeforeWindow));
        assert_eq!(filter.decide(1000, Some(999_999), None), Decision::Drop(DropReason::BeforeWindow));
        assert_eq!(filter.decide(1000, Some(1_000_000), None), Decision::Keep(None));
        assert_eq!(filter.decide(1000, None, None), Decision::Keep(None));
        assert_eq!(filter.decide(1000, Some(i64::MAX), None), Decision::Keep(None), "dated in the future");
    }
}
