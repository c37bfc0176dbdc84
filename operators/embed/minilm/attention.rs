//! Self-attention, one sequence and head at a time: sequences of any lengths lie
//! one after another, and none sees another's tokens or any padding.

use std::ops::Range;

use pulp::{Simd, WithSimd};

use super::linear::{ROWS, VECTORS, tile};
use super::simd::{Aligned, exp};
use super::{HEADS, HIDDEN, MAX_TOKENS};

/// Numbers that a head has per token.
const HEAD: usize = HIDDEN / HEADS;
/// A row of queries, keys and values.
pub(super) const QKV: usize = 3 * HIDDEN;
/// Longest row of scores: whole panels for every width of vector.
const SCORES: usize = MAX_TOKENS.next_multiple_of(VECTORS * 16);
/// Vectors of values in registers at once.
const PAIR: usize = 2;

/// What one head's attention is worked out in.
#[derive(Debug)]
pub(super) struct Desk {
    keys: Aligned,
    values: Aligned,
    scores: Aligned,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            keys: Aligned::zeros(HEAD * SCORES),
            values: Aligned::zeros(HEAD * SCORES),
            scores: Aligned::zeros(ROWS * SCORES),
        }
    }

    pub(super) const BYTES: usize =
        2 * Aligned::bytes(HEAD * SCORES) + Aligned::bytes(ROWS * SCORES);
}

/// `out = softmax(queries x keys) x values` for each sequence and head; queries
/// are already divided by the square root of their length. `qkv` has [`ROWS`]
/// rows more than the sequences.
pub(super) struct Attention<'a> {
    pub(super) qkv: &'a [[f32; QKV]],
    pub(super) sequences: &'a [Range<usize>],
    pub(super) out: &'a mut [[f32; HIDDEN]],
    pub(super) desk: &'a mut Desk,
}

impl WithSimd for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::F32_LANES == 8 {
            self.run::<S, 4>(simd)
        } else {
            self.run::<S, ROWS>(simd)
        }
    }
}

impl Attention<'_> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        for sequence in self.sequences {
            let rows = &self.qkv[sequence.clone()];
            for head in 0..HEADS {
                pack_keys(rows, head, VECTORS * S::F32_LANES, &mut self.desk.keys);
                pack_values(rows, head, PAIR * S::F32_LANES, &mut self.desk.values);
                for first in (0..rows.len()).step_by(R) {
                    let tokens = R.min(rows.len() - first);
                    let first = sequence.start + first;
                    let (queries, _) = self.qkv[first..].as_chunks::<R>();
                    let out = &mut self.out[first..first + tokens];
                    head_of_rows::<S, R>(simd, &queries[0], head, rows.len(), self.desk, out);
                }
            }
        }
    }
}

/// Keys as panels of `width` tokens: `[panel][number][token]`; what is beyond
/// the last token is whatever it was.
#[inline(always)]
fn pack_keys(rows: &[[f32; QKV]], head: usize, width: usize, keys: &mut [f32]) {
    let panels = keys.chunks_exact_mut(HEAD * width);
    for (rows, panel) in rows.chunks(width).zip(panels) {
        for (token, row) in rows.iter().enumerate() {
            let key = &row.as_chunks::<HEAD>().0[HEADS + head];
            for (number, value) in key.iter().enumerate() {
                panel[number * width + token] = *value;
            }
        }
    }
}

/// Values as panels of `width` numbers: `[panel][token][number]`.
#[inline(always)]
fn pack_values(rows: &[[f32; QKV]], head: usize, width: usize, values: &mut [f32]) {
    for (panel, values) in values
        .chunks_exact_mut(rows.len() * width)
        .take(HEAD / width)
        .enumerate()
    {
        for (row, values) in rows.iter().zip(values.chunks_exact_mut(width)) {
            let value = &row.as_chunks::<HEAD>().0[2 * HEADS + head];
            values.copy_from_slice(&value[panel * width..][..width]);
        }
    }
}

/// One head's output for up to `R` tokens of a sequence of `len`.
#[inline(always)]
fn head_of_rows<S: Simd, const R: usize>(
    simd: S,
    queries: &[[f32; QKV]; R],
    head: usize,
    len: usize,
    desk: &mut Desk,
    out: &mut [[f32; HIDDEN]],
) {
    let (keys, _) = S::as_simd_f32s(&desk.keys);
    let stride = SCORES / S::F32_LANES;
    {
        let (scores, _) = S::as_mut_simd_f32s(&mut desk.scores);
        let panels = len.div_ceil(VECTORS * S::F32_LANES);
        let keys = keys
            .as_chunks::<VECTORS>()
            .0
            .chunks_exact(HEAD)
            .take(panels);
        for (panel, keys) in keys.enumerate() {
            let mut sums = [[simd.splat_f32s(0.0); VECTORS]; R];
            tile::<S, R, VECTORS, QKV, HEAD>(simd, queries, head, keys, &mut sums);
            for (r, sums) in sums.iter().enumerate() {
                scores[r * stride + panel * VECTORS..][..VECTORS].copy_from_slice(sums);
            }
        }
    }
    let (scores, _) = desk.scores.as_chunks_mut::<SCORES>();
    let mut weights = [0.0; R];
    for (scores, weight) in scores.iter_mut().zip(&mut weights) {
        *weight = 1.0 / exp_of_row(simd, scores, len);
    }
    let (values, _) = S::as_simd_f32s(&desk.values);
    let (values, _) = values.as_chunks::<PAIR>();
    let scores: [&[f32]; R] = std::array::from_fn(|r| &scores[r][..len]);
    for (panel, values) in values
        .chunks_exact(len)
        .take(HEAD / PAIR / S::F32_LANES)
        .enumerate()
    {
        let mut sums = [[simd.splat_f32s(0.0); PAIR]; R];
        for (token, values) in values.iter().enumerate() {
            for r in 0..R {
                let score = simd.splat_f32s(scores[r][token]);
                for v in 0..PAIR {
                    sums[r][v] = simd.mul_add_e_f32s(score, values[v], sums[r][v]);
                }
            }
        }
        for ((out, sums), weight) in out.iter_mut().zip(sums).zip(weights) {
            let (out, _) = S::as_mut_simd_f32s(&mut out.as_chunks_mut::<HEAD>().0[head]);
            for (out, sum) in out[panel * PAIR..][..PAIR].iter_mut().zip(sums) {
                *out = simd.mul_f32s(sum, simd.splat_f32s(weight));
            }
        }
    }
}

/// Replaces scores by e^(score - greatest) and returns their sum.
#[inline(always)]
fn exp_of_row<S: Simd>(simd: S, scores: &mut [f32; SCORES], len: usize) -> f32 {
    let vectors = len.div_ceil(S::F32_LANES);
    scores[len..vectors * S::F32_LANES].fill(f32::NEG_INFINITY);
    let (scores, _) = S::as_mut_simd_f32s(scores);
    let scores = &mut scores[..vectors];
    let mut greatest = simd.splat_f32s(f32::NEG_INFINITY);
    for score in scores.iter() {
        greatest = simd.max_f32s(greatest, *score);
    }
    let greatest = simd.splat_f32s(simd.reduce_max_f32s(greatest));
    let mut sum = simd.splat_f32s(0.0);
    for score in scores {
        *score = exp(simd, simd.sub_f32s(*score, greatest));
        sum = simd.add_f32s(sum, *score);
    }
    simd.reduce_sum_f32s(sum)
}
