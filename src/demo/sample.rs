//! A made-up shop: a year of Klaviyo streams, the same bytes for the same seed.
//!
//! [`Shop`] feeds the demo and the integration tests, [`write_event`] the benchmarks. The shapes are those
//! of real answers of Klaviyo's API (`klaviyo.md` C4-C6), and so are the oddities: late and backdated
//! events, two spellings of a time, `[]` for an empty object, integers over 64 bits. An event follows from
//! the seed, its number and its time alone, so any event can be published again without having been kept.

mod event;
mod metric;
mod profile;
mod random;
mod traffic;
mod write;

use std::collections::VecDeque;

use crate::model::table::Object;

pub use event::{EventShape, write_event};
pub use metric::{LATE_METRIC_ID, late_metric_events};

use event::{Edition, Event};
use metric::{LATE_METRIC, METRICS, Metric};
use profile::Profile;
use random::{Purpose, Random, event_id};
use traffic::{Next, Traffic};

/// One record to produce, to the topic of `object`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleRecord {
    /// The stream.
    pub object: Object,
    /// The resource's id.
    pub key: Option<String>,
    /// The resource in JSON without line breaks; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// Kafka's timestamp, in milliseconds since the Unix epoch.
    pub timestamp: i64,
    /// Set if the record is, on purpose, no Klaviyo resource.
    pub broken: Option<Broken>,
}

impl SampleRecord {
    fn new(object: Object, key: Option<String>, value: Option<Vec<u8>>, timestamp: i64) -> Self {
        Self { object, key, value, timestamp, broken: None }
    }
}

/// In which way a record is no Klaviyo resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Broken {
    /// Text that is not JSON.
    NotJson,
    /// JSON that is not a resource.
    NotAResource,
    /// A resource whose `type` is not the stream's.
    WrongType,
    /// JSON with a byte that is Latin-1, not UTF-8.
    NotUtf8,
    /// Neither key nor value: a deletion that does not tell of what.
    DeletionWithoutKey,
}

impl Broken {
    /// Every kind, in the order in which they take turns.
    pub const ALL: [Broken; 5] = [Broken::NotJson, Broken::NotAResource, Broken::WrongType, Broken::NotUtf8, Broken::DeletionWithoutKey];

    /// The broken records that come with the first `events` events of a shop, those of its year and of every
    /// later [`Shop::hour`] counted together, in order: exactly one follows each thousandth event, the kinds
    /// take turns, every fourth is in the stream of profiles and the others in that of events.
    pub fn among(events: usize) -> impl Iterator<Item = (Object, Broken)> {
        (0..events / BROKEN_EVERY).map(Self::at)
    }

    fn at(nth: usize) -> (Object, Self) {
        let object = if nth % 4 == 3 { Object::Profiles } else { Object::Events };
        (object, Self::ALL[nth % Self::ALL.len()])
    }
}

const BROKEN_EVERY: usize = 1000;
/// With every this many events, an earlier event of the same profile is published again, changed.
const REVISED_EVERY: u64 = 60;
/// One of this many profiles is deleted, with its event of the number below.
const DELETED_OF: u64 = 40;
const DELETED_WITH_EVENT: u64 = 4;
/// In an hour, one new profile comes with this many events.
const EVENTS_PER_NEW_PROFILE: usize = 50;
const DAY: i64 = 86_400_000;

/// How large a shop is, and when its year ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShopSettings {
    /// Same seed, same bytes.
    pub seed: u64,
    /// Profiles created in the year. The first third is imported at its beginning.
    pub profiles: usize,
    /// Events that happen in the year; those published again and broken records come on top.
    pub events: usize,
    /// The end of the year, "now", in milliseconds since the Unix epoch (1970 to 2099).
    pub until: i64,
    /// Days from the first record to `until`.
    pub days: u32,
}

/// A shop. As an iterator it gives the records of its year, profiles and events (not [`Shop::metrics`]), in the order
/// of their timestamps. Each event is followed by the new version of its profile.
#[derive(Debug)]
pub struct Shop {
    seed: u64,
    opened: i64,
    traffic: Traffic,
    profiles: Vec<Profile>,
    /// Events so far, which is also the number of the next one.
    events: usize,
    late_metric_published: bool,
    /// Published but not given out yet.
    ready: VecDeque<SampleRecord>,
}

impl Shop {
    /// A shop at the beginning of its year.
    pub fn new(settings: ShopSettings) -> Self {
        let ShopSettings { seed, profiles, events, until, days } = settings;
        let opened = until.saturating_sub(i64::from(days) * DAY);
        let traffic = Traffic::new(seed, opened, until, profiles / 3, profiles, events);
        Self { seed, opened: traffic.from(), traffic, profiles: vec![], events: 0, late_metric_published: false, ready: VecDeque::new() }
    }

    /// The metrics of the shop, one record each, as of the beginning of its year. The metric [`LATE_METRIC_ID`] is not
    /// among them: the first [`Shop::hour`] publishes it.
    pub fn metrics(&self) -> Vec<SampleRecord> {
        METRICS.iter().map(|metric| self.metric(metric, self.opened)).collect()
    }

