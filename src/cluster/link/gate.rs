//! Follows timely's own headers in what a peer has sent. timely believes them:
//! a worker that is not here would be a panic in its threads. The bytes pass
//! only when each header could have been written by a peer of this run.

/// The length of timely's `MessageHeader`: channel, source, first and last
/// target, length and number, each 8 bytes, big-endian.
const HEADER_BYTES: usize = 48;
/// One message of one operator; more is a lie about a length.
const MAX_MESSAGE_BYTES: u64 = 1 << 36;

/// What must hold for the messages of one peer.
#[derive(Debug)]
pub(super) struct Gate {
    /// Numbers of the first worker here, and of the first one elsewhere.
    here: std::ops::Range<u64>,
    /// Numbers of the peer's workers.
    there: std::ops::Range<u64>,
    /// Bytes of the message that are still to come.
    rest: u64,
    partial: [u8; HEADER_BYTES],
    held: usize,
    over: bool,
}

impl Gate {
    /// For messages of process `peer` to process `process`, of `workers` each.
    pub(super) fn new(process: usize, peer: usize, workers: usize) -> Self {
        let range = |process: usize| {
            let number = |n: usize| u64::try_from(n * workers).unwrap_or(u64::MAX);
            number(process)..number(process + 1)
        };
        Self {
            here: range(process),
            there: range(peer),
            rest: 0,
            partial: [0; HEADER_BYTES],
            held: 0,
            over: false,
        }
    }

    /// Whether timely has said that nothing follows.
    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// Looks at the next bytes.
    pub(super) fn pass(&mut self, mut bytes: &[u8]) -> Result<(), &'static str> {
        while !bytes.is_empty() {
            if self.over {
                return Err("bytes after the end of its messages");
            }
            let skipped = usize::try_from(self.rest)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            self.rest -= skipped as u64;
            bytes = bytes.get(skipped..).unwrap_or_default();
            let taken = bytes.len().min(HEADER_BYTES - self.held);
            let (header, after) = bytes.split_at(taken);
            if let Some(room) = self.partial.get_mut(self.held..self.held + taken) {
                room.copy_from_slice(header);
            }
            self.held += taken;
            bytes = after;
            if self.held == HEADER_BYTES {
                self.held = 0;
                self.judge()?;
            }
        }
        Ok(())
    }

    fn judge(&mut self) -> Result<(), &'static str> {
        let mut fields = self
            .partial
            .as_chunks::<8>()
            .0
            .iter()
            .map(|f| u64::from_be_bytes(*f));
        let mut next = || fields.next().unwrap_or(u64::MAX);
        let (_channel, source, lower, upper, length) = (next(), next(), next(), next(), next());
        if length == 0 {
            self.over = true;
            return Ok(());
        }
        if length > MAX_MESSAGE_BYTES {
            return Err("a message whose length cannot be");
        }
        if lower < self.here.start || upper > self.here.end || lower > upper {
            return Err("a message for workers that are not here");
        }
        if !self.there.contains(&source) {
            return Err("a message of a worker that it does not have");
        }
        self.rest = length;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use proptest::prelude::*;
    use timely::communication::networking::MessageHeader;

    use super::*;

    fn message(source: usize, lower: usize, upper: usize, length: usize) -> Vec<u8> {
        let header = MessageHeader {
            channel: 3,
            source,
            target_lower: lower,
            target_upper: upper,
            length,
            seqno: 7,
        };
        let mut bytes = Vec::new();
        header.write_to(&mut bytes).unwrap();
        bytes
    }

    fn filled(length: usize) -> Vec<u8> {
        let mut bytes = message(2, 0, 2, length);
        bytes.resize(bytes.len() + length, 0xff);
        bytes
    }

    proptest! {
        #[test]
        fn messages_pass_however_they_are_cut(
            lengths in prop::collection::vec(1..300usize, 0..20), step in 1..200usize,
        ) {
            let mut gate = Gate::new(0, 1, 2);
            let mut bytes: Vec<u8> = lengths.into_iter().flat_map(filled).collect();
            bytes.extend(message(0, 0, 0, 0));
            for piece in bytes.chunks(step) {
                prop_assert!(!gate.is_over());
                prop_assert_eq!(gate.pass(piece), Ok(()));
            }
            prop_assert!(gate.is_over());
            prop_assert!(gate.pass(&[0]).is_err());
        }

        #[test]
        fn random_bytes_are_no_messages(bytes in prop::collection::vec(1..255u8, 48..500)) {
            prop_assert!(Gate::new(0, 1, 2).pass(&bytes).is_err());
        }
    }

    #[test]
    fn each_lie_is_seen() {
        let pass = |bytes: Vec<u8>| Gate::new(1, 2, 2).pass(&bytes);
        assert_eq!(pass(message(4, 2, 4, 10)), Ok(()));
        assert_eq!(pass(message(5, 3, 4, 10)), Ok(()));
        for (source, lower, upper) in [(4, 1, 3), (4, 2, 5), (4, 4, 2), (3, 2, 4), (6, 2, 4)] {
            assert!(pass(message(source, lower, upper, 10)).is_err());
        }
        assert!(pass(message(4, 2, 4, usize::MAX)).is_err());
    }
}
