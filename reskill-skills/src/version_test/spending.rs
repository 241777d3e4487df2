//! Early stops that keep the level: alpha spending and the bounds that follow from it.

use serde::{Deserialize, Serialize};
use statrs::function::erf::{erfc, erfc_inv};

/// Points of the grid a sub-density is kept on; odd, for Simpson's rule.
const GRID: usize = 129;
/// Lower end of the grid, in standard deviations.
const REACH: f64 = 8.0;
/// Largest bound; beyond it a crossing has probability below 1e-15.
const MAX_BOUND: f64 = 8.0;

/// How much of the level may be spent by a fraction t of the test.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
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
            Spending::ObrienFleming => 2.0 * upper_tail(quantile(1.0 - 0.5 * level) / t.sqrt()),
            Spending::Pocock => level * (1.0 + (std::f64::consts::E - 1.0) * t).ln(),
        }
    }
}

/// P(Z > z) of a standard normal.
#[must_use]
pub fn upper_tail(z: f64) -> f64 {
    0.5 * erfc(z / std::f64::consts::SQRT_2)
}

/// The z with P(Z <= z) = p.
#[must_use]
pub fn quantile(p: f64) -> f64 {
    -std::f64::consts::SQRT_2 * erfc_inv(2.0 * p)
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
/// by convolution with a normal density (Armitage, McPherson & Rowe 1969), on a grid of 129 points. A look that brings
/// next to no information cannot be resolved by the grid; it gets a bound that is safe by the union bound.
#[must_use]
pub fn bounds(looks: &[Look]) -> Vec<f64> {
    let mut bounds = Vec::with_capacity(looks.len());
    let mut grid: Option<SubDensity> = None;
    let mut spent = 0.0;
    for look in looks {
        let increment = (look.spent - spent).max(0.0);
        spent = spent.max(look.spent);
        let Some(before) = &grid else {
            let bound = bound_of_tail(increment);
            grid = Some(SubDensity::first(look.variance, bound));
            bounds.push(bound);
            continue;
        };
        let added = look.variance - before.variance;
        if added.sqrt() < 1.5 * before.spacing() || !added.is_finite() || added <= 0.0 {
            bounds.push(bound_of_tail(increment));
            continue;
        }
        let bound = before.bound(look.variance, increment);
        grid = Some(before.next(look.variance, bound));
        bounds.push(bound);
    }
    bounds
}

fn bound_of_tail(tail: f64) -> f64 {
    if tail < 1e-15 { MAX_BOUND } else { quantile(1.0 - tail).min(MAX_BOUND) }
}

/// Density of the score at one look, restricted to paths that have not crossed, on an even grid.
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
        let mut new = Self { variance, low: -REACH * sd, high: bound * sd, density: Vec::new() };
        new.density = (0..GRID).map(|index| density(new.point(index))).collect();
        new
    }

    #[expect(clippy::cast_precision_loss, reason = "GRID is small")]
    fn spacing(&self) -> f64 {
        (self.high - self.low) / (GRID - 1) as f64
    }

    #[expect(clippy::cast_precision_loss, reason = "GRID is small")]
    fn point(&self, index: usize) -> f64 {
        self.low + self.spacing() * index as f64
    }

    /// Simpson's rule of density times `f`.
    fn integrate(&self, f: impl Fn(f64) -> f64) -> f64 {
        let sum: f64 = self
            .density
            .iter()
            .enumerate()
            .map(|(index, density)| {
                let weight = if index == 0 || index == GRID - 1 {
                    1.0
                } else if index % 2 == 1 {
                    4.0
                } else {
                    2.0
                };
                weight * density * f(self.point(index))
            })
            .sum();
        sum * self.spacing() / 3.0
    }

    fn bound(&self, variance: f64, increment: f64) -> f64 {
        let (sd, step_sd) = (variance.sqrt(), (variance - self.variance).sqrt());
        let crossing = |bound: f64| self.integrate(|s| upper_tail((bound * sd - s) / step_sd));
        let (mut low, mut high) = (-MAX_BOUND, MAX_BOUND);
        for _ in 0..50 {
            let middle = 0.5 * (low + high);
            if crossing(middle) > increment { low = middle } else { high = middle }
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
                Look { variance: t, spent: 2.0 * upper_tail(quantile(1.0 - 0.0125) / t.sqrt()) }
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
                    let z = quantile(rng.random_range(1e-12..1.0));
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
