//! Quantiles of a Beta posterior, exact enough to draw.

use reskill_skills::version_test::Beta;

/// Half the number of cells that the distribution is cut into.
const HALF_CELLS: i32 = 800;
/// How far they reach on either side, in standard deviations of logit(theta).
const REACH: f64 = 14.0;

/// The central interval of a posterior that holds `share` of the probability; (0, 1) for parameters that are
/// not positive.
///
/// The density of t = logit(theta) is `exp(alpha ln x + beta ln(1 - x))` up to a factor; it is summed over cells around
/// its mode, so no special function is needed. The error is below a thousandth.
pub(crate) fn central_interval(posterior: Beta, share: f64) -> (f64, f64) {
    let Beta { alpha, beta } = posterior;
    let usable = |parameter: f64| parameter.is_finite() && parameter > 0.0;
    if !usable(alpha) || !usable(beta) {
        return (0.0, 1.0);
    }
    let mode = (alpha / beta).ln();
    let cell = REACH * (1.0 / alpha + 1.0 / beta).sqrt() / f64::from(HALF_CELLS);
    let ln_density = |t: f64| alpha * ln_sigmoid(t) + beta * ln_sigmoid(-t);
    let peak = ln_density(mode);
    let cells: Vec<(f64, f64)> = (-HALF_CELLS..=HALF_CELLS)
        .map(|index| {
            let t = mode + f64::from(index) * cell;
            let weight = (ln_density(t) - peak).exp();
            (t, if weight.is_finite() { weight } else { 0.0 })
        })
        .collect();
    let total: f64 = cells.iter().map(|(_, weight)| weight).sum();
    let quantile = |p: f64| {
        let mut below = 0.0;
        for (t, weight) in &cells {
            if below + weight >= p * total {
                let within = if *weight > 0.0 { (p * total - below) / weight - 0.5 } else { 0.0 };
                return 1.0 / (1.0 + (-(t + within * cell)).exp());
            }
            below += weight;
        }
        1.0
    };
    (quantile((1.0 - share) / 2.0), quantile((1.0 + share) / 2.0))
}

/// ln(1 / (1 + exp(-t))) without overflow.
fn ln_sigmoid(t: f64) -> f64 {
    if t > 0.0 { -(-t).exp().ln_1p() } else { t - t.exp().ln_1p() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(alpha: f64, beta: f64, expected: (f64, f64)) {
        let (low, high) = central_interval(Beta { alpha, beta }, 0.9);
        assert!(
            (low - expected.0).abs() < 1e-3 && (high - expected.1).abs() < 1e-3,
            "{low} {high} {expected:?}"
        );
    }

    #[test]
    fn interval_of_powers_matches_the_closed_form() {
        // P(theta <= x) = x^a for Beta(a, 1), and 1 - (1 - x)^b for Beta(1, b).
        check(1.0, 1.0, (0.05, 0.95));
        check(2.0, 1.0, (0.05_f64.sqrt(), 0.95_f64.sqrt()));
        check(1.0, 3.0, (1.0 - 0.95_f64.cbrt(), 1.0 - 0.05_f64.cbrt()));
    }

    #[test]
    fn interval_of_a_sharp_posterior_is_nearly_normal() {
        let half = 1.644_854 * (0.6_f64 * 0.4 / 10_000.0).sqrt();
        check(6000.0, 4000.0, (0.6 - half, 0.6 + half));
    }

    #[test]
    fn interval_stays_inside_0_1_and_in_order_for_all_parameters() {
        for alpha in [1e-9, 0.01, 0.5, 1.0, 37.0, 1e6, 0.0, f64::NAN, f64::INFINITY] {
            for beta in [1e-9, 0.3, 1.0, 29.0, 1e7, -1.0] {
                let (low, high) = central_interval(Beta { alpha, beta }, 0.9);
                assert!(0.0 <= low && low <= high && high <= 1.0, "{alpha} {beta}: {low} {high}");
            }
        }
    }
}
