//! Times as people and machines write them: UTC, RFC 3339. It knows no time zone.

use std::fmt::Write;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time since 1970 by the clock on the wall; zero on a machine that believes to live before that.
pub fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The clock on the wall, in whole seconds.
pub fn seconds_since_1970() -> u64 {
    since_1970().as_secs()
}

/// A time in seconds since 1970 as `2026-11-23T17:05:09Z`.
pub fn utc(seconds: u64) -> String {
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Years begin in March here, so that the leap day is the last of its year; 400 years are an era.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let date = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    format!(
        "{:04}-{month:02}-{date:02}T{:02}:{:02}:{:02}Z",
        era * 400 + year + next,
        second / 3600,
        second / 60 % 60,
        second % 60
    )
}

/// A time since 1970 as `2026-11-23T17:05:09.042Z`.
pub fn utc_millis(since_1970: Duration) -> String {
    let mut text = utc(since_1970.as_secs());
    text.pop();
    // Writing to a string cannot fail.
    let _ = write!(text, ".{:03}Z", since_1970.subsec_millis());
    text
}

/// The seconds since 1970 of a time such as `2026-11-23T17:05:09.5Z`, in UTC; none of anything else.
pub fn seconds(text: &str) -> Option<u64> {
    let (date, time) = text.strip_suffix('Z')?.split_once('T')?;
    let numbers = |text: &str, separator| -> Option<[u64; 3]> {
        let numbers: Option<Vec<u64>> = text.split(separator).map(|number| number.parse().ok()).collect();
        numbers?.try_into().ok()
    };
    let [year, month, day] = numbers(date, '-')?;
    let [hour, minute, second] = numbers(time.split('.').next()?, ':')?;
    if year < 1970 || !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    // As in `utc`: years begin in March.
    let (year, month) = if month < 3 {
        (year - 1, month + 9)
    } else {
        (year, month - 3)
    };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    Some((days.checked_sub(719_468)? * 24 + hour) * 3600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_dates() {
        assert_eq!(utc(0), "1970-01-01T00:00:00Z");
        assert_eq!(utc(951_782_399), "2000-02-28T23:59:59Z");
        assert_eq!(utc(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(utc(1_735_689_599), "2024-12-31T23:59:59Z");
        assert_eq!(utc(4_107_542_400), "2100-03-01T00:00:00Z");
        for time in [0, 951_782_399, 951_782_400, 1_735_689_599, 4_107_542_400] {
            assert_eq!(seconds(&utc(time)), Some(time));
        }
        assert_eq!(seconds("1970-01-01T00:00:01.999999999Z"), Some(1));
        assert_eq!(utc(u64::from(u32::MAX)), "2106-02-07T06:28:15Z");
        assert_eq!(
            utc_millis(Duration::from_micros(951_782_400_042_999)),
            "2000-02-29T00:00:00.042Z"
        );
        // An engine's way to say never.
        assert_eq!(seconds("0001-01-01T00:00:00Z"), None);
        assert_eq!(seconds("yesterday"), None);
    }
}
