//! Numbers as people read them: rows, bytes and durations in text.

use std::time::Duration;

use bytesize::ByteSize;

/// A count with its thousands apart: `12,345`.
#[must_use]
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A count with its noun: `1 row`, `2 rows`.
#[must_use]
pub fn counted(number: u64, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{} {noun}{plural}", count(number))
}

/// A size in binary units: `3.1 MiB`; whole numbers lose their `.0`.
#[must_use]
pub fn bytes(number: u64) -> String {
    ByteSize(number).display().iec().to_string().replacen(".0 ", " ", 1)
}

/// A rate in binary units: `3.1 MiB/s`.
#[must_use]
pub fn rate(bytes_per_second: f64) -> String {
    format!("{}/s", bytes(whole(bytes_per_second)))
}

/// A non-negative number without its fraction.
#[must_use]
pub fn whole(number: f64) -> u64 {
    // `as` saturates, and turns NaN into zero: both are right for display.
    number.max(0.0) as u64
}

/// A duration: `0.3 s`, `12.4 s`, `3 min 20 s`, `2 h 05 min`.
#[must_use]
pub fn duration(length: Duration) -> String {
    let seconds = length.as_secs();
    match seconds {
        0 if length.subsec_millis() < 100 => format!("{} ms", length.subsec_millis()),
        0..=59 => format!("{:.1} s", length.as_secs_f64()),
        60..=3599 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        _ => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(count(0), "0");
        assert_eq!(count(999), "999");
        assert_eq!(count(12_345), "12,345");
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(counted(1, "row"), "1 row");
        assert_eq!(counted(1_000, "row"), "1,000 rows");
        assert_eq!(bytes(0), "0 B");
        assert_eq!(bytes(256 << 20), "256 MiB");
        assert_eq!(bytes(3_250_586), "3.1 MiB");
        assert_eq!(rate(1024.0 * 1.5), "1.5 KiB/s");
        assert_eq!(duration(Duration::from_millis(8)), "8 ms");
        assert_eq!(duration(Duration::from_millis(1_240)), "1.2 s");
        assert_eq!(duration(Duration::from_secs(200)), "3 min 20 s");
        assert_eq!(duration(Duration::from_secs(7_500)), "2 h 05 min");
    }
}
