//! Measured numbers as a person reads them; the whole of each is in the JSON.

/// `1,234`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 pod`, `1,234 pods`.
pub fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {what}{plural}", count(number))
}

/// A number in as many digits as tell it from its neighbours: `0.052`, `2.1`, `38`, `1,234`.
pub fn amount(number: f64) -> String {
    match number {
        ..0.1 => format!("{number:.3}"),
        ..1.0 => format!("{number:.2}"),
        ..10.0 => format!("{number:.1}"),
        _ => count(number.round() as u64),
    }
}

/// A time: `0.52 ms`, `2.1 ms`, `310 ms`, `1.2 s`.
pub fn time(seconds: f64) -> String {
    if seconds < 1.0 {
        format!("{} ms", amount(seconds * 1e3))
    } else {
        format!("{} s", amount(seconds))
    }
}

/// An amount of memory: `31 MiB`.
pub fn memory(bytes: f64) -> String {
    scaled(bytes, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// A length in decimal units: `1.5 kB`.
pub fn length(bytes: f64) -> String {
    scaled(bytes, 1000.0, &["B", "kB", "MB", "GB", "TB"])
}

/// What a network carries: `12 Gbit/s`.
pub fn bandwidth(bytes_per_second: f64) -> String {
    scaled(
        bytes_per_second * 8.0,
        1000.0,
        &["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"],
    )
}

fn scaled(number: f64, step: f64, units: &[&str]) -> String {
    let (mut number, mut unit) = (number, 0);
    while number >= step && unit + 1 < units.len() {
        number /= step;
        unit += 1;
    }
    format!("{} {}", amount(number), units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_long_as_they_need_to_be() {
        assert_eq!(
            [0.0523, 0.52, 2.14, 38.2, 1234.4].map(amount),
            ["0.052", "0.52", "2.1", "38", "1,234"]
        );
        assert_eq!([0.000_52, 0.31, 1.25].map(time), ["0.52 ms", "310 ms", "1.2 s"]);
        assert_eq!(
            [512.0, 32_505_856.0, 1.5e12].map(memory),
            ["512 B", "31 MiB", "1.4 TiB"]
        );
        assert_eq!([1500.0, 20.0].map(length), ["1.5 kB", "20 B"]);
        assert_eq!(bandwidth(1.5e9), "12 Gbit/s");
        assert_eq!(count(1_000_000), "1,000,000");
        assert_eq!([1, 1234].map(|pods| counted(pods, "pod")), ["1 pod", "1,234 pods"]);
    }
}
