//! Which episodes may be compared with which, and how likely chance alone separates their outcomes so well.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use crate::episode::SkillEpisode;

/// Weight of strata that mix tasks: difficulty confounds them, so they count less.
const POOLED_WEIGHT: f64 = 0.5;
/// Shuffles of the outcomes behind a probability.
const SHUFFLES: u32 = 399;
/// Seed of the shuffles: the same episodes give the same proposal.
const SEED: u64 = 0x5EED_5A3B;

/// Episodes whose outcomes could be exchanged if outcome and actions were independent.
///
/// A task with both outcomes is a stratum of its episodes (weight 1). The other tasks are units of one stratum per family
/// (weight 1/2): they can be exchanged as a whole only, since all their episodes share the task's difficulty.
#[derive(Debug, Clone)]
pub(crate) struct Strata {
    units: Vec<Unit>,
    strata: Vec<Stratum>,
}

#[derive(Debug, Clone)]
struct Unit {
    episodes: Vec<usize>,
    success: bool,
}

#[derive(Debug, Clone)]
struct Stratum {
    units: Vec<usize>,
    weight: f64,
}

/// How a measure goes with success.
#[derive(Debug, Clone, Default)]
pub(crate) struct Score {
    /// Weighted deviation of each unit from the mean of its stratum, divided by the standard deviation of their sum over
    /// successes when outcomes are exchanged within strata.
    deviations: Vec<f64>,
    /// Largest of them.
    largest: f64,
    /// Standardised score; 0 if nothing can be compared.
    pub(crate) z: f64,
    /// The score for comparisons, see [`Strata::score`].
    pub(crate) value: f64,
    /// Difference in success for a measure of 1 against 0, shrunk towards 0.
    pub(crate) difference: f64,
}

impl Strata {
    pub(crate) fn of(episodes: &[SkillEpisode]) -> Self {
        let mut tasks: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for (index, played) in episodes.iter().enumerate() {
            tasks.entry(&played.episode.task.id.0).or_default().push(index);
        }
        let is_success = |index: &usize| episodes[*index].episode.is_success();
        let mut result = Self { units: Vec::new(), strata: Vec::new() };
        let mut pooled: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
        for members in tasks.into_values() {
            let successes = members.iter().filter(|index| is_success(index)).count();
            if successes > 0 && successes < members.len() {
                let first = result.units.len();
                result.units.extend(
                    members.iter().map(|index| Unit { episodes: vec![*index], success: is_success(index) }),
                );
                result.strata.push(Stratum { units: (first..result.units.len()).collect(), weight: 1.0 });
            } else {
                let family = &*episodes[members[0]].episode.task.family;
                pooled.entry(family).or_default().push(result.units.len());
                result.units.push(Unit { episodes: members, success: successes > 0 });
            }
        }
        let pooled = pooled.into_values().map(|units| Stratum { units, weight: POOLED_WEIGHT });
        result.strata.extend(pooled);
        result
    }

    /// The same with each stratum cut by a measure: unknown, below its mean over all units, at least that. What differs
    /// inside the parts is not explained by the measure.
    pub(crate) fn given(&self, measure: &[Option<f64>]) -> Self {
        let values: Vec<Option<f64>> = self.units.iter().map(|unit| mean(unit, measure)).collect();
        let known: Vec<f64> = values.iter().copied().flatten().collect();
        let middle = known.iter().sum::<f64>() / count(known.len().max(1));
        let mut strata = Vec::new();
        for stratum in &self.strata {
            for part in 0..3 {
                let side = |unit: &usize| match values[*unit] {
                    None => 0,
                    Some(value) if value < middle => 1,
                    Some(_) => 2,
                };
                let units: Vec<usize> =
                    stratum.units.iter().copied().filter(|unit| side(unit) == part).collect();
                if units.len() > 1 {
                    strata.push(Stratum { units, weight: stratum.weight });
                }
            }
        }
        Self { units: self.units.clone(), strata }
    }

