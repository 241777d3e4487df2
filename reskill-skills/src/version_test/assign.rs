//! Which rollout of a group plays which arm.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};

use crate::version_test::arms::Arm;
use crate::version_test::config::{Assignment, Sampling, VersionTestConfig};

/// Share of each arm, the incumbent first; sums to 1.
///
/// Thompson: the probability of being the best, within bounds. With two arms the candidate's share is clamped to
/// `p_min..=p_max`, as published. With k arms every share lies in `2 p_min / k ..= p_max`, which is the same for two:
/// the probabilities are scaled by the one factor for which the clamped shares sum to 1.
///
/// - `p_best`: one probability per arm, see [`VersionTest::p_best`](crate::VersionTest::p_best)
///
/// Source: arXiv 2606.01619 for two arms; the bounds for more are this project's.
///
/// ```
/// use reskill_skills::VersionTestConfig;
/// use reskill_skills::version_test::shares;
///
/// let shares = shares(&VersionTestConfig::default(), &[0.98, 0.02]);
/// assert!((shares[1] - 0.15).abs() < 1e-12);
/// ```
#[must_use]
pub fn shares(config: &VersionTestConfig, p_best: &[f64]) -> Vec<f64> {
    #[expect(clippy::cast_precision_loss, reason = "at most 256 arms")]
    let n_arms = p_best.len() as f64;
    match (config.assignment, p_best) {
        (Assignment::Uniform, _) => vec![1.0 / n_arms; p_best.len()],
        (Assignment::Thompson, [_, p_new]) => {
            let p_new = p_new.clamp(config.p_min, config.p_max);
            vec![1.0 - p_new, p_new]
        }
        (Assignment::Thompson, _) => within(p_best, 2.0 * config.p_min / n_arms, config.p_max),
    }
}

/// `clamp(c p_i, low, high)` with the c for which they sum to 1; needs n low <= 1 <= n high.
fn within(p: &[f64], low: f64, high: f64) -> Vec<f64> {
    // An arm that cannot be the best still takes part in what is left over when others are at the upper bound.
    let clamped = |c: f64| p.iter().map(|p| (c * p.max(1e-12)).clamp(low, high)).collect::<Vec<f64>>();
    // The sum grows with c: from n low at 0 to n high at the end.
    let (mut least, mut most) = (0.0, high / 1e-12);
    for _ in 0..200 {
        let c = 0.5 * (least + most);
        if clamped(c).iter().sum::<f64>() < 1.0 { least = c } else { most = c }
    }
    let shares = clamped(most);
    let sum: f64 = shares.iter().sum();
    shares.into_iter().map(|share| share / sum).collect()
}

/// The arm of each rollout of one group.
///
/// Stratified, two arms: of G rollouts floor(pG) + Bernoulli(frac(pG)) take the candidate, clamped to 1..=G-1, shuffled,
/// so pG on average and never more than one away from it. k arms alike: with one u uniform in 0..1 and C_i the sum of the
/// first i shares times G, arm i takes floor(C_i + u) - floor(C_(i-1) + u) rollouts (systematic sampling, Madow 1949):
/// floor or ceil of its share, the share on average; then no arm is left empty while G >= k.
/// Independent, or a group of one: every rollout draws from the shares.
pub fn assign(shares: &[f64], group_size: usize, sampling: Sampling, rng: &mut impl Rng) -> Vec<Arm> {
    if sampling == Sampling::Independent || group_size < 2 {
        return (0..group_size).map(|_| Arm::from_index(draw(shares, rng))).collect();
    }
    let counts = match shares {
        [_, p_new] => {
            let n_new = split_two(*p_new, group_size, rng);
            vec![group_size - n_new, n_new]
        }
        _ => split_many(shares, group_size, rng),
    };
    let mut arms: Vec<Arm> = counts
        .iter()
        .enumerate()
        .flat_map(|(index, count)| std::iter::repeat_n(Arm::from_index(index), *count))
        .collect();
    arms.shuffle(rng);
    arms
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 <= expected <= group_size, which is small"
)]
fn split_two(p_new: f64, group_size: usize, rng: &mut impl Rng) -> usize {
    let expected = p_new * group_size as f64;
    let whole = expected.floor();
    let n_new = whole as usize + usize::from(rng.random_bool(expected - whole));
    n_new.clamp(1, group_size - 1)
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "0 <= expected <= group_size, which is small"
)]
fn split_many(shares: &[f64], group_size: usize, rng: &mut impl Rng) -> Vec<usize> {
    let u: f64 = rng.random();
    let (mut sum, mut taken) = (0.0, 0);
    let mut counts: Vec<usize> = Vec::with_capacity(shares.len());
    for (index, share) in shares.iter().enumerate() {
        sum += share * group_size as f64;
        let upto = if index + 1 == shares.len() { group_size } else { (sum + u).floor() as usize };
        let upto = upto.clamp(taken, group_size);
        counts.push(upto - taken);
        taken = upto;
    }
    if group_size >= counts.len() {
        while let Some(empty) = counts.iter().position(|count| *count == 0) {
            take_one_from_largest(&mut counts);
            counts[empty] += 1;
        }
    }
    counts
}

