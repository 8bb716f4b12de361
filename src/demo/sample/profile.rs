//! The shop's customers.

use super::event::Event;
use super::metric::is_of_late_metric;
use super::random::{Id, Purpose, Random, profile_id};
use super::write::{Cents, Moment, Quoted, fill};

// Every text below is JSON already, escapes included.
const FIRST_NAMES: [&str; 20] = [
    "Sarah",
    "Matteo",
    "Søren",
    "Léa",
    "Zoë",
    "Giulia",
    "James",
    "さくら",
    "Łukasz",
    "Anaïs",
    "Emma",
    "José",
    "李伟",
    "Мария",
    "Øyvind",
    "Chloe",
    "Παύλος",
    "Noah",
    "محمد",
    "Bj\\u00f6rk",
];
const LAST_NAMES: [&str; 16] = [
    "Mason",
    "Rossi",
    "O'Neill",
    "Müller",
    "García",
    "田中",
    "Nguyễn",
    "Kowalski",
    "de la Cruz",
    "Smith",
    "Đorđević",
    "Jensen",
    "İnan",
    "Bianchi",
    "Brown",
    "\\\"Ace\\\" King",
];
const ORGANIZATIONS: [&str; 4] = ["Acme \\u0026 Sons", "Café Zürich", "株式会社サンプル", "Northwind"];

/// Where a customer lives: members of a JSON object (a latitude comes as number or as text), and what
/// follows from the country.
#[derive(Debug)]
struct Place {
    location: &'static str,
    currency: &'static str,
    locale: &'static str,
    dialling_code: &'static str,
}

static PLACES: [Place; 5] = [
    Place {
        location: concat!(
            r#""city":"Copenhagen","country":"Denmark","latitude":55.66,"longitude":12.57,"#,
            r#""region":"Capital Region","zip":"2300","timezone":"Europe/Copenhagen""#,
        ),
        currency: "DKK",
        locale: "da-DK",
        dialling_code: "45",
    },
    Place {
        location: concat!(
            r#""city":"Milano","country":"Italy","latitude":"45.4642","longitude":"9.1900","#,
            r#""region":"Lombardia","zip":"20121","timezone":"Europe/Rome""#,
        ),
        currency: "EUR",
        locale: "it-IT",
        dialling_code: "39",
    },
    Place {
        location: concat!(
            r#""city":"東京","country":"Japan","latitude":35.6764,"longitude":139.65,"#,
            r#""region":"東京都","zip":"100-0001","timezone":"Asia/Tokyo""#,
        ),
        currency: "JPY",
        locale: "ja-JP",
        dialling_code: "81",
    },
    Place {
        location: concat!(
            r#""city":"Boston","country":"United States","latitude":42.3601,"longitude":-71.0589,"#,
            r#""region":"Massachusetts","zip":"02108","timezone":"America/New_York""#,
        ),
        currency: "USD",
        locale: "en-US",
        dialling_code: "1",
    },
    Place {
        location: concat!(
            r#""city":"São Paulo","country":"Brazil","latitude":-23.5505,"longitude":-46.6333,"#,
            r#""region":"SP","zip":"01001-000","timezone":"America/Sao_Paulo""#,
        ),
        currency: "BRL",
        locale: "pt-BR",
        dialling_code: "55",
    },
];

/// What is personal about a customer. All of it follows from the seed and the profile's number.
#[derive(Debug)]
pub(super) struct Person {
    pub(super) first_name: &'static str,
    pub(super) last_name: &'static str,
    pub(super) email: String,
    pub(super) street: String,
    /// Members of a JSON object.
    pub(super) location: &'static str,
}

impl Person {
    /// What Klaviyo leaves in the events of a deleted profile.
    pub(super) fn redacted(uuid: &str) -> Self {
        Self {
            first_name: "redacted",
            last_name: "redacted",
            email: format!("redacted.{uuid}@example.com"),
            street: "redacted".to_owned(),
            location: r#""city":"redacted","country":"redacted","zip":"redacted""#,
        }
    }
}

/// A customer, and what the events so far made of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Profile {
    seed: u64,
    /// Number in the order of creation.
    pub(super) index: u64,
    /// In milliseconds since the Unix epoch, as all times here.
    created: i64,
    /// Events so far.
    pub(super) events: u64,
    last_event_date: Option<i64>,
    /// The last event that may be published again: its number and the time when it was published.
    pub(super) published: Option<(u64, i64)>,
    orders: u64,
    spent: u64,
    /// Consent to marketing by email, and since when.
    consent: Option<(bool, i64)>,
    /// Gone: it gets no more events.
    pub(super) deleted: bool,
}

