//! Numbers and identifiers that follow from a seed.

use super::write::Fragment;

/// What random numbers are drawn for: one purpose's draws never shift another's.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    /// What an event holds.
    Event = 1,
    /// Whom an event happens to.
    Circumstance,
    /// Who a profile is.
    Person,
    /// How old an imported profile is.
    Age,
    /// When events happen.
    Time,
    /// The records of benchmarks.
    Benchmark,
}

/// The random numbers for one thing of the shop (SplitMix64). Not those of the crate `rand`, whose generators
/// may change between versions: the same seed must give the same bytes for years.
#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    /// The numbers for the thing of this number.
    pub(super) const fn new(seed: u64, purpose: Purpose, number: u64) -> Self {
        Self(mix(mix(seed ^ ((purpose as u64) << 56)) ^ number))
    }

    /// Any number.
    pub(super) const fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0)
    }

    /// A number below the limit; 0 if the limit is 0.
    pub(super) const fn below(&mut self, limit: u64) -> u64 {
        ((self.draw() as u128 * limit as u128) >> 64) as u64
    }

    /// True once in so many times.
    pub(super) const fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of the choices.
    pub(super) const fn pick<T: Copy, const N: usize>(&mut self, choices: &[T; N]) -> T {
        choices[self.below(N as u64) as usize]
    }

    /// A number from 0 up to, but not including, 1.
    pub(super) const fn share(&mut self) -> f64 {
        (self.draw() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

/// The finalizer of SplitMix64. It is a bijection, so distinct numbers get distinct identifiers.
const fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// The id of a resource, in ASCII.
#[derive(Debug, Clone, Copy)]
pub(super) struct Id<const LENGTH: usize>([u8; LENGTH]);

impl<const LENGTH: usize> Id<LENGTH> {
    /// As a record's key.
    pub(super) fn text(&self) -> String {
        self.0.iter().copied().map(char::from).collect()
    }
}

impl<const LENGTH: usize> Fragment for Id<LENGTH> {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(&self.0);
    }
}

/// The id of an event, as `7qWkC6JPz7g`; no two numbers of a seed share one.
pub(super) fn event_id(seed: u64, number: u64) -> Id<11> {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = mix(mix(seed) ^ number);
    let mut id = [0; 11];
    for digit in id.iter_mut().rev() {
        *digit = DIGITS[(rest % 62) as usize];
        rest /= 62;
    }
    Id(id)
}

/// The id of a profile: a ULID (48 bits of time, 80 random ones), as `01M1PA9MBA7VB258TP74BXMQTG`; no two
/// numbers of a seed share one.
pub(super) fn profile_id(seed: u64, number: u64, created: i64) -> Id<26> {
    const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
    let random = mix(mix(!seed) ^ number);
    let mut rest = (u128::from(created.unsigned_abs()) << 80) | (u128::from(random) << 16) | u128::from(random >> 48);
    let mut id = [0; 26];
    for digit in id.iter_mut().rev() {
        *digit = DIGITS[(rest % 32) as usize];
        rest /= 32;
    }
    Id(id)
}
