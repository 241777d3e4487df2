//! Beta posteriors and the exact probability that one beats the others.

use serde::{Deserialize, Serialize};

use crate::version_test::logit_density::LogitDensity;
use crate::version_test::quadrature::PANEL;

/// A Beta distribution over a success rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Beta {
    /// Successes, plus the prior's; above 0.
    pub alpha: f64,
    /// Failures, plus the prior's; above 0.
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
}

/// P(theta_new > theta_old) for independent posteriors: `integral f_new(x) F_old(x) dx`.
///
/// - result: in 0..=1, absolute error below 1e-9 for parameters up to 1e12, however small the others are (`tests/it`
///   compares with SciPy and with 40 digits of mpmath); exactly 0.5 for equal posteriors.
///
/// A parameter of 0, which discounting reaches in the limit, is read as 1e-290; one that is not a number, too.
///
/// ```
/// use reskill_skills::version_test::{Beta, p_greater};
///
/// // integral of 2x * x over 0..1
/// let p = p_greater(Beta { alpha: 2.0, beta: 1.0 }, Beta::UNIFORM);
/// assert!((p - 2.0 / 3.0).abs() < 1e-12);
/// ```
#[must_use]
pub fn p_greater(new: Beta, old: Beta) -> f64 {
    if new == old {
        return 0.5;
    }
    let panels = Panels::of(&[new, old]);
    panels.p_beats_all(0)
}

/// Probability that each arm has the largest rate: `integral f_i(x) prod_{j != i} F_j(x) dx`. Sums to 1.
///
/// The same accuracy as [`p_greater`]. The order of the result is that of `arms`.
///
/// ```
/// use reskill_skills::version_test::{Beta, p_best};
///
/// // The largest of powers of uniform variables: a / (a + b + c).
/// let arms = [0.5, 1.5, 6.0].map(|alpha| Beta { alpha, beta: 1.0 });
/// assert!((p_best(&arms)[2] - 0.75).abs() < 1e-12);
/// ```
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
            let panels = Panels::of(arms);
            let raw: Vec<f64> = (0..arms.len()).map(|index| panels.p_beats_all(index)).collect();
            let sum: f64 = raw.iter().sum();
            raw.into_iter().map(|p| p / sum).collect()
        }
    }
}

/// Densities and distribution functions of all arms at the same points of the logit scale.
///
/// The line is cut where any arm's density needs it (see [`LogitDensity::cuts`]); each panel carries sixteen
/// Gauss-Legendre nodes, and the distribution functions come from the running integrals of the same values. So nothing
/// has to converge: the cost depends on the number of panels alone, and a distribution sums to 1 by construction.
struct Panels {
    /// Half the width of each panel.
    halves: Vec<f64>,
    /// By arm: density at every node of every panel.
    densities: Vec<Vec<f64>>,
    /// By arm: distribution function at the same points.
    distributions: Vec<Vec<f64>>,
}

impl Panels {
    fn of(arms: &[Beta]) -> Self {
        let arms: Vec<LogitDensity> = arms.iter().map(|arm| LogitDensity::new(arm.alpha, arm.beta)).collect();
        // Ascending, at least three: the mode and one to either side.
        let own: Vec<Vec<f64>> = arms.iter().map(LogitDensity::cuts).collect();
        let cuts = common_cuts(&own);
        let halves = cuts.windows(2).map(|pair| 0.5 * (pair[1] - pair[0])).collect::<Vec<_>>();
        let (densities, distributions) =
            arms.iter().zip(&own).map(|(arm, own)| tabulate(arm, own, &cuts)).unzip();
        Self { halves, densities, distributions }
    }

    fn p_beats_all(&self, index: usize) -> f64 {
        let n = PANEL.nodes.len();
        let others: Vec<&Vec<f64>> =
            self.distributions.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, f)| f).collect();
        let sum: f64 = self
            .halves
            .iter()
            .enumerate()
            .map(|(panel, half)| {
                let inner: f64 = (0..n)
                    .map(|node| {
                        let at = panel * n + node;
                        let below: f64 = others.iter().map(|distribution| distribution[at]).product();
                        PANEL.weights[node] * self.densities[index][at] * below
                    })
                    .sum();
                half * inner
            })
            .sum();
        sum.clamp(0.0, 1.0)
    }
}

/// Cuts for all arms together: from the left, as far as no arm would get a panel much wider than its own there.
fn common_cuts(own: &[Vec<f64>]) -> Vec<f64> {
    let ends = own.iter().filter_map(|cuts| cuts.first().copied().zip(cuts.last().copied()));
    let (first, last) = ends.fold((f64::MAX, f64::MIN), |(low, high), (a, b)| (low.min(a), high.max(b)));
    let mut cuts = vec![first];
    let mut t = first;
    while t < last {
        let mut next = last;
        for cuts in own {
            // The arm's first cut beyond t: the end of its own panel, or the beginning of its mass.
            let at = cuts.partition_point(|cut| *cut <= t);
            if at == 0 {
                next = next.min(cuts[0]);
            } else if at < cuts.len() {
                next = next.min((t + cuts[at] - cuts[at - 1]).max(cuts[at]));
            }
        }
        for cuts in own {
            // Where panels get narrower to the right, stop before one that is much narrower.
            let at = cuts.partition_point(|cut| *cut < next);
            if at > 0 && at < cuts.len() && cuts[at - 1] > t && next - t > 1.5 * (cuts[at] - cuts[at - 1]) {
                next = cuts[at - 1];
            }
        }
        cuts.push(next);
        t = next;
    }
    cuts
}