impl Profile {
    /// A customer without events.
    pub(super) fn new(seed: u64, index: u64, created: i64) -> Self {
        Self {
            seed,
            index,
            created,
            events: 0,
            last_event_date: None,
            published: None,
            orders: 0,
            spent: 0,
            consent: index.is_multiple_of(3).then_some((true, created)),
            deleted: false,
        }
    }

    /// The resource's id.
    pub(super) fn id(&self) -> Id<26> {
        profile_id(self.seed, self.index, self.created)
    }

    fn random(&self) -> Random {
        Random::new(self.seed, Purpose::Person, self.index)
    }

    fn place(&self) -> &'static Place {
        &PLACES[self.index as usize % PLACES.len()]
    }

    /// The currency in which the customer pays.
    pub(super) fn currency(&self) -> &'static str {
        self.place().currency
    }

    /// Who it is.
    pub(super) fn person(&self) -> Person {
        let mut random = self.random();
        Person {
            first_name: random.pick(&FIRST_NAMES),
            last_name: random.pick(&LAST_NAMES),
            email: format!("customer.{}@klaviyo-demo.com", self.index),
            street: format!("Artillerivej {}", 1 + random.below(200)),
            location: self.place().location,
        }
    }

    /// Takes note of an event that was published at `time`.
    pub(super) fn note(&mut self, event: &Event, time: i64) {
        let date = event.datetime.second * 1000;
        self.events += 1;
        self.last_event_date = self.last_event_date.max(Some(date));
        if !is_of_late_metric(event.number) {
            self.published = Some((event.number, time));
        }
        match event.metric.name {
            "Placed Order" => {
                self.orders += 1;
                self.spent += event.value;
            }
            "Subscribed to List" => self.consent = Some((true, date)),
            "Unsubscribed from Email Marketing" => self.consent = Some((false, date)),
            _ => {}
        }
    }

    /// Its JSON:API resource, as of a time.
    pub(super) fn resource(&self, time: i64) -> Vec<u8> {
        let id = self.id();
        let person = self.person();
        let place = self.place();
        let mut random = self.random();
        let digits = random.draw();
        let phone = random.one_in(2).then(|| format!("+{}{:09}", place.dialling_code, digits % 1_000_000_000));
        let external_id = random.one_in(3).then(|| format!("ext-{}", self.index));
        let organization = random.one_in(9).then(|| random.pick(&ORGANIZATIONS));
        let title = random.one_in(15).then_some("Head of \\\"Everything\\\" \u{1f680}");
        let created = Moment::of(self.created);
        let microseconds = random.one_in(2).then_some((time % 1000).unsigned_abs() * 1000 + 44);
        let updated = Moment { microseconds, ..Moment::of(time) };
        let last_event_date = Quoted(self.last_event_date.map(Moment::of));
        let mut json = Vec::with_capacity(3500);
        fill(&mut json, r#"{"type":"profile","id":"%","attributes":{"email":"%","#, &[&id, &person.email]);
        fill(&mut json, r#""phone_number":%,"external_id":%,"#, &[&Quoted(phone), &Quoted(external_id)]);
        fill(&mut json, r#""anonymous_id":null,"whatsapp_bsuid":null,"first_name":"%","#, &[&person.first_name]);
        fill(&mut json, r#""last_name":"%","organization":%,"#, &[&person.last_name, &Quoted(organization)]);
        fill(&mut json, r#""locale":"%","title":%,"image":null,"#, &[&place.locale, &Quoted(title)]);
        fill(&mut json, r#""created":"%","updated":"%","last_event_date":%,"#, &[&created, &updated, &last_event_date]);
        fill(&mut json, r#""location":{"address1":"%","address2":null,%,"ip":null},"#, &[&person.street, &place.location]);
        self.write_properties(&mut json, &mut random);
        self.write_subscriptions(&mut json);
        self.write_predictions(&mut json, time);
        fill(&mut json, r#"},"relationships":{"#, &[]);
        for (nth, name) in ["lists", "segments", "push-tokens", "conversations"].into_iter().enumerate() {
            let separator = if nth == 0 { "" } else { "," };
            fill(&mut json, RELATIONSHIP, &[&separator, &name, &id, &name, &id, &name]);
        }
        fill(&mut json, r#"},"links":{"self":"https://a.klaviyo.com/api/profiles/%/"}}"#, &[&id]);
        json
    }

    fn write_properties(&self, json: &mut Vec<u8>, random: &mut Random) {
        if random.one_in(12) {
            // How an empty object arrives now and then.
            return fill(json, r#""properties":[],"#, &[]);
        }
        let (plan, score) = (random.pick(&["free", "pro", "élite ✨"]), random.below(100));
        fill(json, r#""properties":{"plan":"%","score":%,"tags":["x","y"],"#, &[&plan, &score]);
        if random.one_in(8) {
            // More than 64 bits.
            fill(json, r#""Loyalty Number":1844674407370955161%,"#, &[&(600 + random.below(100))]);
        }
        fill(json, r#""Orders":%,"Newsletter":{"topics":["new","sale"],"weekly":true}},"#, &[&self.orders]);
    }

    fn write_subscriptions(&self, json: &mut Vec<u8>) {
        let (may_receive, consent) = match self.consent {
            Some((true, _)) => ("true", "SUBSCRIBED"),
            Some((false, _)) => ("false", "UNSUBSCRIBED"),
            None => ("true", "NEVER_SUBSCRIBED"),
        };
        let since = Quoted(self.consent.map(|(_, since)| Moment::of(since)));
        fill(json, EMAIL_CONSENT, &[&may_receive, &consent, &since, &since]);
        if may_receive == "false" {
            fill(json, r#"{"reason":"UNSUBSCRIBE","timestamp":%}"#, &[&since]);
        }
        fill(json, OTHER_CONSENT, &[]);
    }

    fn write_predictions(&self, json: &mut Vec<u8>, time: i64) {
        if self.orders == 0 {
            return fill(json, r#""predictive_analytics":null"#, &[]);
        }
        let (predicted, average) = (self.spent / 3, self.spent / self.orders);
        let next = Moment::of(time.saturating_add(40 * 86_400_000));
        fill(json, r#""predictive_analytics":{"historic_clv":%,"predicted_clv":%,"#, &[&Cents(self.spent), &Cents(predicted)]);
        fill(json, r#""total_clv":%,"historic_number_of_orders":%,"#, &[&Cents(self.spent + predicted), &self.orders]);
        fill(json, r#""predicted_number_of_orders":0.54,"average_days_between_orders":40,"#, &[]);
        fill(json, r#""average_order_value":%,"churn_probability":0.%,"#, &[&Cents(average), &(10 + self.index % 80)]);
        fill(json, r#""expected_date_of_next_order":"%","ranked_channel_affinity":["email","sms","push"]}"#, &[&next]);
    }
}

const RELATIONSHIP: &str = concat!(
    r#"%"%":{"links":{"self":"https://a.klaviyo.com/api/profiles/%/relationships/%/","#,
    r#""related":"https://a.klaviyo.com/api/profiles/%/%/"}}"#,
);

const EMAIL_CONSENT: &str = concat!(
    r#""subscriptions":{"email":{"marketing":{"can_receive_email_marketing":%,"consent":"%","#,
    r#""consent_timestamp":%,"last_updated":%,"method":null,"method_detail":null,"custom_method_detail":null,"#,
    r#""double_optin":null,"suppression":["#,
);

const OTHER_CONSENT: &str = concat!(
    r#"],"list_suppressions":[]},"#,
    r#""open_tracking":{"consent":"NEVER_SUBSCRIBED","consent_timestamp":null,"last_updated":null,"#,
    r#""created_timestamp":null,"metadata":null,"can_receive":false,"valid_until":null}},"#,
    r#""sms":{"marketing":{"can_receive_sms_marketing":false,"consent":"NEVER_SUBSCRIBED","#,
    r#""consent_timestamp":null,"method":null,"method_detail":null,"last_updated":null},"#,
    r#""transactional":{"can_receive_sms_transactional":false,"consent":"NEVER_SUBSCRIBED","#,
    r#""consent_timestamp":null,"method":null,"method_detail":null,"last_updated":null}},"#,
    r#""mobile_push":{"marketing":{"can_receive_push_marketing":false,"consent":"NEVER_SUBSCRIBED","#,
    r#""consent_timestamp":null}},"whatsapp":null},"#,
);