fn take_one_from_largest(counts: &mut [usize]) {
    if let Some(largest) = counts.iter_mut().max() {
        *largest -= 1;
    }
}

/// An index drawn with the given weights; the last one if rounding leaves nothing.
fn draw(weights: &[f64], rng: &mut impl Rng) -> usize {
    let mut point = rng.random::<f64>() * weights.iter().sum::<f64>();
    for (index, weight) in weights.iter().enumerate() {
        if point < *weight {
            return index;
        }
        point -= weight;
    }
    weights.len().saturating_sub(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn n_new(arms: &[Arm]) -> usize {
        arms.iter().filter(|arm| **arm != Arm::Incumbent).count()
    }

    #[test]
    fn stratified_groups_hold_both_arms_and_keep_the_share_on_average() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut total = 0;
        for _ in 0..4000 {
            let n = n_new(&assign(&[0.7, 0.3], 8, Sampling::Stratified, &mut rng));
            assert!(n == 2 || n == 3, "{n}");
            total += n;
        }
        // Expected 9600; a group's variance is 0.24, 4 standard deviations of the sum are 124.
        assert!((9476..=9724).contains(&total), "{total}");
        for p in [0.001, 0.999] {
            let n = n_new(&assign(&[1.0 - p, p], 8, Sampling::Stratified, &mut rng));
            assert!((1..=7).contains(&n));
        }
    }

    #[test]
    fn every_position_of_a_group_gets_the_candidate_equally_often() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut counts = [0usize; 4];
        for _ in 0..4000 {
            for (position, arm) in assign(&[0.5, 0.5], 4, Sampling::Stratified, &mut rng).iter().enumerate() {
                counts[position] += arm.index();
            }
        }
        // Expected 2000 each; 4 standard deviations of a binomial are 126.
        assert!(counts.iter().all(|count| count.abs_diff(2000) < 126), "{counts:?}");
    }

    #[test]
    fn independent_draws_follow_the_clamped_share() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let shares = shares(&VersionTestConfig::default(), &[0.001, 0.999]);
        assert!((shares[1] - 0.85).abs() < 1e-12);
        let n = n_new(&assign(&shares, 10_000, Sampling::Independent, &mut rng));
        // Expected 8500; 4 standard deviations are 143.
        assert!(n.abs_diff(8500) < 143, "{n}");
    }

    #[test]
    fn groups_too_small_to_split_still_work() {
        let mut rng = ChaCha8Rng::seed_from_u64(4);
        assert!(assign(&[0.5, 0.5], 0, Sampling::Stratified, &mut rng).is_empty());
        assert_eq!(assign(&[0.5, 0.5], 1, Sampling::Stratified, &mut rng).len(), 1);
        assert_eq!(n_new(&assign(&[0.15, 0.85], 2, Sampling::Stratified, &mut rng)), 1);
    }

    #[test]
    fn three_arms_all_take_part() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let shares = shares(&VersionTestConfig::default(), &[0.0, 0.02, 0.98]);
        assert!((shares.iter().sum::<f64>() - 1.0).abs() < 1e-12 && shares[0] > 0.08);
        for _ in 0..100 {
            let arms = assign(&shares, 8, Sampling::Stratified, &mut rng);
            assert_eq!(arms.len(), 8);
            assert!((0..3).all(|index| arms.contains(&Arm::from_index(index))), "{arms:?}");
        }
    }
}
