//! A heap of numbers under an order that is given each time: the order looks at
//! cursors that move between two calls.

/// Numbers, the least on top.
#[derive(Debug, Default)]
pub(super) struct Heap(Vec<usize>);

impl Heap {
    pub(super) fn top(&self) -> Option<usize> {
        self.0.first().copied()
    }

    /// The second least.
    pub(super) fn second(&self, less: impl Fn(usize, usize) -> bool) -> Option<usize> {
        match (self.0.get(1), self.0.get(2)) {
            (Some(&left), Some(&right)) => Some(if less(right, left) { right } else { left }),
            (Some(&left), None) => Some(left),
            _ => None,
        }
    }

    pub(super) fn push(&mut self, number: usize, less: impl Fn(usize, usize) -> bool) {
        self.0.push(number);
        let mut at = self.0.len() - 1;
        while at > 0 {
            let above = (at - 1) / 2;
            match (self.0.get(at), self.0.get(above)) {
                (Some(&here), Some(&there)) if less(here, there) => self.0.swap(at, above),
                _ => return,
            }
            at = above;
        }
    }

    /// Puts the top where it belongs now.
    pub(super) fn sink(&mut self, less: impl Fn(usize, usize) -> bool) {
        let mut at = 0;
        loop {
            let mut least = at;
            for child in [2 * at + 1, 2 * at + 2] {
                match (self.0.get(child), self.0.get(least)) {
                    (Some(&here), Some(&there)) if less(here, there) => least = child,
                    _ => {}
                }
            }
            if least == at {
                return;
            }
            self.0.swap(at, least);
            at = least;
        }
    }

    /// Takes the top away.
    pub(super) fn pop(&mut self, less: impl Fn(usize, usize) -> bool) {
        let last = self.0.len().saturating_sub(1);
        if !self.0.is_empty() {
            self.0.swap(0, last);
            self.0.truncate(last);
            self.sink(less);
        }
    }
}
