//! Groups that teach something: those whose episodes did not all return the same.

use std::collections::BTreeMap;

use reskill_skills::SkillEpisode;

/// How many groups a step played, and how many of them have returns that differ. The others have advantages of 0.
pub(super) fn count_groups(records: &[SkillEpisode]) -> (usize, usize) {
    count(records.iter().map(|record| (record.group, record.episode.return_)))
}

fn count(returns: impl Iterator<Item = (u64, f32)>) -> (usize, usize) {
    let mut bounds: BTreeMap<u64, (f32, f32)> = BTreeMap::new();
    for (group, return_) in returns {
        let (low, high) = bounds.entry(group).or_insert((return_, return_));
        (*low, *high) = (low.min(return_), high.max(return_));
    }
    (bounds.len(), bounds.values().filter(|(low, high)| low < high).count())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_of_equal_returns_are_not_mixed() {
        let returns = [(7, 0.0), (7, 1.0), (8, 1.0), (8, 1.0), (9, 0.0), (7, 0.0), (10, 0.5), (10, 0.25)];
        assert_eq!(count(returns.into_iter()), (4, 2));
        assert_eq!(count(std::iter::empty()), (0, 0));
    }
}
