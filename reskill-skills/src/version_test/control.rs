//! A negative control: outcomes that cannot favour a version.

use std::collections::BTreeMap;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::Arm;

/// Deals the outcomes of each group anew among its rollouts: which rollout played which arm stays, how often the group succeeded
/// stays, and what one has to do with the other is chance. The order depends on step and group alone, so a resumed run deals
/// the same.
pub fn deal_anew(step: u64, outcomes: &mut [(u64, Arm, bool)]) {
    let mut groups: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (index, (group, _, _)) in outcomes.iter().enumerate() {
        groups.entry(*group).or_default().push(index);
    }
    for (group, members) in groups {
        let mut rng = ChaCha8Rng::seed_from_u64(step.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ group);
        for last in (1..members.len()).rev() {
            let (a, b) = (members[last], members[rng.random_range(0..=last)]);
            let (first, second) = (outcomes[a].2, outcomes[b].2);
            (outcomes[a].2, outcomes[b].2) = (second, first);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `n_groups` groups of eight: the candidate always succeeds, the incumbent never.
    fn one_sided(n_groups: u64) -> Vec<(u64, Arm, bool)> {
        (0..n_groups * 8)
            .map(
                |i| {
                    if i % 2 == 0 { (i / 8, Arm::Incumbent, false) } else { (i / 8, Arm::Candidate(0), true) }
                },
            )
            .collect()
    }

    #[test]
    fn groups_keep_their_successes_and_arms_lose_theirs() {
        let mut outcomes = one_sided(500);
        deal_anew(3, &mut outcomes);
        for group in outcomes.chunks(8) {
            assert_eq!(group.iter().filter(|(_, _, success)| *success).count(), 4);
            assert_eq!(group.iter().filter(|(_, arm, _)| *arm == Arm::Incumbent).count(), 4);
        }
        let of_candidate =
            outcomes.iter().filter(|(_, arm, success)| *success && *arm != Arm::Incumbent).count();
        // Hypergeometric: 2 of 4 on average, variance 4/7 a group; of 500 groups 1,000 with standard deviation 16.9.
        assert!(of_candidate.abs_diff(1000) < 5 * 17, "{of_candidate}");
    }

    #[test]
    fn a_step_deals_the_same_again_and_another_step_otherwise() {
        let deal = |step| {
            let mut outcomes = one_sided(20);
            deal_anew(step, &mut outcomes);
            outcomes
        };
        assert_eq!(deal(1), deal(1));
        assert_ne!(deal(1), deal(2));
    }
}
