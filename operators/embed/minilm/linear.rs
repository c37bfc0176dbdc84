//! The linear layers: nearly all of the arithmetic.
//!
//! A tile of `ROWS x 3` vectors of the product stays in registers while a
//! block of the weights, packed at load time into the order in which it is read,
//! stays in the first-level cache and passes every row. Rows of activations are
//! read where they are: their lengths are constants, so no bounds are checked
//! inside of the loop and no row is copied.

use pulp::{Arch, Simd, WithSimd};

use super::simd::{Aligned, gelu};

/// Rows come in multiples of it: the height of the tallest tile.
pub(super) const ROWS: usize = 8;
/// Vectors in a row of a tile.
pub(super) const VECTORS: usize = 3;
/// Inputs of a block of weights: 192 x 48 of them take 36 KiB.
const DEPTH: usize = 192;

/// The weights of a linear layer of `K` inputs.
#[derive(Debug)]
pub(super) struct Packed<const K: usize> {
    /// By panel of `VECTORS` vectors of outputs, block of `DEPTH` inputs, input,
    /// output: all blocks of a panel meet the same sums while these are near.
    weights: Aligned,
    bias: Aligned,
}

impl<const K: usize> Packed<K> {
    /// Packs `weights[output][input]` and `bias[output]` for the processor.
    pub(super) fn new(arch: Arch, weights: &[[f32; K]], bias: &[f32]) -> Self {
        let outputs = weights.len();
        let width = VECTORS * lanes(arch);
        debug_assert!(outputs.is_multiple_of(width) && K.is_multiple_of(DEPTH));
        let mut packed = Aligned::zeros(outputs * K);
        for (at, value) in packed.iter_mut().enumerate() {
            let (row, column) = (at / width, at % width);
            let (panel, input) = (row / DEPTH, row % DEPTH);
            let (panel, block) = (panel / (K / DEPTH), panel % (K / DEPTH));
            *value = weights[panel * width + column][block * DEPTH + input];
        }
        let mut aligned = Aligned::zeros(outputs);
        aligned.copy_from_slice(bias);
        Self {
            weights: packed,
            bias: aligned,
        }
    }
}

/// What becomes of a row of the product plus the bias.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Then {
    /// It is the output.
    Store,
    /// It is added to what is there.
    Add,
    /// Its GELU is the output.
    Gelu,
}

/// `out = then(rows x weights + bias)`; a multiple of [`ROWS`] rows.
pub(super) struct Linear<'a, const K: usize> {
    pub(super) rows: &'a [[f32; K]],
    pub(super) layer: &'a Packed<K>,
    pub(super) out: &'a mut [f32],
    pub(super) then: Then,
}

impl<const K: usize> WithSimd for Linear<'_, K> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        // Sixteen registers hold 4 x 3 sums; thirty-two hold 8 x 3.
        if S::F32_LANES == 8 {
            self.run::<S, 4>(simd)
        } else {
            self.run::<S, ROWS>(simd)
        }
    }
}

impl<const K: usize> Linear<'_, K> {
    #[inline(always)]
    fn run<S: Simd, const R: usize>(self, simd: S) {
        let outputs = self.layer.bias.len();
        let (bias, _) = S::as_simd_f32s(&self.layer.bias);
        let (weights, _) = S::as_simd_f32s(&self.layer.weights);
        let (out, _) = S::as_mut_simd_f32s(self.out);
        let bias = bias.as_chunks::<VECTORS>().0;
        let stride = outputs / S::F32_LANES;
        let blocks = K / DEPTH;
        for (at, panel) in weights.chunks_exact(DEPTH * VECTORS).enumerate() {
            let (column, block) = (at / blocks, at % blocks);
            let panel = panel.as_chunks::<VECTORS>().0;
            let bias = bias[column];
            for (rows, out) in self
                .rows
                .as_chunks::<R>()
                .0
                .iter()
                .zip(out.chunks_exact_mut(R * stride))
            {
                let mut sums = [bias; R];
                if block > 0 || self.then == Then::Add {
                    for (r, sums) in sums.iter_mut().enumerate() {
                        let before = &out[r * stride + column * VECTORS..][..VECTORS];
                        for (sum, before) in sums.iter_mut().zip(before) {
                            *sum = if block > 0 {
                                *before
                            } else {
                                simd.add_f32s(*sum, *before)
                            };
                        }
                    }
                }
                tile::<S, R, VECTORS, K, DEPTH>(simd, rows, block, panel, &mut sums);
                let last = block + 1 == blocks && self.then == Then::Gelu;
                for (r, sums) in sums.into_iter().enumerate() {
                    let after = &mut out[r * stride + column * VECTORS..][..VECTORS];
                    for (after, sum) in after.iter_mut().zip(sums) {
                        *after = if last { gelu(simd, sum) } else { sum };
                    }
                }
            }
        }
    }
}

