//! Beta posteriors and the exact probability that one beats the others.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

/// A Beta distribution over a success rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Beta {
    /// Successes, plus the prior's.
    pub alpha: f64,
    /// Failures, plus the prior's.
    pub beta: f64,
}

impl Beta {
    /// Beta(1, 1).
    pub const UNIFORM: Beta = Beta { alpha: 1.0, beta: 1.0 };

    /// alpha / (alpha + beta).
    #[must_use]
    pub fn mean(self) -> f64 {
        self.alpha / (self.alpha + self.beta)
    }

    /// P(theta <= x) at logit(x) = `t`: the regularised incomplete beta function.
    ///
    /// On the logit scale neither tail loses digits, so tiny parameters (a posterior after strong discounting) are as
    /// exact as large ones. Continued fraction by Lentz's method (Numerical Recipes, 6.4).
    fn cdf_at_logit(self, t: f64) -> f64 {
        let (a, b) = (self.alpha, self.beta);
        if sigmoid(t) < (a + 1.0) / (a + b + 2.0) { lower_tail(a, b, t) } else { 1.0 - lower_tail(b, a, -t) }
    }

    /// Log-density of t = logit(theta): `alpha ln x + beta ln(1 - x) - ln B(alpha, beta)`.
    fn ln_density_at_logit(self, t: f64) -> f64 {
        self.alpha * ln_sigmoid(t) + self.beta * ln_sigmoid(-t) - ln_beta(self.alpha, self.beta)
    }

    /// Points that cut the line into pieces on which the density of logit(theta) is tame: the mode, and steps that
    /// double from half the smallest of its scales (width of the peak, length of either tail) outwards until the
    /// log-density has fallen by 45.
    fn breakpoints(self) -> Vec<f64> {
        let (a, b) = (self.alpha, self.beta);
        let mode = (a / b).ln();
        let scale = (1.0 / a + 1.0 / b).sqrt().min(1.0 + 1.0 / a).min(1.0 + 1.0 / b);
        let peak = self.ln_density_at_logit(mode);
        let mut points = vec![mode];
        for direction in [-1.0, 1.0] {
            let mut reach = 0.5 * scale;
            loop {
                let t = mode + direction * reach;
                points.push(t);
                reach *= 2.0;
                // Log-concave: beyond this point the density only falls, at least as fast. An infinite reach ends the
                // loop for parameters that are no longer normal numbers.
                if self.ln_density_at_logit(t) < peak - 45.0 || !reach.is_finite() {
                    break;
                }
            }
        }
        points
    }
}

/// P(theta_new > theta_old) for independent posteriors: `integral f_new(x) F_old(x) dx`, absolute error below 1e-9.
#[must_use]
pub fn p_greater(new: Beta, old: Beta) -> f64 {
    p_beats_all(&[new, old], 0)
}

/// Probability that each arm has the largest rate: `integral f_i(x) prod_{j != i} F_j(x) dx`. Sums to 1.
#[must_use]
pub fn p_best(arms: &[Beta]) -> Vec<f64> {
    match arms {
        [] => Vec::new(),
        [_] => vec![1.0],
        [old, new] => {
            let p_new = p_greater(*new, *old);
            vec![1.0 - p_new, p_new]
        }
        _ => {
            let raw: Vec<f64> = (0..arms.len()).map(|index| p_beats_all(arms, index)).collect();
            let sum: f64 = raw.iter().sum();
            raw.into_iter().map(|p| p / sum).collect()
        }
    }
}

fn p_beats_all(arms: &[Beta], index: usize) -> f64 {
    let own = arms[index];
    let mut cuts = own.breakpoints();
    let (low, high) = cuts.iter().fold((f64::MAX, f64::MIN), |(low, high), t| (low.min(*t), high.max(*t)));
    let others: Vec<Beta> =
        arms.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, arm)| *arm).collect();
    for other in &others {
        cuts.extend(other.breakpoints().into_iter().filter(|t| *t > low && *t < high));
    }
    cuts.sort_by(f64::total_cmp);
    let integrand = |t: f64| {
        own.ln_density_at_logit(t).exp() * others.iter().map(|other| other.cdf_at_logit(t)).product::<f64>()
    };
    let sum: f64 = cuts.windows(2).map(|pair| integrate(&integrand, pair[0], pair[1], 12)).sum();
    sum.clamp(0.0, 1.0)
}

/// I_x(a, b) for x = sigmoid(t) below the mean.
fn lower_tail(a: f64, b: f64, t: f64) -> f64 {
    let x = sigmoid(t);
    // a B(a, b) = G(a + 1) G(b) / G(a + b) stays finite as a falls to 0.
    let ln_norm = ln_gamma(a + 1.0) + ln_gamma(b) - ln_gamma(a + b);
    let front = (a * ln_sigmoid(t) + b * ln_sigmoid(-t) - ln_norm).exp();
    front * continued_fraction(a, b, x)
}

fn continued_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let guard = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / guard(1.0 - (a + b) * x / (a + 1.0));
    let mut h = d;
    let mut m = 1.0;
    while m < 10_000.0 {
        let even = m * (b - m) * x / ((a - 1.0 + 2.0 * m) * (a + 2.0 * m));
        d = 1.0 / guard(1.0 + even * d);
        c = guard(1.0 + even / c);
        h *= d * c;
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 1.0 + 2.0 * m));
        d = 1.0 / guard(1.0 + odd * d);
        c = guard(1.0 + odd / c);
        h *= d * c;
        if (d * c - 1.0).abs() < 1e-15 {
            break;
        }
        m += 1.0;
    }
    h
}

pub(crate) fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

