use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::LazyLock;

use serde_json::Value;

use super::*;

const UNTIL: i64 = 1_788_529_135_000;
const SETTINGS: ShopSettings = ShopSettings { seed: 7, profiles: 2_000, events: 20_000, until: UNTIL, days: 365 };

/// What the shop of the settings publishes in its year.
static YEAR: LazyLock<Vec<SampleRecord>> = LazyLock::new(|| Shop::new(SETTINGS).collect());

fn json(record: &SampleRecord) -> Option<Value> {
    record.value.as_deref().map(|value| serde_json::from_slice(value).expect("a value that is JSON"))
}

fn sound(records: &[SampleRecord], object: Object) -> impl Iterator<Item = &SampleRecord> {
    records.iter().filter(move |record| record.object == object && record.broken.is_none())
}

/// The sound resources of an object, without tombstones.
fn resources(records: &[SampleRecord], object: Object) -> impl Iterator<Item = (&SampleRecord, Value)> {
    sound(records, object).filter_map(|record| Some((record, json(record)?)))
}

fn text(record: &SampleRecord) -> &str {
    std::str::from_utf8(record.value.as_deref().unwrap_or_default()).unwrap()
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn datetime(event: &Value) -> i64 {
    let datetime = event["attributes"]["datetime"].as_str().unwrap();
    datetime.parse::<jiff::Timestamp>().unwrap().as_second() * 1000
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (mut one, mut two) = (Shop::new(SETTINGS), Shop::new(SETTINGS));
    assert_eq!(one.metrics(), two.metrics());
    assert!(one.by_ref().eq(YEAR.iter().cloned()));
    assert_eq!(two.by_ref().count(), YEAR.len());
    assert_eq!(one.hour(UNTIL, UNTIL + 3_600_000, 500), two.hour(UNTIL, UNTIL + 3_600_000, 500));
    assert_ne!(Shop::new(ShopSettings { seed: 8, ..SETTINGS }).next(), YEAR.first().cloned());
}

#[test]
fn every_sound_value_is_a_resource_of_its_stream_with_the_key_as_its_id() {
    let mut shop = Shop::new(SETTINGS);
    let mut records = shop.metrics();
    records.extend(shop.by_ref());
    records.extend(shop.hour(UNTIL, UNTIL + 3_600_000, 1_000));
    for object in Object::ALL {
        assert!(sound(&records, object).count() > 20, "{object}");
        for (record, resource) in resources(&records, object) {
            assert_eq!(resource["type"], object.resource_type());
            assert_eq!(resource["id"].as_str(), record.key.as_deref());
            let address = resource["links"]["self"].as_str().unwrap();
            assert!(address.ends_with(&format!("/{object}/{}/", record.key.as_deref().unwrap())), "{address}");
            assert!(!text(record).contains('\n'), "a line break would end a record of a folder source");
        }
    }
}

#[test]
fn times_never_go_back_and_stay_within_the_year() {
    let mut shop = Shop::new(SETTINGS);
    let mut records: Vec<_> = shop.by_ref().collect();
    let (first, last) = (records[0].timestamp, records.last().unwrap().timestamp);
    assert_eq!(first, UNTIL - 365 * DAY);
    assert!((UNTIL - DAY..=UNTIL).contains(&last), "{last}");
    records.extend(shop.hour(UNTIL, UNTIL + 3_600_000, 1_000));
    assert!(records.last().unwrap().timestamp <= UNTIL + 3_600_000);
    assert!(records.is_sorted_by_key(|record| record.timestamp));
}

#[test]
fn profiles_and_events_are_as_many_as_asked_for() {
    let ids = |object| sound(&YEAR, object).map(|record| &record.key).collect::<HashSet<_>>().len();
    assert_eq!(ids(Object::Profiles), SETTINGS.profiles);
    assert_eq!(ids(Object::Events), SETTINGS.events);
}

#[test]
fn broken_records_are_those_announced() {
    let mut shop = Shop::new(SETTINGS);
    let mut records: Vec<_> = shop.by_ref().collect();
    records.extend(shop.hour(UNTIL, UNTIL + 3_600_000, 1_999));
    records.extend(shop.hour(UNTIL + 3_600_000, UNTIL + 7_200_000, 1));
    let found: Vec<_> = records.iter().filter_map(|record| Some((record.object, record.broken?))).collect();
    assert_eq!(found, Broken::among(22_000).collect::<Vec<_>>());
    assert_eq!(found.len(), 22);
    assert_eq!(found.iter().collect::<HashSet<_>>().len(), 2 * Broken::ALL.len());

    let sound: HashSet<_> = records.iter().filter(|record| record.broken.is_none()).map(|record| &record.key).collect();
    for record in records.iter().filter(|record| record.broken.is_some()) {
        assert!(!sound.contains(&record.key));
        let parsed = record.value.as_deref().map(serde_json::from_slice::<Value>);
        match (record.broken.unwrap(), parsed) {
            (Broken::NotJson, Some(Err(_))) => assert!(!text(record).is_empty()),
            (Broken::NotAResource, Some(Ok(value))) => assert!(value.get("type").is_none()),
            (Broken::WrongType, Some(Ok(value))) => assert_ne!(value["type"], record.object.resource_type()),
            (Broken::NotUtf8, Some(Err(_))) => assert!(str::from_utf8(record.value.as_deref().unwrap()).is_err()),
            (Broken::DeletionWithoutKey, None) => assert_eq!(record.key, None),
            (broken, parsed) => panic!("{broken:?}: {parsed:?}"),
        }
    }
}

#[test]
fn the_late_metric_is_published_by_the_first_hour_only() {
    let mut shop = Shop::new(SETTINGS);
    let known: HashSet<_> = shop.metrics().into_iter().map(|metric| metric.key.unwrap()).collect();
    assert!(!known.contains(LATE_METRIC_ID));
    let year: Vec<_> = shop.by_ref().collect();
    let unknown: Vec<_> = resources(&year, Object::Events)
        .map(|(_, event)| event["relationships"]["metric"]["data"]["id"].as_str().unwrap().to_owned())
        .filter(|id| !known.contains(id))
        .collect();
    assert_eq!(unknown, vec![LATE_METRIC_ID; 20]);
    assert_eq!(late_metric_events(20_000), 20);
    assert_eq!([250, 251, 1_250, 1_251].map(late_metric_events), [0, 1, 1, 2]);

    let metrics = |records: Vec<SampleRecord>| -> Vec<_> {
        records.into_iter().filter(|record| record.object == Object::Metrics).filter_map(|record| record.key).collect()
    };
    assert_eq!(metrics(shop.hour(UNTIL, UNTIL + 3_600_000, 10)), [LATE_METRIC_ID]);
    assert!(metrics(shop.hour(UNTIL + 3_600_000, UNTIL + 7_200_000, 10)).is_empty());
}

#[test]
fn metrics_have_the_oddities_of_integrations() {
    let metrics = Shop::new(SETTINGS).metrics();
    let metrics: Vec<_> = resources(&metrics, Object::Metrics).collect();
    let integrations = |name: &str| -> Vec<_> {
        let named = metrics.iter().filter(|(_, metric)| metric["attributes"]["name"] == name);
        named.map(|(_, metric)| metric["attributes"]["integration"]["id"].as_str()).collect()
    };
    assert_eq!(integrations("Placed Order"), [Some("0eMvjm"), Some("7FtS4J")]);
    assert_eq!(integrations("Opened Email"), [Some("0rG4eQ")]);
    let integration = |metric: &Value| metric["attributes"]["integration"].clone();
    assert!(metrics.iter().any(|(_, metric)| integration(metric).is_null()));
    assert!(metrics.iter().any(|(_, metric)| integration(metric)["category"].is_object()));
    assert!(metrics.iter().all(|(record, _)| record.key.as_ref().is_some_and(|id| id.len() == 6)));
    let ids: HashSet<_> = metrics.iter().map(|(record, _)| &record.key).collect();
    assert_eq!(ids.len(), metrics.len());
}

#[test]
fn events_have_every_oddity_of_real_ones() {
    let events: Vec<_> = resources(&YEAR, Object::Events).collect();
    let count = |holds: &dyn Fn(&SampleRecord, &Value) -> bool| events.iter().filter(|(record, event)| holds(record, event)).count();
    let spelling = |event: &Value| event["attributes"]["datetime"].as_str().unwrap().to_owned();
    let age = |record: &SampleRecord, event: &Value| record.timestamp - datetime(event);
    assert!(count(&|_, event| spelling(event).contains(' ')) > 100);
    assert!(count(&|_, event| spelling(event).contains('.')) > 100);
    assert!(count(&|record, event| (DAY / 24..2 * DAY).contains(&age(record, event))) > 200);
    assert!(count(&|record, event| age(record, event) > 365 * DAY) > 10);
    assert_eq!(count(&|record, event| age(record, event) < 0), 0);
    assert!(count(&|_, event| event["attributes"]["event_properties"].is_array()) > 100);
    assert!(count(&|_, event| depth(&event["attributes"]["event_properties"]) == 10) > 20);
    assert!(count(&|record, _| text(record).contains("\"Payment Reference\":9223372036854775809")) > 3);
    assert!(count(&|record, _| text(record).contains("\\ud83c\\udf81")) > 20);
    assert!(count(&|record, _| text(record).contains('🎉')) > 20);
    assert!(count(&|_, event| event["attributes"]["event_properties"]["Total Discounts"].is_number()) > 20);
    assert!(count(&|_, event| event["relationships"]["profile"].get("data").is_none()) > 3);
    assert!(count(&|_, event| event["relationships"]["profile"].get("data") == Some(&Value::Null)) > 3);
    let email_opens = count(&|_, event| event["relationships"]["metric"]["data"]["id"] == "SkDfHe");
    let orders = count(&|_, event| event["relationships"]["metric"]["data"]["id"] == "TspjNE");
    assert!(email_opens > 15 * orders && orders > 100, "{email_opens} opened emails, {orders} orders");
}

#[test]
fn an_event_published_again_differs_but_keeps_its_datetime() {
    let mut versions: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for (record, event) in resources(&YEAR, Object::Events) {
        versions.entry(record.key.as_deref().unwrap()).or_default().push(event);
    }
    let again: Vec<_> = versions.values().filter(|versions| versions.len() > 1).collect();
    let redacted = |event: &Value| event["attributes"]["event_properties"].to_string().contains("redacted");
    assert!(again.len() > 100);
    assert!(again.iter().any(|versions| redacted(versions.last().unwrap())));
    assert!(again.iter().any(|versions| !redacted(versions.last().unwrap())));
    for versions in again {
        assert!(versions.windows(2).all(|pair| pair[0] != pair[1]), "{versions:?}");
        for same in ["datetime", "timestamp", "uuid"] {
            assert!(versions.iter().all(|event| event["attributes"][same] == versions[0]["attributes"][same]));
        }
        let metric = |event: &Value| event["relationships"]["metric"].clone();
        assert!(versions.iter().all(|event| metric(event) == metric(&versions[0])));
    }
}

#[test]
fn every_event_moves_its_profile_until_it_is_deleted() {
    let mut last_event_dates: HashMap<String, i64> = HashMap::new();
    let mut deleted = HashSet::new();
    let mut events_of_deleted = 0;
    for (nth, record) in YEAR.iter().enumerate().filter(|(_, record)| record.broken.is_none()) {
        let key = record.key.clone().unwrap();
        let Some(resource) = json(record) else {
            assert!(record.object == Object::Profiles && deleted.insert(key), "profiles are deleted, each once");
            continue;
        };
        if record.object == Object::Profiles {
            assert!(!deleted.contains(&key));
            let attributes = &resource["attributes"];
            let updated: jiff::Timestamp = attributes["updated"].as_str().unwrap().parse().unwrap();
            assert_eq!(updated.as_second(), record.timestamp / 1000);
            let last = attributes["last_event_date"].as_str();
            let last = last.map(|date| date.parse::<jiff::Timestamp>().unwrap().as_millisecond());
            assert_eq!(last, last_event_dates.get(&key).copied());
        } else if let Some(profile) = resource["relationships"]["profile"]["data"]["id"].as_str() {
            let date = last_event_dates.entry(profile.to_owned()).or_insert(i64::MIN);
            *date = (*date).max(datetime(&resource));
            let next = &YEAR[nth + 1];
            assert!(next.key.as_deref() == Some(profile) || resource["attributes"]["event_properties"]["$attribution"].is_object());
            assert!(!deleted.contains(profile));
        } else {
            events_of_deleted += 1;
        }
    }
    assert!(deleted.len() > 5, "{deleted:?}");
    assert!(events_of_deleted >= deleted.len());
}

#[test]
fn profiles_have_every_oddity_of_real_ones() {
    let profiles: Vec<_> = resources(&YEAR, Object::Profiles).step_by(5).collect();
    let any = |holds: &dyn Fn(&Value) -> bool| profiles.iter().any(|(_, profile)| holds(&profile["attributes"]));
    assert!(any(&|profile| profile["properties"].is_array()));
    assert!(any(&|profile| profile["predictive_analytics"].is_null()));
    assert!(any(&|profile| profile["predictive_analytics"]["historic_clv"].is_number()));
    assert!(any(&|profile| profile["location"]["latitude"].is_string()));
    assert!(any(&|profile| profile["location"]["latitude"].is_number()));
    assert!(any(&|profile| profile["phone_number"].is_null()));
    assert!(any(&|profile| profile["phone_number"].is_string()));
    assert!(any(&|profile| profile["first_name"] == "さくら"));
    for consent in ["SUBSCRIBED", "UNSUBSCRIBED", "NEVER_SUBSCRIBED"] {
        assert!(any(&|profile| profile["subscriptions"]["email"]["marketing"]["consent"] == consent), "{consent}");
    }
    assert!(profiles.iter().any(|(record, _)| text(record).contains("\"Loyalty Number\":18446744073709551616")));
    assert!(profiles.iter().all(|(record, _)| record.key.as_ref().is_some_and(|id| id.len() == 26 && id.starts_with("01"))));
}

#[test]
fn traffic_has_seasons_and_nights() {
    let events = YEAR.iter().filter(|record| record.object == Object::Events);
    let times: Vec<_> = events.map(|record| write::civil(record.timestamp / 1000)).collect();
    let share = |holds: &dyn Fn(&jiff::civil::DateTime) -> bool| times.iter().filter(|time| holds(time)).count();
    assert!(share(&|time| time.month() == 11) > 2 * share(&|time| time.month() == 7));
    assert!(share(&|time| time.hour() == 19) > 8 * share(&|time| time.hour() == 2));
}

#[test]
fn any_size_works() {
    for (profiles, events, days) in [(0, 0, 0), (0, 1_001, 1), (1, 0, 365), (1, 1, 0), (5, 3_000, 0), (2, 10, u32::MAX)] {
        for until in [i64::MIN, -1, 0, 1, UNTIL, i64::MAX] {
            let mut shop = Shop::new(ShopSettings { seed: u64::MAX, profiles, events, until, days });
            let records: Vec<_> = shop.by_ref().collect();
            assert!(records.len() >= profiles + events);
            assert!(records.is_sorted_by_key(|record| record.timestamp));
            assert!(shop.hour(i64::MAX, i64::MIN, 3).len() >= 4);
        }
    }
}

#[test]
fn benchmark_events_have_one_size_and_distinct_ids() {
    for (shape, expected) in [(EventShape::Small, 230..=290), (EventShape::LineItems, 900..=1150)] {
        let (mut value, mut sizes, mut ids) = (b"left over".to_vec(), HashSet::new(), HashSet::new());
        for number in 0..2_000 {
            write_event(shape, number, 7, UNTIL + number as i64, &mut value);
            let event: Value = serde_json::from_slice(&value).unwrap();
            let id = event["id"].as_str().unwrap();
            assert_eq!((event["type"].as_str(), id.len()), (Some("event"), 11));
            assert!(ids.insert(id.to_owned()));
            sizes.insert(value.len());
        }
        assert!(sizes.len() == 1 && sizes.iter().all(|size| expected.contains(size)), "{shape:?}: {sizes:?}");
    }
}
