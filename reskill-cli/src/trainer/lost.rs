//! Episodes that the environment lost.

use anyhow::{Result, bail};

use super::Trainer;
use crate::progress::print_line;
use crate::rollout::Trajectory;

/// So many steps in a row without one whole episode end the run: the environment does not come back by itself.
const LOST_STEPS: u32 = 3;

impl Trainer {
    /// The episodes that the environment did not lose, and how many it did.
    pub(super) fn whole_episodes(
        &mut self,
        trajectories: Vec<Trajectory>,
    ) -> Result<(Vec<Trajectory>, usize)> {
        let n_played = trajectories.len();
        let fault = trajectories.iter().find_map(|trajectory| trajectory.record.episode.fault.clone());
        let whole: Vec<Trajectory> =
            trajectories.into_iter().filter(|trajectory| !trajectory.record.episode.is_lost()).collect();
        self.lost_steps = if whole.is_empty() { self.lost_steps + 1 } else { 0 };
        let faults = n_played - whole.len();
        if let Some(fault) = fault {
            print_line(&format!("{:>12}  {faults} of {n_played} episodes, e.g. {fault}", "lost"));
            if self.lost_steps == LOST_STEPS {
                bail!("the environment lost every episode of {LOST_STEPS} steps in a row: {fault}");
            }
        }
        Ok((whole, faults))
    }
}
