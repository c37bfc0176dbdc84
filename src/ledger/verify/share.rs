//! [`Share`]: which part of the files is read today.

use std::fmt;
use std::str::FromStr;

use xxhash_rust::xxh3::xxh3_64;

/// A share of all files, such as 1/7. Files are told apart by their names alone:
/// with consecutive seeds (days), seven shares of 1/7 cover every file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    take: u64,
    of: u64,
}

impl Share {
    /// Every file.
    pub const ALL: Self = Self { take: 1, of: 1 };
    /// No file.
    pub const NONE: Self = Self { take: 0, of: 1 };

    /// Whether the file at `path` belongs to the share of this `seed`.
    #[must_use]
    pub fn takes(self, path: &str, seed: u64) -> bool {
        let begin = (seed % self.of) * self.take % self.of;
        let bucket = xxh3_64(path.as_bytes()) % self.of;
        (bucket + self.of - begin) % self.of < self.take
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self { take: 0, .. } => f.write_str("none"),
            Self { take, of } if take == of => f.write_str("all"),
            Self { take, of } => write!(f, "{take}/{of}"),
        }
    }
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("\"{text}\" is no share of files: write 0, 1, or a part such as 1/7");
        let (take, of) = text.split_once('/').unwrap_or((text, "1"));
        let take: u64 = take.trim().parse().map_err(|_| wrong())?;
        let of: u64 = of.trim().parse().map_err(|_| wrong())?;
        // Beyond that, arithmetic could overflow; nobody waits so many days.
        if of == 0 || of > 1_000_000 || take > of {
            return Err(wrong());
        }
        Ok(Self { take, of })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn as_many_seeds_as_parts_cover_everything() {
        for text in ["1/7", "2/7", "3/7", "5/6", "1", "1/30"] {
            let share: Share = text.parse().unwrap();
            let days = share.of.div_ceil(share.take);
            for first in [0, 20_413, u64::MAX - 40] {
                for file in 0..500 {
                    let path = format!("part-{file}.parquet");
                    let covered = (0..days).any(|day| share.takes(&path, first + day));
                    assert!(covered, "{text} from {first}: {path}");
                }
            }
        }
    }

    #[test]
    fn a_share_is_about_what_it_says() {
        let share: Share = "1/7".parse().unwrap();
        let taken = (0..7000).filter(|file| share.takes(&format!("part-{file}"), 3));
        assert!((800..1200).contains(&taken.count()));
        assert!(!Share::NONE.takes("a", 1) && Share::ALL.takes("a", 1));
    }

    #[test]
    fn what_is_no_share_is_refused_in_words() {
        for text in ["", "x", "2", "8/7", "1/0", "-1/7"] {
            let error = text.parse::<Share>().unwrap_err();
            assert!(error.contains("such as 1/7"), "{error}");
        }
    }
}
