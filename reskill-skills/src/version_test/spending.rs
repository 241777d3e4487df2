//! Early stops that keep the level: alpha spending and the bounds that follow from it.

use serde::{Deserialize, Serialize};

use crate::version_test::quadrature::LOOK;

/// Where the density of the statistic is cut off below, in standard deviations: P(Z < -7) is 1e-12.
const REACH: f64 = 7.0;
/// Largest bound; beyond it a crossing has probability below 1e-15.
const MAX_BOUND: f64 = 8.0;

/// How much of the level may be spent by a fraction t of the test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Spending {
    /// `2 - 2 Phi(z_{1 - level/2} / sqrt(t))`: little at first (Lan & DeMets 1983).
    #[default]
    ObrienFleming,
    /// `level ln(1 + (e - 1) t)`: about evenly.
    Pocock,
}

impl Spending {
    /// Level spent by the fraction `t` in 0..=1.
    #[must_use]
    pub fn spent(self, level: f64, t: f64) -> f64 {
        if t <= 0.0 {
            return 0.0;
        }
        if t >= 1.0 {
            return level;
        }
        match self {
            Spending::ObrienFleming => 2.0 * upper_tail(quantile_of_tail(0.5 * level) / t.sqrt()),
            Spending::Pocock => level * (1.0 + (std::f64::consts::E - 1.0) * t).ln(),
        }
    }
}

/// P(Z > z) of a standard normal: `erfc(z / sqrt(2)) / 2`, exact to the last digits also far out.
#[must_use]
pub fn upper_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
}

/// The z with P(Z > z) = p: as exact for a small p as [`upper_tail`].
///
/// Newton's method on `ln P(Z > z) - ln p` from `sqrt(-2 ln(2 p))`, which lies above the root since
/// P(Z > z) <= exp(-z^2 / 2) / 2; the function is concave, so every step stays above and none can overshoot.
#[must_use]
pub fn quantile_of_tail(p: f64) -> f64 {
    if p > 0.5 {
        return -quantile_of_tail(1.0 - p);
    }
    if p <= 0.0 {
        return f64::INFINITY;
    }
    let mut z = (-2.0 * (2.0 * p).ln()).max(0.0).sqrt();
    for _ in 0..50 {
        let tail = upper_tail(z);
        if tail <= 0.0 {
            break;
        }
        let step = (tail / p).ln() * tail / normal_density(z, 1.0);
        z += step;
        if step.abs() < 1e-14 * z.max(1.0) {
            break;
        }
    }
    z
}

/// One look at a test.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Look {
    /// Variance of the score so far: the information.
    pub variance: f64,
    /// Level spent up to this look, this one included.
    pub spent: f64,
}

/// The bound on z at each look, one-sided: under equal arms the chance to cross for the first time at look k is what
/// is spent there.
///
/// The score is a Brownian motion in its variance, so the sub-density of "not crossed yet" is carried from look to look
/// by convolution with a normal density (Armitage, McPherson & Rowe 1969), on the nodes of a Gauss-Legendre rule. A look
/// that brings next to no information cannot be resolved by the rule; it gets a bound that is safe by the union bound.
///
/// - `looks`: in order; variances and levels do not fall
/// - result: one bound a look, at most 8
#[must_use]
pub fn bounds(looks: &[Look]) -> Vec<f64> {
    let mut bounds = Vec::with_capacity(looks.len());
    // The density after the last look that could be resolved; built only when a further look needs it.
    let mut before: Option<SubDensity> = None;
    let mut pending: Option<(f64, f64)> = None;
    let mut spent = 0.0;
    for look in looks {
        let increment = (look.spent - spent).max(0.0);
        spent = spent.max(look.spent);
        if let Some((variance, bound)) = pending.take() {
            before = Some(match &before {
                None => SubDensity::first(variance, bound),
                Some(density) => density.next(variance, bound),
            });
        }
        let bound = match &before {
            None => bound_of_tail(increment),
            Some(density) if density.resolves(look.variance) => density.bound(look.variance, increment),
            Some(_) => {
                bounds.push(bound_of_tail(increment));
                continue;
            }
        };
        pending = Some((look.variance, bound));
        bounds.push(bound);
    }
    bounds
}

fn bound_of_tail(tail: f64) -> f64 {
    if tail < 1e-15 { MAX_BOUND } else { quantile_of_tail(tail).min(MAX_BOUND) }
}

/// Density of the score at one look, restricted to paths that have not crossed, at the nodes of a quadrature rule
/// between `low` and `high`.
struct SubDensity {
    variance: f64,
    low: f64,
    high: f64,
    density: Vec<f64>,
}

impl SubDensity {
    fn first(variance: f64, bound: f64) -> Self {
        Self::build(variance, bound, |s| normal_density(s, variance))
    }

    fn build(variance: f64, bound: f64, density: impl Fn(f64) -> f64) -> Self {
        let sd = variance.sqrt();
        let mut new = Self { variance, low: -REACH * sd, high: bound.min(REACH) * sd, density: Vec::new() };
        new.density = LOOK.nodes.iter().map(|node| density(new.point(*node))).collect();
        new
    }

