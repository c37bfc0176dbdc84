//! Bytes from the server, cut into messages without copying them.

use std::ops::Range;

/// What is read at once. Large enough that a wake-up is paid rarely, small
/// enough to stay in the second-level cache while it is decoded.
pub(super) const INBOX_BYTES: usize = 256 * 1024;

/// Tag and length of a message.
const HEADER_BYTES: usize = 5;

/// One message: its tag, and where its body lies.
pub(super) struct Message {
    /// The tag.
    pub(super) tag: u8,
    /// The body, for [`Inbox::body`].
    pub(super) body: Range<usize>,
}

/// A buffer of received bytes.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            bytes: vec![0; INBOX_BYTES],
            start: 0,
            end: 0,
        }
    }

    /// The next whole message, or `None` when more must be received first.
    /// `Err` holds a length that cannot be.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Message>, u32> {
        let unread = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some(&[tag, l0, l1, l2, l3]) = unread.first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes([l0, l1, l2, l3]);
        if length < 4 || length > i32::MAX as u32 {
            return Err(length);
        }
        let total = length as usize + 1;
        if unread.len() < total {
            return Ok(None);
        }
        let body = self.start + HEADER_BYTES..self.start + total;
        self.start += total;
        Ok(Some(Message { tag, body }))
    }

    /// The bytes of a message that [`Self::next`] returned; valid until more is
    /// received.
    #[inline]
    pub(super) fn body(&self, body: Range<usize>) -> &[u8] {
        self.bytes.get(body).unwrap_or_default()
    }

    /// Size of the message that begins here, if it is too large for the buffer.
    pub(super) fn oversized(&self) -> Option<usize> {
        let unread = self.bytes.get(self.start..self.end).unwrap_or_default();
        let [_, l0, l1, l2, l3] = *unread.first_chunk::<HEADER_BYTES>()?;
        let total = u32::from_be_bytes([l0, l1, l2, l3]) as usize + 1;
        (total > self.bytes.len()).then_some(total)
    }

    /// What has been received of the message that begins here, past its header.
    pub(super) fn partial(&self) -> &[u8] {
        self.bytes
            .get(self.start + HEADER_BYTES..self.end)
            .unwrap_or_default()
    }

    /// Makes the buffer large enough for a message of `total` bytes.
    pub(super) fn grow(&mut self, total: usize) {
        self.compact();
        if total > self.bytes.len() {
            self.bytes.reserve_exact(total - self.bytes.len());
            self.bytes.resize(total, 0);
        }
    }

    /// Gives back what [`Self::grow`] took, as far as nothing unread lies there.
    pub(super) fn shrink(&mut self) {
        self.compact();
        if self.bytes.len() > INBOX_BYTES && self.end <= INBOX_BYTES {
            self.bytes.truncate(INBOX_BYTES);
            self.bytes.shrink_to_fit();
        }
    }

    /// Where to receive more bytes; empty only when the message that begins
    /// here is [`Self::oversized`].
    pub(super) fn space(&mut self) -> &mut [u8] {
        self.compact();
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// `count` bytes were received into [`Self::space`].
    pub(super) fn received(&mut self, count: usize) {
        self.end = (self.end + count).min(self.bytes.len());
    }

    /// Moves what is unread (part of one message) to the front.
    fn compact(&mut self) {
        if self.start == 0 {
            return;
        }
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use proptest::prelude::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut bytes = vec![tag];
        bytes.extend((body.len() as u32 + 4).to_be_bytes());
        bytes.extend(body);
        bytes
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn messages_survive_any_cutting(
            sizes in proptest::collection::vec(0_usize..90_000, 1..12),
            cuts in proptest::collection::vec(1_usize..100_000, 1..12),
        ) {
            let sent: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, &size)| vec![n as u8; size]).collect();
            let stream: Vec<u8> = sent.iter().flat_map(|body| message(b'd', body)).collect();
            let (mut inbox, mut rest, mut found) = (Inbox::new(), &stream[..], Vec::new());
            let mut cuts = cuts.iter().cycle();
            while found.len() < sent.len() {
                while let Some(message) = inbox.next().unwrap() {
                    found.push(inbox.body(message.body).to_vec());
                }
                let space = inbox.space();
                let count = rest.len().min(space.len()).min(*cuts.next().unwrap());
                space[..count].copy_from_slice(&rest[..count]);
                inbox.received(count);
                rest = &rest[count..];
            }
            prop_assert_eq!(found, sent);
        }
    }

    #[test]
    fn a_message_larger_than_the_buffer_is_announced_and_fits_after_growing() {
        let sent = message(b'd', &vec![7; INBOX_BYTES * 2]);
        let mut inbox = Inbox::new();
        inbox.space().copy_from_slice(&sent[..INBOX_BYTES]);
        inbox.received(INBOX_BYTES);
        assert!(inbox.next().unwrap().is_none());
        assert_eq!(inbox.oversized(), Some(sent.len()));
        inbox.grow(sent.len());
        let rest = &sent[INBOX_BYTES..];
        inbox.space()[..rest.len()].copy_from_slice(rest);
        inbox.received(rest.len());
        let found = inbox.next().unwrap().unwrap();
        assert_eq!(inbox.body(found.body).len(), INBOX_BYTES * 2);
        inbox.shrink();
        assert_eq!(inbox.space().len(), INBOX_BYTES);
    }

    #[test]
    fn impossible_lengths_are_errors() {
        let mut inbox = Inbox::new();
        inbox.space()[..5].copy_from_slice(&[b'd', 0, 0, 0, 3]);
        inbox.received(5);
        assert!(inbox.next().is_err());
    }
}
