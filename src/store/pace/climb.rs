//! The number of requests at once that gives the best throughput.
//!
//! Throughput over concurrency rises, then is flat, then (with some servers)
//! falls. The climb goes up in large steps as long as throughput follows; where
//! it does not, it steps back and from then on tries a little more and a little
//! less in turn. Less that does as well is kept: it is the same work with shorter
//! waiting, less memory and less load.
//!
//! Where a store says that it is too much, the number falls at once: to what the store
//! was working on (by Little's law the time of the requests that went well, over the
//! time that passed), but not by more than three tenths. From there it goes half of the
//! way to where it was too much, again and again, as BIC does ("Binary Increase
//! Congestion Control", Xu, Harfoush, Rhee 2004). Where falling does not help, because
//! refusals do not depend on the number, they are borne.

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
/// Of the time of all requests, what refused ones may take before it is heard ...
const HEARD: f64 = 1.0 / 32.0;
/// ... and this many times what is usual: what falling has not changed is borne.
const UNUSUAL: f64 = 2.0;
/// How soon a share is usual: the weight of one window.
const WEIGHT: f64 = 1.0 / 16.0;
/// Requests that a window with refusals has at least: fewer say little.
const SAMPLE: u32 = 16;
/// After a store said that it is too much: so much of what it was working on ...
const BACK_OFF: f64 = 0.97;
/// ... but at least so much of the number before.
const FARTHEST_FALL: f64 = 0.7;
/// Where it once was too much may have been a bad moment: with each window it counts a
/// little less.
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
    /// Of the time of all requests, what refused ones take usually.
    usual: f64,
    window: Window,
}

#[derive(Debug, Default)]
struct Window {
    began: Option<Duration>,
    units: f64,
    ended: u32,
    overloads: u32,
    /// Time of requests that went well, and of those that were too much, in seconds.
    served: f64,
    refused: f64,
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
            usual: 0.0,
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

    /// A request ended that `took` so long and was worth so many units; `overload` says
    /// that the store found it too much. Returns a decision when one was made.
    pub fn ended(
        &mut self,
        now: Duration,
        took: Duration,
        units: f64,
        overload: bool,
    ) -> Option<Step> {
        let window = &mut self.window;
        let began = *window.began.get_or_insert(now);
        window.ended += 1;
        if overload {
            window.overloads += 1;
            window.refused += took.as_secs_f64();
        } else {
            window.units += units;
            window.served += took.as_secs_f64();
        }
        let length = now.saturating_sub(began);
        let sample = if window.overloads > 0 { SAMPLE } else { 1 };
        let enough = window.ended >= self.slots().max(sample) && length >= WINDOW;
        // Falling must not wait for the rest of the window: one in eight is a word.
        let many = self.window.overloads >= (SAMPLE / 4).max(self.slots() / 8);
        let too_much = many && !self.deaf && length >= WINDOW / 4;
        if !enough && !too_much && length < LONGEST_WINDOW {
            return None;
        }
        let window = std::mem::take(&mut self.window);
        let seconds = length.as_secs_f64().max(1e-6);
        let rate = window.units / seconds;
        self.decide(&window, rate, window.served / seconds);
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

    /// `served` is how many requests the store was working on, on the mean.
    fn decide(&mut self, window: &Window, rate: f64, served: f64) {
        self.ceiling *= CEILING_RISES;
        if std::mem::take(&mut self.deaf) {
            return;
        }
        let share = window.refused_share();
        let unusual = share > self.usual * UNUSUAL;
        self.usual += (share - self.usual) * WEIGHT;
        match (share > HEARD, unusual) {
            (true, true) => {
                self.fall(served);
                return;
            }
            (true, false) if self.ceiling.is_finite() => {
                // It has nothing to do with the number.
                self.ceiling = f64::INFINITY;
                self.phase = Phase::Grow(None);
            }
            _ => {}
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

    fn fall(&mut self, served: f64) {
        self.ceiling = self.slots;
        self.deaf = true;
        self.up_next = true;
        self.rest(LONG_REST);
        let taken = (served * BACK_OFF).max(self.slots * FARTHEST_FALL);
        self.slots = taken.min(self.slots - 1.0);
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

    /// A step up: below the ceiling at most half of the way there.
    fn step_up(&mut self, by: f64) {
        let half = (self.slots + self.ceiling) / 2.0;
        let most = half.floor().max(self.slots + 1.0);
        self.slots = (self.slots * by).ceil().min(most);
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

impl Window {
    /// Of the time of all requests, what refused ones took.
    fn refused_share(&self) -> f64 {
        match self.overloads {
            0 => 0.0,
            _ => self.refused / (self.refused + self.served).max(1e-9),
        }
    }
}

/// The gain that makes a step up by this factor worth it.
fn worth_of(step: f64) -> f64 {
    1.0 + (step - 1.0) * WORTH_MORE
}
