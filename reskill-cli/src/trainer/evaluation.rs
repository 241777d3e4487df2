//! Evaluations of a run: on held-out games, with the bank and without.

use std::time::Instant;

use anyhow::Result;
use reskill_envs::Split;
use reskill_skills::{SkillBank, SkillMode};
use serde_json::json;
use tracing::instrument;

use super::{FINAL, Trainer, WARM_START};
use crate::evaluate::{play, summarise};
use crate::progress::{Progress, print_line};

impl Trainer {
    /// Plays held-out games with `bank`, and without it for the rate of the guided actions if there is one.
    #[instrument(skip(self, games, bank), level = "info")]
    pub(super) fn evaluate(
        &mut self,
        step: u64,
        phase: &str,
        name: &str,
        split: Split,
        games: usize,
        bank: &SkillBank,
    ) -> Result<()> {
        let start = Instant::now();
        self.pack();
        let settings = self.rollout_settings(step, self.config.eval.temperature);
        let total = games.min(self.suite.tasks(split).len()) as u64;
        let mut progress = Progress::new(&format!("eval {name}"), "games", total, true);
        let empty = SkillBank::default();
        let mut play_with = |bank: &SkillBank| {
            play(
                &self.policy,
                self.suite.as_ref(),
                split,
                games,
                bank,
                &settings,
                self.config.seed,
                self.policy.evaluation_slots,
                &mut |done, _| progress.set(done as u64, ""),
            )
        };
        let played = play_with(bank)?;
        // The final table has a column for the bank off even if the bank stayed empty; plain GRPO has none.
        let needs_off = !bank.is_empty() || (phase == FINAL && self.config.skills.mode != SkillMode::Off);
        let without = if needs_off { Some(play_with(&empty)?) } else { None };
        progress.finish();
        self.keep_evaluation(phase, bank, &played)?;
        if let Some(without) = &without {
            self.keep_evaluation(&format!("{phase}_bank_off"), &empty, without)?;
        }
        let suite = self.suite.as_ref();
        let evaluation = summarise(split, &played, without.as_ref(), bank, suite);
        let tokens = played.cost.tokens_run + without.as_ref().map_or(0, |played| played.cost.tokens_run);
        let seconds = self.state.costs.add("evaluation", start, tokens as u64);
        self.metrics.write(&json!({
            "kind": "evaluation",
            "step": step,
            "phase": phase,
            "evaluation": evaluation,
            "time": { "seconds": seconds },
        }))?;
        let off = without.as_ref().map(|without| summarise(split, without, None, &empty, suite));
        let beside = match &off {
            Some(off) if !bank.is_empty() => {
                format!("with skills; {:.1}% without them", off.overall.rate * 100.0)
            }
            _ => "without skills".into(),
        };
        let [low, high] = evaluation.overall.interval.map(|bound| bound * 100.0);
        print_line(&format!(
            "{:>12}  {:.1}% of {} games ({low:.1} to {high:.1}), {:.1} turns, {beside}",
            format!("eval {name}"),
            evaluation.overall.rate * 100.0,
            evaluation.overall.n_games,
            evaluation.mean_turns,
        ));
        let skills: Vec<String> = bank.skills().iter().map(|skill| super::name(skill).to_string()).collect();
        if bank == self.state.lifecycle.incumbent() {
            self.state.validation.note(step, name, &evaluation, &skills);
        }
        if phase == FINAL || phase == WARM_START {
            self.state.validation.keep_games(&format!("{phase}/{name}"), &played);
        }
        self.state.evaluations.insert(format!("{phase}/{name}"), evaluation);
        if let Some(off) = off {
            let phase = format!("{phase}_bank_off");
            self.metrics.write(&json!({
                "kind": "evaluation", "step": step, "phase": phase, "evaluation": off,
            }))?;
            self.state.evaluations.insert(format!("{phase}/{name}"), off);
        }
        Ok(())
    }
}
