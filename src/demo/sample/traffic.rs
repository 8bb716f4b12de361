//! When things happen in a shop.

use super::random::{Purpose, Random};
use super::write::civil;

const HOUR: i64 = 3_600_000;
/// The year 2100, in milliseconds. Times stay below it, so that no sum of them overflows.
const LATEST: i64 = 4_102_444_800_000;
/// Events by month, January first: quiet summers, a rush before Christmas.
const SEASON: [f64; 12] = [0.9, 0.8, 0.9, 0.9, 1.0, 0.9, 0.7, 0.7, 1.0, 1.1, 2.2, 1.8];
/// Events by hour of the day, UTC, in European shopping hours.
const DAY: [f64; 24] =
    [0.2, 0.1, 0.1, 0.1, 0.2, 0.4, 0.8, 1.2, 1.5, 1.6, 1.5, 1.4, 1.3, 1.3, 1.3, 1.3, 1.4, 1.6, 1.8, 2.0, 1.8, 1.3, 0.8, 0.4];

/// What happens next, and when (in milliseconds since the Unix epoch).
#[derive(Debug, Clone, Copy)]
pub(super) enum Next {
    /// A profile is imported, so it is older.
    Import(i64),
    /// A profile is created.
    Profile(i64),
    /// An event.
    Event(i64),
}

impl Next {
    fn time(self) -> i64 {
        match self {
            Next::Import(time) | Next::Profile(time) | Next::Event(time) => time,
        }
    }
}

/// A number of profiles and events between two times, in the order of their times.
#[derive(Debug)]
pub(super) struct Traffic {
    random: Random,
    from: i64,
    to: i64,
    imports: usize,
    profiles: usize,
    profiles_done: usize,
    events: usize,
    events_done: usize,
    /// Drawn already, to be compared with the next profile.
    next_event: Option<i64>,
    /// The hour that the last event fell into: its beginning, its weight, the weight of all before it.
    hour: i64,
    weight: f64,
    weight_before: f64,
    weight_total: f64,
}

impl Traffic {
    /// Events by season and hour; profiles evenly, but so many of them imported at the beginning.
    pub(super) fn new(seed: u64, from: i64, to: i64, imports: usize, profiles: usize, events: usize) -> Self {
        let from = from.clamp(0, LATEST);
        let to = to.clamp(from, LATEST);
        let mut traffic = Self {
            random: Random::new(seed, Purpose::Time, from.unsigned_abs()),
            from,
            to,
            imports,
            profiles,
            profiles_done: 0,
            events,
            events_done: 0,
            next_event: None,
            hour: from,
            weight: weight(from, to),
            weight_before: 0.0,
            weight_total: (from..to).step_by(HOUR as usize).map(|hour| weight(hour, to)).sum(),
        };
        traffic.next_event = traffic.draw_event();
        traffic
    }

    /// The beginning.
    pub(super) fn from(&self) -> i64 {
        self.from
    }

    /// Events cut the area under the curve of weights into equal pieces; each lies anywhere in its piece.
    fn draw_event(&mut self) -> Option<i64> {
        if self.events_done == self.events {
            return None;
        }
        let share = (self.events_done as f64 + self.random.share()) / self.events as f64;
        let place = share * self.weight_total;
        self.events_done += 1;
        while self.weight_before + self.weight <= place && self.hour + HOUR < self.to {
            self.weight_before += self.weight;
            self.hour += HOUR;
            self.weight = weight(self.hour, self.to);
        }
        let length = (self.to - self.hour).min(HOUR);
        // Without any weight (no time at all) the share is not a number, which becomes 0 here.
        let within = ((place - self.weight_before) / self.weight * length as f64) as i64;
        Some(self.hour + within.clamp(0, length))
    }

    fn next_profile(&self) -> Option<Next> {
        if self.profiles_done == self.profiles {
            return None;
        }
        let Some(nth) = self.profiles_done.checked_sub(self.imports) else { return Some(Next::Import(self.from)) };
        let share = nth as f64 / (self.profiles - self.imports) as f64;
        Some(Next::Profile(self.from + ((self.to - self.from) as f64 * share) as i64))
    }
}

impl Iterator for Traffic {
    type Item = Next;

    fn next(&mut self) -> Option<Next> {
        if let Some(event) = self.next_event
            && self.next_profile().is_none_or(|profile| event < profile.time())
        {
            self.next_event = self.draw_event();
            return Some(Next::Event(event));
        }
        let profile = self.next_profile()?;
        self.profiles_done += 1;
        Some(profile)
    }
}

/// How busy the hour beginning at `hour` is, as far as it lies before `to`.
fn weight(hour: i64, to: i64) -> f64 {
    let civil = civil(hour / 1000);
    let length = (to - hour).min(HOUR) as f64 / HOUR as f64;
    SEASON[civil.month() as usize - 1] * DAY[civil.hour() as usize] * length
}
