//! What happens to the shop's customers.

use super::metric::{LATE_METRIC, METRICS, Metric, Shape, is_of_late_metric};
use super::profile::{Person, Profile};
use super::random::{Id, Purpose, Random, event_id, profile_id};
use super::write::{Cents, Moment, fill};

const HOUR: u64 = 3_600_000;
/// As deep as Klaviyo accepts.
const DEEPEST_NESTING: usize = 10;
const BENCHMARK_PROFILES_CREATED: i64 = 1_700_000_000_000;

// Every text below is JSON already, escapes included.
const SUBJECTS: [&str; 8] = [
    "Your order is on its way",
    "🎉 Black Friday: 30 % off",
    "Nous avons des nouveautés pour vous",
    "春の新作が届きました 🌸",
    "You left something behind…",
    "\\\"Last chance\\\" \\ud83c\\udf81",
    "Grüße aus der Werkstatt",
    "Back in stock",
];
const CLIENTS: [&str; 4] = ["Apple Mail", "Gmail", "Outlook", "Yahoo! メール"];
const PAGES: [&str; 4] = ["/", "/collections/new", "/collections/café", "/blog/how-we-roast?ref=email&utm=1"];
const REMARKS: [&str; 4] = ["Where is my parcel?", "Größe passt nicht 😕", "Line one\\nline two\\tend", "C:\\\\Users\\\\me"];

#[derive(Debug, Clone, Copy)]
struct Product {
    sku: &'static str,
    name: &'static str,
    category: &'static str,
    cents: u64,
}

const fn product(sku: &'static str, name: &'static str, category: &'static str, cents: u64) -> Product {
    Product { sku, name, category, cents }
}

static PRODUCTS: [Product; 8] = [
    product("MUG-01", "Coffee mug", "Kitchen", 1250),
    product("PST-24", "Poster 24\\\" × 36\\\"", "Prints", 2900),
    product("TEA-07", "抹茶 Matcha 100g", "Food & drink", 1890),
    product("CND-11", "Duftkerze „Gemütlichkeit“ 🕯️", "Home", 2400),
    product("BAG-03", "Canvas bag", "Accessories", 1990),
    product("CFE-18", "Café crème, 1 kg", "Food & drink", 2150),
    product("SWT-42", "Wool sweater / Pull en laine", "Clothing", 8900),
    product("GFT-50", "Gift card 🎁", "Gifts", 5000),
];

/// Why an event is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edition {
    /// It happened.
    Original,
    /// It was attributed to a message.
    Revised,
    /// Its profile was deleted.
    Redacted,
}

/// An event. All of it follows from the seed, its number and the time when it was published first.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) number: u64,
    pub(super) id: Id<11>,
    pub(super) metric: &'static Metric,
    /// When it happened, which may be long before it was published.
    pub(super) datetime: Moment,
    /// What is bought: products and quantities.
    items: Vec<(Product, u64)>,
    /// Taken off the price, in hundredths of the currency as all amounts.
    discount: u64,
    /// What is to pay.
    pub(super) value: u64,
    /// For the rest of its content.
    random: Random,
}

impl Event {
    /// The event of this number, published first at a time in milliseconds since the Unix epoch.
    pub(super) fn new(seed: u64, number: u64, published: i64) -> Self {
        let mut random = Random::new(seed, Purpose::Event, number);
        let metric = if is_of_late_metric(number) { &LATE_METRIC } else { Metric::draw(&mut random) };
        let delay = match random.below(1000) {
            // Backdated: somebody imported the past four years.
            0..2 => 48 * HOUR + random.below(4 * 365 * 24 * HOUR),
            // Late: a telephone was off, an integration behind.
            2..22 => random.below(48 * HOUR),
            _ => random.below(90_000),
        };
        // A second earlier than the record at least, as a fraction of the second may come on top.
        let datetime = Moment::of(published - 1000 - delay.cast_signed());
        let datetime = match random.below(60) {
            0 => Moment { separator: b' ', ..datetime },
            1 => Moment { microseconds: Some(random.below(1_000_000)), ..datetime },
            _ => datetime,
        };
        let kinds = match metric.shape {
            Shape::Order => 1 + random.below(5),
            Shape::Product | Shape::View => 1,
            Shape::Email | Shape::Text | Shape::Page | Shape::Custom => 0,
        };
        let items: Vec<_> = (0..kinds).map(|_| (random.pick(&PRODUCTS), 1 + random.below(3))).collect();
        let price: u64 = items.iter().map(|(product, quantity)| product.cents * quantity).sum();
        let discount = if metric.shape == Shape::Order && random.one_in(3) { price / 10 } else { 0 };
        let value = price - discount;
        Self { number, id: event_id(seed, number), metric, datetime, items, discount, value, random }
    }

