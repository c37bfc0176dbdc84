//! How a run ends badly: an exit code that scripts can rely on, and one block of
//! text that tells a person what happened, why, and what to do.

use std::error::Error;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::cluster::CrewError;

/// Exit codes, frozen since the first release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, JsonSchema)]
#[schemars(with = "u8")]
pub enum Exit {
    /// 0: everything was done.
    Done,
    /// 1: failed.
    Failed,
    /// 2: wrong usage or configuration.
    Usage,
    /// 3: done, but with quarantined rows or failed items.
    Quarantined,
    /// 4: failed for a reason that passes (network, busy server): worth retrying.
    Retry,
    /// 5: `verify` found damage or a difference.
    Damaged,
    /// 6: a change of schema was refused by policy.
    SchemaRefused,
    /// 11: another run holds the dataset.
    Overtaken,
    /// 130: interrupted.
    Interrupted,
}

impl Exit {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 9] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Quarantined,
        Self::Retry,
        Self::Damaged,
        Self::SchemaRefused,
        Self::Overtaken,
        Self::Interrupted,
    ];

    /// The code given to the system.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Quarantined => 3,
            Self::Retry => 4,
            Self::Damaged => 5,
            Self::SchemaRefused => 6,
            Self::Overtaken => 11,
            Self::Interrupted => 130,
        }
    }

    /// The one exit of several parts that failed, each for its own reason: what
    /// they agree on; else interrupted, if any was; else "worth retrying", if
    /// nothing worse happened than what passes; else failed.
    #[must_use]
    pub fn of_parts(parts: impl IntoIterator<Item = Self>) -> Self {
        let mut seen: Vec<Self> = parts.into_iter().collect();
        seen.sort_unstable();
        seen.dedup();
        let bad: Vec<Self> = seen
            .iter()
            .copied()
            .filter(|exit| !matches!(exit, Self::Done | Self::Quarantined))
            .collect();
        match bad.as_slice() {
            [] => seen.last().copied().unwrap_or(Self::Done),
            [one] => *one,
            several if several.contains(&Self::Interrupted) => Self::Interrupted,
            [Self::Retry, Self::Overtaken] => Self::Retry,
            _ => Self::Failed,
        }
    }
}

impl Serialize for Exit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.code())
    }
}

impl<'de> Deserialize<'de> for Exit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let code = u8::deserialize(deserializer)?;
        Self::ALL
            .into_iter()
            .find(|exit| exit.code() == code)
            .ok_or_else(|| serde::de::Error::custom(format!("{code} is no exit code")))
    }
}

/// Why something was not done. Printed once, at the very end, by `app`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub exit: Exit,
    /// What happened, to what: one sentence, no full stop at its end.
    pub message: String,
    /// Why, from the nearest cause to the furthest.
    pub causes: Vec<String>,
    /// What the user can do next.
    pub hint: Option<String>,
}

impl From<CrewError> for Failure {
    fn from(error: CrewError) -> Self {
        Self::failed("the workers failed").caused_by(&error)
    }
}

impl Failure {
    /// A failure that ends with `exit` and says `message`.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            causes: Vec::new(),
            hint: None,
        }
    }

    /// Wrong usage or configuration (exit 2).
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// Failed (exit 1).
    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }

    /// Failed for a reason that passes (exit 4).
    pub fn retry(message: impl Into<String>) -> Self {
        Self::new(Exit::Retry, message)
    }

    /// Interrupted by the user (exit 130).
    pub fn interrupted(message: impl Into<String>) -> Self {
        Self::new(Exit::Interrupted, message)
    }

    /// Adds one cause in words.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        self.causes.push(cause.into());
        self
    }

    /// Adds an error and everything below it. A link that only repeats what is
    /// said already is left out.
    #[must_use]
    pub fn caused_by(mut self, error: &(dyn Error + 'static)) -> Self {
        let mut link = Some(error);
        while let Some(cause) = link {
            let text = cause.to_string();
            let said = self.causes.last().unwrap_or(&self.message);
            if !said.contains(&text) {
                self.causes.push(text);
            }
            link = cause.source();
        }
        self
    }

    /// Says what the user can do.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The block that people see.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = labelled("error: ", &self.message);
        for cause in &self.causes {
            text += &labelled("  because: ", cause);
        }
        if let Some(hint) = &self.hint {
            text += &labelled("  do: ", hint);
        }
        text
    }

    /// The line that programs see, after the convention of restic.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "event": "exit_error",
            "code": self.exit.code(),
            "message": self.message,
            "causes": self.causes,
            "do": self.hint,
        })
    }

    /// The same failure with every text passed through `change`.
    #[must_use]
    pub fn map_texts(self, change: impl Fn(&str) -> String) -> Self {
        Self {
            exit: self.exit,
            message: change(&self.message),
            causes: self.causes.iter().map(|cause| change(cause)).collect(),
            hint: self.hint.as_deref().map(change),
        }
    }
}

/// `text` after its label, its further lines indented below it.
fn labelled(label: &str, text: &str) -> String {
    let indent = format!("\n{}", " ".repeat(label.len()));
    format!("{label}{}\n", text.trim_end().replace('\n', &indent))
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn says_what_why_and_what_to_do() {
        let failure = Failure::retry("cannot reach postgres://ann@db/shop")
            .caused_by(&std::io::Error::other("connection refused"))
            .hint("check that the server runs,\nthen run again");
        assert_eq!(
            failure.render(),
            "error: cannot reach postgres://ann@db/shop\n  because: connection refused\n  \
             do: check that the server runs,\n      then run again\n"
        );
        assert_eq!(failure.to_json()["code"], 4);
    }

    #[test]
    fn repeated_causes_are_said_once() {
        let failure = Failure::failed("cannot open: no such file")
            .caused_by(&std::io::Error::other("no such file"));
        assert!(failure.causes.is_empty());
    }

    #[test]
    fn parts_agree_on_one_exit() {
        use Exit::*;
        for (parts, exit) in [
            (vec![], Done),
            (vec![Done, Done], Done),
            (vec![Done, Quarantined], Quarantined),
            (vec![Quarantined, Failed], Failed),
            (vec![Retry, Done, Retry], Retry),
            (vec![Retry, Failed], Failed),
            (vec![Overtaken, Done], Overtaken),
            (vec![Overtaken, Retry], Retry),
            (vec![Usage, Usage], Usage),
            (vec![SchemaRefused, Failed], Failed),
            (vec![Failed, Interrupted, Retry], Interrupted),
        ] {
            assert_eq!(Exit::of_parts(parts.clone()), exit, "{parts:?}");
        }
    }

    #[test]
    fn codes_survive_json() {
        for exit in Exit::ALL {
            let json = serde_json::to_string(&exit).unwrap();
            assert_eq!(json, exit.code().to_string());
            assert_eq!(serde_json::from_str::<Exit>(&json).unwrap(), exit);
        }
    }
}
