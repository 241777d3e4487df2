//! The order of an epoch, and how it is cut into mini-batches.

use std::borrow::Cow;
use std::collections::BTreeMap;

use rand::{Rng, RngExt};

use super::{LearnerConfig, MinibatchSplit};
use crate::trajectory::{TokenTrajectory, TokenTurn};

/// A trajectory in a mini-batch, or some of its turns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Pick {
    /// All of it.
    Whole(usize),
    /// These turns of it, in order.
    Turns(usize, Vec<usize>),
}

/// What a mini-batch is computed with, of one trajectory.
pub(super) struct Part<'a> {
    pub(super) trajectory: Cow<'a, TokenTrajectory>,
    /// By turn.
    pub(super) advantages: Cow<'a, [f32]>,
    /// By trained token; empty if nothing was recomputed.
    pub(super) old: Cow<'a, [f32]>,
}

impl Pick {
    /// The picked turns with what belongs to them. `recomputed` are log-probabilities by trajectory and trained token.
    pub(super) fn part<'a>(
        &self,
        trajectories: &'a [TokenTrajectory],
        advantages: &'a [Vec<f32>],
        recomputed: Option<&'a [Vec<f32>]>,
    ) -> Part<'a> {
        let old = |index: usize| recomputed.map_or(&[][..], |all| &all[index]);
        match self {
            Pick::Whole(index) => Part {
                trajectory: Cow::Borrowed(&trajectories[*index]),
                advantages: Cow::Borrowed(&advantages[*index]),
                old: Cow::Borrowed(old(*index)),
            },
            Pick::Turns(index, turns) => Part {
                trajectory: Cow::Owned(with_turns(&trajectories[*index], turns)),
                advantages: turns.iter().map(|&turn| advantages[*index][turn]).collect(),
                old: Cow::Owned(of_turns(old(*index), &trajectories[*index], turns)),
            },
        }
    }
}

/// The trajectory without its other turns: a turn keeps every token of the trunk before it, and so its prompt.
fn with_turns(trajectory: &TokenTrajectory, picked: &[usize]) -> TokenTrajectory {
    let mut kept = Vec::with_capacity(picked.len());
    let mut trunk = Vec::new();
    let last = picked.last().map_or(0, |last| last + 1);
    for (turn_idx, turn) in trajectory.turns[..last].iter().enumerate() {
        trunk.extend_from_slice(&turn.trunk);
        if picked.contains(&turn_idx) {
            kept.push(TokenTurn { trunk: std::mem::take(&mut trunk), ..turn.clone() });
        }
    }
    TokenTrajectory { turns: kept, ..*trajectory }
}

/// The values of the trained tokens of some turns, out of those of all turns; nothing of nothing.
fn of_turns(all: &[f32], trajectory: &TokenTrajectory, picked: &[usize]) -> Vec<f32> {
    let mut rest = all;
    let mut kept = Vec::new();
    for (turn_idx, turn) in trajectory.turns.iter().enumerate() {
        let (own, after) = rest.split_at(turn.trained_len().min(rest.len()));
        if picked.contains(&turn_idx) {
            kept.extend_from_slice(own);
        }
        rest = after;
    }
    kept
}

/// One epoch, shuffled and cut.
pub(super) fn minibatches(
    trajectories: &[TokenTrajectory],
    config: &LearnerConfig,
    rng: &mut impl Rng,
) -> Vec<Vec<Pick>> {
    match config.minibatch_split {
        MinibatchSplit::Trajectory => {
            let order = shuffled((0..trajectories.len()).collect(), rng);
            let sized = order.into_iter().map(|index| (index, trajectories[index].turns.len()));
            let batches = cut(sized, config.minibatch_turns);
            batches.into_iter().map(|batch| batch.into_iter().map(Pick::Whole).collect()).collect()
        }
        MinibatchSplit::Turn => {
            let turns =
                |(index, it): (usize, &TokenTrajectory)| (0..it.turns.len()).map(move |turn| (index, turn));
            let order = shuffled(trajectories.iter().enumerate().flat_map(turns).collect(), rng);
            let batches = cut(order.into_iter().map(|turn| (turn, 1)), config.minibatch_turns);
            batches.into_iter().map(by_trajectory).collect()
        }
    }
}

/// The turns of one mini-batch, those of one trajectory together.
fn by_trajectory(turns: Vec<(usize, usize)>) -> Vec<Pick> {
    let mut picked: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, turn) in turns {
        picked.entry(index).or_default().push(turn);
    }
    let pick = |(index, mut turns): (usize, Vec<usize>)| {
        turns.sort_unstable();
        Pick::Turns(index, turns)
    };
    picked.into_iter().map(pick).collect()
}

