//! Keys, hashes and schemas inside of JSON, as processes of one run tell them to
//! each other: as one text each (base64), not as a list of numbers. For
//! `#[serde(with = "packed")]`. What a list means is not known here.

use std::collections::{HashMap, HashSet};

use arrow::datatypes::SchemaRef;
use arrow::ipc::convert::{IpcSchemaEncoder, try_fb_to_schema};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::transform::fingerprint::Hash;

/// A value as bytes that need no description.
pub trait Packed: Sized {
    /// The bytes.
    fn pack(&self) -> Vec<u8>;

    /// The value that was packed; `None` where the bytes are none.
    fn unpack(bytes: &[u8]) -> Option<Self>;
}

/// Writes a value as one text.
///
/// # Errors
/// What the serializer refuses.
pub fn serialize<T: Packed, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    STANDARD.encode(value.pack()).serialize(serializer)
}

/// Reads what [`serialize`] wrote.
///
/// # Errors
/// The text is no base64, or no such value.
pub fn deserialize<'de, T: Packed, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
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

/// Each list with its length before it.
impl Packed for Vec<Vec<u128>> {
    fn pack(&self) -> Vec<u8> {
        let bytes = |list: &Vec<u128>| list.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.iter().map(bytes).collect::<Vec<Box<[u8]>>>().pack()
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let lists = Vec::<Box<[u8]>>::unpack(bytes)?;
        let lists = lists.iter().map(|bytes| {
            let (values, rest) = bytes.as_chunks();
            let values = values.iter().map(|value| u128::from_le_bytes(*value));
            rest.is_empty().then(|| values.collect())
        });
        lists.collect()
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

/// As Arrow IPC has it: metadata and nested types come back to the letter.
impl Packed for SchemaRef {
    fn pack(&self) -> Vec<u8> {
        let encoded = IpcSchemaEncoder::new().schema_to_fb(self);
        encoded.finished_data().to_vec()
    }

    fn unpack(bytes: &[u8]) -> Option<Self> {
        let schema = arrow::ipc::root_as_schema(bytes).ok()?;
        try_fb_to_schema(schema).ok().map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
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
            let lists = vec![Vec::new(), counts.keys().copied().collect()];
            prop_assert_eq!(Vec::<Vec<u128>>::unpack(&lists.pack()).unwrap(), lists);
            prop_assert_eq!(Vec::<Box<[u8]>>::unpack(&keys.pack()).unwrap(), keys);
            prop_assert_eq!(HashSet::unpack(&hashes.pack()).unwrap(), hashes);
            prop_assert_eq!(HashMap::unpack(&counts.pack()).unwrap(), counts);
        }

        #[test]
        fn what_is_broken_is_refused_or_read_never_a_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let _: Option<Vec<Box<[u8]>>> = Packed::unpack(&bytes);
            let _: Option<Vec<Vec<u128>>> = Packed::unpack(&bytes);
            let _: Option<SchemaRef> = Packed::unpack(&bytes);
            let _: Option<HashSet<Hash>> = Packed::unpack(&bytes);
            let _: Option<HashMap<Hash, u64>> = Packed::unpack(&bytes);
        }
    }

    #[test]
    fn a_schema_comes_back_with_all_that_it_says() {
        let item = Field::new("item", DataType::Decimal128(12, 2), true);
        let fields = vec![
            Field::new("id", DataType::Int64, false),
            Field::new("list", DataType::List(item.into()), true),
            Field::new(
                "at",
                DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
                true,
            )
            .with_metadata([("source".to_owned(), "timestamptz".to_owned())]),
        ];
        let schema: SchemaRef = Schema::new(fields).into();
        assert_eq!(SchemaRef::unpack(&schema.pack()).unwrap(), schema);
    }
}
