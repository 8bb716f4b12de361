//! Times as Klaviyo writes them, and as we write them.
//!
//! Written by hand because every row has up to four of them: a general parser costs more than the
//! rest of the row. Accepted (klaviyo.md D4): `YYYY-MM-DD`, optionally followed by `T` or a space and
//! `HH:MM[:SS[.fraction]]`, optionally followed by `Z` or an offset `±HH[:MM]`. Missing parts are 0,
//! a missing offset is UTC.

/// A parsed time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parsed {
    /// Microseconds since the Unix epoch.
    pub micros: i64,
    /// True when the text had digits below a microsecond, which a timestamp column cannot hold.
    pub lossy: bool,
}

const MICROS_PER_SECOND: i64 = 1_000_000;
const SECONDS_PER_DAY: i64 = 86_400;

/// Parses a time; `None` when it is not one.
pub fn parse(text: &str) -> Option<Parsed> {
    let bytes = text.as_bytes();
    let (year, month, day) = (digits(bytes, 0, 4)?, digits(bytes, 5, 2)?, digits(bytes, 8, 2)?);
    if bytes[4] != b'-' || bytes[7] != b'-' || !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    let mut seconds = days_from_civil(year, month, day) * SECONDS_PER_DAY;
    let (mut micros, mut lossy) = (0, false);
    let mut at = 10;
    if bytes.len() > at {
        if !matches!(bytes[at], b'T' | b't' | b' ') {
            return None;
        }
        let (hour, minute) = (digits(bytes, 11, 2)?, digits(bytes, 14, 2)?);
        if bytes[13] != b':' || hour > 23 || minute > 59 {
            return None;
        }
        seconds += hour * 3600 + minute * 60;
        at = 16;
        if bytes.get(at) == Some(&b':') {
            let second = digits(bytes, 17, 2)?;
            // A leap second has no place of its own on this scale.
            if second > 60 {
                return None;
            }
            seconds += second.min(59);
            at = 19;
            if matches!(bytes.get(at), Some(b'.' | b',')) {
                let fraction = &bytes[at + 1..];
                let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
                if length == 0 {
                    return None;
                }
                for place in 0..6 {
                    micros = micros * 10 + fraction[..length].get(place).map_or(0, |byte| i64::from(byte - b'0'));
                }
                lossy = fraction[..length].iter().skip(6).any(|byte| *byte != b'0');
                at += 1 + length;
            }
        }
        seconds -= offset_seconds(&bytes[at..])?;
    }
    Some(Parsed { micros: seconds * MICROS_PER_SECOND + micros, lossy })
}

fn offset_seconds(rest: &[u8]) -> Option<i64> {
    match rest {
        [] | [b'Z' | b'z'] => Some(0),
        [sign @ (b'+' | b'-'), rest @ ..] => {
            let hours = digits(rest, 0, 2)?;
            let minutes = match rest.len() {
                2 => 0,
                4 => digits(rest, 2, 2)?,
                5 if rest[2] == b':' => digits(rest, 3, 2)?,
                _ => return None,
            };
            let seconds = hours * 3600 + minutes * 60;
            (hours <= 23 && minutes <= 59).then_some(if *sign == b'-' { -seconds } else { seconds })
        }
        _ => None,
    }
}

fn digits(bytes: &[u8], start: usize, count: usize) -> Option<i64> {
    bytes.get(start..start + count)?.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| number * 10 + i64::from(byte - b'0')))
}

const fn is_leap(year: i64) -> bool {
    year % 4 == 0 && (year % 100 != 0 || year % 400 == 0)
}

const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01 (Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms").
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year - era * 400;
    let day_of_year = (153 * (month + if month > 2 { -3 } else { 9 }) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    era * 146_097 + day_of_era - 719_468
}

const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days - era * 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (year_of_era + era * 400 + (month <= 2) as i64, month, day)
}

/// Appends `YYYY-MM-DDTHH:MM:SS[.ffffff]Z`; the fraction is left out when it is zero.
pub fn write_rfc3339(micros: i64, into: &mut Vec<u8>) {
    let seconds = micros.div_euclid(MICROS_PER_SECOND);
    let fraction = micros.rem_euclid(MICROS_PER_SECOND);
    let (days, second_of_day) = (seconds.div_euclid(SECONDS_PER_DAY), seconds.rem_euclid(SECONDS_PER_DAY));
    let (year, month, day) = civil_from_days(days);
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    put(&mut text[0..4], year.clamp(0, 9999));
    put(&mut text[5..7], month);
    put(&mut text[8..10], day);
    put(&mut text[11..13], second_of_day / 3600);
    put(&mut text[14..16], second_of_day / 60 % 60);
    put(&mut text[17..19], second_of_day % 60);
    if fraction == 0 {
        text[19] = b'Z';
        into.extend_from_slice(&text[..20]);
    } else {
        put(&mut text[20..26], fraction);
        into.extend_from_slice(&text);
    }
}

fn put(into: &mut [u8], mut number: i64) {
    for digit in into.iter_mut().rev() {
        *digit = b'0' + (number % 10) as u8;
        number /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn written(micros: i64) -> String {
        let mut text = Vec::new();
        write_rfc3339(micros, &mut text);
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn every_form_that_klaviyo_writes_is_read() {
        for (text, expected) in [
            ("2026-09-04T13:38:55+00:00", "2026-09-04T13:38:55Z"),
            ("2026-09-04T13:39:37.131044+00:00", "2026-09-04T13:39:37.131044Z"),
            ("2021-05-17 23:45:24+00:00", "2021-05-17T23:45:24Z"),
            ("2018-12-27", "2018-12-27T00:00:00Z"),
            ("2018-12-27T12:30:00", "2018-12-27T12:30:00Z"),
            ("2018-12-27T12:30:00.710Z", "2018-12-27T12:30:00.710000Z"),
            ("2018-12-27T12:30:00+03:00", "2018-12-27T09:30:00Z"),
            ("2023-08-15 12:30:00Z", "2023-08-15T12:30:00Z"),
            ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59.500000Z"),
        ] {
            assert_eq!(parse(text).map(|parsed| written(parsed.micros)).as_deref(), Some(expected), "{text}");
        }
        assert!(parse("2018-12-27T12:30:00.1234567Z").unwrap().lossy);
        assert!(!parse("2018-12-27T12:30:00.1234560Z").unwrap().lossy);
    }

    #[test]
    fn what_is_not_a_time_is_refused() {
        for text in [
            "",
            "yesterday",
            "2026-13-01",
            "2026-02-29",
            "2026-01-01T",
            "2026-01-01T25:00",
            "2026-01-01T00:00:00+",
            "2026-01-01T00:00:00.Z",
            "2026-01-01T00:00:00Zx",
            "27-12-2018",
            "1788529135",
            "２０２６-01-01",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_jiff(micros in -62_135_596_800_000_000i64..253_402_207_200_000_000) {
            let expected = jiff::Timestamp::from_microsecond(micros).unwrap();
            let text = written(micros);
            prop_assert_eq!(text.parse::<jiff::Timestamp>().unwrap(), expected);
            prop_assert_eq!(parse(&text), Some(Parsed { micros, lossy: false }));
            prop_assert_eq!(parse(&expected.to_string()).unwrap().micros, micros);
        }

        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = parse(&text);
        }
    }
}