    fn point(&self, node: f64) -> f64 {
        0.5 * (self.low + self.high) + 0.5 * (self.high - self.low) * node
    }

    /// Whether the nodes lie close enough for a normal density of the added variance. In the middle of the interval
    /// they are `pi / n` of its half apart; a spacing of one standard deviation leaves an error near 1e-8.
    #[expect(clippy::cast_precision_loss, reason = "the number of nodes is small")]
    fn resolves(&self, variance: f64) -> bool {
        let spacing = 0.5 * (self.high - self.low) * std::f64::consts::PI / LOOK.nodes.len() as f64;
        (variance - self.variance).sqrt() >= spacing
    }

    /// Integral of density times `f`.
    fn integrate(&self, f: impl Fn(f64) -> f64) -> f64 {
        let terms = LOOK.nodes.iter().zip(&LOOK.weights).zip(&self.density);
        let sum: f64 = terms.map(|((node, weight), density)| weight * density * f(self.point(*node))).sum();
        0.5 * (self.high - self.low) * sum
    }

    /// The bound that is crossed for the first time at this look with probability `increment`: Newton's method on the
    /// logarithm of that probability, kept inside a bracket.
    fn bound(&self, variance: f64, increment: f64) -> f64 {
        if increment < 1e-15 {
            return MAX_BOUND;
        }
        let (sd, step_sd) = (variance.sqrt(), (variance - self.variance).sqrt());
        // A path that crosses now is above the bound now, so the bound of a single look is enough.
        let (mut low, mut high) = (-MAX_BOUND, bound_of_tail(increment));
        let mut bound = high;
        for _ in 0..100 {
            let crossing = self.integrate(|s| upper_tail((bound * sd - s) / step_sd));
            if crossing > increment {
                low = bound;
            } else {
                high = bound;
            }
            let slope = sd * self.integrate(|s| normal_density(bound * sd - s, step_sd * step_sd));
            let newton = bound + (crossing / increment).ln() * crossing / slope;
            let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
            if (next - bound).abs() < 1e-11 {
                return next;
            }
            bound = next;
        }
        high
    }

    fn next(&self, variance: f64, bound: f64) -> Self {
        let added = variance - self.variance;
        Self::build(variance, bound, |s| self.integrate(|u| normal_density(s - u, added)))
    }
}

fn normal_density(x: f64, variance: f64) -> f64 {
    (-0.5 * x * x / variance).exp() / (2.0 * std::f64::consts::PI * variance).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn spending_ends_at_the_level() {
        for spending in [Spending::ObrienFleming, Spending::Pocock] {
            assert!((spending.spent(0.1, 1.0) - 0.1).abs() < 1e-12);
            assert!(spending.spent(0.1, 0.2) < spending.spent(0.1, 0.6));
        }
        // 2 - 2 Phi(1.959964 / sqrt(0.5)) = 2 - 2 Phi(2.771808) = 0.005575 (Lan & DeMets, table 1, level 0.05).
        assert!((Spending::ObrienFleming.spent(0.05, 0.5) - 0.005_575).abs() < 1e-6);
    }

    #[test]
    fn a_single_look_has_the_normal_bound() {
        let got = bounds(&[Look { variance: 3.0, spent: 0.1 }]);
        assert!((got[0] - 1.281_551_565_5).abs() < 1e-6, "{got:?}");
    }

    #[test]
    fn bounds_of_five_even_looks_match_the_published_table() {
        // One-sided 0.025, O'Brien-Fleming-like spending, five even looks: Lan & DeMets / gsDesign sfLDOF.
        let looks: Vec<Look> = (1..=5)
            .map(|k| {
                let t = f64::from(k) / 5.0;
                Look { variance: t, spent: 2.0 * upper_tail(quantile_of_tail(0.0125) / t.sqrt()) }
            })
            .collect();
        let expected = [4.877, 3.357, 2.680, 2.290, 2.031];
        for (got, expected) in bounds(&looks).iter().zip(expected) {
            assert!((got - expected).abs() < 2e-3, "{got} {expected}");
        }
    }

    #[test]
    fn crossing_rate_of_simulated_paths_is_the_level() {
        let variances = [1.0, 1.3, 2.9, 4.0];
        let looks: Vec<Look> = variances
            .iter()
            .map(|v| Look { variance: *v, spent: Spending::Pocock.spent(0.1, v / 4.0) })
            .collect();
        let bounds = bounds(&looks);
        let mut rng = ChaCha8Rng::seed_from_u64(9);
        let n = 40_000;
        let crossed = (0..n)
            .filter(|_| {
                let (mut score, mut before) = (0.0, 0.0);
                looks.iter().zip(&bounds).any(|(look, bound)| {
                    let z = quantile_of_tail(rng.random_range(1e-12..1.0));
                    score += z * (look.variance - before).sqrt();
                    before = look.variance;
                    score / look.variance.sqrt() > *bound
                })
            })
            .count();
        // Expected 4000; 4 standard deviations are 240.
        assert!(crossed.abs_diff(4000) < 240, "{crossed} {bounds:?}");
    }
}
