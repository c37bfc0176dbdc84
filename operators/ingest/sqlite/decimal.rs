//! Decimal text to a scaled 128-bit integer, exactly or not at all.

/// The value of `text` times 10^`scale`, if it is a decimal number that has no
/// more than `scale` fractional and `precision` digits in all.
pub(super) fn scaled(text: &str, precision: u8, scale: i8) -> Result<i128, &'static str> {
    const NOT_A_NUMBER: &str = "not a decimal number";
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match digits.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => {
            (mantissa, exponent.parse::<i32>().map_err(|_| NOT_A_NUMBER)?)
        }
        None => (digits, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    if whole.is_empty() && fraction.is_empty() {
        return Err(NOT_A_NUMBER);
    }
    if !whole
        .bytes()
        .chain(fraction.bytes())
        .all(|byte| byte.is_ascii_digit())
    {
        return Err(NOT_A_NUMBER);
    }
    // digits x 10^(exponent - fraction length), without its outer zeros.
    let all = format!("{whole}{fraction}");
    let significant = all.trim_end_matches('0');
    let zeros = all.len() - significant.len();
    let significant = significant.trim_start_matches('0');
    if significant.is_empty() {
        return Ok(0);
    }
    let shift = i64::from(exponent) + i64::from(scale) + length(zeros) - length(fraction.len());
    if shift < 0 {
        return Err("it has more fractional digits than the decimal keeps");
    }
    if length(significant.len()) + shift > i64::from(precision) {
        return Err("it has more digits than the decimal keeps");
    }
    let power = u32::try_from(shift)
        .ok()
        .and_then(|shift| 10_i128.checked_pow(shift));
    let value = significant
        .parse::<i128>()
        .ok()
        .zip(power)
        .and_then(|(v, p)| v.checked_mul(p));
    let value = value.ok_or("it has more digits than the decimal keeps")?;
    Ok(if negative { -value } else { value })
}

fn length(digits: usize) -> i64 {
    i64::try_from(digits).unwrap_or(i64::MAX / 4)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn forms() {
        for (text, expected) in [
            ("19.99", 1999),
            ("-0.5", -50),
            ("+7", 700),
            ("1e2", 10_000),
            ("1.50000", 150),
            ("00012.3", 1230),
            (".5", 50),
            ("5.", 500),
            ("0e99999", 0),
            ("12345678.99", 1_234_567_899),
        ] {
            assert_eq!(scaled(text, 10, 2), Ok(expected), "{text}");
        }
        for text in [
            "",
            ".",
            "-",
            "1.001",
            "1e-3",
            "123456789",
            "1e9",
            "abc",
            "1 ",
            "0x1",
            "inf",
            "1e",
            "1_0",
            "٣",
        ] {
            assert!(scaled(text, 10, 2).is_err(), "{text}");
        }
        assert_eq!(scaled(&"9".repeat(38), 38, 0), Ok(10_i128.pow(38) - 1));
        assert!(scaled(&"9".repeat(39), 38, 0).is_err());
    }

    proptest! {
        #[test]
        fn what_fits_reads_back(value in -999_999_999_999_i64..=999_999_999_999, scale in 0i8..=12) {
            let digits = format!("{:013}", value.unsigned_abs());
            let (whole, fraction) = digits.split_at(13 - usize::try_from(scale).unwrap());
            let sign = if value < 0 { "-" } else { "" };
            let text = format!("{sign}{whole}.{fraction}");
            prop_assert_eq!(scaled(&text, 38, scale), Ok(i128::from(value)));
        }

        #[test]
        fn any_text_is_answered(text in ".{0,60}") {
            let _ = scaled(&text, 38, 10);
        }
    }
}
