//! What an endpoint answers, taken only when it is whole.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::vectors::Vectors;
use crate::service::{HttpError, HttpErrorKind};

/// How an endpoint is asked to send numbers. Whichever it sends is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Encoding {
    /// 32-bit numbers in little-endian order, in Base64: a third of the bytes.
    #[default]
    Base64,
    /// A list of numbers.
    Float,
}

impl Encoding {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Base64 => "base64",
            Self::Float => "float",
        }
    }
}

/// An answer as it came. Whatever else is wrong with it, what it took can be read.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    #[serde(default, rename = "data")]
    embeddings: Vec<Embedding>,
    #[serde(default)]
    usage: Option<Tokens>,
}

#[derive(Debug, Deserialize)]
struct Embedding {
    #[serde(default)]
    index: Option<usize>,
    #[serde(default)]
    embedding: Option<Numbers>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Numbers {
    Base64(String),
    List(Vec<f32>),
    Other(IgnoredAny),
}

#[derive(Debug, Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: Option<u64>,
    #[serde(default)]
    total_tokens: Option<u64>,
}

fn nonsense(what: impl Into<String>) -> HttpError {
    HttpError::new(HttpErrorKind::Nonsense, what)
}

impl Answer {
    /// The tokens that were counted.
    pub(super) fn tokens(&self) -> Option<u64> {
        let usage = self.usage.as_ref()?;
        usage.total_tokens.or(usage.prompt_tokens)
    }

    /// The vectors of `texts` texts in the order of their indexes.
    pub(super) fn into_vectors(self, texts: usize) -> Result<Vectors, HttpError> {
        let found = self.embeddings.len();
        if found != texts {
            return Err(nonsense(format!("{found} vectors for {texts} texts")));
        }
        let mut rows: Vec<Option<Vec<f32>>> = vec![None; texts];
        for Embedding { index, embedding } in self.embeddings {
            let (Some(index), Some(embedding)) = (index, embedding) else {
                return Err(nonsense("a vector without numbers, or of no text"));
            };
            let row = rows.get_mut(index).filter(|row| row.is_none());
            let row = row.ok_or_else(|| nonsense(format!("a second vector {index} of {texts}")))?;
            *row = Some(embedding.numbers(index)?);
        }
        let mut vectors = Vectors::default();
        for (index, row) in rows.into_iter().flatten().enumerate() {
            vectors
                .push(&row)
                .map_err(|why| nonsense(format!("vector {index}: {why}")))?;
        }
        Ok(vectors)
    }
}

impl Numbers {
    fn numbers(self, index: usize) -> Result<Vec<f32>, HttpError> {
        let text = match self {
            Self::List(numbers) => return Ok(numbers),
            Self::Base64(text) => text,
            Self::Other(IgnoredAny) => {
                return Err(nonsense(format!("vector {index} is no list of numbers")));
            }
        };
        let bytes = STANDARD.decode(text);
        let bytes = bytes.map_err(|error| nonsense(format!("vector {index}: {error}")))?;
        let (numbers, rest) = bytes.as_chunks::<4>();
        match rest.is_empty() {
            true => Ok(numbers
                .iter()
                .map(|bytes| f32::from_le_bytes(*bytes))
                .collect()),
            false => Err(nonsense(format!("vector {index} ends within a number"))),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn read(answer: &str, texts: usize) -> Result<Vec<Vec<f32>>, String> {
        let answer: Answer = serde_json::from_str(answer).map_err(|error| error.to_string())?;
        let vectors = answer.into_vectors(texts).map_err(|error| error.message)?;
        Ok(vectors.rows().map(<[f32]>::to_vec).collect())
    }

    #[test]
    fn vectors_are_in_the_order_of_their_indexes() {
        let answer =
            r#"{"data":[{"index":1,"embedding":[3,4]},{"index":0,"embedding":"AACAPwAAAL8="}]}"#;
        assert_eq!(read(answer, 2).unwrap(), [[1.0, -0.5], [3.0, 4.0]]);
    }

    #[test]
    fn what_is_not_whole_is_not_taken() {
        for (answer, texts) in [
            (r#"{"data":[{"index":0,"embedding":[1]}]}"#, 2),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":0,"embedding":[1]}]}"#,
                2,
            ),
            (r#"{"data":[{"index":1,"embedding":[1]}]}"#, 1),
            (r#"{"data":[{"index":0,"embedding":[]}]}"#, 1),
            (
                r#"{"data":[{"index":0,"embedding":[1]},{"index":1,"embedding":[1,2]}]}"#,
                2,
            ),
            (r#"{"data":[{"index":0,"embedding":"AADAfw=="}]}"#, 1), // NaN
            (r#"{"data":[{"index":0,"embedding":[1e39]}]}"#, 1),
            (r#"{"data":[{"index":0,"embedding":"AAA="}]}"#, 1),
            (r#"{"data":[{"index":0,"embedding":"?"}]}"#, 1),
            (r#"{"data":[{"index":0,"embedding":null}]}"#, 1),
            (r#"{"data":[{"index":0,"embedding":{"a":1}}]}"#, 1),
            (r#"{"data":[{"index":0,"embedding":[1,null]}]}"#, 1),
            (r#"{"data":[{"embedding":[1]}]}"#, 1),
            (r#"{"error":"no"}"#, 1),
        ] {
            assert!(read(answer, texts).is_err(), "{answer}");
        }
    }

    #[test]
    fn what_an_answer_took_is_read_even_if_it_is_of_no_use() {
        for answer in [
            r#"{"usage":{"total_tokens":7}}"#,
            r#"{"data":[{"index":0,"embedding":{}}],"usage":{"prompt_tokens":7}}"#,
            r#"{"data":[{}],"usage":{"total_tokens":7}}"#,
        ] {
            let read: Answer = serde_json::from_str(answer).unwrap();
            assert_eq!(read.tokens(), Some(7), "{answer}");
            assert!(read.into_vectors(1).is_err(), "{answer}");
        }
    }
}
