//! Intervals of differences of success rates.

use crate::evaluate::Success;

/// 95% interval of `new.rate - old.rate` for two independent sets of games.
///
/// Newcombe's hybrid of the two score intervals: R. G. Newcombe, Statistics in Medicine 17 (1998) 873, method 10. Sets
/// that share their games, as here, are usually positively correlated, so the interval is on the wide side.
pub(super) fn difference(new: &Success, old: &Success) -> [f64; 2] {
    let difference = new.rate - old.rate;
    let below = (new.rate - new.interval[0]).hypot(old.interval[1] - old.rate);
    let above = (new.interval[1] - new.rate).hypot(old.rate - old.interval[0]);
    [(difference - below).max(-1.0), (difference + above).min(1.0)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn difference_matches_the_published_example() {
        // 56 of 70 against 48 of 80: table II of the paper, method 10.
        let [low, high] = difference(&Success::new(56, 70), &Success::new(48, 80));
        assert!((low - 0.0524).abs() < 1e-4 && (high - 0.3339).abs() < 1e-4, "{low} {high}");
    }
}
