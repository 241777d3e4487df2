//! The warm start of a run.

use std::sync::atomic::Ordering;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use reskill_grpo::TokenTrajectory;
use reskill_skills::SkillBank;
use serde_json::json;

use super::learning::Learning;
use super::{HELD_OUT, Stage, Trainer, WARM_START};
use crate::progress::{Progress, print_line, short_rate};
use crate::warm_start::{demonstrations, epoch_batches};

impl Trainer {
    /// Imitates the demonstrations and sees how far that carries; `false` if it was asked to stop.
    pub(super) fn warm_start(&mut self, done: usize) -> Result<bool> {
        if self.config.has_warm_start() && !self.imitate(done)? {
            return Ok(false);
        }
        if let Some(learning) = &mut self.learning {
            learning.begin_optimisation(&self.config, &self.policy)?;
        }
        self.state.stage = Stage::Train { steps: 0 };
        // After imitation there is nothing that a bank could have taught; frozen weights play what they came with.
        let bank = match self.config.is_frozen() {
            true => self.state.lifecycle.incumbent().clone(),
            false => SkillBank::default(),
        };
        for (name, split) in HELD_OUT {
            self.evaluate(0, WARM_START, name, split, self.config.eval.games, &bank)?;
        }
        self.checkpoint()?;
        Ok(true)
    }

    /// The mini-batches from `done` on; `false` if it was asked to stop.
    fn imitate(&mut self, done: usize) -> Result<bool> {
        let start = Instant::now();
        let demos = demonstrations(&self.config, &self.policy)?;
        let longest = demos.iter().map(TokenTrajectory::longest_context).max().unwrap_or(0);
        let capacity = self.policy.context;
        if longest > capacity {
            bail!(
                "a demonstration needs a context of {longest} tokens: raise {} = {capacity}, or lower \
                 rollout.max_turns",
                self.policy.context_key()
            );
        }
        let replies = demos.iter().flat_map(|demo| &demo.turns).map(|turn| turn.reply.len());
        let (reply, limit) = (replies.max().unwrap_or(0), self.config.rollout.max_new_tokens);
        if self.policy.language.is_some() && reply > limit {
            bail!("a demonstrated reply has {reply} tokens: raise rollout.max_new_tokens = {limit}");
        }
        let solved = demos.iter().filter(|demo| demo.return_ > 0.0).count();
        let tokens: usize = demos.iter().map(TokenTrajectory::packed_len).sum();
        print_line(&format!(
            "warm start: {} demonstrations ({solved} reach the goal), {tokens} tokens, {:.1} s",
            demos.len(),
            self.state.costs.add("demonstrations", start, 0)
        ));
        let batches: Vec<Vec<Vec<usize>>> =
            (0..self.config.sft.epochs).map(|epoch| epoch_batches(&self.config, epoch)).collect();
        let per_epoch = batches.first().map_or(1, Vec::len);
        let total = (per_epoch * batches.len()).min(self.config.sft.steps.unwrap_or(usize::MAX));
        let mut progress = Progress::new("warm start", "batches", total as u64, true);
        for index in done..total {
            let start = Instant::now();
            let (epoch, batch) = (index / per_epoch, index % per_epoch);
            let members: Vec<&TokenTrajectory> =
                batches[epoch][batch].iter().map(|&demo| &demos[demo]).collect();
            let Learning { learner, optimizer, .. } =
                self.learning.as_mut().context("frozen weights are not trained")?;
            let metrics = learner.imitate(&mut self.policy.model, optimizer, &members)?;
            let seconds = self.state.costs.add("warm_start", start, metrics.packed_tokens);
            let tokens_per_second = metrics.packed_tokens as f64 / seconds.max(1e-9);
            self.metrics.write(&json!({
                "kind": "warm_start",
                "batch": index + 1,
                "epoch": epoch + 1,
                "update": metrics,
                "time": { "seconds": seconds, "tokens_per_second": tokens_per_second },
            }))?;
            self.state.stage = Stage::WarmStart { batches: index + 1 };
            progress.set(
                index as u64 + 1,
                &format!("loss {:.3}, {} tokens/s", metrics.loss, short_rate(tokens_per_second)),
            );
            if (index + 1).is_multiple_of(per_epoch) {
                self.checkpoint()?;
            }
            if self.stop.load(Ordering::SeqCst) {
                progress.finish();
                self.checkpoint()?;
                return Ok(false);
            }
        }
        progress.finish();
        Ok(true)
    }
}
