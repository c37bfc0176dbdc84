//! Where timely's buffers come from. It asks for new ones of 1 MiB all the time,
//! and a new one is zeroed, byte by byte, before the first byte is read into it:
//! here buffers are kept when they are let go of, and handed out as they are.
//! Nobody sees old bytes: timely shows only what was written since.

use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// Buffers that nobody uses at present.
#[derive(Debug)]
pub(super) struct Slabs {
    spare: Mutex<Vec<Vec<u8>>>,
    /// More are given back to the system.
    most: usize,
}

impl Slabs {
    /// Keeps `most` buffers.
    pub(super) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            spare: Mutex::default(),
            most,
        })
    }

    /// A buffer of so many bytes, with anything in it.
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Slab {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        // The last one is the likeliest to be in the processor's cache.
        let kept = spare.iter().rposition(|slab| slab.len() == bytes);
        let kept = kept.map(|place| spare.remove(place));
        drop(spare);
        Slab {
            bytes: kept.unwrap_or_else(|| vec![0; bytes]),
            home: Arc::downgrade(self),
        }
    }
}

/// A buffer on loan.
#[derive(Debug)]
pub(super) struct Slab {
    bytes: Vec<u8>,
    home: Weak<Slabs>,
}

impl Deref for Slab {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for Slab {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Slab {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            let mut spare = home.spare.lock().unwrap_or_else(PoisonError::into_inner);
            if spare.len() < home.most {
                spare.push(std::mem::take(&mut self.bytes));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_back_as_they_were_left_and_no_more_than_wanted() {
        let slabs = Slabs::new(2);
        let mut lent: Vec<Slab> = (0..3).map(|_| slabs.take(8)).collect();
        assert!(lent.iter().all(|slab| slab[..] == [0; 8]));
        lent[1][3] = 7;
        drop(lent);
        // The third was one too many, and another length is another buffer.
        assert_eq!(slabs.take(16)[..], [0; 16]);
        let again = [slabs.take(8), slabs.take(8), slabs.take(8)];
        assert_eq!(again[0][..], [0, 0, 0, 7, 0, 0, 0, 0]);
        assert!(again[1..].iter().all(|slab| slab[..] == [0; 8]));
    }

    #[test]
    fn a_buffer_may_outlive_its_home() {
        let slabs = Slabs::new(1);
        let mut lent = slabs.take(4);
        drop(slabs);
        lent[0] = 1;
        assert_eq!(lent[..], [1, 0, 0, 0]);
    }
}
