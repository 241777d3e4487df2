//! Intervals and tests over games: a game is the unit, whatever the number of times it was played.

use rand::RngExt;
use serde::{Deserialize, Serialize};

use crate::streams::stream;

/// Draws of a bootstrap, and of a sign-flip test that is not exact.
const DRAWS: usize = 10_000;
/// Up to so many games that differ, the sign-flip test counts all sign patterns instead of drawing some.
const EXACT: usize = 16;

/// A mean over games.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// The mean; 0 without games.
    pub mean: f64,
    /// 95% interval of the mean: percentile bootstrap over games, 10,000 draws from a fixed stream.
    pub interval: [f64; 2],
    /// Games.
    pub n_games: usize,
}

/// The mean of a difference between two ways to play the same games.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// The mean difference with its interval.
    #[serde(flatten)]
    pub mean: Mean,
    /// Two-sided p-value of the sign-flip test of "no difference": how often a mean at least as far from 0 comes out when
    /// each game's difference keeps its size and gets a random sign. Exact up to 16 games that differ, else from 10,000
    /// draws, where it is never below 1 / 10,001.
    pub p_value: f64,
}

impl Mean {
    /// A share in %, e.g. `61.0 (55.4 to 66.3)`.
    #[must_use]
    pub fn percent(&self) -> String {
        let [low, high] = self.interval.map(|bound| bound * 100.0);
        format!("{:.1} ({low:.1} to {high:.1})", self.mean * 100.0)
    }
}

impl Difference {
    /// A difference of shares in points, e.g. `+1.5 (-2.0 to +5.2)`.
    #[must_use]
    pub fn points(&self) -> String {
        let [low, high] = self.mean.interval.map(|bound| bound * 100.0);
        format!("{:+.1} ({low:+.1} to {high:+.1})", self.mean.mean * 100.0)
    }
}

/// The mean of one value a game, with its interval.
#[must_use]
pub fn mean(values: &[f64]) -> Mean {
    let n_games = values.len();
    if n_games == 0 {
        return Mean { mean: 0.0, interval: [0.0, 0.0], n_games };
    }
    let mut rng = stream(0, "bootstrap", &[n_games as u64]);
    let mut means: Vec<f64> = (0..DRAWS)
        .map(|_| (0..n_games).map(|_| values[rng.random_range(0..n_games)]).sum::<f64>() / n_games as f64)
        .collect();
    means.sort_by(f64::total_cmp);
    let quantile = |q: f64| means[((q * DRAWS as f64) as usize).min(DRAWS - 1)];
    let mean = values.iter().sum::<f64>() / n_games as f64;
    Mean { mean, interval: [quantile(0.025), quantile(0.975)], n_games }
}

/// The mean of one difference a game, with interval and p-value.
#[must_use]
pub fn difference(differences: &[f64]) -> Difference {
    Difference { mean: mean(differences), p_value: sign_flip(differences) }
}

fn sign_flip(differences: &[f64]) -> f64 {
    let sizes: Vec<f64> = differences.iter().copied().filter(|size| *size != 0.0).collect();
    if sizes.is_empty() {
        return 1.0;
    }
    // Sums that differ by rounding alone count as equal.
    let seen = sizes.iter().sum::<f64>().abs() * (1.0 - 1e-12);
    let as_far = |negative: &mut dyn FnMut(usize) -> bool| {
        let sum: f64 =
            sizes.iter().enumerate().map(|(i, size)| if negative(i) { -size } else { *size }).sum();
        sum.abs() >= seen
    };
    if sizes.len() <= EXACT {
        let patterns = 1_u32 << sizes.len();
        let far = (0..patterns).filter(|pattern| as_far(&mut |i| pattern >> i & 1 == 1)).count();
        return far as f64 / f64::from(patterns);
    }
    let mut rng = stream(0, "sign flips", &[sizes.len() as u64]);
    let far = (0..DRAWS).filter(|_| as_far(&mut |_| rng.random_bool(0.5))).count();
    (far + 1) as f64 / (DRAWS + 1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_have_an_interval_without_width() {
        assert_eq!(mean(&[0.5; 7]), Mean { mean: 0.5, interval: [0.5, 0.5], n_games: 7 });
        assert_eq!(mean(&[]).n_games, 0);
    }

    #[test]
    fn the_interval_of_a_share_is_near_the_normal_one() {
        let values: Vec<f64> = (0..400).map(|i| f64::from(u8::from(i % 4 == 0))).collect();
        let Mean { mean, interval: [low, high], .. } = mean(&values);
        // 0.25 +- 1.96 sqrt(0.25 0.75 / 400) = 0.2076 to 0.2924; one game is 0.0025, drawing adds less than that.
        assert_eq!(mean, 0.25);
        assert!((low - 0.2076).abs() < 0.005 && (high - 0.2924).abs() < 0.005, "{low} {high}");
    }

    #[test]
    fn the_sign_flip_test_of_few_games_is_exact() {
        // All of five games better: 2 of 32 sign patterns are as far from 0.
        assert_eq!(difference(&[1.0; 5]).p_value, 2.0 / 32.0);
        // One better, one worse: every pattern is at least as far as 0.
        assert_eq!(difference(&[1.0, -1.0, 0.0]).p_value, 1.0);
        assert_eq!(difference(&[0.0; 4]).p_value, 1.0);
        // Sizes 3, 1, 1 with signs + + -: |3| or more in ++-, +-+, +++ and their opposites, 6 of 8.
        assert_eq!(difference(&[3.0, 1.0, -1.0]).p_value, 6.0 / 8.0);
    }

    #[test]
    fn many_games_without_a_difference_are_rarely_significant() {
        // Differences of pure noise: at level 0.1 a tenth of 200 sets, 20, standard deviation 4.2; 4 of these are 17.
        let mut rng = stream(1, "noise", &[]);
        let significant = (0..200)
            .filter(|_| {
                let noise: Vec<f64> = (0..40).map(|_| f64::from(rng.random_range(-1_i8..=1))).collect();
                sign_flip(&noise) <= 0.1
            })
            .count();
        assert!((3..=37).contains(&significant), "{significant}");
    }
}
