//! Whole numbers in as few bytes as they need, above the least of them. Numbers
//! with a fraction pass as the whole numbers that have the same bits.

/// One module for each width; a macro, because their bytes are arrays of different
/// lengths.
macro_rules! whole {
    ($name:ident, $number:ty, $above:ty, [$($width:literal),+]) => {
        pub(super) mod $name {
            use arrow::error::ArrowError;

            use super::super::unpack::{Bytes, damaged};

            /// Width, least, and what each is above it.
            pub(in super::super) fn pack(values: &[$number], out: &mut Vec<u8>) {
                let least = values.iter().fold(<$number>::MAX, |least, value| least.min(*value));
                let most = values.iter().fold(<$number>::MIN, |most, value| most.max(*value));
                let most = <$above>::from_le_bytes(most.wrapping_sub(least).to_le_bytes());
                let width = match values.is_empty() {
                    true => 0,
                    false => (<$above>::BITS - most.leading_zeros()).div_ceil(8),
                };
                out.extend_from_slice(&width.to_le_bytes());
                out.extend_from_slice(&least.to_le_bytes());
                match width {
                    $($width => narrow::<$width>(values, least, out),)+
                    _ => {}
                }
            }

            fn narrow<const WIDTH: usize>(values: &[$number], least: $number, out: &mut Vec<u8>) {
                let from = out.len();
                out.resize(from + values.len() * WIDTH, 0);
                let (places, _) = out.get_mut(from..).unwrap_or_default().as_chunks_mut::<WIDTH>();
                for (place, value) in places.iter_mut().zip(values) {
                    let above = value.wrapping_sub(least).to_le_bytes();
                    place.copy_from_slice(&above[..WIDTH]);
                }
            }

            /// Adds so many numbers to `into`.
            pub(in super::super) fn unpack(
                count: usize,
                from: &mut Bytes<'_>,
                into: &mut Vec<$number>,
            ) -> Result<(), ArrowError> {
                let width = u32::from_le_bytes(from.array()?);
                let least = <$number>::from_le_bytes(from.array()?);
                match width {
                    0 => into.resize(into.len() + count, least),
                    $($width => widen::<$width>(from.take(count, $width)?, least, into),)+
                    _ => return Err(damaged()),
                }
                Ok(())
            }

            fn widen<const WIDTH: usize>(from: &[u8], least: $number, into: &mut Vec<$number>) {
                let (places, _) = from.as_chunks::<WIDTH>();
                into.extend(places.iter().map(|place| {
                    let mut above = [0; size_of::<$number>()];
                    above[..WIDTH].copy_from_slice(place);
                    <$number>::from_le_bytes(above).wrapping_add(least)
                }));
            }
        }
    };
}

whole!(bytes1, i8, u8, [1]);
whole!(bytes2, i16, u16, [1, 2]);
whole!(bytes4, i32, u32, [1, 2, 3, 4]);
whole!(bytes8, i64, u64, [1, 2, 3, 4, 5, 6, 7, 8]);
whole!(
    bytes16,
    i128,
    u128,
    [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]
);
