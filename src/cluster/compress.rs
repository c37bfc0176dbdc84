//! Which frames of a link are worth LZ4. A pure judge of timings: it neither
//! compresses nor looks at a clock.
//!
//! What a link costs is the time in which writing to it does not return, per
//! byte: a link that swallows all it is given costs a copy and no more, however
//! slow it is, and one that is full costs what its rate says. While a sender
//! compresses, a full link goes on sending: the two overlap, and the slower one
//! decides. So frames are compressed when `max(codec, ratio x link) < link`, with
//! a margin, all as time per byte.
//!
//! A link that is never full while frames are compressed hides how fast it is:
//! then some frames are sent raw again, to see. If it fills up, the next such
//! trial is twice as far away.

use std::time::Duration;

/// Length of the sample that tells ratio and rate, in bytes.
pub(super) const SAMPLE_BYTES: usize = 16 << 10;
/// Length of the sample that tells what a call costs by itself, in bytes.
pub(super) const SMALL_SAMPLE_BYTES: usize = 64;

/// So many bytes pass between two samples: at 2 GB/s raw and 500 MB/s of LZ4 a
/// sample then costs 0.8% of the time.
const SAMPLE_EVERY_BYTES: usize = 8 << 20;
/// What is too short says nothing about the rest.
const MIN_SAMPLE_BYTES: usize = 2 << 10;
/// Timings are gathered over so many bytes, or over so much time: long enough
/// that a thread which waited for a core does not make a link slow.
const WINDOW_BYTES: usize = 1 << 20;
const WINDOW: Duration = Duration::from_millis(200);
/// Compression must win this much to begin, and this much to go on.
const TO_BEGIN: f64 = 0.8;
const TO_GO_ON: f64 = 0.92;
/// Within one host a byte that LZ4 saves was a copy: the link must be slower
/// than the codec by this factor, and than so many seconds per byte (25 MB/s),
/// which no loopback is unless it is throttled.
const SAME_HOST: f64 = 8.0;
const SAME_HOST_LINK: f64 = 40e-9;
/// So many windows must agree before compression begins, also within one host,
/// where threads wait for each other's cores.
const AGREED: u32 = 2;
const AGREED_SAME_HOST: u32 = 4;
/// Raw windows of a trial: more than what a socket buffers.
const TRIAL_WINDOWS: u32 = 16;
/// Compressed windows before the first trial, and at most.
const FIRST_TRIAL_AFTER: u32 = 64;
const LAST_TRIAL_AFTER: u32 = 4096;
/// A link is full when writing takes this share of the sender's time.
const FULL_SHARE: f64 = 0.5;
/// The weight of what is new, and of one frame among many.
const NEW: f64 = 0.25;
const FRAME: f64 = 0.1;

/// What to do with one frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    /// Send it as it is.
    Raw,
    /// Send it as it is, and compress a sample of it to see.
    Sample,
    /// Compress it.
    Pack,
}

/// What the link does at present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Raw,
    Packing,
    /// Raw for some windows, to see how fast the link is.
    Trial {
        windows: u32,
    },
}

/// The judge of one link. Costs are seconds per byte.
#[derive(Debug)]
pub(super) struct Choice {
    /// No frame is compressed, and no sample.
    never: bool,
    same_host: bool,
    mode: Mode,
    link: Option<f64>,
    codec: Option<f64>,
    ratio: Option<f64>,
    /// Seconds that a call of the codec costs by itself.
    setup: f64,
    /// Frames that are shorter do not earn the call.
    threshold: usize,
    since_sample: usize,
    window: Window,
    /// Raw windows, one after the other, that speak for compression.
    agreed: u32,
    /// Compressed windows in which the link was not full.
    idle_windows: u32,
    trial_after: u32,
}

#[derive(Debug, Default)]
struct Window {
    sent: usize,
    packing: Duration,
    writing: Duration,
}

fn mix(old: Option<f64>, new: f64, weight: f64) -> f64 {
    old.map_or(new, |old| old + weight * (new - old))
}

