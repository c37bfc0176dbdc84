//! The number of requests at once that gives the best throughput.
//!
//! Throughput over concurrency rises, then is flat, then (with some servers)
//! falls. The climb goes up in large steps as long as throughput follows; where
//! it does not, it steps back and from then on tries a little more and a little
//! less in turn. Less that does as well is kept: it is the same work with shorter
//! waiting, less memory and less load. Where a store says that it is too much,
//! the number falls at once.

use std::time::Duration;

/// What the climb may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Where it begins.
    pub start: u32,
    /// The least.
    pub least: u32,
    /// The most.
    pub most: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            start: 16,
            least: 1,
            most: 512,
        }
    }
}

/// The shortest time over which throughput is measured.
const WINDOW: Duration = Duration::from_millis(200);
/// However few requests end in it, a window is not longer.
const LONGEST_WINDOW: Duration = Duration::from_secs(4);
/// Large steps on the way up.
const GROWTH: f64 = 1.5;
/// Small steps, up and down.
const MORE: f64 = 1.25;
const LESS: f64 = 0.8;
/// A small step up must gain this share of what it adds to be kept.
const WORTH_MORE: f64 = 0.25;
/// A small step down may lose so much.
const WORTH_LESS: f64 = 0.97;
/// After a store said that it is too much.
const BACK_OFF: f64 = 0.7;
/// Where a store once said so, large steps end below that ...
const BELOW_CEILING: f64 = 0.9;
/// ... but it may have been a bad moment: with each window it counts a little less.
const CEILING_RISES: f64 = 1.003;
/// Windows between two tries; after an overload.
const REST: u32 = 4;
const LONG_REST: u32 = 20;

/// What is being tried.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Large steps; the throughput and the number before the last one.
    Grow(Option<(f64, f64)>),
    /// The number is kept for so many windows; mean throughput so far.
    Rest { windows: u32, rate: Option<f64> },
    /// A small step from this number, where throughput was this.
    Try { from: f64, rate: f64 },
}

/// One decision, for a record of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// When, since the climb began.
    pub at: Duration,
    /// The number from now on.
    pub slots: u32,
    /// What was measured, in units a second.
    pub rate: f64,
}

/// The search for the best number of requests at once.
#[derive(Debug)]
pub struct Climb {
    bounds: Bounds,
    slots: f64,
    phase: Phase,
    /// Whether the next small step is up.
    up_next: bool,
    /// At so many the store said that it is too much.
    ceiling: f64,
    /// What comes back next was sent before the number fell: it says nothing new.
    deaf: bool,
    window: Window,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Duration>,
    units: f64,
    ended: u32,
    overloads: u32,
    /// Whether all slots were in use.
    full: bool,
}