    /// More traffic: so many events with all that follows from them, and some new profiles, between two times in
    /// milliseconds since the Unix epoch. To be called when the year has been read to its end, with times that do not
    /// go back; whatever is left of the year is dropped. The first call publishes the metric [`LATE_METRIC_ID`] too.
    pub fn hour(&mut self, from: i64, to: i64, events: usize) -> Vec<SampleRecord> {
        self.traffic = Traffic::new(self.seed, from, to, 0, events / EVENTS_PER_NEW_PROFILE, events);
        self.ready.clear();
        if !self.late_metric_published {
            self.late_metric_published = true;
            self.ready.push_back(self.metric(&LATE_METRIC, self.traffic.from()));
        }
        self.by_ref().collect()
    }

    fn metric(&self, metric: &Metric, timestamp: i64) -> SampleRecord {
        let value = metric.resource(timestamp);
        SampleRecord::new(Object::Metrics, Some(metric.id.to_owned()), Some(value), timestamp)
    }

    fn create_profile(&mut self, created: i64, time: i64) {
        let profile = Profile::new(self.seed, self.profiles.len() as u64, created);
        self.publish_profile(&profile, time);
        self.profiles.push(profile);
    }

    /// An event, and everything that is published because of it.
    fn happen(&mut self, time: i64) {
        let event = Event::new(self.seed, self.events as u64, time);
        self.events += 1;
        let mut random = Random::new(self.seed, Purpose::Circumstance, event.number);
        // The longest customers are the most active ones.
        let latest = random.below(self.profiles.len() as u64);
        let index = random.below(latest + 1) as usize;
        match self.profiles.get(index) {
            Some(&profile) if !profile.deleted => self.profiles[index] = self.happen_to(profile, &event, time),
            _ => self.publish_event(&event, Edition::Original, None, time),
        }
        if self.events.is_multiple_of(BROKEN_EVERY) {
            self.publish_broken(self.events / BROKEN_EVERY - 1, time);
        }
    }

    /// Returns what becomes of the profile.
    fn happen_to(&mut self, mut profile: Profile, event: &Event, time: i64) -> Profile {
        if let Some((number, published)) = profile.published
            && event.number.is_multiple_of(REVISED_EVERY)
        {
            let earlier = Event::new(self.seed, number, published);
            self.publish_event(&earlier, Edition::Revised, Some(&profile), time);
        }
        self.publish_event(event, Edition::Original, Some(&profile), time);
        profile.note(event, time);
        self.publish_profile(&profile, time);
        if profile.index % DELETED_OF == 1 && profile.events == DELETED_WITH_EVENT {
            profile.deleted = true;
            self.ready.push_back(SampleRecord::new(Object::Profiles, Some(profile.id().text()), None, time));
            // Klaviyo keeps the events of a deleted profile, without what is personal.
            if let Some((number, published)) = profile.published {
                let kept = Event::new(self.seed, number, published);
                self.publish_event(&kept, Edition::Redacted, None, time);
            }
        }
        profile
    }

    fn publish_profile(&mut self, profile: &Profile, time: i64) {
        let value = profile.resource(time);
        self.ready.push_back(SampleRecord::new(Object::Profiles, Some(profile.id().text()), Some(value), time));
    }

    fn publish_event(&mut self, event: &Event, edition: Edition, profile: Option<&Profile>, time: i64) {
        let value = event.resource(edition, profile);
        self.ready.push_back(SampleRecord::new(Object::Events, Some(event.id.text()), Some(value), time));
    }

    fn publish_broken(&mut self, nth: usize, time: i64) {
        let (object, broken) = Broken::at(nth);
        // Counted down from the other end, so that no event has the same id.
        let id = event_id(self.seed, u64::MAX - nth as u64).text();
        let value = match broken {
            Broken::NotJson => Some(b"ERROR connector: request timed out".to_vec()),
            Broken::NotAResource => Some(br#"{"message":"ping","sequence":[1,2,3]}"#.to_vec()),
            Broken::WrongType => Some(format!(r#"{{"type":"segment","id":"{id}","attributes":{{}}}}"#).into_bytes()),
            Broken::NotUtf8 => {
                let resource_type = object.resource_type();
                let text = format!(r#"{{"type":"{resource_type}","id":"{id}","attributes":{{"city":"Køge"}}}}"#);
                // The first 256 characters of Unicode are Latin-1.
                Some(text.chars().map(|letter| letter as u8).collect())
            }
            Broken::DeletionWithoutKey => None,
        };
        let key = value.is_some().then_some(id);
        self.ready.push_back(SampleRecord { broken: Some(broken), ..SampleRecord::new(object, key, value, time) });
    }
}

impl Iterator for Shop {
    type Item = SampleRecord;

    fn next(&mut self) -> Option<SampleRecord> {
        loop {
            if let Some(record) = self.ready.pop_front() {
                return Some(record);
            }
            match self.traffic.next()? {
                Next::Import(time) => {
                    let mut random = Random::new(self.seed, Purpose::Age, self.profiles.len() as u64);
                    let age = random.below(2 * 365 * DAY.unsigned_abs());
                    self.create_profile(time.saturating_sub_unsigned(age).max(0), time);
                }
                Next::Profile(time) => self.create_profile(time, time),
                Next::Event(time) => self.happen(time),
            }
        }
    }
}

#[cfg(test)]
#[path = "sample_tests.rs"]
mod tests;
