//! How playing a verb goes with success, compared among episodes of the same task.

use std::collections::BTreeMap;

/// Weight of strata that mix tasks: difficulty confounds them, so they count less.
const POOLED_WEIGHT: f64 = 0.5;
/// Shrinkage of the difference: as if this much variation without any association had been seen.
const SHRINKAGE: f64 = 1.0;

/// One episode with at least one chance to play the verb.
#[derive(Debug, Clone, Copy)]
pub struct Row<'a> {
    /// Its task.
    pub task: &'a str,
    /// The task's family.
    pub family: &'a str,
    /// Whether it succeeded.
    pub success: bool,
    /// Share of its chances on which the verb was played, 0..=1. A share, not a count: failed episodes are longer.
    pub share: f64,
}

/// The association of share and success.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Association {
    /// Standardised score; 0 if nothing can be compared.
    pub z: f64,
    /// Difference in success for a share of 1 against 0, shrunk towards 0.
    pub difference: f64,
    /// Log odds ratio of success for shares of at least 1/2, 1/2 added to each cell.
    pub log_odds: f64,
    /// Mean share of successful episodes; 0 without any.
    pub share_success: f64,
    /// Mean share of failed episodes; 0 without any.
    pub share_failure: f64,
    /// Tasks with both outcomes.
    pub mixed_tasks: usize,
}

/// Stratified score test (Mantel 1963) of success on share.
///
/// Within stratum s of n episodes, n1 of them successful, mean share x:
///
/// ```text
/// S = sum over successes of (x_i - x)
/// V = n1 (n - n1) / (n (n - 1)) sum (x_i - x)^2
/// z = sum w S / sqrt(sum w^2 V)      difference = sum w S / (sum w sum (x_i - x)^2 + 1)
/// ```
///
/// A task with both outcomes is a stratum (w = 1): there difficulty cancels. The other episodes are pooled by family
/// with w = 1/2. One success and one failure per task is a matched pair; sampling by outcome does not bias S.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "counts of episodes are small")]
pub fn associate(rows: &[Row<'_>]) -> Association {
    let mut tasks: BTreeMap<&str, Vec<Row<'_>>> = BTreeMap::new();
    for row in rows {
        tasks.entry(row.task).or_default().push(*row);
    }
    let mut pooled: BTreeMap<&str, Vec<Row<'_>>> = BTreeMap::new();
    let (mut score, mut variance, mut spread, mut mixed_tasks) = (0.0, 0.0, 0.0, 0);
    let mut add = |stratum: &[Row<'_>], weight: f64| {
        let n = stratum.len() as f64;
        let n1 = stratum.iter().filter(|row| row.success).count() as f64;
        if n < 2.0 {
            return;
        }
        let mean = stratum.iter().map(|row| row.share).sum::<f64>() / n;
        let squares: f64 = stratum.iter().map(|row| (row.share - mean).powi(2)).sum();
        score += weight * stratum.iter().filter(|row| row.success).map(|row| row.share - mean).sum::<f64>();
        variance += weight * weight * n1 * (n - n1) / (n * (n - 1.0)) * squares;
        spread += weight * squares;
    };
    for stratum in tasks.values() {
        let n_success = stratum.iter().filter(|row| row.success).count();
        if n_success > 0 && n_success < stratum.len() {
            mixed_tasks += 1;
            add(stratum, 1.0);
        } else {
            pooled.entry(stratum[0].family).or_default().extend(stratum);
        }
    }
    for stratum in pooled.values() {
        add(stratum, POOLED_WEIGHT);
    }
    let mean_share = |success: bool| {
        let shares: Vec<f64> =
            rows.iter().filter(|row| row.success == success).map(|row| row.share).collect();
        if shares.is_empty() { 0.0 } else { shares.iter().sum::<f64>() / shares.len() as f64 }
    };
    let cell = |success: bool, high: bool| {
        rows.iter().filter(|row| row.success == success && (row.share >= 0.5) == high).count() as f64 + 0.5
    };
    Association {
        z: if variance > 0.0 { score / variance.sqrt() } else { 0.0 },
        difference: score / (spread + SHRINKAGE),
        log_odds: (cell(true, true) * cell(false, false) / (cell(true, false) * cell(false, true))).ln(),
        share_success: mean_share(true),
        share_failure: mean_share(false),
        mixed_tasks,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(task: &str, success: bool, share: f64) -> Row<'_> {
        Row { task, family: "f", success, share }
    }

    #[test]
    fn matched_pairs_match_hand_computed_numbers() {
        // Differences 1, 0.5, -0.5: S = 0.5, V = (1 + 0.25 + 0.25) / 4, squares = (1 + 0.25 + 0.25) / 2.
        let rows = [
            row("a", true, 1.0),
            row("a", false, 0.0),
            row("b", true, 0.5),
            row("b", false, 0.0),
            row("c", true, 0.0),
            row("c", false, 0.5),
        ];
        let got = associate(&rows);
        assert!((got.z - 0.5 / 0.375_f64.sqrt()).abs() < 1e-12, "{got:?}");
        assert!((got.difference - 0.5 / 1.75).abs() < 1e-12);
        assert_eq!(got.mixed_tasks, 3);
        // Cells (success, high) 2, (success, low) 1, (failure, high) 1, (failure, low) 2.
        assert!((got.log_odds - (2.5_f64 * 2.5 / (1.5 * 1.5)).ln()).abs() < 1e-12);
    }

    #[test]
    fn a_difference_between_tasks_alone_is_no_association_within_them() {
        let mut rows = Vec::new();
        for task in ["a", "b"] {
            rows.extend([row(task, true, 1.0), row(task, false, 1.0)]);
        }
        for task in ["c", "d"] {
            rows.extend([row(task, true, 0.0), row(task, false, 0.0), row(task, false, 0.0)]);
        }
        assert_eq!(associate(&rows).z, 0.0);
    }
}
