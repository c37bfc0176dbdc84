//! What chunks are known by.
//!
//! The hash of a chunk is that of its text alone: it is the address of the chunk's
//! vector, whichever document the text stands in. SHA-256 is cut to 128 bits, so that
//! nobody can write a text that is given another one's vector. The id is made of the
//! document's key, the hash, and how many equal chunks came before: where the chunk
//! stands is not part of it.

use std::collections::HashMap;
use std::fmt;

use sha2::{Digest as _, Sha256};

/// The first 128 bits of SHA-256 of a chunk's text.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkHash(pub [u8; 16]);

/// 128 bits that stand for one chunk of one document; as text, 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChunkId(pub [u8; 16]);

impl ChunkHash {
    /// The hash of a text.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(first_half(Sha256::digest(text)))
    }
}

impl ChunkId {
    /// The id of the chunk with this hash, before which `occurrence` equal ones stand in
    /// the document known by `key`.
    #[must_use]
    pub fn of(key: &str, hash: ChunkHash, occurrence: u32) -> Self {
        let digest = Sha256::new()
            .chain_update((key.len() as u64).to_le_bytes())
            .chain_update(key)
            .chain_update(hash.0)
            .chain_update(occurrence.to_le_bytes())
            .finalize();
        Self(first_half(digest))
    }
}

fn first_half(digest: impl Into<[u8; 32]>) -> [u8; 16] {
    let whole: [u8; 32] = digest.into();
    let mut half = [0; 16];
    half.copy_from_slice(&whole[..16]);
    half
}

macro_rules! as_hex {
    ($name:ident) => {
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }
    };
}

as_hex!(ChunkHash);
as_hex!(ChunkId);

/// Gives the chunks of one document their ids, in the order of its text.
pub(super) struct Identities<'a> {
    key: &'a str,
    seen: HashMap<ChunkHash, u32>,
}

impl<'a> Identities<'a> {
    pub(super) fn of(key: &'a str) -> Self {
        Self {
            key,
            seen: HashMap::new(),
        }
    }

    pub(super) fn next(&mut self, text: &str) -> (ChunkHash, u32, ChunkId) {
        let hash = ChunkHash::of(text);
        let seen = self.seen.entry(hash).or_insert(0);
        let occurrence = *seen;
        *seen += 1;
        (hash, occurrence, ChunkId::of(self.key, hash, occurrence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_is_that_of_the_standard() {
        // FIPS 180-4: SHA-256 of "abc".
        assert_eq!(
            ChunkHash::of("abc").to_string(),
            "ba7816bf8f01cfea414140de5dae2223"
        );
    }

    #[test]
    fn key_and_hash_do_not_run_into_each_other() {
        let hash = ChunkHash::of("x");
        let ids = [
            ChunkId::of("a", hash, 0),
            ChunkId::of("b", hash, 0),
            ChunkId::of("a", hash, 1),
            ChunkId::of("a", ChunkHash::of("y"), 0),
        ];
        for (number, id) in ids.iter().enumerate() {
            assert!(!ids[..number].contains(id));
        }
        let mut one = Identities::of("a");
        assert_eq!(one.next("x"), (hash, 0, ids[0]));
        assert_eq!(one.next("x"), (hash, 1, ids[2]));
    }
}
