//! PostgreSQL's text for the binary form of numbers, dates, times, intervals and UUIDs: what the server
//! itself prints with DateStyle ISO, IntervalStyle postgres and TimeZone UTC. The driver asks for binary
//! alone, and a client in any language can read text.

use std::fmt::Write as _;

/// Microseconds in a day.
const DAY: i64 = 86_400_000_000;
/// Days from 0000-03-01 (proleptic Gregorian) to 2000-01-01, PostgreSQL's epoch.
const EPOCH_DAYS: i64 = 730_425;

/// Takes `N` bytes from the front.
fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*head)
}

fn only<const N: usize>(bytes: &[u8]) -> Option<[u8; N]> {
    bytes.try_into().ok()
}

/// `numeric`: base-10,000 digits, the place of the first one, a sign, and how many decimals to show.
pub(super) fn numeric(mut bytes: &[u8]) -> Option<String> {
    let count = u16::from_be_bytes(take(&mut bytes)?);
    let weight = i16::from_be_bytes(take(&mut bytes)?);
    let sign = u16::from_be_bytes(take(&mut bytes)?);
    let scale = usize::from(u16::from_be_bytes(take(&mut bytes)?));
    match sign {
        0xC000 => return Some("NaN".into()),
        0xD000 => return Some("Infinity".into()),
        0xF000 => return Some("-Infinity".into()),
        _ => {}
    }
    let mut digits = Vec::with_capacity(usize::from(count));
    for _ in 0..count {
        digits.push(u16::from_be_bytes(take(&mut bytes)?));
    }
    let digit = |place: i32| {
        usize::try_from(i32::from(weight) - place)
            .ok()
            .and_then(|index| digits.get(index).copied())
            .unwrap_or(0)
    };
    let mut text = String::new();
    if sign == 0x4000 {
        text.push('-');
    }
    let first = i32::from(weight).max(0);
    let _ = write!(text, "{}", digit(first));
    for place in (0..first).rev() {
        let _ = write!(text, "{:04}", digit(place));
    }
    if scale > 0 {
        let mut decimals = String::with_capacity(scale + 4);
        let mut place = -1;
        while decimals.len() < scale {
            let _ = write!(decimals, "{:04}", digit(place));
            place -= 1;
        }
        decimals.truncate(scale);
        text.push('.');
        text.push_str(&decimals);
    }
    Some(text)
}

/// Year, month and day of a number of days since 2000-01-01. (Howard Hinnant, "chrono-Compatible Low-Level
/// Date Algorithms": eras of 400 years that begin in March.)
fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + EPOCH_DAYS;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

/// The date, and whether it lies before Christ.
fn write_date(text: &mut String, days: i64) -> bool {
    let (year, month, day) = civil(days);
    let before_christ = year <= 0;
    let shown = if before_christ { 1 - year } else { year };
    let _ = write!(text, "{shown:04}-{month:02}-{day:02}");
    before_christ
}