    /// Mantel's stratified score of success on a measure, one value per episode (`None` is left out).
    ///
    /// With c the weighted deviations from the means of the strata (0 where the measure is unknown) and n1 successes among
    /// the n units of a stratum:
    ///
    /// ```text
    /// S = sum over successes of c      V = sum over strata of n1 (n - n1) / (n (n - 1)) sum c^2      z = S / sqrt(V)
    /// value = S / sqrt(V + max(c) S / 3)
    /// ```
    ///
    /// A measure that is high in few episodes has a skewed S, and large z by chance; the second denominator (that of
    /// Bernstein's bound) makes values of rare and of common measures comparable.
    pub(crate) fn score(&self, measure: &[Option<f64>], sign: f64) -> Score {
        let mut deviations = vec![0.0; self.units.len()];
        let (mut sum, mut variance, mut spread) = (0.0, 0.0, 0.0);
        for stratum in &self.strata {
            let values: Vec<(usize, f64)> = stratum
                .units
                .iter()
                .filter_map(|unit| Some((*unit, mean(&self.units[*unit], measure)?)))
                .collect();
            if values.len() < 2 {
                continue;
            }
            let middle = values.iter().map(|(_, value)| value).sum::<f64>() / count(values.len());
            let mut squares = 0.0;
            for (unit, value) in values {
                let deviation = sign * (value - middle);
                squares += deviation * deviation;
                deviations[unit] = stratum.weight * deviation;
                sum += if self.units[unit].success { deviations[unit] } else { 0.0 };
            }
            let n = count(stratum.units.len());
            let n1 = count(stratum.units.iter().filter(|unit| self.units[**unit].success).count());
            variance += stratum.weight * stratum.weight * n1 * (n - n1) / (n * (n - 1.0)) * squares;
            spread += stratum.weight * squares;
        }
        if variance <= 1e-12 {
            return Score { deviations: vec![0.0; self.units.len()], ..Score::default() };
        }
        let scale = variance.sqrt();
        deviations.iter_mut().for_each(|deviation| *deviation /= scale);
        let largest = deviations.iter().copied().fold(0.0, f64::max);
        let z = sum / scale;
        Score { value: comparable(z, largest), deviations, largest, z, difference: sum / (spread + 1.0) }
    }

    /// The probability that, were outcomes independent of the actions, the best of these scores less its handicap would
    /// reach `best`: outcomes are shuffled within strata, so the answer holds for any number of measures, however they
    /// depend on each other. Stops early once it is above `level`.
    pub(crate) fn family_wise_p(&self, scores: &[(&Score, f64)], best: f64, level: f64) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(SEED);
        let mut outcomes: Vec<f64> =
            self.units.iter().map(|unit| if unit.success { 1.0 } else { 0.0 }).collect();
        let mut reached = 0u32;
        for shuffle in 1..=SHUFFLES {
            for stratum in &self.strata {
                let mut shuffled: Vec<f64> = stratum.units.iter().map(|unit| outcomes[*unit]).collect();
                shuffled.shuffle(&mut rng);
                for (unit, outcome) in stratum.units.iter().zip(shuffled) {
                    outcomes[*unit] = outcome;
                }
            }
            let reaches = scores.iter().any(|(score, handicap)| {
                comparable(dot(&score.deviations, &outcomes), score.largest) - handicap >= best - 1e-9
            });
            reached += u32::from(reaches);
            if f64::from(reached + 1) > level * f64::from(SHUFFLES + 1) {
                return 1.0;
            }
            // None in half of the shuffles: the other half would not change the answer.
            if shuffle == SHUFFLES / 2 && reached == 0 && level * f64::from(shuffle + 1) >= 1.0 {
                return 1.0 / f64::from(shuffle + 1);
            }
        }
        f64::from(reached + 1) / f64::from(SHUFFLES + 1)
    }
}

/// Eight sums side by side, so that the compiler may use vectors.
fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let (a_parts, b_parts) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f64 = a_parts.remainder().iter().zip(b_parts.remainder()).map(|(x, y)| x * y).sum();
    for (x, y) in a_parts.zip(b_parts) {
        for lane in 0..8 {
            sums[lane] += x[lane] * y[lane];
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// z / sqrt(1 + m z / 3), with the largest deviation m in units of the standard deviation.
fn comparable(z: f64, largest: f64) -> f64 {
    if z > 0.0 { z / (1.0 + largest * z / 3.0).sqrt() } else { z }
}

fn mean(unit: &Unit, measure: &[Option<f64>]) -> Option<f64> {
    let known = || unit.episodes.iter().filter_map(|index| measure[*index]);
    let n = known().count();
    (n > 0).then(|| known().sum::<f64>() / count(n))
}

#[expect(clippy::cast_precision_loss, reason = "counts of episodes are small")]
fn count(n: usize) -> f64 {
    n as f64
}
