//! Durations as arguments: `90`, `90s`, `1.5m`, `250ms`, `1h`.

use std::time::Duration;

/// Reads a duration; a number alone is seconds.
///
/// # Errors
///
/// What is wrong with the text.
pub fn duration(text: &str) -> Result<Duration, String> {
    let end = text
        .find(|letter: char| letter.is_ascii_alphabetic())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let seconds = match unit {
        "" | "s" => Some(1.0),
        "ms" => Some(0.001),
        "m" => Some(60.0),
        "h" => Some(3600.0),
        _ => None,
    };
    seconds
        .zip(number.parse::<f64>().ok())
        .and_then(|(seconds, number)| Duration::try_from_secs_f64(seconds * number).ok())
        .filter(|duration| !duration.is_zero())
        .ok_or_else(|| format!("`{text}` is no duration such as `60s`, `1.5m` or `500ms`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_read_and_nonsense_is_not() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1.5m"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "s", "0s", "-1s", "1d", "nan", "inf", "1e400s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
