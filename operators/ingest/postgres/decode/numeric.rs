//! PostgreSQL's `numeric`: digits in base 10,000, never rounded here.
//!
//! On the wire: count of digits, weight of the first digit (power of 10,000),
//! sign, display scale, digits. A decimal of the lake either holds the value
//! digit for digit or the value is refused.

use super::flaw::{Decoded, Flaw};

const NEGATIVE: u16 = 0x4000;
const NAN: u16 = 0xC000;
const INFINITY: u16 = 0xD000;
const MINUS_INFINITY: u16 = 0xF000;

/// Precision and scale of a decimal column of the lake.
#[derive(Debug, Clone, Copy)]
pub(in super::super) struct Shape {
    scale: i32,
    /// First magnitude that needs more digits than the precision allows.
    limit: u128,
    precision: u8,
}

impl Shape {
    /// A decimal of `precision` digits, `scale` of them after the point.
    pub(super) fn new(precision: u8, scale: i8) -> Self {
        let limit = power_of_ten(u32::from(precision)).unwrap_or(u128::MAX);
        Self {
            scale: i32::from(scale),
            limit,
            precision,
        }
    }
}

/// One value as it came over the wire.
#[derive(Debug, Clone, Copy)]
pub(super) struct Numeric<'a> {
    digits: &'a [[u8; 2]],
    weight: i32,
    sign: u16,
    display_scale: u16,
}

impl<'a> Numeric<'a> {
    /// Takes the field apart; nothing is computed yet.
    #[inline]
    pub(super) fn parse(field: &'a [u8]) -> Decoded<Self> {
        let Some((head, digits)) = field.split_first_chunk::<8>() else {
            return Err(Flaw::length(8, field.len()));
        };
        let [n0, n1, w0, w1, s0, s1, d0, d1] = *head;
        let (digits, rest) = digits.as_chunks::<2>();
        if digits.len() != usize::from(u16::from_be_bytes([n0, n1])) || !rest.is_empty() {
            return Err(Flaw::wire(
                "a numeric whose digit count does not match its length",
            ));
        }
        Ok(Self {
            digits,
            weight: i32::from(i16::from_be_bytes([w0, w1])),
            sign: u16::from_be_bytes([s0, s1]),
            display_scale: u16::from_be_bytes([d0, d1]),
        })
    }

    /// The unscaled integer of a decimal of `shape`.
    #[inline]
    pub(super) fn to_decimal(self, shape: Shape) -> Decoded<i128> {
        let magnitude = match self.short(shape) {
            Some(magnitude) => magnitude,
            None => self.long(shape)?,
        };
        match self.sign {
            0 => Ok(magnitude),
            NEGATIVE => Ok(-magnitude),
            _ => Err(self.refuse(&format!(
                "{} does not exist in decimal({},{})",
                self.to_text(),
                shape.precision,
                shape.scale
            ))),
        }
    }

    /// At most four digits (16 decimal ones): 64-bit arithmetic. `None` leaves
    /// the value, and every refusal, to [`Self::long`].
    #[inline]
    fn short(self, shape: Shape) -> Option<i128> {
        if self.digits.len() > 4 {
            return None;
        }
        let mut sum = 0_u64;
        for digit in self.digits {
            sum = sum * 10_000 + u64::from(u16::from_be_bytes(*digit));
        }
        // Power of ten of the last digit, in units of the lake's last place.
        let last = 4 * (self.weight - (self.digits.len() as i32 - 1)) + shape.scale;
        let magnitude = match last {
            0 => u128::from(sum),
            // The usual cases by constants: division by a constant is a multiplication.
            -1 if sum.is_multiple_of(10) => u128::from(sum / 10),
            -2 if sum.is_multiple_of(100) => u128::from(sum / 100),
            -3 if sum.is_multiple_of(1_000) => u128::from(sum / 1_000),
            1..=38 => u128::from(sum).checked_mul(power_of_ten(last.unsigned_abs())?)?,
            _ if sum == 0 => 0,
            _ => return None,
        };
        if magnitude >= shape.limit {
            None
        } else {
            i128::try_from(magnitude).ok()
        }
    }

