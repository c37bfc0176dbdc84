//! What goes wrong, and what was seen.
//!
//! A [`Rule`] names requests by method and path pattern, and what happens to
//! them; the first rule that still has turns left applies. Everything that
//! passes is recorded, so that tests can count.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// 503 SlowDown, nothing applied.
    Fail503,
    /// 500 InternalError, nothing applied.
    Fail500,
    /// 403 AccessDenied, nothing applied: nothing that passes by itself.
    Forbid403,
    /// Applied, but the answer is 500 InternalError.
    Apply500,
    /// Applied, but the connection is reset before the answer.
    ApplyThenDrop,
    /// Reset before anything is applied.
    Drop,
    /// 409 ConditionalRequestConflict, nothing applied.
    Conflict409,
    /// 412 PreconditionFailed, nothing applied although the object is absent.
    Precondition412,
    /// The answer's body stops half-way and the connection is reset.
    Truncate,
    /// One bit of the answer's body is another.
    Flip,
    /// Answered after this long.
    Delay(Duration),
    /// Applied, but never answered.
    Stall,
}

/// Which requests an action applies to.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    method: &'static str,
    path: String,
    action: Action,
    skip: u64,
    turns: u64,
    every: u64,
    met: u64,
}

impl Rule {
    /// Applies `action` to every request of `method` (`*` for any) whose path
    /// matches `path`, where `*` stands for any text.
    pub(crate) fn new(method: &'static str, path: &str, action: Action) -> Self {
        Self {
            method,
            path: path.to_owned(),
            action,
            skip: 0,
            turns: u64::MAX,
            every: 1,
            met: 0,
        }
    }

    /// Applies to this many requests only.
    pub(crate) fn times(mut self, turns: u64) -> Self {
        self.turns = turns;
        self
    }

    /// Lets this many matching requests pass first.
    pub(crate) fn after(mut self, skip: u64) -> Self {
        self.skip = skip;
        self
    }

    /// Applies to one in so many matching requests only.
    pub(crate) fn every(mut self, every: u64) -> Self {
        self.every = every;
        self
    }

    fn matches(&self, method: &str, path: &str) -> bool {
        (self.method == "*" || self.method == method) && like(&self.path, path)
    }
}

/// One request that reached the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    /// The HTTP method.
    pub(crate) method: String,
    /// The path, beginning with the bucket.
    pub(crate) path: String,
    /// The query, without its question mark.
    pub(crate) query: String,
    /// The fault that was applied, if any.
    pub(crate) fault: Option<Action>,
    /// The status that was answered; 0 where there was no answer.
    pub(crate) status: u16,
}

impl Seen {
    /// Whether it asked for objects to be deleted (aborting an upload does not).
    pub(crate) fn is_delete(&self) -> bool {
        (self.method == "DELETE" && !self.query.contains("uploadId"))
            || (self.method == "POST"
                && self.query.split('&').any(|part| part.starts_with("delete")))
    }

    /// Whether it put an entry of a Delta log.
    pub(crate) fn is_log_put(&self) -> bool {
        self.method == "PUT" && like("*/_delta_log/*.json", &self.path)
    }
}

/// The rules of one server and the record of its requests.
#[derive(Default)]
pub(crate) struct FaultPlan {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    rules: Vec<Rule>,
    seen: Vec<Seen>,
}

impl FaultPlan {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a rule after those that are there.
    pub(crate) fn add(&self, rule: Rule) {
        self.lock().rules.push(rule);
    }

    /// Removes every rule: the server is well again.
    pub(crate) fn clear(&self) {
        self.lock().rules.clear();
    }

    /// Every request so far, in order of arrival.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.lock().seen.clone()
    }

    /// How many requests so far satisfy `wanted`.
    pub(crate) fn count(&self, wanted: impl Fn(&Seen) -> bool) -> usize {
        self.lock().seen.iter().filter(|seen| wanted(seen)).count()
    }

    /// Records a request and says what is to happen to it; the number is for
    /// [`FaultPlan::answered`].
    pub(super) fn arrive(&self, method: &str, path: &str, query: &str) -> (usize, Option<Action>) {
        let mut state = self.lock();
        let fault = state.rules.iter_mut().find_map(|rule| {
            if !rule.matches(method, path) || rule.turns == 0 {
                return None;
            }
            if rule.skip > 0 {
                rule.skip -= 1;
                return None;
            }
            rule.met += 1;
            if !rule.met.is_multiple_of(rule.every) {
                return None;
            }
            rule.turns -= 1;
            Some(rule.action)
        });
        state.seen.push(Seen {
            method: method.to_owned(),
            path: path.to_owned(),
            query: query.to_owned(),
            fault,
            status: 0,
        });
        (state.seen.len() - 1, fault)
    }

    /// Records the answer to a request.
    pub(super) fn answered(&self, number: usize, status: u16) {
        if let Some(seen) = self.lock().seen.get_mut(number) {
            seen.status = status;
        }
    }
}

/// Whether `text` matches `pattern`, where `*` stands for any text.
fn like(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(start) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = text.find(part) else {
            return false;
        };
        text = text.get(at + part.len()..).unwrap_or_default();
    }
    text.ends_with(end)
}
