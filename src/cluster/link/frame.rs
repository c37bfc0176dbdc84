//! What stands on a link: frames. A pure description of bytes, in both
//! directions. Nothing of a frame is believed before its checksum: the header
//! has one of its own, since its lengths say how much is read and allocated.
//!
//! The checksums have a seed that only both ends know, and that differs for each
//! frame of a link: a frame that is lost, repeated or comes from elsewhere does
//! not fit. They find accidents and strays; against somebody who changes what
//! passes there is encryption. Headers have xxh3; contents have CRC-64 (NVMe),
//! which processors compute at 40 GB/s where xxh3 reaches 10, and which misses no
//! change of up to 64 bits in a row.

use crc_fast::{CrcAlgorithm, Digest};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// The length of a header, in bytes.
pub(super) const HEADER_BYTES: usize = 32;
/// No frame holds more, before or after compression, in bytes.
pub(super) const MAX_FRAME_BYTES: usize = 1 << 20;

const MAGIC: [u8; 2] = *b"HW";
const PACKED: u8 = 1;
const LAST: u8 = 2;

/// What a frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// What timely has written.
    Dataflow,
    /// A part of an order of the leader.
    Order,
    /// A note to the leader.
    Note,
    /// The sender lives.
    Heartbeat,
    /// The sender has found a process to be lost, and ends.
    Alarm,
    /// The sender says nothing more, as it should.
    Goodbye,
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Dataflow,
        Self::Order,
        Self::Note,
        Self::Heartbeat,
        Self::Alarm,
        Self::Goodbye,
    ];

    fn code(self) -> u8 {
        match self {
            Self::Dataflow => 1,
            Self::Order => 2,
            Self::Note => 3,
            Self::Heartbeat => 4,
            Self::Alarm => 5,
            Self::Goodbye => 6,
        }
    }

    fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// Why a frame is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum FrameError {
    #[error("a frame's header does not fit its checksum")]
    Header,
    #[error("a frame of an unknown kind ({0})")]
    Kind(u8),
    #[error("a frame with unknown flags ({0:#010b})")]
    Flags(u8),
    #[error("a frame of {sent} bytes for {raw}: its lengths cannot be")]
    Lengths { raw: u32, sent: u32 },
    #[error("a frame's contents do not fit their checksum")]
    Contents,
    #[error("a frame's contents cannot be decompressed")]
    Packing,
}

/// The start of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: Kind,
    /// The contents are compressed by LZ4.
    pub(super) packed: bool,
    /// The last part of an order.
    pub(super) last: bool,
    /// Length of the contents, in bytes.
    pub(super) raw: usize,
    /// Length of the contents as they are sent, in bytes.
    pub(super) sent: usize,
    /// Checksum of what is sent.
    checksum: u64,
}

/// The checksum of contents, wherever they stand; 0 without a seed.
fn checksum(parts: &[&[u8]], seed: Option<u64>) -> u64 {
    let Some(seed) = seed else { return 0 };
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc64Nvme, seed);
    parts.iter().for_each(|part| digest.update(part));
    digest.finalize()
}