fn shuffled<T>(mut order: Vec<T>, rng: &mut impl Rng) -> Vec<T> {
    for last in (1..order.len()).rev() {
        order.swap(last, rng.random_range(0..=last));
    }
    order
}

/// Runs of items of at least `size` turns; a rest of less than half of that joins the run before it.
fn cut<T>(items: impl Iterator<Item = (T, usize)>, size: usize) -> Vec<Vec<T>> {
    let mut batches = Vec::new();
    let mut current = Vec::new();
    let mut turns = 0;
    for (item, n_turns) in items {
        current.push(item);
        turns += n_turns;
        if turns >= size {
            batches.push(std::mem::take(&mut current));
            turns = 0;
        }
    }
    match batches.last_mut() {
        Some(before) if turns * 2 < size => before.append(&mut current),
        _ if !current.is_empty() => batches.push(current),
        _ => {}
    }
    batches
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use reskill_model::ReplyToken;

    use super::*;

    fn trajectory(n_turns: usize) -> TokenTrajectory {
        let turn = |n: usize| TokenTurn {
            trunk: vec![10 * n as u32, 10 * n as u32 + 1],
            branch: vec![100 + n as u32],
            reply: (0..=n)
                .map(|token| ReplyToken { token: token as u32, logprob: -1.0, allowed: vec![] })
                .collect(),
            invalid: false,
        };
        TokenTrajectory { group: 0, stratum: 0, turns: (0..n_turns).map(turn).collect(), return_: 1.0 }
    }

    fn by_turn(minibatch_turns: usize) -> LearnerConfig {
        LearnerConfig { minibatch_turns, minibatch_split: MinibatchSplit::Turn, ..LearnerConfig::default() }
    }

    fn n_turns(batch: &[Pick]) -> usize {
        let turns = batch.iter().map(|pick| match pick {
            Pick::Whole(_) => panic!("a whole trajectory"),
            Pick::Turns(_, turns) => turns.len(),
        });
        turns.sum()
    }

    #[test]
    fn a_split_by_turn_has_the_exact_count_and_every_turn_once() {
        let trajectories: Vec<TokenTrajectory> = [5, 1, 9, 4, 0, 7].map(trajectory).to_vec();
        let batches = minibatches(&trajectories, &by_turn(6), &mut ChaCha8Rng::seed_from_u64(1));
        // 26 turns in sixes: a rest of 2 is less than half, and joins the last.
        assert_eq!(batches.iter().map(|batch| n_turns(batch)).collect::<Vec<_>>(), [6, 6, 6, 8]);
        let mut seen: Vec<(usize, usize)> = batches
            .iter()
            .flatten()
            .flat_map(|pick| match pick {
                Pick::Turns(index, turns) => turns.iter().map(|turn| (*index, *turn)).collect(),
                Pick::Whole(_) => Vec::new(),
            })
            .collect();
        seen.sort_unstable();
        let all = trajectories.iter().enumerate();
        let all: Vec<(usize, usize)> =
            all.flat_map(|(index, it)| (0..it.turns.len()).map(move |turn| (index, turn))).collect();
        assert_eq!(seen, all);
        // No trajectory stands twice in one mini-batch, so its trunk is run once in it.
        for batch in &batches {
            let indices: std::collections::BTreeSet<usize> = batch
                .iter()
                .map(|pick| match pick {
                    Pick::Whole(index) | Pick::Turns(index, _) => *index,
                })
                .collect();
            assert_eq!(indices.len(), batch.len());
        }
    }

    #[test]
    fn a_picked_turn_keeps_its_prompt_its_advantage_and_its_log_probabilities() {
        let whole = trajectory(4);
        let (advantages, old) =
            (vec![vec![0.0, 1.0, 2.0, 3.0]], vec![(0..10).map(|n| n as f32).collect::<Vec<_>>()]);
        let trajectories = [whole.clone()];
        let part = Pick::Turns(0, vec![1, 3]).part(&trajectories, &advantages, Some(&old));
        let turns = &part.trajectory.turns;
        assert_eq!(turns[0].trunk, [0, 1, 10, 11]);
        assert_eq!(turns[1].trunk, [20, 21, 30, 31]);
        assert_eq!((&turns[0].reply, &turns[1].branch), (&whole.turns[1].reply, &whole.turns[3].branch));
        assert_eq!(part.advantages.as_ref(), [1.0, 3.0]);
        // Turn n has n + 1 trained tokens: those of turn 1 are numbers 1 and 2, those of turn 3 begin at 6.
        assert_eq!(part.old.as_ref(), [1.0, 2.0, 6.0, 7.0, 8.0, 9.0]);
    }
}
