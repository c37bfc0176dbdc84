//! Keys and hashes inside of JSON: as one text each, not as a list of numbers.

use std::collections::{HashMap, HashSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use highwater_operators::transform::fingerprint::Hash;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A value as bytes that need no description.
pub(super) trait Packed: Sized {
    fn pack(&self) -> Vec<u8>;
    fn unpack(bytes: &[u8]) -> Option<Self>;
}

pub(super) fn serialize<T: Packed, S: Serializer>(
    value: &T,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    STANDARD.encode(value.pack()).serialize(serializer)
}

pub(super) fn deserialize<'de, T: Packed, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    let text = String::deserialize(deserializer)?;
    let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
    T::unpack(&bytes).ok_or_else(|| D::Error::custom("packed bytes end too early"))
}

/// Each with its length before it.
impl Packed for Vec<Box<[u8]>> {
    fn pack(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.iter().map(|key| key.len() + 8).sum());
        for key in self {
            bytes.extend((key.len() as u64).to_le_bytes());
            bytes.extend(key.iter());
        }
        bytes
    }

    fn unpack(mut bytes: &[u8]) -> Option<Self> {
        let mut keys = Self::new();
        while !bytes.is_empty() {
            let (length, rest) = bytes.split_first_chunk()?;
            let length = usize::try_from(u64::from_le_bytes(*length)).ok()?;
            let (key, rest) = rest.split_at_checked(length)?;
            keys.push(key.into());
            bytes = rest;
        }
        Some(keys)
    }
}

const HASH_BYTES: usize = size_of::<Hash>();

impl Packed for HashSet<Hash> {
    fn pack(&self) -> Vec<u8> {
        self.iter().flat_map(|hash| hash.to_le_bytes()).collect()
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
        let hashes = hashes.iter().map(|hash| Hash::from_le_bytes(*hash));
        rest.is_empty().then(|| hashes.collect())
    }
}

impl Packed for HashMap<Hash, u64> {
    fn pack(&self) -> Vec<u8> {
        let counts = self.iter();
        let counts = counts
            .flat_map(|(hash, count)| hash.to_le_bytes().into_iter().chain(count.to_le_bytes()));
        counts.collect()
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let (counts, rest) = bytes.as_chunks::<{ HASH_BYTES + 8 }>();
        let counts = counts.iter().filter_map(|both| {
            let (hash, count) = both.split_first_chunk()?;
            let count = count.try_into().ok()?;
            Some((Hash::from_le_bytes(*hash), u64::from_le_bytes(count)))
        });
        rest.is_empty().then(|| counts.collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_comes_back(
            keys in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9), 0..9),
            counts in proptest::collection::hash_map(any::<u128>(), any::<u64>(), 0..9),
        ) {
            let keys: Vec<Box<[u8]>> = keys.into_iter().map(Into::into).collect();
            let hashes: HashSet<Hash> = counts.keys().copied().collect();
            prop_assert_eq!(Vec::unpack(&keys.pack()).unwrap(), keys);
            prop_assert_eq!(HashSet::unpack(&hashes.pack()).unwrap(), hashes);
            prop_assert_eq!(HashMap::unpack(&counts.pack()).unwrap(), counts);
        }

        #[test]
        fn what_is_broken_is_refused_or_read_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _: Option<Vec<Box<[u8]>>> = Packed::unpack(&bytes);
            let _: Option<HashSet<Hash>> = Packed::unpack(&bytes);
            let _: Option<HashMap<Hash, u64>> = Packed::unpack(&bytes);
        }
    }
}
