//! The forward pass over sequences that lie one after another without padding:
//! linear layers see all tokens at once, attention each sequence by itself.

use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};

use super::attention::{Attention, Desk, QKV};
use super::linear::{Linear, ROWS, Then};
use super::simd::Aligned;
use super::weights::{Norm, Weights};
use super::{HIDDEN, INNER};

/// Tokens whose feed-forward network is worked out at once: its 1.5 MB of inner
/// activations are used again while they are in the second-level cache.
const INNER_TOKENS: usize = 256;

/// What a forward pass of up to `tokens` tokens is worked out in.
#[derive(Debug)]
pub(super) struct Scratch {
    hidden: Aligned,
    qkv: Aligned,
    context: Aligned,
    inner: Aligned,
    desk: Desk,
    sequences: Vec<Range<usize>>,
}

impl Scratch {
    pub(super) fn new(tokens: usize) -> Self {
        let rows = tokens.next_multiple_of(ROWS);
        Self {
            hidden: Aligned::zeros(rows * HIDDEN),
            qkv: Aligned::zeros((rows + ROWS) * QKV),
            context: Aligned::zeros(rows * HIDDEN),
            inner: Aligned::zeros(rows.min(INNER_TOKENS) * INNER),
            desk: Desk::new(),
            sequences: Vec::new(),
        }
    }

    /// Bytes that `new(tokens)` takes, and the sequences with it.
    pub(super) const fn bytes(tokens: usize) -> usize {
        let rows = tokens.next_multiple_of(ROWS);
        let inner = if rows < INNER_TOKENS {
            rows
        } else {
            INNER_TOKENS
        };
        2 * Aligned::bytes(rows * HIDDEN)
            + Aligned::bytes((rows + ROWS) * QKV)
            + Aligned::bytes(inner * INNER)
            + Desk::BYTES
            + tokens * size_of::<Range<usize>>()
    }
}

/// Appends the embedding of each of `texts` (token ids, none empty) to
/// `vectors`; returns the rows beside the tokens that were worked out.
pub(super) fn forward(
    arch: Arch,
    weights: &Weights,
    texts: &[Vec<u32>],
    scratch: &mut Scratch,
    vectors: &mut Vec<f32>,
) -> usize {
    scratch.sequences.clear();
    let mut tokens = 0;
    for ids in texts {
        scratch.sequences.push(tokens..tokens + ids.len());
        tokens += ids.len();
    }
    let rows = tokens.next_multiple_of(ROWS);
    let hidden = &mut scratch.hidden[..rows * HIDDEN];
    look_up(weights, texts, hidden.as_chunks_mut().0);
    normalise(arch, hidden, &weights.norm);
    for layer in &weights.layers {
        let qkv = &mut scratch.qkv[..rows * QKV];
        let then = Then::Store;
        arch.dispatch(Linear {
            rows: hidden.as_chunks().0,
            layer: &layer.qkv,
            out: qkv,
            then,
        });
        arch.dispatch(Attention {
            qkv: scratch.qkv.as_chunks().0,
            sequences: &scratch.sequences,
            out: scratch.context.as_chunks_mut().0,
            desk: &mut scratch.desk,
        });
        let rows = scratch.context[..rows * HIDDEN].as_chunks().0;
        arch.dispatch(Linear {
            rows,
            layer: &layer.output,
            out: hidden,
            then: Then::Add,
        });
        normalise(arch, hidden, &layer.attention_norm);
        for hidden in hidden.chunks_mut(INNER_TOKENS * HIDDEN) {
            let inner = &mut scratch.inner[..hidden.len() / HIDDEN * INNER];
            let rows = hidden.as_chunks().0;
            arch.dispatch(Linear {
                rows,
                layer: &layer.up,
                out: inner,
                then: Then::Gelu,
            });
            let rows = inner.as_chunks().0;
            arch.dispatch(Linear {
                rows,
                layer: &layer.down,
                out: hidden,
                then: Then::Add,
            });
        }
        normalise(arch, hidden, &layer.inner_norm);
    }
    let (hidden, _) = scratch.hidden.as_chunks();
    for sequence in &scratch.sequences {
        pool(&hidden[sequence.clone()], vectors);
    }
    rows - tokens
}

/// Word plus position; rows that fill up the last tile are zero.
fn look_up(weights: &Weights, texts: &[Vec<u32>], hidden: &mut [[f32; HIDDEN]]) {
    let (words, _) = weights.words.as_chunks::<HIDDEN>();
    let (positions, _) = weights.positions.as_chunks::<HIDDEN>();
    let mut rows = hidden.iter_mut();
    for ids in texts {
        for ((id, position), row) in ids.iter().zip(positions).zip(&mut rows) {
            let word = &words[*id as usize];
            for ((out, word), position) in row.iter_mut().zip(word).zip(position) {
                *out = word + position;
            }
        }
    }
    for row in rows {
        row.fill(0.0);
    }
}

/// Mean of the rows, divided by its length.
fn pool(rows: &[[f32; HIDDEN]], vectors: &mut Vec<f32>) {
    let mut sum = [0.0_f32; HIDDEN];
    for row in rows {
        for (sum, value) in sum.iter_mut().zip(row) {
            *sum += value;
        }
    }
    let count = rows.len() as f32;
    let square: f32 = sum.iter().map(|x| (x / count) * (x / count)).sum();
    let scale = 1.0 / (count * square.sqrt().max(1e-12));
    vectors.extend(sum.iter().map(|x| x * scale));
}

fn normalise(arch: Arch, rows: &mut [f32], norm: &Norm) {
    arch.dispatch(LayerNorm {
        rows: rows.as_chunks_mut().0,
        norm,
    });
}

/// Each row less its mean, over its standard deviation, scaled and shifted.
struct LayerNorm<'a> {
    rows: &'a mut [[f32; HIDDEN]],
    norm: &'a Norm,
}

impl WithSimd for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        const EPSILON: f32 = 1e-12;
        let (scale, _) = S::as_simd_f32s(&self.norm.scale);
        let (shift, _) = S::as_simd_f32s(&self.norm.shift);
        for row in self.rows {
            let (row, _) = S::as_mut_simd_f32s(row);
            let mut sum = simd.splat_f32s(0.0);
            for x in row.iter() {
                sum = simd.add_f32s(sum, *x);
            }
            let mean = simd.splat_f32s(simd.reduce_sum_f32s(sum) / HIDDEN as f32);
            let mut square = simd.splat_f32s(0.0);
            for x in row.iter_mut() {
                *x = simd.sub_f32s(*x, mean);
                square = simd.mul_add_e_f32s(*x, *x, square);
            }
            let variance = simd.reduce_sum_f32s(square) / HIDDEN as f32;
            let over = simd.splat_f32s(1.0 / (variance + EPSILON).sqrt());
            for ((x, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
                *x = simd.mul_add_e_f32s(simd.mul_f32s(*x, over), *scale, *shift);
            }
        }
    }
}