    /// Any number of digits, with every step checked.
    #[cold]
    fn long(self, shape: Shape) -> Decoded<i128> {
        let too_big = || {
            self.refuse(&format!(
                "more digits than decimal({},{}) holds",
                shape.precision, shape.scale
            ))
        };
        let too_fine = || {
            self.refuse(&format!(
                "more than {} digits after the point: decimal({},{}) would cut them",
                shape.scale, shape.precision, shape.scale
            ))
        };
        if self.sign != 0 && self.sign != NEGATIVE {
            return Ok(0);
        }
        let mut sum = 0_u128;
        let mut last = 0;
        for (position, digit) in (0_i32..).zip(self.digits) {
            let digit = u128::from(u16::from_be_bytes(*digit));
            last = 4 * (self.weight - position) + shape.scale;
            // How many decimal places of this digit the lake's type has room for.
            let places = (last + 4).clamp(0, 4).unsigned_abs();
            let cut = power_of_ten(4 - places).unwrap_or(1);
            if digit % cut != 0 {
                return Err(too_fine());
            }
            let room = power_of_ten(places).unwrap_or(1);
            sum = sum
                .checked_mul(room)
                .and_then(|sum| sum.checked_add(digit / cut))
                .ok_or_else(too_big)?;
        }
        if last > 0 && sum > 0 {
            let room = power_of_ten(last.unsigned_abs()).ok_or_else(too_big)?;
            sum = sum.checked_mul(room).ok_or_else(too_big)?;
        }
        if sum >= shape.limit {
            return Err(too_big());
        }
        i128::try_from(sum).map_err(|_| too_big())
    }

    /// The nearest double, as correctly rounded as the text would be.
    pub(super) fn to_f64(self) -> Decoded<f64> {
        let text = self.to_text();
        match text.parse::<f64>() {
            Ok(number) if number.is_finite() || self.is_special() => Ok(number),
            _ => Err(self.refuse("larger than a double can hold")),
        }
    }

    /// The nearest float.
    pub(super) fn to_f32(self) -> Decoded<f32> {
        let text = self.to_text();
        match text.parse::<f32>() {
            Ok(number) if number.is_finite() || self.is_special() => Ok(number),
            _ => Err(self.refuse("larger than a float can hold")),
        }
    }

    fn is_special(self) -> bool {
        matches!(self.sign, NAN | INFINITY | MINUS_INFINITY)
    }

    /// The value as PostgreSQL prints it.
    pub(super) fn to_text(self) -> String {
        match self.sign {
            NAN => return "NaN".to_owned(),
            INFINITY => return "Infinity".to_owned(),
            MINUS_INFINITY => return "-Infinity".to_owned(),
            _ => {}
        }
        let digit = |position: i32| {
            usize::try_from(position)
                .ok()
                .and_then(|position| self.digits.get(position))
                .map_or(0, |digit| u16::from_be_bytes(*digit))
        };
        let mut text = String::new();
        if self.sign == NEGATIVE {
            text.push('-');
        }
        if self.weight < 0 {
            text.push('0');
        }
        for position in 0..=self.weight {
            let digit = digit(position);
            text.push_str(&if position == 0 {
                format!("{digit}")
            } else {
                format!("{digit:04}")
            });
        }
        if self.display_scale > 0 {
            text.push('.');
            let places = usize::from(self.display_scale);
            let start = text.len();
            let mut position = self.weight + 1;
            // Digits before the first one (weight below -1) are zeros.
            if self.weight < -1 {
                position = 0;
                let zeros = (-1 - self.weight).unsigned_abs() as usize * 4;
                text.extend(std::iter::repeat_n('0', zeros.min(places)));
            } else if self.weight == -1 {
                position = 0;
            }
            while text.len() - start < places {
                text.push_str(&format!("{:04}", digit(position)));
                position += 1;
            }
            text.truncate(start + places);
        }
        text
    }

    #[cold]
    fn refuse(self, reason: &str) -> Box<Flaw> {
        Flaw::value(self.to_text(), reason)
    }
}

