//! Vectors of `f32` of whatever width the processor has, and the two functions
//! of the model that are not sums and products.

use std::ops::{Deref, DerefMut};

use pulp::Simd;

/// Bytes of a line of the processor's cache, and of its widest vector.
const LINE_BYTES: usize = 64;
const LINE: usize = LINE_BYTES / size_of::<f32>();

/// Zeroed `f32`s that begin at a cache line: a vector that straddles two lines
/// takes two loads.
#[derive(Debug)]
pub(super) struct Aligned {
    buffer: Vec<f32>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zeros.
    pub(super) fn zeros(len: usize) -> Self {
        let buffer = vec![0.0; len + LINE - 1];
        // An address that cannot be aligned is slower, not wrong.
        let start = buffer.as_ptr().align_offset(LINE_BYTES).min(LINE - 1);
        Self { buffer, start, len }
    }

    /// Bytes that `zeros(len)` takes.
    pub(super) const fn bytes(len: usize) -> usize {
        (len + LINE - 1) * size_of::<f32>()
    }
}

impl Deref for Aligned {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.buffer[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.buffer[self.start..self.start + self.len]
    }
}

/// e^x to a relative 2e-7 for x in [-87, 0]; what is below counts as -87.
///
/// `x = n ln 2 + r`: a polynomial for e^r (Chebyshev interpolation of degree 5
/// on |r| <= ln 2 / 2), and n added to the exponent bits.
#[inline(always)]
pub(super) fn exp<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const POLYNOMIAL: [f32; 6] = [
        1.0,
        1.000_000_0,
        4.999_887e-1,
        1.666_650_5e-1,
        4.191_750_7e-2,
        8.369_148e-3,
    ];
    // Adding it leaves the nearest integer in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    // ln 2 in two parts, of which the first has few bits.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;

    let x = simd.max_f32s(x, simd.splat_f32s(-87.0));
    let shifted = simd.mul_add_e_f32s(
        x,
        simd.splat_f32s(std::f32::consts::LOG2_E),
        simd.splat_f32s(ROUND),
    );
    let n = simd.sub_f32s(shifted, simd.splat_f32s(ROUND));
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_HIGH), x);
    let r = simd.mul_add_e_f32s(n, simd.splat_f32s(-LN2_LOW), r);
    let power = polynomial(simd, &POLYNOMIAL, r);
    let exponent =
        simd.wrapping_dyn_shl_u32s(simd.transmute_u32s_f32s(shifted), simd.splat_u32s(23));
    simd.transmute_f32s_u32s(simd.add_u32s(simd.transmute_u32s_f32s(power), exponent))
}

/// The exact ("erf") GELU, `x / 2 (1 + erf(x / sqrt 2))`, to an absolute 2e-6
/// for |x| up to 9 and a relative 3e-7 above.
///
/// erf is odd: `x p(x^2)`, with p by Chebyshev interpolation of degree 12 on
/// |x| <= sqrt 24.5, where erf is 1 to half a millionth.
#[inline(always)]
pub(super) fn gelu<S: Simd>(simd: S, x: S::f32s) -> S::f32s {
    const END: f32 = 4.949_747_5;
    const HALF_END_SQUARE: f32 = 12.25;
    const POLYNOMIAL: [f32; 13] = [
        1.427_906_8e-1,
        -7.095_824e-2,
        5.188_267e-2,
        -4.052_859e-2,
        3.127_427e-2,
        -2.285_559_3e-2,
        1.581_723_4e-2,
        -1.073_244_6e-2,
        6.247_045_5e-3,
        -2.427_450_6e-3,
        1.360_561_7e-3,
        -1.461_162_8e-3,
        6.062_445e-4,
    ];

    let inside = simd.min_f32s(
        simd.max_f32s(x, simd.splat_f32s(-END)),
        simd.splat_f32s(END),
    );
    let t = simd.mul_add_e_f32s(
        simd.mul_f32s(inside, inside),
        simd.splat_f32s(1.0 / HALF_END_SQUARE),
        simd.splat_f32s(-1.0),
    );
    let share = simd.mul_add_e_f32s(
        inside,
        polynomial(simd, &POLYNOMIAL, t),
        simd.splat_f32s(0.5),
    );
    simd.mul_f32s(x, share)
}

/// Horner's rule; the constant term comes first.
#[inline(always)]
fn polynomial<S: Simd, const N: usize>(simd: S, terms: &[f32; N], x: S::f32s) -> S::f32s {
    let mut sum = simd.splat_f32s(terms[N - 1]);
    for term in terms.iter().rev().skip(1) {
        sum = simd.mul_add_e_f32s(sum, x, simd.splat_f32s(*term));
    }
    sum
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use pulp::{Arch, WithSimd};

    use super::*;

    struct Each<'a>(&'a mut [f32], bool);

    impl WithSimd for Each<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            let (vectors, rest) = S::as_mut_simd_f32s(self.0);
            assert!(rest.is_empty());
            for x in vectors {
                *x = if self.1 {
                    exp(simd, *x)
                } else {
                    gelu(simd, *x)
                };
            }
        }
    }

    /// erf by its Taylor series in f64: exact to 1e-11 for |x| <= 4, 1 above.
    fn erf(x: f64) -> f64 {
        if x.abs() > 4.0 {
            return x.signum();
        }
        let (mut term, mut sum, mut n) = (x, x, 0.0);
        while term.abs() > 1e-18 {
            n += 1.0;
            term *= -x * x / n;
            sum += term / (2.0 * n + 1.0);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn gelu_is_as_near_as_promised() {
        let inputs: Vec<f32> = (-9_216..9_216).map(|i| i as f32 / 1024.0).collect();
        let mut outputs = inputs.clone();
        Arch::new().dispatch(Each(&mut outputs, false));
        for (x, y) in inputs.iter().zip(outputs) {
            let x = f64::from(*x);
            let exact = x / 2.0 * (1.0 + erf(x / std::f64::consts::SQRT_2));
            assert!(
                (f64::from(y) - exact).abs() < 2.5e-6,
                "gelu({x}) is {exact}, not {y}"
            );
        }
    }

    #[test]
    fn exp_is_as_near_as_promised() {
        let inputs: Vec<f32> = (0..16 * 4096).map(|i| -(i as f32) / 800.0).collect();
        let mut outputs = inputs.clone();
        Arch::new().dispatch(Each(&mut outputs, true));
        for (x, y) in inputs.iter().zip(outputs) {
            let exact = f64::from(*x).exp();
            assert!(
                (f64::from(y) / exact - 1.0).abs() < 4e-7,
                "exp({x}) is {exact}, not {y}"
            );
        }
    }

    #[test]
    fn exp_of_less_than_the_least_is_nearly_nothing() {
        let mut values = [f32::NEG_INFINITY; 16];
        Arch::new().dispatch(Each(&mut values, true));
        assert!(values.iter().all(|y| *y < 1e-37));
    }

    #[test]
    fn aligned_begins_at_a_line() {
        for len in [1, 15, 16, 1000] {
            let zeros = Aligned::zeros(len);
            assert_eq!(zeros.len(), len);
            assert_eq!(zeros.as_ptr() as usize % LINE_BYTES, 0);
        }
    }
}