impl Climb {
    /// A climb within bounds.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        let most = bounds.most.max(1);
        let least = bounds.least.clamp(1, most);
        Self {
            bounds: Bounds {
                least,
                most,
                ..bounds
            },
            slots: f64::from(bounds.start.clamp(least, most)),
            phase: Phase::Grow(None),
            up_next: false,
            ceiling: f64::INFINITY,
            deaf: false,
            window: Window::default(),
        }
    }

    /// How many requests may be on their way.
    #[must_use]
    pub fn slots(&self) -> u32 {
        // Within the bounds, which are numbers of 32 bits.
        self.slots as u32
    }

    /// A slot was taken when so many were in use, this one included.
    pub fn taken(&mut self, now: Duration, in_use: u32) {
        self.window.began.get_or_insert(now);
        self.window.full |= in_use >= self.slots();
    }

    /// A request ended that was worth so many units; `overload` says that the
    /// store found it too much. Returns a decision when one was made.
    pub fn ended(&mut self, now: Duration, units: f64, overload: bool) -> Option<Step> {
        let window = &mut self.window;
        let began = *window.began.get_or_insert(now);
        window.ended += 1;
        if overload {
            window.overloads += 1;
        } else {
            window.units += units;
        }
        let length = now.saturating_sub(began);
        let enough = window.ended >= self.slots() && length >= WINDOW;
        // Falling must not wait for the rest of the window: one in eight is a word.
        let many = self.window.overloads >= 2.max(self.slots() / 8);
        let too_much = many && !self.deaf && length >= WINDOW / 4;
        if !enough && !too_much && length < LONGEST_WINDOW {
            return None;
        }
        let window = std::mem::take(&mut self.window);
        let rate = window.units / length.as_secs_f64().max(1e-6);
        self.decide(&window, rate);
        self.slots = self
            .slots
            .clamp(f64::from(self.bounds.least), f64::from(self.bounds.most));
        self.window.began = Some(now);
        Some(Step {
            at: now,
            slots: self.slots(),
            rate,
        })
    }

    fn decide(&mut self, window: &Window, rate: f64) {
        self.ceiling *= CEILING_RISES;
        if std::mem::take(&mut self.deaf) {
            return;
        }
        if window.overloads > 0 && window.overloads * 16 >= window.ended {
            self.ceiling = self.slots;
            self.deaf = true;
            self.slots *= BACK_OFF;
            self.up_next = true;
            self.phase = Phase::Rest {
                windows: LONG_REST,
                rate: None,
            };
            return;
        }
        if !window.full {
            // Something else sets the pace: what is measured says nothing.
            return;
        }
        match self.phase {
            Phase::Grow(before) => self.grow(before, rate),
            Phase::Rest {
                windows,
                rate: mean,
            } => {
                let mean = mean.map_or(rate, |mean| mean * 0.7 + rate * 0.3);
                match windows {
                    0 => self.try_a_little(mean),
                    _ => {
                        self.phase = Phase::Rest {
                            windows: windows - 1,
                            rate: Some(mean),
                        }
                    }
                }
            }
            Phase::Try { from, rate: before } => self.judge(from, before, rate),
        }
    }

    fn grow(&mut self, before: Option<(f64, f64)>, rate: f64) {
        let at_most = self.slots >= f64::from(self.bounds.most);
        match before {
            Some((earlier, from)) if rate < earlier * worth_of(self.slots / from) => {
                self.slots = from;
                self.rest(REST);
            }
            _ if at_most => self.rest(REST),
            _ => {
                self.phase = Phase::Grow(Some((rate, self.slots)));
                self.step_up(GROWTH);
            }
        }
    }

    /// A step up, which ends below the ceiling; at the ceiling it is a small one.
    fn step_up(&mut self, by: f64) {
        let below = (self.ceiling * BELOW_CEILING).max(self.slots + 1.0);
        self.slots = (self.slots * by).ceil().min(below.floor());
    }

    fn try_a_little(&mut self, rate: f64) {
        self.phase = Phase::Try {
            from: self.slots,
            rate,
        };
        match self.up_next {
            true => self.step_up(MORE),
            false => self.slots = (self.slots * LESS).floor(),
        }
        self.up_next = !self.up_next;
    }

    fn judge(&mut self, from: f64, before: f64, rate: f64) {
        let more = self.slots > from;
        match more {
            true if rate >= before * worth_of(self.slots / from) => {
                self.phase = Phase::Grow(Some((rate, self.slots)))
            }
            true => {
                self.slots = from;
                self.rest(REST);
            }
            false if rate >= before * WORTH_LESS => {
                self.up_next = false;
                self.rest(REST);
            }
            false => {
                self.slots = from;
                self.rest(REST);
            }
        }
        if let Phase::Grow(_) = self.phase {
            self.step_up(GROWTH);
        }
    }

    fn rest(&mut self, windows: u32) {
        self.phase = Phase::Rest {
            windows,
            rate: None,
        };
    }
}

/// The gain that makes a step up by this factor worth it.
fn worth_of(step: f64) -> f64 {
    1.0 + (step - 1.0) * WORTH_MORE
}