#[inline]
fn power_of_ten(exponent: u32) -> Option<u128> {
    const POWERS: [u128; 39] = {
        let mut powers = [1_u128; 39];
        let mut exponent = 1;
        while exponent < 39 {
            powers[exponent] = powers[exponent - 1] * 10;
            exponent += 1;
        }
        powers
    };
    POWERS.get(exponent as usize).copied()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;

    /// Encodes decimal text the way `numeric_send` does.
    pub(crate) fn encode(text: &str) -> Vec<u8> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let whole = whole.trim_start_matches('0');
        let pad = (4 - whole.len() % 4) % 4;
        let mut digits = "0".repeat(pad) + whole;
        let mut weight = digits.len() as i32 / 4 - 1;
        digits += fraction;
        digits += &"0".repeat((4 - fraction.len() % 4) % 4);
        let mut groups: Vec<u16> = digits
            .as_bytes()
            .chunks(4)
            .map(|four| std::str::from_utf8(four).unwrap().parse().unwrap())
            .collect();
        while groups.last() == Some(&0) {
            groups.pop();
        }
        while groups.first() == Some(&0) {
            groups.remove(0);
            weight -= 1;
        }
        if groups.is_empty() {
            weight = 0;
        }
        let sign = if negative && !groups.is_empty() {
            NEGATIVE
        } else {
            0
        };
        let mut bytes = Vec::new();
        bytes.extend((groups.len() as u16).to_be_bytes());
        bytes.extend((weight as i16).to_be_bytes());
        bytes.extend(sign.to_be_bytes());
        bytes.extend((fraction.len() as u16).to_be_bytes());
        groups
            .iter()
            .for_each(|group| bytes.extend(group.to_be_bytes()));
        bytes
    }

    fn decimal(text: &str, precision: u8, scale: i8) -> Result<i128, String> {
        let bytes = encode(text);
        Numeric::parse(&bytes)
            .unwrap()
            .to_decimal(Shape::new(precision, scale))
            .map_err(|flaw| match *flaw {
                Flaw::Value { value, .. } => value,
                Flaw::Wire(what) => panic!("{what}"),
            })
    }

    #[test]
    fn known_values() {
        assert_eq!(decimal("0", 12, 2), Ok(0));
        assert_eq!(decimal("0.00", 12, 2), Ok(0));
        assert_eq!(decimal("12.34", 12, 2), Ok(1234));
        assert_eq!(decimal("-9999999999.99", 12, 2), Ok(-999_999_999_999));
        assert_eq!(decimal("0.0001", 38, 4), Ok(1));
        assert_eq!(decimal("100000000", 38, 20), Ok(10_i128.pow(28)));
        let nines = "9".repeat(38);
        assert_eq!(decimal(&nines, 38, 0), Ok(10_i128.pow(38) - 1));
        assert_eq!(
            decimal(&format!("-0.{nines}"), 38, 38),
            Ok(-(10_i128.pow(38) - 1))
        );
        assert_eq!(
            decimal(&format!("1{nines}"), 38, 0),
            Err(format!("1{nines}"))
        );
        assert_eq!(decimal("1.001", 12, 2), Err("1.001".into()));
        assert_eq!(decimal("10000000000", 12, 2), Err("10000000000".into()));
        assert_eq!(
            decimal("0.00000000000000000001", 12, 2),
            Err("0.00000000000000000001".into())
        );
    }

    #[test]
    fn specials_are_refused_by_decimals_and_kept_by_doubles() {
        for (sign, text) in [
            (NAN, "NaN"),
            (INFINITY, "Infinity"),
            (MINUS_INFINITY, "-Infinity"),
        ] {
            let mut bytes = encode("0");
            bytes[4..6].copy_from_slice(&sign.to_be_bytes());
            let numeric = Numeric::parse(&bytes).unwrap();
            let flaw = numeric.to_decimal(Shape::new(12, 2)).unwrap_err();
            assert!(
                matches!(*flaw, Flaw::Value { ref value, .. } if value == text),
                "{flaw:?}"
            );
            assert_eq!(
                numeric.to_f64().unwrap().to_string().to_lowercase()[..3],
                text.replace("Infinity", "inf").to_lowercase()[..3]
            );
        }
        let huge = encode(&"9".repeat(400));
        assert!(Numeric::parse(&huge).unwrap().to_f64().is_err());
    }

    #[test]
    fn damaged_fields_are_errors() {
        assert!(Numeric::parse(&[0, 1]).is_err());
        assert!(Numeric::parse(&[0, 2, 0, 0, 0, 0, 0, 0, 0, 1]).is_err());
    }

    proptest! {
        #[test]
        fn every_decimal_that_fits_is_exact(
            unscaled in -(10_i128.pow(38) - 1)..10_i128.pow(38),
            shift in 0_u32..38,
            scale in 0_usize..=38,
        ) {
            let unscaled = unscaled / 10_i128.pow(shift);
            let magnitude = format!("{:0>width$}", unscaled.unsigned_abs(), width = scale + 1);
            let (whole, fraction) = magnitude.split_at(magnitude.len() - scale);
            let sign = if unscaled < 0 { "-" } else { "" };
            let text = if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") };
            prop_assert_eq!(decimal(&text, 38, scale as i8), Ok(unscaled));
            let bytes = encode(&text);
            prop_assert_eq!(Numeric::parse(&bytes).unwrap().to_text(), text);
        }

        #[test]
        fn short_and_long_arithmetic_agree(
            whole in 0_u64..10_000_000, fraction in 0_u32..100_000, places in 0_usize..6,
            precision in 1_u8..20, scale in 0_i8..8,
        ) {
            let fraction = format!("{fraction:05}");
            let text = format!("{whole}.{}", &fraction[..places.min(5)]);
            let text = text.trim_end_matches('.');
            let bytes = encode(text);
            let numeric = Numeric::parse(&bytes).unwrap();
            let shape = Shape::new(precision, scale);
            if let Some(short) = numeric.short(shape) {
                prop_assert_eq!(numeric.long(shape).unwrap(), short);
            } else {
                prop_assert!(numeric.long(shape).is_err() || numeric.digits.len() > 4);
            }
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            if let Ok(numeric) = Numeric::parse(&bytes) {
                let _ = numeric.to_decimal(Shape::new(18, 4));
                let _ = numeric.to_text();
            }
        }
    }
}