    /// Its JSON:API resource. Without a profile, nothing personal is in it.
    pub(super) fn resource(&self, edition: Edition, profile: Option<&Profile>) -> Vec<u8> {
        let id = &self.id;
        let mut random = self.random.clone();
        let uuid = uuid(self.datetime.second, &mut random);
        let (person, currency) = match profile {
            Some(profile) => (profile.person(), profile.currency()),
            None => (Person::redacted(&uuid), "EUR"),
        };
        let mut json = Vec::with_capacity(2500);
        fill(&mut json, r#"{"type":"event","id":"%","attributes":{"#, &[id]);
        fill(&mut json, r#""timestamp":%,"datetime":"%","#, &[&self.datetime.second, &self.datetime]);
        if self.metric.shape == Shape::Page && edition == Edition::Original && random.one_in(10) {
            // How an empty object arrives now and then.
            fill(&mut json, r#""event_properties":[],"#, &[]);
        } else {
            fill(&mut json, r#""event_properties":{"#, &[]);
            self.write_properties(&mut json, &mut random, &person, currency);
            if edition == Edition::Revised {
                fill(&mut json, r#""$attribution":{"$attributed_event_id":"%","$flow":"XyZ12a"},"#, &[id]);
            }
            fill(&mut json, r#""$event_id":"%"},"#, &[&self.datetime.second]);
        }
        fill(&mut json, r#""uuid":"%"},"relationships":{"profile":{"#, &[&uuid]);
        match profile {
            Some(profile) => fill(&mut json, r#""data":{"type":"profile","id":"%"},"#, &[&profile.id()]),
            // Klaviyo may leave it out as well.
            None if self.number.is_multiple_of(2) => {}
            None => fill(&mut json, r#""data":null,"#, &[]),
        }
        fill(&mut json, RELATIONSHIP_LINKS, &[id, &"profile", id, &"profile"]);
        fill(&mut json, r#"},"metric":{"data":{"type":"metric","id":"%"},"#, &[&self.metric.id]);
        fill(&mut json, RELATIONSHIP_LINKS, &[id, &"metric", id, &"metric"]);
        fill(&mut json, r#"}},"links":{"self":"https://a.klaviyo.com/api/events/%/"}}"#, &[id]);
        json
    }

    /// Members of `event_properties`, each with a comma behind.
    fn write_properties(&self, json: &mut Vec<u8>, random: &mut Random, person: &Person, currency: &str) {
        match self.metric.shape {
            Shape::Email => {
                let (subject, campaign) = (random.pick(&SUBJECTS), random.below(500));
                fill(json, r#""Subject":"%","Campaign Name":"Campaign %","#, &[&subject, &campaign]);
                fill(json, r#""$message":"01J%","Email Domain":"klaviyo-demo.com","#, &[&(100_000 + campaign)]);
                fill(json, r#""Recipient Email Address":"%","#, &[&person.email]);
                fill(json, r#""Client Name":"%","Client Type":"mobile","#, &[&random.pick(&CLIENTS)]);
            }
            Shape::Text => {
                let campaign = random.below(500);
                fill(json, r#""Message Name":"SMS %","From Number":"+18885550100","#, &[&campaign]);
                fill(
                    json,
                    r#""Message Body":"%, % 👋 https://s.klaviyo-demo.com/%","#,
                    &[&person.first_name, &random.pick(&SUBJECTS), &campaign],
                );
            }
            Shape::Order => self.write_order(json, random, person, currency),
            Shape::View => self.write_items(json),
            Shape::Product => {
                self.write_items(json);
                fill(json, r#""$value":%,"$value_currency":"%","#, &[&Cents(self.value), &currency]);
            }
            Shape::Page => {
                let (page, browser) = (random.pick(&PAGES), random.pick(&["Safari", "Chrome", "Firefox"]));
                fill(json, r#""page":"https://shop.klaviyo-demo.com%","browser":"%","#, &[&page, &browser]);
                fill(json, r#""os":"iOS","Session":%,"#, &[&random.below(1 << 40)]);
            }
            Shape::Custom => {
                fill(json, r#""Remark":"%","Points":%,"#, &[&random.pick(&REMARKS), &random.below(300)]);
                fill(json, r#""First Name":"%","List":"Newsletter ✉️","#, &[&person.first_name]);
            }
        }
    }

    fn write_order(&self, json: &mut Vec<u8>, random: &mut Random, person: &Person, currency: &str) {
        fill(json, r#""OrderId":"%","Source Name":"web","#, &[&(1_000_000 + self.number)]);
        self.write_items(json);
        if self.discount > 0 {
            fill(json, r#""Discount Codes":["WELCOME10"],"Total Discounts":%,"#, &[&Cents(self.discount)]);
        }
        if random.one_in(10) {
            // More than 64 bits.
            fill(json, r#""Payment Reference":922337203685477580%,"#, &[&(900 + random.below(100))]);
        }
        if random.one_in(20) {
            // The order's properties are the first level.
            let inner = DEEPEST_NESTING - 2;
            fill(json, r#""Gift Box":%{"note":"%"}%,"#, &[&r#"{"inside":"#.repeat(inner), &random.pick(&REMARKS), &"}".repeat(inner)]);
        }
        for address in ["billing_address", "shipping_address"] {
            fill(json, r#""%":{"first_name":"%","#, &[&address, &person.first_name]);
            fill(json, r#""last_name":"%","address1":"%",%},"#, &[&person.last_name, &person.street, &person.location]);
        }
        fill(json, r#""$value":%,"$value_currency":"%","#, &[&Cents(self.value), &currency]);
    }

    fn write_items(&self, json: &mut Vec<u8>) {
        fill(json, r#""Items":["#, &[]);
        for (nth, (product, quantity)) in self.items.iter().enumerate() {
            let separator = if nth == 0 { "" } else { "," };
            fill(json, r#"%{"SKU":"%","Name":"%","#, &[&separator, &product.sku, &product.name]);
            fill(json, r#""Categories":["%"],"Quantity":%,"#, &[&product.category, quantity]);
            let total = Cents(product.cents * quantity);
            fill(json, r#""Item Price":%,"Row Total":%}"#, &[&Cents(product.cents), &total]);
        }
        fill(json, r#"],"Item Count":%,"#, &[&(self.items.len() as u64)]);
    }
}

const RELATIONSHIP_LINKS: &str = concat!(
    r#""links":{"self":"https://a.klaviyo.com/api/events/%/relationships/%/","#,
    r#""related":"https://a.klaviyo.com/api/events/%/%/"}"#,
);

/// A UUID of version 1 whose time is that of the event, as Klaviyo's are.
fn uuid(second: i64, random: &mut Random) -> String {
    /// From the beginning of the Gregorian calendar, 1582, to the Unix epoch.
    const GREGORIAN_OFFSET: i64 = 12_219_292_800;
    let ticks = second.saturating_add(GREGORIAN_OFFSET).unsigned_abs().wrapping_mul(10_000_000);
    let (low, middle, high) = (ticks & 0xffff_ffff, (ticks >> 32) & 0xffff, (ticks >> 48) & 0xfff);
    format!("{low:08x}-{middle:04x}-1{high:03x}-8001-{:012x}", random.draw() >> 16)
}

/// The shape of a benchmark's records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventShape {
    /// About 260 bytes: hardly more than identifiers.
    Small,
    /// About 1 KB: an order with five line items.
    LineItems,
}

/// Replaces what is in `into` by an event for a benchmark: no oddities, and for times from 2001 to 2099 the same
/// members and the same number of bytes for every event of a shape. The id, 11 characters, follows from seed and
/// number, and no two numbers of a seed share one. The metrics are those of [`Shop::metrics`](super::Shop::metrics),
/// the profiles a hundred thousand of nobody's.
pub fn write_event(shape: EventShape, number: u64, seed: u64, timestamp_ms: i64, into: &mut Vec<u8>) {
    let mut random = Random::new(seed, Purpose::Benchmark, number);
    let datetime = Moment::of(timestamp_ms);
    let value = Cents(1000 + random.below(9000));
    let metric = random.pick(&METRICS).id;
    let profile = profile_id(seed, random.below(100_000), BENCHMARK_PROFILES_CREATED);
    into.clear();
    fill(into, r#"{"type":"event","id":"%","attributes":{"#, &[&event_id(seed, number)]);
    fill(into, r#""datetime":"%","event_properties":{"#, &[&datetime]);
    if shape == EventShape::LineItems {
        fill(into, r#""OrderId":"%","Items":["#, &[&(1_000_000 + random.below(9_000_000))]);
        for nth in 0..5 {
            let (separator, product) = (if nth == 0 { "" } else { "," }, 100_000 + random.below(900_000));
            fill(into, r#"%{"ProductID":"%","SKU":"SKU-%","#, &[&separator, &product, &product]);
            fill(into, r#""ProductName":"Canvas bag, natural – size M","Quantity":%,"#, &[&(1 + random.below(9))]);
            fill(into, r#""ItemPrice":%,"Brand":"Sample"}"#, &[&Cents(1000 + random.below(9000))]);
        }
        fill(into, r#"],"Discount Codes":["WELCOME10"],"$value_currency":"EUR","#, &[]);
    }
    fill(into, r#""$value":%}},"relationships":{"profile":{"data":{"type":"profile","id":"%"}},"#, &[&value, &profile]);
    fill(into, r#""metric":{"data":{"type":"metric","id":"%"}}}}"#, &[&metric]);
}