/// Adds `rows[..][block * D..][..D] x panel` to `sums`, all in registers.
#[inline(always)]
pub(super) fn tile<S: Simd, const R: usize, const V: usize, const K: usize, const D: usize>(
    simd: S,
    rows: &[[f32; K]; R],
    block: usize,
    panel: &[[S::f32s; V]],
    sums: &mut [[S::f32s; V]; R],
) {
    let rows: [&[f32; D]; R] = std::array::from_fn(|r| &rows[r].as_chunks::<D>().0[block]);
    let panel = &panel[..D];
    for k in 0..D {
        for r in 0..R {
            let x = simd.splat_f32s(rows[r][k]);
            for v in 0..V {
                sums[r][v] = simd.mul_add_e_f32s(x, panel[k][v], sums[r][v]);
            }
        }
    }
}

/// `f32`s in a vector of the processor.
pub(super) fn lanes(arch: Arch) -> usize {
    struct Lanes;
    impl WithSimd for Lanes {
        type Output = usize;
        fn with_simd<S: Simd>(self, _: S) -> usize {
            S::F32_LANES
        }
    }
    arch.dispatch(Lanes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(len: usize, rng: &mut fastrand::Rng) -> Vec<f32> {
        (0..len).map(|_| rng.f32() - 0.5).collect()
    }

    fn close_to_the_plain_sum<const K: usize>(outputs: usize, then: Then) {
        let mut rng = fastrand::Rng::with_seed(7);
        let count = 2 * ROWS;
        let rows = random(count * K, &mut rng);
        let weights = random(outputs * K, &mut rng);
        let bias = random(outputs, &mut rng);
        let before = random(count * outputs, &mut rng);
        let (rows, weights) = (rows.as_chunks::<K>().0, weights.as_chunks::<K>().0);
        let arch = Arch::new();
        let layer = Packed::new(arch, weights, &bias);
        let mut out = before.clone();
        arch.dispatch(Linear {
            rows,
            layer: &layer,
            out: &mut out,
            then,
        });
        for (at, found) in out.iter().enumerate() {
            let (row, output) = (&rows[at / outputs], at % outputs);
            let sum: f64 = row
                .iter()
                .zip(&weights[output])
                .map(|(x, w)| f64::from(x * w))
                .sum::<f64>()
                + f64::from(bias[output]);
            let expected = match then {
                Then::Store => sum,
                Then::Add => sum + f64::from(before[at]),
                Then::Gelu => {
                    0.5 * sum * (1.0 + (sum * 0.797_884_56 * (1.0 + 0.044_715 * sum * sum)).tanh())
                }
            };
            // The textbook's tanh form of GELU is itself off by up to 5e-4.
            let tolerance = if then == Then::Gelu { 1e-3 } else { 1e-4 };
            assert!(
                (expected - f64::from(*found)).abs() < tolerance,
                "{at}: {expected} {found}"
            );
        }
    }

    #[test]
    fn every_shape_of_the_model() {
        close_to_the_plain_sum::<384>(1152, Then::Store);
        close_to_the_plain_sum::<384>(384, Then::Add);
        close_to_the_plain_sum::<384>(1536, Then::Gelu);
        close_to_the_plain_sum::<1536>(384, Then::Add);
    }
}
