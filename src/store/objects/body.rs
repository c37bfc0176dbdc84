//! Where the bytes of a body are put together.
//!
//! Parts of large objects come and go by the hundred, each as large as many small
//! objects, and are filled and freed by different threads. Left to the allocator, what
//! one of them has freed is not at once there for the next: a process that holds 21 MiB
//! of such bodies grows to nine times as much. So their buffers are used again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

/// Files are written without the system's cache in multiples of this, in bytes: no disk
/// in use has larger blocks.
pub const BLOCK_BYTES: usize = 4096;

/// Buffers of one size that are used again. Cloning shares them.
#[derive(Debug, Clone, Default)]
pub struct Buffers {
    bytes: usize,
    spare: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Buffers {
    /// Buffers for bodies of so many bytes. There are as many as were in use at once:
    /// whoever takes one pays for all of it.
    #[must_use]
    pub fn of(bytes: usize) -> Self {
        Self {
            bytes,
            spare: Arc::default(),
        }
    }

    /// Buffers of their bodies' sizes, which are used once.
    #[must_use]
    pub fn used_once() -> Self {
        Self::default()
    }

    /// How large each is, in bytes; 0 where they are used once.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// A buffer for a body of so many bytes. One that is too large for these is used
    /// once.
    #[must_use]
    pub fn take(&self, bytes: usize) -> BodyBuffer {
        let fits = bytes <= self.bytes && self.bytes > 0;
        let spare = if fits { self.spare().pop() } else { None };
        let size = if fits { self.bytes } else { bytes };
        let mut bytes = spare.unwrap_or_else(|| Vec::with_capacity(size + BLOCK_BYTES));
        let begin = bytes.as_ptr().align_offset(BLOCK_BYTES);
        bytes.resize(begin, 0);
        BodyBuffer {
            bytes,
            begin,
            home: fits.then(|| self.clone()),
        }
    }

    fn spare(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        // A poisoned lock only means that a task died; buffers have no contents.
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body that grows, and begins at a multiple of [`BLOCK_BYTES`] in memory: from there
/// a disk takes it as it is.
#[derive(Debug)]
pub struct BodyBuffer {
    bytes: Vec<u8>,
    begin: usize,
    home: Option<Buffers>,
}

impl BodyBuffer {
    /// How many bytes are there.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len() - self.begin
    }

    /// Whether none is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where more is appended.
    pub fn end(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// The body. Its buffer is free again when nobody holds any of it.
    #[must_use]
    pub fn into_bytes(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for BodyBuffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(self.begin..).unwrap_or_default()
    }
}

impl Drop for BodyBuffer {
    fn drop(&mut self) {
        if let Some(home) = self.home.take() {
            let mut bytes = std::mem::take(&mut self.bytes);
            bytes.clear();
            home.spare().push(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(buffers: &Buffers, bytes: usize) -> Bytes {
        let mut buffer = buffers.take(bytes);
        assert!(buffer.is_empty());
        let begin = buffer.begin;
        buffer.end().resize(begin + bytes, 7);
        assert_eq!(buffer.len(), bytes);
        buffer.into_bytes()
    }

    #[test]
    fn a_body_begins_at_a_block() {
        for buffers in [Buffers::used_once(), Buffers::of(1 << 20)] {
            for bytes in [0, 1, 4095, 4096, 100_000, 5 << 20] {
                let body = filled(&buffers, bytes);
                assert_eq!(body.as_ptr().addr() % BLOCK_BYTES, 0);
                assert!(body.len() == bytes && body.iter().all(|byte| *byte == 7));
            }
        }
    }

    #[test]
    fn buffers_are_used_again_when_nobody_holds_any_of_them() {
        let buffers = Buffers::of(10_000);
        let spare = || buffers.spare().len();
        let (first, second) = (filled(&buffers, 10_000), filled(&buffers, 3));
        let slice = first.slice(5..9);
        drop(first);
        assert_eq!((spare(), slice.as_ref()), (0, [7; 4].as_slice()));
        drop((slice, second));
        assert_eq!(spare(), 2);
        let third = filled(&buffers, 9_999);
        assert_eq!(spare(), 1);
        // What does not fit is no buffer of these.
        drop((third, filled(&buffers, 10_001)));
        assert_eq!(spare(), 2);
        assert!(
            buffers
                .spare()
                .iter()
                .all(|spare| spare.capacity() < 20_000)
        );
    }
}
