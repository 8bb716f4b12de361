//! The metrics of the shop.

use super::random::Random;
use super::write::{Moment, fill};

/// The id of a metric that events have from the start, but that nobody publishes before the first
/// [`Shop::hour`](super::Shop::hour).
pub const LATE_METRIC_ID: &str = "WnQ4dz";
const LATE_METRIC_EVERY: usize = 1000;
const LATE_METRIC_AT: usize = 250;

/// True if the event of this number has the metric [`LATE_METRIC_ID`].
pub(super) const fn is_of_late_metric(number: u64) -> bool {
    number % LATE_METRIC_EVERY as u64 == LATE_METRIC_AT as u64
}

/// How many of the first `events` events of a shop have the metric [`LATE_METRIC_ID`]: exactly number 250 of each
/// thousand, counted from 0. None of them is published a second time.
pub const fn late_metric_events(events: usize) -> usize {
    events / LATE_METRIC_EVERY + (events % LATE_METRIC_EVERY > LATE_METRIC_AT) as usize
}

const KLAVIYO: &str = r#"{"object":"integration","id":"0rG4eQ","key":"klaviyo","name":"Klaviyo","category":"Internal"}"#;
const API: &str = r#"{"object":"integration","id":"7FtS4J","key":"api","name":"API","category":"API"}"#;
const API_WITH_OBJECT: &str = r#"{"object":"integration","id":"7FtS4J","key":"api","name":"API","category":{"category":"API"}}"#;
const SHOPIFY: &str = r#"{"object":"integration","id":"0eMvjm","key":"shopify","name":"Shopify","category":"eCommerce"}"#;

/// Which properties a metric's events have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// About an email.
    Email,
    /// About a text message.
    Text,
    /// An order with line items.
    Order,
    /// One product, bought.
    Product,
    /// One product, looked at.
    View,
    /// A page of the shop.
    Page,
    /// A few properties of one's own.
    Custom,
}

/// A metric: all events of one kind from one integration.
#[derive(Debug, Clone, Copy)]
pub(super) struct Metric {
    /// Six letters and digits.
    pub(super) id: &'static str,
    /// Not unique: see "Placed Order".
    pub(super) name: &'static str,
    /// JSON.
    integration: &'static str,
    /// Properties of its events.
    pub(super) shape: Shape,
    /// Relative frequency of its events.
    weight: u64,
}

/// Those that are published as the year begins.
pub(super) static METRICS: [Metric; 20] = [
    metric("SkDfHe", "Opened Email", KLAVIYO, Shape::Email, 340),
    metric("QzR7bT", "Received Email", KLAVIYO, Shape::Email, 230),
    metric("LwG8eX", "Active on Site", API, Shape::Page, 130),
    metric("NrK5vB", "Viewed Product", API, Shape::View, 105),
    metric("WvN2cK", "Clicked Email", KLAVIYO, Shape::Email, 46),
    metric("RgM8sV", "Received Text Message", KLAVIYO, Shape::Text, 34),
    metric("YkW3aF", "Ordered Product", SHOPIFY, Shape::Product, 24),
    metric("PxT6hR", "Checkout Started", SHOPIFY, Shape::Order, 20),
    metric("TspjNE", "Placed Order", SHOPIFY, Shape::Order, 14),
    metric("MjB2qZ", "Fulfilled Order", SHOPIFY, Shape::Order, 12),
    metric("UbY4wJ", "Subscribed to List", KLAVIYO, Shape::Custom, 9),
    metric("VnC5xD", "Clicked Text Message", KLAVIYO, Shape::Text, 7),
    metric("Xd9LmP", "Bounced Email", KLAVIYO, Shape::Email, 6),
    metric("FyP6tC", "Reviewed Product", API, Shape::View, 5),
    metric("SHi67A", "Unsubscribed from Email Marketing", KLAVIYO, Shape::Email, 4),
    metric("GqH3zM", "Support Ticket Opened", API_WITH_OBJECT, Shape::Custom, 4),
    metric("DaX9kW", "Earned Loyalty Points", "null", Shape::Custom, 4),
    metric("JtD4yQ", "Placed Order", API, Shape::Order, 3),
    metric("KfS9uG", "Refunded Order", SHOPIFY, Shape::Order, 2),
    metric("HcV7nL", "Cancelled Order", SHOPIFY, Shape::Order, 1),
];

/// The one of [`LATE_METRIC_ID`].
pub(super) static LATE_METRIC: Metric = metric(LATE_METRIC_ID, "Joined Loyalty Tier", API, Shape::Custom, 0);

const fn metric(id: &'static str, name: &'static str, integration: &'static str, shape: Shape, weight: u64) -> Metric {
    Metric { id, name, integration, shape, weight }
}

impl Metric {
    /// Any of them, in proportion to their weights.
    pub(super) fn draw(random: &mut Random) -> &'static Metric {
        let mut place = random.below(METRICS.iter().map(|metric| metric.weight).sum());
        for metric in &METRICS {
            match place.checked_sub(metric.weight) {
                Some(rest) => place = rest,
                None => return metric,
            }
        }
        &METRICS[0]
    }

    /// Its JSON:API resource.
    pub(super) fn resource(&self, created: i64) -> Vec<u8> {
        let created = Moment::of(created);
        let mut json = Vec::with_capacity(600);
        let template = concat!(
            r#"{"type":"metric","id":"%","attributes":{"name":"%","created":"%","updated":"%","integration":%},"#,
            r#""relationships":{"flow-triggers":{"links":{"#,
            r#""self":"https://a.klaviyo.com/api/metrics/%/relationships/flow-triggers/","#,
            r#""related":"https://a.klaviyo.com/api/metrics/%/flow-triggers/"}}},"#,
            r#""links":{"self":"https://a.klaviyo.com/api/metrics/%/"}}"#,
        );
        let id = self.id;
        fill(&mut json, template, &[&id, &self.name, &created, &created, &self.integration, &id, &id, &id]);
        json
    }
}
