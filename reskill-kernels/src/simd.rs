//! Scalar building blocks that the compiler turns into vector code inside the `multiversion` functions that use them.

/// Lanes of partial sums in [`dot`]. Part of the numerical definition: changing it changes the last bits.
const LANES: usize = 16;

/// Dot product with 16 partial sums, always added in the same order.
#[inline(always)]
pub(crate) fn dot(a: &[f32], b: &[f32]) -> f32 {
    let n = a.len().min(b.len());
    let (a, b) = (&a[..n], &b[..n]);
    let mut lanes = [0.0_f32; LANES];
    let mut chunks_a = a.chunks_exact(LANES);
    let mut chunks_b = b.chunks_exact(LANES);
    for (ca, cb) in chunks_a.by_ref().zip(chunks_b.by_ref()) {
        for lane in 0..LANES {
            lanes[lane] += ca[lane] * cb[lane];
        }
    }
    for (lane, (x, y)) in lanes.iter_mut().zip(chunks_a.remainder().iter().zip(chunks_b.remainder())) {
        *lane += x * y;
    }
    sum_lanes(&lanes)
}

/// Adds the lanes pairwise.
#[inline(always)]
fn sum_lanes(lanes: &[f32; LANES]) -> f32 {
    let mut halves = *lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            halves[lane] += halves[lane + width];
        }
        width /= 2;
    }
    halves[0]
}

/// Sum of all elements, in the order of [`dot`].
#[inline(always)]
pub(crate) fn sum(a: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; LANES];
    let mut chunks = a.chunks_exact(LANES);
    for chunk in chunks.by_ref() {
        for lane in 0..LANES {
            lanes[lane] += chunk[lane];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(chunks.remainder()) {
        *lane += x;
    }
    sum_lanes(&lanes)
}

/// Largest element; minus infinity if there is none.
#[inline(always)]
pub(crate) fn max(a: &[f32]) -> f32 {
    let larger = |x: f32, y: f32| if y > x { y } else { x };
    if a.len() < LANES {
        return a.iter().copied().fold(f32::NEG_INFINITY, larger);
    }
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let mut chunks = a.chunks_exact(LANES);
    for chunk in chunks.by_ref() {
        for lane in 0..LANES {
            lanes[lane] = larger(lanes[lane], chunk[lane]);
        }
    }
    chunks.remainder().iter().chain(&lanes).copied().fold(f32::NEG_INFINITY, larger)
}

/// `y += alpha * x`.
#[inline(always)]
pub(crate) fn axpy(y: &mut [f32], alpha: f32, x: &[f32]) {
    for (y, x) in y.iter_mut().zip(x) {
        *y += alpha * x;
    }
}

/// `e^x` without branches, so that loops over it vectorise. Relative error below 2e-7 for -87 <= x <= 88; below that
/// range the result is that at -87 (1.6e-38), above it that at 88.
///
/// Method: x = n ln 2 + r with |r| <= ln 2 / 2, a degree-6 Taylor polynomial of e^r, then 2^n by the exponent bits.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // ln 2 in two parts, the first of few bits (355/512), so that n * LN_2_HIGH is exact.
    const LN_2_HIGH: f32 = 355.0 / 512.0;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    // Adding and subtracting 1.5 * 2^23 rounds to the nearest integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    let p = 1.0
        + r * (1.0
            + r * (0.5
                + r * (1.0 / 6.0 + r * (1.0 / 24.0 + r * (1.0 / 120.0 + r * (1.0 / 720.0 + r / 5040.0))))));
    let bits = ((n as i32 + 127) << 23).cast_unsigned();
    p * f32::from_bits(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_2e_7_of_the_library() {
        for i in -8700..=8800 {
            let x = i as f32 / 100.0;
            let exact = f64::from(x).exp();
            let relative = (f64::from(exp(x)) - exact).abs() / exact;
            assert!(relative < 2e-7, "exp({x}) is off by {relative:e}");
        }
    }

    #[test]
    fn dot_equals_hand_computed_sum_with_a_remainder() {
        let a: Vec<f32> = (1..=19).map(|i| i as f32).collect();
        assert_eq!(dot(&a, &a), 19.0 * 20.0 * 39.0 / 6.0);
        assert_eq!(sum(&a), 190.0);
        assert_eq!(max(&a), 19.0);
        assert_eq!(max(&a[..16]), 16.0);
        assert_eq!(max(&[]), f32::NEG_INFINITY);
    }
}