fn sigmoid(t: f64) -> f64 {
    1.0 / (1.0 + (-t).exp())
}

/// ln(sigmoid(t)) without overflow or cancellation.
fn ln_sigmoid(t: f64) -> f64 {
    if t > 0.0 { -(-t).exp().ln_1p() } else { t - t.exp().ln_1p() }
}

/// Gauss-Kronrod (7, 15), halving a piece until both rules agree to 1e-13.
fn integrate(f: &impl Fn(f64) -> f64, low: f64, high: f64, depth: u32) -> f64 {
    // (node, Kronrod weight, Gauss weight)
    const RULE: [(f64, f64, f64); 8] = [
        (0.991_455_371_120_812_6, 0.022_935_322_010_529_224, 0.0),
        (0.949_107_912_342_758_5, 0.063_092_092_629_978_56, 0.129_484_966_168_869_7),
        (0.864_864_423_359_769_1, 0.104_790_010_322_250_18, 0.0),
        (0.741_531_185_599_394_4, 0.140_653_259_715_525_92, 0.279_705_391_489_276_67),
        (0.586_087_235_467_691_1, 0.169_004_726_639_267_9, 0.0),
        (0.405_845_151_377_397_2, 0.190_350_578_064_785_4, 0.381_830_050_505_119),
        (0.207_784_955_007_898_47, 0.204_432_940_075_298_9, 0.0),
        (0.0, 0.209_482_141_084_727_83, 0.417_959_183_673_469_4),
    ];
    let (centre, half) = (0.5 * (low + high), 0.5 * (high - low));
    let (mut kronrod, mut gauss) = (0.0, 0.0);
    for (node, kronrod_weight, gauss_weight) in RULE {
        let value = if node == 0.0 { f(centre) } else { f(centre - half * node) + f(centre + half * node) };
        kronrod += kronrod_weight * value;
        gauss += gauss_weight * value;
    }
    if depth == 0 || (kronrod - gauss).abs() * half < 1e-13 {
        return kronrod * half;
    }
    integrate(f, low, centre, depth - 1) + integrate(f, centre, high, depth - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beta(alpha: f64, beta: f64) -> Beta {
        Beta { alpha, beta }
    }

    /// P(new > old) for a whole-numbered alpha of the new arm, by the finite sum
    /// `sum_{i < alpha_new} B(alpha_old + i, beta_old + beta_new) / ((beta_new + i) B(1 + i, beta_new) B(alpha_old, beta_old))`
    /// (Evan Miller, "Formulas for Bayesian A/B testing").
    fn closed_form(new: Beta, old: Beta) -> f64 {
        let mut sum = 0.0;
        let mut i = 0.0;
        while i < new.alpha {
            sum += (ln_beta(old.alpha + i, old.beta + new.beta)
                - (new.beta + i).ln()
                - ln_beta(1.0 + i, new.beta)
                - ln_beta(old.alpha, old.beta))
            .exp();
            i += 1.0;
        }
        sum
    }

    fn check(new: Beta, old: Beta, expected: f64) {
        let got = p_greater(new, old);
        assert!((got - expected).abs() < 1e-9, "{new:?} {old:?}: {got} != {expected}");
    }

    #[test]
    fn p_greater_matches_hand_integrals() {
        check(Beta::UNIFORM, Beta::UNIFORM, 0.5);
        // integral 2x * x dx
        check(beta(2.0, 1.0), Beta::UNIFORM, 2.0 / 3.0);
        // integral a x^(a-1) x^c dx = a / (a + c)
        check(beta(0.37, 1.0), beta(2.9, 1.0), 0.37 / 3.27);
        check(beta(1e-10, 1.0), beta(3e-10, 1.0), 0.25);
        check(beta(1.0, 1e-6), beta(1.0, 1e-6), 0.5);
    }

    #[test]
    fn p_greater_matches_the_finite_sum_for_other_parameters_not_whole() {
        for (new, old) in [
            (beta(3.0, 4.0), beta(2.0, 6.0)),
            (beta(12.0, 7.25), beta(3.5, 0.125)),
            (beta(40.0, 0.01), beta(35.2, 0.5)),
            (beta(1.0, 900.5), beta(1e-3, 77.7)),
            (beta(450.0, 512.25), beta(430.75, 531.5)),
            (beta(5000.0, 3000.5), beta(4950.5, 3100.25)),
        ] {
            check(new, old, closed_form(new, old));
        }
    }

    #[test]
    fn p_greater_of_swapped_arms_is_the_complement() {
        for (new, old) in [(beta(0.2, 3.7), beta(11.1, 0.9)), (beta(1e-8, 2e-7), beta(30.5, 30.5))] {
            check(new, old, 1.0 - p_greater(old, new));
        }
    }

    #[test]
    fn p_best_of_three_sums_to_one_and_ties_are_equal() {
        let raw: f64 =
            (0..3).map(|i| p_beats_all(&[beta(3.3, 2.1), beta(0.4, 0.7), beta(20.0, 9.5)], i)).sum();
        assert!((raw - 1.0).abs() < 1e-10, "{raw}");
        for p in p_best(&[beta(7.5, 2.5); 3]) {
            assert!((p - 1.0 / 3.0).abs() < 1e-10);
        }
        // P(max of three powers): a / (a + b + c) for Beta(a, 1), Beta(b, 1), Beta(c, 1).
        let p = p_best(&[beta(0.5, 1.0), beta(1.5, 1.0), beta(6.0, 1.0)]);
        assert!((p[2] - 0.75).abs() < 1e-10 && (p[0] - 0.0625).abs() < 1e-10, "{p:?}");
    }
}