/// The seed of frame `number` of a link.
pub(super) fn seed_of(link: u64, number: u64) -> u64 {
    link.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

impl Header {
    /// A header for `sent`, which stands for `raw` bytes. Both are at most
    /// [`MAX_FRAME_BYTES`]. Without a seed the contents have no checksum: on an
    /// encrypted link each record has a better one.
    pub(super) fn new(kind: Kind, last: bool, raw: usize, sent: &[u8], seed: Option<u64>) -> Self {
        Self {
            kind,
            packed: sent.len() != raw,
            last,
            raw,
            sent: sent.len(),
            checksum: checksum(&[sent], seed),
        }
    }

    /// As it is sent.
    pub(super) fn encode(&self, seed: u64) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let length = |length: usize| u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes();
        let flags = if self.packed { PACKED } else { 0 } | if self.last { LAST } else { 0 };
        let (body, checksum) = bytes.split_at_mut(HEADER_BYTES - 8);
        let parts: [&[u8]; 6] = [
            &MAGIC,
            &[self.kind.code(), flags, 0, 0, 0, 0],
            &length(self.raw),
            &length(self.sent),
            &self.checksum.to_le_bytes(),
            &[],
        ];
        let mut rest = &mut *body;
        for part in parts {
            let (here, after) = rest.split_at_mut(part.len());
            here.copy_from_slice(part);
            rest = after;
        }
        checksum.copy_from_slice(&xxh3_64_with_seed(body, !seed).to_le_bytes());
        bytes
    }

    /// Reads a header and checks all that it says.
    pub(super) fn decode(bytes: &[u8; HEADER_BYTES], seed: u64) -> Result<Self, FrameError> {
        let (body, checksum) = bytes.split_at(HEADER_BYTES - 8);
        if xxh3_64_with_seed(body, !seed).to_le_bytes() != checksum {
            return Err(FrameError::Header);
        }
        let [
            m0,
            m1,
            kind,
            flags,
            0,
            0,
            0,
            0,
            r0,
            r1,
            r2,
            r3,
            s0,
            s1,
            s2,
            s3,
            contents @ ..,
        ] = body
        else {
            return Err(FrameError::Header);
        };
        let Ok(contents) = <[u8; 8]>::try_from(contents) else {
            return Err(FrameError::Header);
        };
        if [*m0, *m1] != MAGIC {
            return Err(FrameError::Header);
        }
        let raw = u32::from_le_bytes([*r0, *r1, *r2, *r3]);
        let sent = u32::from_le_bytes([*s0, *s1, *s2, *s3]);
        let header = Self {
            kind: Kind::of(*kind).ok_or(FrameError::Kind(*kind))?,
            packed: flags & PACKED != 0,
            last: flags & LAST != 0,
            raw: usize::try_from(raw).unwrap_or(usize::MAX),
            sent: usize::try_from(sent).unwrap_or(usize::MAX),
            checksum: u64::from_le_bytes(contents),
        };
        if flags & !(PACKED | LAST) != 0 {
            return Err(FrameError::Flags(*flags));
        }
        let fits = if header.packed {
            header.sent < header.raw && header.sent > 0
        } else {
            header.sent == header.raw
        };
        if !fits || header.raw > MAX_FRAME_BYTES {
            return Err(FrameError::Lengths { raw, sent });
        }
        Ok(header)
    }

    /// Whether these parts are together the bytes that the header speaks of; the
    /// seed as in [`Header::new`].
    pub(super) fn check(&self, parts: &[&[u8]], seed: Option<u64>) -> Result<(), FrameError> {
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length == self.sent && checksum(parts, seed) == self.checksum {
            Ok(())
        } else {
            Err(FrameError::Contents)
        }
    }

    /// Decompresses checked bytes into `raw`, which grows to the frame's length
    /// at most.
    pub(super) fn unpack<'a>(
        &self,
        sent: &[u8],
        raw: &'a mut Vec<u8>,
    ) -> Result<&'a [u8], FrameError> {
        if raw.len() < self.raw {
            raw.resize(self.raw, 0);
        }
        let room = raw.get_mut(..self.raw).ok_or(FrameError::Packing)?;
        match lz4_flex::block::decompress_into(sent, room) {
            Ok(length) if length == self.raw => Ok(room),
            _ => Err(FrameError::Packing),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;

    use super::*;

    /// All steps of a receiver, in its order: header and contents of one frame.
    fn decode(bytes: &[u8], seed: u64) -> Result<Option<(Header, Vec<u8>)>, FrameError> {
        let Some((head, rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let header = Header::decode(head, seed)?;
        assert!(header.raw <= MAX_FRAME_BYTES && header.sent <= MAX_FRAME_BYTES);
        let Some(sent) = rest.get(..header.sent) else {
            return Ok(None);
        };
        header.check(&[sent], Some(seed))?;
        let contents = if header.packed {
            let mut raw = Vec::new();
            let contents = header.unpack(sent, &mut raw)?.to_vec();
            assert!(raw.capacity() <= 2 * MAX_FRAME_BYTES);
            contents
        } else {
            sent.to_vec()
        };
        assert_eq!(contents.len(), header.raw);
        Ok(Some((header, contents)))
    }

    fn encode(kind: Kind, last: bool, contents: &[u8], pack: bool, seed: u64) -> Vec<u8> {
        let packed = lz4_flex::block::compress(contents);
        let sent = if pack && packed.len() < contents.len() {
            &packed
        } else {
            contents
        };
        let header = Header::new(kind, last, contents.len(), sent, Some(seed));
        [&header.encode(seed)[..], sent].concat()
    }

    /// A header whose checksum fits whatever it says.
    fn forged(kind: u8, flags: u8, raw: u32, sent: u32, contents: &[u8], seed: u64) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 0]);
        bytes.extend(raw.to_le_bytes());
        bytes.extend(sent.to_le_bytes());
        bytes.extend(checksum(&[contents], Some(seed)).to_le_bytes());
        let checksum = xxh3_64_with_seed(&bytes, !seed);
        bytes.extend(checksum.to_le_bytes());
        bytes.extend(contents);
        bytes
    }

    fn cases() -> ProptestConfig {
        let cases = std::env::var("HIGHWATER_FUZZ_CASES").ok();
        ProptestConfig::with_cases(cases.and_then(|c| c.parse().ok()).unwrap_or(512))
    }

    fn contents() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            prop::collection::vec(any::<u8>(), 0..2000),
            (any::<u8>(), 0..100_000usize).prop_map(|(byte, length)| vec![byte; length]),
        ]
    }

    proptest! {
        #![proptest_config(cases())]

        #[test]
        fn a_frame_comes_back_as_it_was(
            contents in contents(), kind in 0..6usize, last: bool, pack: bool, seed: u64,
        ) {
            let bytes = encode(Kind::ALL[kind], last, &contents, pack, seed);
            let (header, back) = decode(&bytes, seed).unwrap().unwrap();
            prop_assert_eq!(header.kind, Kind::ALL[kind]);
            prop_assert_eq!(header.last, last);
            prop_assert_eq!(back, contents);
        }

        #[test]
        fn random_bytes_are_no_frame(bytes in prop::collection::vec(any::<u8>(), 0..4096), seed: u64) {
            prop_assert!(!matches!(decode(&bytes, seed), Ok(Some(_))));
        }

        #[test]
        fn a_changed_or_cut_frame_is_not_believed(
            contents in contents(), pack: bool, seed: u64, at: prop::sample::Index, bit in 0..8u8,
        ) {
            let bytes = encode(Kind::Order, true, &contents, pack, seed);
            let mut changed = bytes.clone();
            changed[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(decode(&changed, seed).is_err());
            prop_assert_eq!(decode(&bytes[..at.index(bytes.len())], seed), Ok(None));
            // The same frame at another place of the link.
            prop_assert!(decode(&bytes, seed_of(seed, 1)).is_err());
        }

        #[test]
        fn checksums_that_fit_do_not_make_lies_true(
            kind: u8, flags in 0..8u8, raw in lengths(), sent in lengths(),
            contents in prop::collection::vec(any::<u8>(), 0..512), seed: u64,
        ) {
            let bytes = forged(kind, flags, raw, sent, &contents, seed);
            if let Ok(Some((header, back))) = decode(&bytes, seed) {
                prop_assert_eq!(u32::try_from(back.len()).unwrap(), raw);
                prop_assert_eq!(header.sent, contents.len());
            }
        }

        #[test]
        fn random_lz4_ends_in_its_room(
            contents in prop::collection::vec(any::<u8>(), 1..2048), more in 1..100_000u32, seed: u64,
        ) {
            let sent = u32::try_from(contents.len()).unwrap();
            let bytes = forged(1, PACKED, sent + more, sent, &contents, seed);
            if let Ok(Some((_, back))) = decode(&bytes, seed) {
                prop_assert_eq!(back.len(), (sent + more) as usize);
            }
        }
    }

    fn lengths() -> impl Strategy<Value = u32> {
        prop_oneof![
            any::<u32>(),
            0..600u32,
            Just(1 << 20),
            Just((1 << 20) + 1),
            Just(u32::MAX)
        ]
    }

    #[test]
    fn each_lie_has_its_name() {
        let error = |bytes: Vec<u8>| decode(&bytes, 9).unwrap_err();
        assert_eq!(error(forged(9, 0, 0, 0, &[], 9)), FrameError::Kind(9));
        assert_eq!(error(forged(1, 4, 0, 0, &[], 9)), FrameError::Flags(4));
        let lie = |raw, sent, flags| error(forged(1, flags, raw, sent, &[], 9));
        for (raw, sent, flags) in [
            (5, 4, 0),
            (4, 5, PACKED),
            (5, 5, PACKED),
            (5, 0, PACKED),
            (u32::MAX, u32::MAX, 0),
            (u32::MAX, 5, PACKED),
            ((1 << 20) + 1, (1 << 20) + 1, 0),
        ] {
            assert_eq!(lie(raw, sent, flags), FrameError::Lengths { raw, sent });
        }
        assert_eq!(error(vec![0; 64]), FrameError::Header);
        let bomb = lz4_flex::block::compress(&[0; 5000]);
        let sent = u32::try_from(bomb.len()).unwrap();
        for raw in [4999, 5001] {
            let bytes = forged(1, PACKED, raw, sent, &bomb, 9);
            assert_eq!(error(bytes), FrameError::Packing);
        }
    }
}
