//! A trained run on fixed games, once with each seed.

use anyhow::{Result, bail};
use reskill_envs::Split;
use reskill_skills::SkillBank;

use super::Trained;
use crate::evaluate::{Played, play};
use crate::progress::Progress;
use crate::rollout::RolloutSettings;

/// How games are played.
#[derive(Debug, Clone, PartialEq)]
pub struct HowToPlay {
    /// Games of each split, >= 1.
    pub games: usize,
    /// Each game is played once with each of them.
    pub seeds: Vec<u64>,
    /// Sampling temperature, >= 0; 0 takes the likeliest token.
    pub temperature: f32,
    /// Episodes side by side; the policy's own number if absent.
    pub slots: Option<usize>,
}

impl HowToPlay {
    /// As was asked for with `--games`, `--temperature`, `--seeds` and `--slots`, or else as the run was evaluated.
    ///
    /// # Errors
    /// If there is no game, or the temperature is no number >= 0.
    pub fn of(
        trained: &Trained,
        games: Option<usize>,
        temperature: Option<f32>,
        n_seeds: u64,
        slots: Option<usize>,
    ) -> Result<HowToPlay> {
        let eval = &trained.config.eval;
        let temperature = temperature.unwrap_or(eval.temperature);
        if !(temperature >= 0.0 && temperature.is_finite()) {
            bail!("--temperature {temperature}: expected a number >= 0");
        }
        let games = games.unwrap_or(eval.games);
        if games == 0 {
            bail!("--games 0: expected at least 1");
        }
        let seeds = (0..n_seeds).map(|n| trained.config.seed + n).collect();
        Ok(HowToPlay { games, seeds, temperature, slots })
    }
}

impl Trained {
    /// Plays games of `split` with `bank`, and hands over what was played with each seed; `name` is shown meanwhile.
    ///
    /// # Errors
    /// If the split has no games, one cannot be played, or `take` fails.
    pub fn play(
        &self,
        name: &str,
        split: Split,
        bank: &SkillBank,
        how: &HowToPlay,
        mut take: impl FnMut(u64, Played) -> Result<()>,
    ) -> Result<()> {
        let (suite, policy) = (self.suite.as_ref(), &self.policy);
        let n_games = how.games.min(suite.tasks(split).len());
        if n_games == 0 {
            bail!("--split: {} has no games in {split}", suite.name());
        }
        let settings = RolloutSettings::new(&self.config.rollout, policy, 0, how.temperature);
        let slots = how.slots.unwrap_or(policy.evaluation_slots);
        let mut progress = Progress::new(name, "games", (n_games * how.seeds.len()) as u64, true);
        for (pass, &seed) in how.seeds.iter().enumerate() {
            let mut show =
                |done: usize, _: usize| progress.set((pass * n_games + done) as u64, split.as_str());
            take(seed, play(policy, suite, split, how.games, bank, &settings, seed, slots, &mut show)?)?;
        }
        progress.finish();
        Ok(())
    }
}
