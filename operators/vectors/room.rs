//! [`Room`]: what new vectors take in memory until the table has them.
//!
//! A vector that was made stays in memory until its epoch is over and its file published.
//! How long an epoch lasts the user says; how much may be in memory, the memory limit. So
//! an epoch also ends when it has made half of what there is room for: the rest is for what
//! is made while its files are written.
//!
//! A service is asked for a window of vectors at once, and for the same price in requests it
//! gives few or many: so windows should be large. All workers may have looked for room
//! before any of them has got its window, and then all windows come together: what is held
//! is at most that up to which anybody looks, three quarters, and all windows, one half. To
//! look up to the whole of it would take windows of half the size for the same sum.

/// What a vector takes beside its numbers, in bytes: its hash, its place in a table of
/// hashes, what counts who holds it. An estimate.
const BESIDE_NUMBERS: u64 = 128;

/// What a vector of so many numbers takes, in bytes: itself, and once more as a row on its
/// way into a file.
fn bytes_of(numbers: usize) -> u64 {
    2 * (numbers * size_of::<f32>()) as u64 + BESIDE_NUMBERS
}

/// Counts what was made and is not in the table yet.
#[derive(Debug)]
pub(super) struct Room {
    most_bytes: u64,
    held_bytes: u64,
    /// Made since an epoch ended for it.
    since_bytes: u64,
    ends: u64,
}

impl Room {
    /// Room for so many bytes.
    pub(super) fn of(most_bytes: u64) -> Self {
        Self {
            most_bytes,
            held_bytes: 0,
            since_bytes: 0,
            ends: 0,
        }
    }

    /// A vector of so many numbers was made.
    pub(super) fn take(&mut self, numbers: usize) {
        self.held_bytes += bytes_of(numbers);
        self.since_bytes += bytes_of(numbers);
        if self.since_bytes >= self.most_bytes / 2 {
            self.since_bytes = 0;
            self.ends += 1;
        }
    }

    /// A vector of so many numbers is no longer held for the table.
    pub(super) fn give_back(&mut self, numbers: usize) {
        self.held_bytes = self.held_bytes.saturating_sub(bytes_of(numbers));
    }

    /// None is held any more.
    pub(super) fn clear(&mut self) {
        self.held_bytes = 0;
    }

    /// Whether nothing more is to be begun. A part of what is held is then of epochs that are
    /// over, because one that is not has made less than half: whoever waits does not wait
    /// for himself.
    pub(super) fn is_full(&self) -> bool {
        self.held_bytes >= self.most_bytes / 4 * 3
    }

    /// How many epochs ended because of what they have made.
    pub(super) fn ends(&self) -> u64 {
        self.ends
    }

    /// How many vectors of so many numbers one of so many workers may make before it looks
    /// again whether there is room: all together half of it, but one at least.
    pub(super) fn window(&self, numbers: usize, workers: usize) -> usize {
        let of_worker = self.most_bytes / 2 / workers.max(1) as u64;
        let vectors = usize::try_from(of_worker / bytes_of(numbers));
        vectors.unwrap_or(usize::MAX).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_ends_at_half_and_room_comes_back() {
        let mut room = Room::of(10 * bytes_of(3));
        let ends: Vec<u64> = (0..10)
            .map(|_| {
                room.take(3);
                room.ends()
            })
            .collect();
        assert_eq!(ends, [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]);
        assert!(room.is_full());
        (0..2).for_each(|_| room.give_back(3));
        assert!(room.is_full(), "eight of ten");
        room.give_back(3);
        assert!(!room.is_full(), "seven of ten");
        room.take(3);
        room.clear();
        assert!(!room.is_full());
    }

    #[test]
    fn windows_of_all_workers_are_half_and_never_nothing() {
        let room = Room::of(80 * bytes_of(3072));
        assert_eq!(room.window(3072, 2), 20);
        assert_eq!(room.window(3072, 1000), 1);
    }

    /// What `paper-index` leaves for new vectors under the least memory that it takes: the
    /// windows are nearly what a service takes at once, 128 texts.
    #[test]
    fn with_little_memory_a_request_is_still_of_many_texts() {
        let of_a_worker = (40 << 20) / 16;
        for workers in [1, 2, 8] {
            let room = Room::of(workers as u64 * of_a_worker);
            assert!(room.window(1536, workers) > 100, "{workers}");
        }
    }

    /// Each worker looks for room, then makes a window; all of them at the worst moment.
    /// Guards that windows and the mark of `is_full` are chosen together, and that one who
    /// waits does so for an epoch that is over.
    #[test]
    fn windows_stay_within_a_quarter_more_than_there_is_room_for() {
        let (numbers, workers) = (8, 4);
        let most_bytes = 1000 * bytes_of(numbers);
        for before in 0..1000 {
            let mut room = Room::of(most_bytes);
            (0..before).for_each(|_| room.take(numbers));
            let looking = (0..workers).filter(|_| !room.is_full());
            let windows = looking.count() * room.window(numbers, workers);
            (0..windows).for_each(|_| room.take(numbers));
            assert!(room.held_bytes <= most_bytes / 4 * 5, "{before}");
            assert!(!room.is_full() || room.held_bytes > room.since_bytes);
        }
    }
}