#[allow(clippy::cast_precision_loss)] // Lengths of frames.
fn per_byte(seconds: f64, bytes: usize) -> f64 {
    seconds / bytes.max(1) as f64
}

impl Choice {
    /// Starts raw.
    pub(super) fn new(same_host: bool) -> Self {
        Self {
            never: false,
            same_host,
            mode: Mode::Raw,
            link: None,
            codec: None,
            ratio: None,
            setup: 0.0,
            threshold: MIN_SAMPLE_BYTES,
            since_sample: SAMPLE_EVERY_BYTES,
            window: Window::default(),
            agreed: 0,
            idle_windows: 0,
            trial_after: FIRST_TRIAL_AFTER,
        }
    }

    /// Stays raw, and takes no samples.
    pub(super) fn never() -> Self {
        Self {
            never: true,
            ..Self::new(true)
        }
    }

    /// What to do with a frame of `raw` bytes.
    pub(super) fn plan(&mut self, raw: usize) -> Plan {
        if self.never {
            return Plan::Raw;
        }
        self.since_sample = self.since_sample.saturating_add(raw);
        if self.mode == Mode::Packing {
            return if raw >= self.threshold {
                Plan::Pack
            } else {
                Plan::Raw
            };
        }
        if self.since_sample >= SAMPLE_EVERY_BYTES && raw >= MIN_SAMPLE_BYTES {
            self.since_sample = 0;
            return Plan::Sample;
        }
        Plan::Raw
    }

    /// A call of the codec for next to nothing took so long.
    pub(super) fn set_up(&mut self, took: Duration) {
        self.setup = mix(Some(self.setup), took.as_secs_f64(), NEW);
    }

    /// So many bytes became so many in a time.
    pub(super) fn packed(&mut self, raw: usize, packed: usize, took: Duration) {
        let weight = if self.mode == Mode::Packing {
            FRAME
        } else {
            NEW
        };
        let pure = (took.as_secs_f64() - self.setup).max(0.0);
        self.codec = Some(mix(self.codec, per_byte(pure, raw), weight));
        let ratio = per_byte(f64::from(u32::try_from(packed).unwrap_or(u32::MAX)), raw);
        self.ratio = Some(mix(self.ratio, ratio, weight));
    }

    /// A frame has been written: `packing` was spent on compression or samples,
    /// `writing` until the socket took it.
    pub(super) fn sent(&mut self, sent: usize, packing: Duration, writing: Duration) {
        self.window.sent += sent;
        self.window.packing += packing;
        self.window.writing += writing;
        let busy = self.window.packing + self.window.writing;
        if self.window.sent >= WINDOW_BYTES || (busy >= WINDOW && self.window.sent > 0) {
            let window = std::mem::take(&mut self.window);
            self.look(&window);
        }
    }

    fn look(&mut self, window: &Window) {
        let writing = window.writing.as_secs_f64();
        let busy = writing + window.packing.as_secs_f64();
        match self.mode {
            Mode::Raw => {
                self.link = Some(mix(self.link, per_byte(writing, window.sent), NEW));
                let needed = if self.same_host {
                    AGREED_SAME_HOST
                } else {
                    AGREED
                };
                self.agreed = if self.pays(TO_BEGIN) {
                    self.agreed + 1
                } else {
                    0
                };
                if self.agreed >= needed {
                    self.begin();
                }
            }
            Mode::Trial { windows } => {
                // What was known of the link may be long past.
                let seen = per_byte(writing, window.sent);
                let before = self.link.replace(seen);
                if self.pays(TO_BEGIN) {
                    self.link = Some(mix(before, seen, NEW));
                    self.trial_after = (self.trial_after * 2).min(LAST_TRIAL_AFTER);
                    self.begin();
                } else if windows > 1 {
                    self.mode = Mode::Trial {
                        windows: windows - 1,
                    };
                } else {
                    self.trial_after = FIRST_TRIAL_AFTER;
                    self.mode = Mode::Raw;
                }
            }
            Mode::Packing => {
                if writing >= FULL_SHARE * busy {
                    self.idle_windows = 0;
                    self.link = Some(mix(self.link, per_byte(busy, window.sent), NEW));
                } else {
                    self.idle_windows += 1;
                }
                if !self.pays(TO_GO_ON) {
                    self.mode = Mode::Raw;
                } else if self.idle_windows >= self.trial_after {
                    self.mode = Mode::Trial {
                        windows: TRIAL_WINDOWS,
                    };
                }
            }
        }
    }

