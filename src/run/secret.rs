//! Text that must not be shown: URLs with passwords, keys of object stores.
//!
//! A [`Secret`] prints and serialises without what is secret in it. Only
//! [`Secret::expose`] gives the text itself, so that a search for that name
//! finds every place where a secret leaves.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize, Serializer};

/// What stands in place of a secret.
const HIDDEN: &str = "***";

/// Schemes whose URLs may be shown once the password is gone. Anything else is
/// hidden as a whole: `abc:def` may well be a key and its secret.
const OPAQUE_SCHEMES: [&str; 2] = ["sqlite:", "file:"];

/// Parameters of URLs that are shown; the values of all others are hidden.
const OPEN_PARAMETERS: [&str; 13] = [
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "connect_timeout",
    "application_name",
    "options",
    "target_session_attrs",
    "host",
    "port",
    "user",
    "dbname",
    "region",
];

/// A text that is not shown. URLs are shown without password and without the
/// values of unknown parameters; everything else is shown as `***`.
#[derive(Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct Secret(String);

impl Secret {
    /// Takes a text into hiding.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself. Never print, log or serialise it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The password inside, where the text is a URL that has one, as written
    /// there (percent-encoded).
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        let (_, rest) = self.0.split_once("://")?;
        let userinfo = rest.get(..userinfo_end(rest)?)?;
        userinfo
            .split_once(':')
            .map(|(_, password)| password)
            .filter(|p| !p.is_empty())
    }

    /// The URL with `placeholder` in place of its password, for a configuration
    /// that people may share; the text as it is where there is no password.
    #[must_use]
    pub fn with_password(&self, placeholder: &str) -> String {
        match (self.0.split_once("://"), self.password()) {
            (Some((scheme, rest)), Some(_)) => match split_userinfo(rest) {
                Some((user, _, tail)) => format!("{scheme}://{user}:{placeholder}@{tail}"),
                None => self.0.clone(),
            },
            _ => self.0.clone(),
        }
    }

    /// `text` without this secret in it: a last net for messages that others
    /// wrote, which may quote what they were given.
    #[must_use]
    pub fn scrub(&self, text: &str) -> String {
        let shown = self.to_string();
        let mut clean = text.to_owned();
        if self.0.len() >= SHORTEST_SCRUBBED {
            clean = clean.replace(&self.0, &shown);
        }
        // A password such as "postgres", which the rest of the URL shows anyway,
        // would take the sense out of every message, and tell itself by that.
        for part in self.hidden_parts().filter(|part| !shown.contains(part)) {
            clean = clean.replace(part, HIDDEN);
        }
        clean
    }
}

impl Secret {
    /// The password, and the values of parameters that are not shown.
    fn hidden_parts(&self) -> impl Iterator<Item = &str> {
        let parameters = self
            .0
            .split_once('?')
            .map_or("", |(_, query)| query)
            .split('&');
        let values = parameters
            .filter_map(|parameter| parameter.split_once('='))
            .filter(|(name, _)| !OPEN_PARAMETERS.contains(name))
            .map(|(_, value)| value);
        self.password()
            .into_iter()
            .chain(values)
            .filter(|part| part.len() >= SHORTEST_SCRUBBED)
    }
}

/// Shorter texts are parts of ordinary words; replacing them would only garble
/// messages.
const SHORTEST_SCRUBBED: usize = 4;

/// Where the part before the host ends. The *last* `@` counts: a password may
/// hold an unescaped `@` or `/`, and hiding too much is better than too little.
fn userinfo_end(rest: &str) -> Option<usize> {
    rest.rfind('@')
}

/// User, password and what follows the `@`.
fn split_userinfo(rest: &str) -> Option<(&str, Option<&str>, &str)> {
    let end = userinfo_end(rest)?;
    let (userinfo, tail) = (rest.get(..end)?, rest.get(end + 1..)?);
    Some(match userinfo.split_once(':') {
        Some((user, password)) => (user, Some(password), tail),
        None => (userinfo, None, tail),
    })
}

