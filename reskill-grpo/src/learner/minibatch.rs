//! The order of an epoch, and how it is cut into mini-batches.

use rand::{Rng, RngExt};

use crate::trajectory::TokenTrajectory;

/// Shuffled indices in runs of at least `minibatch_turns` turns; a rest of less than half of that joins the run before
/// it.
pub(super) fn minibatches(
    trajectories: &[TokenTrajectory],
    minibatch_turns: usize,
    rng: &mut impl Rng,
) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..trajectories.len()).collect();
    for last in (1..order.len()).rev() {
        order.swap(last, rng.random_range(0..=last));
    }
    let mut batches = Vec::new();
    let mut current = Vec::new();
    let mut turns = 0;
    for index in order {
        current.push(index);
        turns += trajectories[index].turns.len();
        if turns >= minibatch_turns {
            batches.push(std::mem::take(&mut current));
            turns = 0;
        }
    }
    match batches.last_mut() {
        Some(before) if turns * 2 < minibatch_turns => before.append(&mut current),
        _ if !current.is_empty() => batches.push(current),
        _ => {}
    }
    batches
}