/// Density and distribution function of one arm at the nodes between the cuts; `own` are the arm's own cuts, beyond
/// which it has no mass.
fn tabulate(arm: &LogitDensity, own: &[f64], cuts: &[f64]) -> (Vec<f64>, Vec<f64>) {
    let n = PANEL.nodes.len();
    let (first, last) = own.iter().fold((f64::MAX, f64::MIN), |(low, high), t| (low.min(*t), high.max(*t)));
    let mut density = Vec::with_capacity((cuts.len() - 1) * n);
    let mut distribution = Vec::with_capacity((cuts.len() - 1) * n);
    let mut total = 0.0;
    for pair in cuts.windows(2) {
        let (centre, half) = (0.5 * (pair[0] + pair[1]), 0.5 * (pair[1] - pair[0]));
        if pair[1] <= first || pair[0] >= last {
            density.extend(std::iter::repeat_n(0.0, n));
            distribution.extend(std::iter::repeat_n(total, n));
            continue;
        }
        let start = density.len();
        density.extend(PANEL.nodes.iter().map(|node| arm.relative(centre + half * node)));
        let values = &density[start..];
        distribution.extend(PANEL.running.iter().map(|row| {
            let inner: f64 = row.iter().zip(values).map(|(weight, value)| weight * value).sum();
            total + half * inner
        }));
        let inner: f64 = PANEL.weights.iter().zip(values).map(|(weight, value)| weight * value).sum();
        total += half * inner;
    }
    for value in density.iter_mut().chain(&mut distribution) {
        *value /= total;
    }
    (density, distribution)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beta(alpha: f64, beta: f64) -> Beta {
        Beta { alpha, beta }
    }

    fn check(new: Beta, old: Beta, expected: f64) {
        let got = p_greater(new, old);
        // The promise is 1e-9; what is computed here is far better.
        assert!((got - expected).abs() < 1e-12, "{new:?} {old:?}: {got} != {expected}");
    }

    #[test]
    fn p_greater_matches_hand_integrals() {
        check(Beta::UNIFORM, Beta::UNIFORM, 0.5);
        // integral 2x * x dx
        check(beta(2.0, 1.0), Beta::UNIFORM, 2.0 / 3.0);
        // integral a x^(a-1) x^c dx = a / (a + c)
        for (a, c) in
            [(0.37, 2.9), (1e-10, 3e-10), (1e-200, 1e-201), (1e6, 3e6), (1e-9, 1e9), (1e10, 1e10 + 1.0)]
        {
            check(beta(a, 1.0), beta(c, 1.0), a / (a + c));
            check(beta(1.0, a), beta(1.0, c), c / (a + c));
        }
    }

    #[test]
    fn p_greater_of_swapped_arms_is_the_complement() {
        for (new, old) in [
            (beta(0.2, 3.7), beta(11.1, 0.9)),
            (beta(1e-8, 2e-7), beta(30.5, 30.5)),
            (beta(1e9, 2e9), beta(1e9 + 3e4, 2e9)),
        ] {
            check(new, old, 1.0 - p_greater(old, new));
        }
    }

    #[test]
    fn parameters_at_and_beyond_the_edge_of_numbers_give_a_probability() {
        let odd = [0.0, f64::MIN_POSITIVE, 1e-300, 1.0, 1e25, 1e300, f64::INFINITY, f64::NAN];
        for a in odd {
            for b in odd {
                for other in [Beta::UNIFORM, beta(0.0, 7.0), beta(b, a)] {
                    let p = p_greater(beta(a, b), other);
                    assert!((0.0..=1.0).contains(&p), "{a} {b} {other:?}: {p}");
                }
            }
        }
        assert!(p_greater(beta(0.0, 10.0), beta(3.0, 8.0)) < 1e-12);
        assert!(p_greater(beta(1e300, 1.0), beta(1.0, 1e300)) > 1.0 - 1e-12);
    }

    #[test]
    fn p_best_sums_to_one_before_it_is_scaled_and_ties_are_equal() {
        let panels = Panels::of(&[beta(3.3, 2.1), beta(0.4, 0.7), beta(20.0, 9.5), beta(1e-5, 3.0)]);
        let raw: f64 = (0..4).map(|index| panels.p_beats_all(index)).sum();
        assert!((raw - 1.0).abs() < 1e-12, "{raw}");
        for p in p_best(&[beta(7.5, 2.5); 5]) {
            assert!((p - 0.2).abs() < 1e-12);
        }
        // P(max of powers): a / (a + b + c) for Beta(a, 1), Beta(b, 1), Beta(c, 1).
        let p = p_best(&[beta(0.5, 1.0), beta(1.5, 1.0), beta(6.0, 1.0)]);
        assert!((p[2] - 0.75).abs() < 1e-12 && (p[0] - 0.0625).abs() < 1e-12, "{p:?}");
    }
}
