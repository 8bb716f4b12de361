//! Writing JSON text, without a tree and without the formatting machinery, both of which would take most of the time.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

/// What a template's `%` can stand for.
pub(super) trait Fragment {
    /// Appends it.
    fn write(&self, into: &mut Vec<u8>);
}

/// Appends the template with each `%` replaced by the next of the values. Text is JSON already, escapes included.
pub(super) fn fill(into: &mut Vec<u8>, template: &str, values: &[&dyn Fragment]) {
    let mut rest = template.as_bytes();
    let mut values = values.iter();
    while let Some(place) = memchr::memchr(b'%', rest) {
        into.extend_from_slice(&rest[..place]);
        rest = &rest[place + 1..];
        let value = values.next();
        debug_assert!(value.is_some(), "too few values for {template}");
        if let Some(value) = value {
            value.write(into);
        }
    }
    debug_assert!(values.next().is_none(), "too many values for {template}");
    into.extend_from_slice(rest);
}

impl Fragment for &str {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(self.as_bytes());
    }
}

impl Fragment for String {
    fn write(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(self.as_bytes());
    }
}

impl Fragment for u64 {
    fn write(&self, into: &mut Vec<u8>) {
        write_digits(into, *self, 1);
    }
}

impl Fragment for i64 {
    fn write(&self, into: &mut Vec<u8>) {
        if *self < 0 {
            into.push(b'-');
        }
        write_digits(into, self.unsigned_abs(), 1);
    }
}

/// A number, with leading zeros if it is short.
fn write_digits(into: &mut Vec<u8>, mut number: u64, at_least: usize) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    while number > 0 {
        start -= 1;
        digits[start] += (number % 10) as u8;
        number /= 10;
    }
    into.extend_from_slice(&digits[start.min(digits.len() - at_least)..]);
}

/// A JSON string, or null.
pub(super) struct Quoted<T>(pub(super) Option<T>);

impl<T: Fragment> Fragment for Quoted<T> {
    fn write(&self, into: &mut Vec<u8>) {
        match &self.0 {
            Some(text) => fill(into, r#""%""#, &[text]),
            None => into.extend_from_slice(b"null"),
        }
    }
}

/// An amount of money in hundredths, written as a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cents(pub(super) u64);

impl Fragment for Cents {
    fn write(&self, into: &mut Vec<u8>) {
        write_digits(into, self.0 / 100, 1);
        into.push(b'.');
        write_digits(into, self.0 % 100, 2);
    }
}

/// A time in one of the ways in which Klaviyo writes it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    /// Seconds since the Unix epoch.
    pub(super) second: i64,
    /// Microseconds of the second; without them none are written.
    pub(super) microseconds: Option<u64>,
    /// `T`, but a space in older revisions of the API.
    pub(super) separator: u8,
}

impl Moment {
    /// The second in which a time in milliseconds since the Unix epoch lies.
    pub(super) fn of(milliseconds: i64) -> Self {
        Self { second: milliseconds.div_euclid(1000), microseconds: None, separator: b'T' }
    }
}

impl Fragment for Moment {
    fn write(&self, into: &mut Vec<u8>) {
        let civil = civil(self.second);
        write_digits(into, civil.year().unsigned_abs().into(), 4);
        for (separator, number) in
            [(b'-', civil.month()), (b'-', civil.day()), (self.separator, civil.hour()), (b':', civil.minute()), (b':', civil.second())]
        {
            into.push(separator);
            write_digits(into, number.unsigned_abs().into(), 2);
        }
        if let Some(microseconds) = self.microseconds {
            into.push(b'.');
            write_digits(into, microseconds, 6);
        }
        into.extend_from_slice(b"+00:00");
    }
}

/// Date and time of day, UTC, of a second since the Unix epoch.
pub(super) fn civil(second: i64) -> DateTime {
    Offset::UTC.to_datetime(Timestamp::from_second(second).unwrap_or_default())
}