fn write_time(text: &mut String, microseconds: i64) {
    let seconds = microseconds / 1_000_000;
    let _ = write!(text, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
    write_fraction(text, microseconds % 1_000_000);
}

/// Microseconds as decimals, without trailing zeros.
fn write_fraction(text: &mut String, microseconds: i64) {
    if microseconds != 0 {
        let digits = format!("{microseconds:06}");
        let _ = write!(text, ".{}", digits.trim_end_matches('0'));
    }
}

/// `date`: days.
pub(super) fn date(bytes: &[u8]) -> Option<String> {
    let days = i32::from_be_bytes(only(bytes)?);
    if let Some(infinite) = infinity(i64::from(days), i64::from(i32::MIN), i64::from(i32::MAX)) {
        return Some(infinite);
    }
    let mut text = String::new();
    if write_date(&mut text, i64::from(days)) {
        text.push_str(" BC");
    }
    Some(text)
}

/// `time`: microseconds since midnight.
pub(super) fn time(bytes: &[u8]) -> Option<String> {
    let mut text = String::new();
    write_time(&mut text, i64::from_be_bytes(only(bytes)?));
    Some(text)
}

/// `timetz`: as `time`, then seconds west of Greenwich.
pub(super) fn timetz(mut bytes: &[u8]) -> Option<String> {
    let microseconds = i64::from_be_bytes(take(&mut bytes)?);
    let west = i32::from_be_bytes(only(bytes)?);
    let mut text = String::new();
    write_time(&mut text, microseconds);
    let east = west.checked_neg()?;
    text.push(if east < 0 { '-' } else { '+' });
    let east = east.unsigned_abs();
    let (hours, minutes, seconds) = (east / 3600, east / 60 % 60, east % 60);
    let _ = write!(text, "{hours:02}");
    if minutes != 0 || seconds != 0 {
        let _ = write!(text, ":{minutes:02}");
    }
    if seconds != 0 {
        let _ = write!(text, ":{seconds:02}");
    }
    Some(text)
}

/// `timestamp`, or `timestamptz` with `zone`: microseconds.
pub(super) fn timestamp(bytes: &[u8], zone: &str) -> Option<String> {
    let microseconds = i64::from_be_bytes(only(bytes)?);
    if let Some(infinite) = infinity(microseconds, i64::MIN, i64::MAX) {
        return Some(infinite);
    }
    let mut text = String::new();
    let before_christ = write_date(&mut text, microseconds.div_euclid(DAY));
    text.push(' ');
    write_time(&mut text, microseconds.rem_euclid(DAY));
    text.push_str(zone);
    if before_christ {
        text.push_str(" BC");
    }
    Some(text)
}

fn infinity(value: i64, least: i64, greatest: i64) -> Option<String> {
    if value == least {
        Some("-infinity".into())
    } else if value == greatest {
        Some("infinity".into())
    } else {
        None
    }
}

/// `interval`: microseconds, days, months, each with its own sign.
pub(super) fn interval(mut bytes: &[u8]) -> Option<String> {
    let microseconds = i64::from_be_bytes(take(&mut bytes)?);
    let days = i32::from_be_bytes(take(&mut bytes)?);
    let months = i32::from_be_bytes(only(bytes)?);
    match (microseconds, days, months) {
        (i64::MAX, i32::MAX, i32::MAX) => return Some("infinity".into()),
        (i64::MIN, i32::MIN, i32::MIN) => return Some("-infinity".into()),
        _ => {}
    }
    let mut text = String::new();
    // A part that follows a negative one says that it is positive.
    let mut negative_before = false;
    for (number, one) in [(months / 12, "year"), (months % 12, "mon"), (days, "day")] {
        if number == 0 {
            continue;
        }
        let space = if text.is_empty() { "" } else { " " };
        let plus = if negative_before && number > 0 { "+" } else { "" };
        let plural = if number == 1 { "" } else { "s" };
        let _ = write!(text, "{space}{plus}{number} {one}{plural}");
        negative_before = number < 0;
    }
    if microseconds != 0 || text.is_empty() {
        if !text.is_empty() {
            text.push(' ');
        }
        if microseconds < 0 {
            text.push('-');
        } else if negative_before {
            text.push('+');
        }
        let absolute = microseconds.unsigned_abs();
        let seconds = absolute / 1_000_000;
        let _ = write!(text, "{:02}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60);
        write_fraction(&mut text, i64::try_from(absolute % 1_000_000).unwrap_or(0));
    }
    Some(text)
}

/// `uuid`: 16 bytes.
pub(super) fn uuid(bytes: &[u8]) -> Option<String> {
    let bytes: [u8; 16] = only(bytes)?;
    let mut text = String::with_capacity(36);
    for (index, byte) in bytes.iter().enumerate() {
        if matches!(index, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_values_are_refused() {
        assert_eq!(numeric(&[0, 2, 0, 0, 0, 0, 0, 0, 0, 1]), None);
        assert_eq!(date(&[0; 3]), None);
        assert_eq!(timestamp(&[0; 7], ""), None);
        assert_eq!(interval(&[0; 15]), None);
        assert_eq!(uuid(&[0; 15]), None);
    }

    #[test]
    fn the_epoch_is_the_first_of_january_2000() {
        assert_eq!(date(&0i32.to_be_bytes()).unwrap(), "2000-01-01");
        assert_eq!(timestamp(&(-1i64).to_be_bytes(), "+00").unwrap(), "1999-12-31 23:59:59.999999+00");
    }
}
