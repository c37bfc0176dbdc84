//! Vectors of one length, one after the other.

use crate::service::{HttpError, HttpErrorKind};

/// Rows of numbers, each of the same length, in one piece of memory.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Vectors {
    dimensions: usize,
    numbers: Vec<f32>,
    tokens: u64,
}

impl Vectors {
    /// The length of each vector; 0 where there is none.
    #[must_use]
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// The tokens that they took, as the service counted them.
    #[must_use]
    pub fn tokens(&self) -> u64 {
        self.tokens
    }

    /// All numbers, row by row.
    #[must_use]
    pub fn into_numbers(self) -> Vec<f32> {
        self.numbers
    }

    /// They took so many tokens.
    pub(super) fn took(&mut self, tokens: u64) {
        self.tokens = tokens;
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.numbers.len().checked_div(self.dimensions).unwrap_or(0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The vectors, in their order.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f32]> {
        self.numbers.chunks_exact(self.dimensions.max(1))
    }

    /// All numbers, row by row.
    #[must_use]
    pub fn numbers(&self) -> &[f32] {
        &self.numbers
    }

    /// Appends a vector; says what is wrong with one that does not belong here.
    pub(super) fn push(&mut self, row: &[f32]) -> Result<(), String> {
        if row.is_empty() {
            return Err("it is empty".to_owned());
        }
        if let Some(at) = row.iter().position(|number| !number.is_finite()) {
            return Err(format!("number {at} is {}", row[at]));
        }
        if !self.is_empty() && row.len() != self.dimensions {
            return Err(format!(
                "{} numbers, the one before has {}",
                row.len(),
                self.dimensions
            ));
        }
        self.dimensions = row.len();
        self.numbers.extend_from_slice(row);
        Ok(())
    }

    /// Appends vectors of the same length.
    pub(super) fn append(&mut self, other: &Self) {
        self.dimensions = other.dimensions;
        self.numbers.extend_from_slice(&other.numbers);
    }

    /// Brings each vector to length 1.
    pub(super) fn normalize(&mut self) -> Result<(), HttpError> {
        for row in self.numbers.chunks_exact_mut(self.dimensions.max(1)) {
            let squares: f64 = row.iter().map(|number| f64::from(*number).powi(2)).sum();
            if squares == 0.0 {
                let what = "a vector of zeros, which has no direction";
                return Err(HttpError::new(HttpErrorKind::Nonsense, what));
            }
            let length = squares.sqrt();
            for number in row {
                *number = (f64::from(*number) / length) as f32;
            }
        }
        Ok(())
    }
}