fn without_parameter_values(tail: &str) -> String {
    let Some((place, query)) = tail.split_once('?') else {
        return tail.to_owned();
    };
    let shown: Vec<String> = query
        .split('&')
        .map(|parameter| match parameter.split_once('=') {
            Some((name, _)) if !OPEN_PARAMETERS.contains(&name) => format!("{name}={HIDDEN}"),
            Some(_) => parameter.to_owned(),
            None => HIDDEN.to_owned(),
        })
        .collect();
    format!("{place}?{}", shown.join("&"))
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        if let Some((scheme, rest)) = self.0.split_once("://") {
            return match split_userinfo(rest) {
                Some((user, Some(_), tail)) => {
                    write!(
                        f,
                        "{scheme}://{user}:{HIDDEN}@{}",
                        without_parameter_values(tail)
                    )
                }
                _ => write!(f, "{scheme}://{}", without_parameter_values(rest)),
            };
        }
        if OPAQUE_SCHEMES
            .iter()
            .any(|scheme| self.0.starts_with(scheme))
        {
            return f.write_str(&without_parameter_values(&self.0));
        }
        f.write_str(HIDDEN)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({self})")
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl From<&str> for Secret {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    #[test]
    fn shows_everything_but_the_secret() {
        for (text, shown) in [
            (
                "postgres://ann:canary@db:5432/shop",
                "postgres://ann:***@db:5432/shop",
            ),
            (
                "postgres://ann@db/shop?sslmode=require",
                "postgres://ann@db/shop?sslmode=require",
            ),
            (
                "postgres://db/shop?user=ann&password=canary",
                "postgres://db/shop?user=ann&password=***",
            ),
            // Unescaped separators inside a password.
            (
                "postgres://ann:ca/na@ry?#@db/shop",
                "postgres://ann:***@db/shop",
            ),
            ("sqlite:data/shop.sqlite", "sqlite:data/shop.sqlite"),
            ("http://localhost:9000", "http://localhost:9000"),
            ("s3://key:canary@bucket/lake", "s3://key:***@bucket/lake"),
            ("host=db password=canary", "***"),
            ("AKIA123:canary", "***"),
            ("", ""),
        ] {
            let secret = Secret::new(text);
            assert_eq!(secret.to_string(), shown);
            assert_eq!(format!("{secret:?}"), format!("Secret({shown})"));
            assert_eq!(serde_json::to_value(&secret).unwrap(), shown);
        }
    }

    #[test]
    fn password_can_be_named_instead() {
        let url = Secret::new("postgres://ann:canary@db/shop");
        assert_eq!(
            url.with_password("${PGPASSWORD}"),
            "postgres://ann:${PGPASSWORD}@db/shop"
        );
        let none = Secret::new("postgres://ann@db/shop");
        assert_eq!(
            none.with_password("${PGPASSWORD}"),
            "postgres://ann@db/shop"
        );
    }

    #[test]
    fn scrubs_messages_of_others() {
        let url = Secret::new("postgres://ann:canary@db/shop");
        assert_eq!(
            url.scrub("cannot use postgres://ann:canary@db/shop: login canary refused"),
            "cannot use postgres://ann:***@db/shop: login *** refused"
        );
        assert_eq!(Secret::new("db").scrub("the db is down"), "the db is down");
        let query = Secret::new("postgres://db/shop?user=ann&password=canary");
        assert_eq!(query.scrub("ann, canary"), "ann, ***");
        let common = Secret::new("postgres://ann:postgres@db/shop");
        assert_eq!(
            common.scrub("postgres://ann:postgres@db/shop: no postgres there"),
            "postgres://ann:***@db/shop: no postgres there"
        );
    }

    #[test]
    fn schema_is_a_string() {
        let schema = schemars::schema_for!(Secret);
        assert_eq!(schema.get("type").and_then(|t| t.as_str()), Some("string"));
    }
}
