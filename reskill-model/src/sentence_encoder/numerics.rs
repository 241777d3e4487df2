//! What an encoder needs beyond products: layer normalisation, GELU, softmax, one row at a time.

/// `x[i] = (x[i] - mean) / sqrt(var + eps) * weight[i] + bias[i]`, `var` dividing by n. Statistics are f64.
///
/// - `x`, `weight`, `bias`: (C) f32
///
/// Source: Ba et al. 2016, arXiv:1607.06450.
pub(super) fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
    let n = x.len() as f64;
    let mean = x.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let var = x.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let (mean, rstd) = (mean as f32, (1.0 / (var + f64::from(eps)).sqrt()) as f32);
    for ((x, weight), bias) in x.iter_mut().zip(weight).zip(bias) {
        *x = (*x - mean) * rstd * weight + bias;
    }
}

/// `x[i] = x[i] / 2 * (1 + erf(x[i] / sqrt(2)))`.
///
/// Source: Hendrycks & Gimpel 2016, arXiv:1606.08415 (the exact form).
pub(super) fn gelu(x: &mut [f32]) {
    for x in x {
        *x = 0.5 * *x * (1.0 + erf(*x * std::f32::consts::FRAC_1_SQRT_2));
    }
}

/// The error function as a quotient of polynomials in x^2, without branches, so that loops over it vectorise. Absolute error
/// below 5e-7.
///
/// Source of the coefficients: Eigen's `generic_fast_erf_float`.
fn erf(x: f32) -> f32 {
    const ODD: [f32; 7] = [
        -2.726_142_3e-10,
        2.770_681_4e-8,
        -2.101_024e-6,
        -5.692_506_4e-5,
        -7.349_906e-4,
        -2.954_6e-3,
        -1.609_603_3e-2,
    ];
    const EVEN: [f32; 5] = [-1.456_607_2e-5, -2.133_740_6e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2];
    let x = x.clamp(-4.0, 4.0);
    let square = x * x;
    let horner = |sum: f32, &coefficient: &f32| sum * square + coefficient;
    x * ODD.iter().fold(0.0, horner) / EVEN.iter().fold(0.0, horner)
}

/// `x[i] = exp(x[i] * scale - m) / sum_j exp(x[j] * scale - m)`, m being the largest.
pub(super) fn softmax(x: &mut [f32], scale: f32) {
    let largest = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let mut sum = 0.0_f32;
    for x in x.iter_mut() {
        *x = ((*x - largest) * scale).exp();
        sum += *x;
    }
    let inverse = 1.0 / sum;
    x.iter_mut().for_each(|x| *x *= inverse);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_matches_tabulated_values() {
        // Abramowitz & Stegun, table 7.1; the bound is that of the doc comment.
        let table = [
            (0.0, 0.0),
            (0.1, 0.112_462_916),
            (0.5, 0.520_499_9),
            (1.0, 0.842_700_8),
            (1.5, 0.966_105_16),
            (2.0, 0.995_322_3),
            (3.0, 0.999_977_9),
            (5.0, 1.0),
        ];
        for (x, expected) in table {
            for sign in [-1.0, 1.0_f32] {
                let found = erf(sign * x);
                assert!((found - sign * expected).abs() < 5e-7, "erf({x}) = {found}, expected {expected}");
            }
        }
    }

    #[test]
    fn layer_norm_of_two_numbers_is_minus_one_and_one() {
        let mut x = [1.0, 3.0];
        layer_norm(&mut x, &[1.0, 2.0], &[0.0, 0.5], 0.0);
        assert_eq!(x, [-1.0, 2.5]);
    }

    #[test]
    fn softmax_survives_large_scores_and_sums_to_one() {
        let mut x = [1000.0, 1000.0, -1000.0];
        softmax(&mut x, 1.0);
        assert_eq!(x, [0.5, 0.5, 0.0]);
    }

    #[test]
    fn gelu_keeps_large_numbers_and_drops_their_negatives() {
        let mut x = [10.0, -10.0, 0.0];
        gelu(&mut x);
        assert!((x[0] - 10.0).abs() < 1e-5 && x[1].abs() < 1e-5 && x[2] == 0.0, "{x:?}");
    }
}
