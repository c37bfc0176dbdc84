//! A UUID's sixteen bytes as the canonical text of 36 characters.

/// Every byte as two hexadecimal digits.
const HEX: [[u8; 2]; 256] = {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    table
};

/// Where the text's two digits of each byte begin.
const AT: [usize; 16] = [0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34];

/// The canonical text.
#[inline]
#[allow(clippy::indexing_slicing)] // Constant positions within fixed arrays.
pub(super) fn text(bytes: [u8; 16]) -> [u8; 36] {
    let mut text = [b'-'; 36];
    let mut position = 0;
    while position < 16 {
        let [high, low] = HEX[bytes[position] as usize];
        text[AT[position]] = high;
        text[AT[position] + 1] = low;
        position += 1;
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_the_uuid_crate(bytes in any::<[u8; 16]>()) {
            let text = super::text(bytes);
            prop_assert_eq!(std::str::from_utf8(&text).unwrap(), ::uuid::Uuid::from_bytes(bytes).to_string());
        }
    }
}