    fn begin(&mut self) {
        self.mode = Mode::Packing;
        self.agreed = 0;
        self.idle_windows = 0;
        if let (Some(link), Some(codec)) = (self.link, self.codec) {
            let won = TO_BEGIN * link - codec;
            let bytes = (self.setup / won.max(1e-12)).clamp(256.0, 262_144.0);
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // Clamped.
            {
                self.threshold = bytes as usize;
            }
        }
    }

    fn pays(&self, margin: f64) -> bool {
        let (Some(link), Some(codec), Some(ratio)) = (self.link, self.codec, self.ratio) else {
            return false;
        };
        let packed = codec.max(ratio * link);
        let apart = !self.same_host || (link > SAME_HOST_LINK && link > codec * SAME_HOST);
        packed < margin * link && apart
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A link with a buffer, and a sender that always has more to send.
    struct Simulated {
        choice: Choice,
        /// Bytes per second.
        link: f64,
        codec: f64,
        ratio: f64,
        buffered: f64,
        now: f64,
        raw: f64,
        packed_frames: usize,
        frames: usize,
        sampling: f64,
    }

    const COPY: f64 = 2e9;
    const BUFFER: f64 = 4e6;

    impl Simulated {
        fn new(link: f64, codec: f64, ratio: f64) -> Self {
            Self {
                choice: Choice::new(false),
                link,
                codec,
                ratio,
                buffered: 0.0,
                now: 0.0,
                raw: 0.0,
                packed_frames: 0,
                frames: 0,
                sampling: 0.0,
            }
        }

        fn pass(&mut self, seconds: f64) {
            self.now += seconds;
            self.buffered = (self.buffered - seconds * self.link).max(0.0);
        }

        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        fn frame(&mut self, raw: usize) {
            let setup = 1e-6;
            let time = Duration::from_secs_f64;
            let pack = |bytes: usize| setup + bytes as f64 / self.codec;
            let length = |bytes: usize| (bytes as f64 * self.ratio) as usize;
            let plan = self.choice.plan(raw);
            let (mut sent, mut packing) = (raw, 0.0);
            match plan {
                Plan::Raw => {}
                Plan::Sample => {
                    let sample = raw.min(SAMPLE_BYTES);
                    packing = pack(sample) + setup;
                    self.choice.set_up(time(setup));
                    self.choice
                        .packed(sample, length(sample), time(pack(sample)));
                    self.sampling += packing;
                }
                Plan::Pack => {
                    packing = pack(raw);
                    self.choice.packed(raw, length(raw), time(packing));
                    sent = length(raw).min(raw);
                    self.packed_frames += 1;
                }
            }
            self.pass(packing);
            let copying = sent as f64 / COPY;
            self.pass(copying);
            self.buffered += sent as f64;
            let full = ((self.buffered - BUFFER) / self.link).max(0.0);
            self.pass(full);
            self.choice.sent(sent, time(packing), time(copying + full));
            self.frames += 1;
            self.raw += raw as f64;
        }

        /// Raw bytes per second over a stretch of bytes, in frames of `frame`.
        #[allow(clippy::cast_precision_loss)]
        fn rate(&mut self, bytes: usize, frame: usize) -> f64 {
            let (raw, now) = (self.raw, self.now);
            (self.packed_frames, self.frames) = (0, 0);
            for _ in 0..bytes / frame {
                self.frame(frame);
            }
            (self.raw - raw) / (self.now - now)
        }
    }

    const MIB: usize = 1 << 20;

    #[test]
    fn a_slow_link_carries_as_much_as_its_rate_and_ratio_allow() {
        for (link, codec, ratio) in [
            (10e6, 500e6, 0.4),
            (10e6, 500e6, 0.1),
            (100e6, 400e6, 0.5),
            (1e6, 300e6, 0.7),
        ] {
            for frame in [64 << 10, 256 << 10] {
                let mut sender = Simulated::new(link, codec, ratio);
                sender.rate(16 * MIB, frame);
                let rate = sender.rate(256 * MIB, frame);
                let best = (link / ratio).min(codec);
                assert!(rate > 0.9 * best, "{rate} of {best} at {link}, {ratio}");
            }
        }
    }

    #[test]
    fn a_codec_that_is_slower_than_a_full_link_still_wins_if_it_wins() {
        // Raw 300 MB/s; compressed 500 MB/s, and the link is never full.
        let mut sender = Simulated::new(300e6, 500e6, 0.3);
        sender.rate(256 * MIB, 256 << 10);
        let rate = sender.rate(4096 * MIB, 256 << 10);
        assert!(rate > 0.8 * 400e6, "{rate}");
    }

    #[test]
    fn a_fast_link_is_left_alone_and_sampling_costs_next_to_nothing() {
        for (link, codec, ratio) in [(4e9, 500e6, 0.2), (1e9, 600e6, 0.3), (2e9, 300e6, 0.9)] {
            for frame in [64 << 10, 256 << 10] {
                let mut sender = Simulated::new(link, codec, ratio);
                sender.rate(1024 * MIB, frame);
                assert_eq!(sender.packed_frames, 0);
                let share = sender.sampling / sender.now;
                assert!(share < 0.02, "{share}");
            }
        }
    }

    #[test]
    fn what_cannot_be_compressed_is_not() {
        let mut sender = Simulated::new(10e6, 500e6, 1.0);
        let rate = sender.rate(256 * MIB, 256 << 10);
        assert_eq!(sender.packed_frames, 0);
        assert!(rate > 0.98 * 10e6, "{rate}");
    }

    #[test]
    fn a_link_that_changes_its_speed_is_followed() {
        let mut sender = Simulated::new(4e9, 500e6, 0.4);
        sender.rate(64 * MIB, 256 << 10);
        assert_eq!(sender.packed_frames, 0);
        sender.link = 20e6;
        sender.rate(32 * MIB, 256 << 10);
        sender.rate(64 * MIB, 256 << 10);
        assert_eq!(sender.packed_frames, sender.frames);
        sender.link = 4e9;
        sender.rate(1024 * MIB, 256 << 10);
        sender.rate(256 * MIB, 256 << 10);
        assert_eq!(sender.packed_frames, 0);
    }

    #[test]
    fn contents_that_change_are_followed() {
        let mut sender = Simulated::new(20e6, 500e6, 0.3);
        sender.rate(64 * MIB, 256 << 10);
        sender.ratio = 1.0;
        sender.rate(64 * MIB, 256 << 10);
        sender.rate(64 * MIB, 256 << 10);
        assert_eq!(sender.packed_frames, 0);
        sender.ratio = 0.3;
        sender.rate(64 * MIB, 256 << 10);
        sender.rate(64 * MIB, 256 << 10);
        assert_eq!(sender.packed_frames, sender.frames);
    }

    #[test]
    fn within_a_host_only_a_throttled_link_is_worth_it() {
        let mut sender = Simulated::new(300e6, 700e6, 0.2);
        sender.choice = Choice::new(true);
        sender.rate(512 * MIB, 256 << 10);
        assert_eq!(sender.packed_frames, 0);
        sender.link = 10e6;
        sender.rate(64 * MIB, 256 << 10);
        sender.rate(64 * MIB, 256 << 10);
        assert_eq!(sender.packed_frames, sender.frames);
    }

    #[test]
    fn short_frames_do_not_earn_the_call() {
        let mut sender = Simulated::new(10e6, 500e6, 0.4);
        sender.rate(64 * MIB, 64 << 10);
        assert_eq!(sender.choice.plan(10), Plan::Raw);
        assert_eq!(sender.choice.plan(64 << 10), Plan::Pack);
        assert!(sender.choice.threshold < 64 << 10);
    }
}
