//! The files of a run: checkpoints, skills, policy, summary, report.

use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use reskill_model::weights::SaveOptions;
use reskill_skills::SkillMode;
use serde_json::json;
use tracing::instrument;

use super::{FINAL, FINAL_BANK_OFF, HELD_OUT, Stage, Trainer, WARM_START, name};
use crate::checkpoint::{self, Parts};
use crate::creators::CreatorSummary;
use crate::model_source;
use crate::run_dir::write_atomically;
use crate::summary::{SplitSummary, Summary, versions};

impl Trainer {
    /// The evaluations after training; `false` if it was asked to stop between them.
    pub(super) fn last_evaluations(&mut self) -> Result<bool> {
        for (name, split) in HELD_OUT {
            if self.state.evaluations.contains_key(&format!("{FINAL}/{name}")) {
                continue;
            }
            // After no step, without skills, the games would be played as after the warm start.
            let unchanged = self.config.grpo.steps == 0 && self.config.skills.mode == SkillMode::Off;
            let before = self.state.evaluations.get(&format!("{WARM_START}/{name}")).cloned();
            if let Some(evaluation) = before.filter(|_| unchanged) {
                self.metrics.write(&json!({
                    "kind": "evaluation", "step": 0, "phase": FINAL, "evaluation": evaluation,
                }))?;
                self.state.evaluations.insert(format!("{FINAL}/{name}"), evaluation);
                continue;
            }
            let bank = self.state.lifecycle.incumbent().clone();
            self.evaluate(self.config.grpo.steps, FINAL, name, split, self.config.eval.games, &bank)?;
            if self.stop.load(Ordering::SeqCst) {
                self.checkpoint()?;
                return Ok(false);
            }
        }
        self.state.stage = Stage::Done;
        Ok(true)
    }

    /// Summary, policy, report.
    pub(super) fn finish(&mut self) -> Result<Summary> {
        let steps = self.config.grpo.steps;
        self.state.costs.note(&mut self.since);
        self.write_history()?;
        self.write_policy()?;
        let split = |name: &str| -> Result<SplitSummary> {
            let rate = |phase: &str| {
                self.state.evaluations.get(&format!("{phase}/{name}")).map(|evaluation| evaluation.overall)
            };
            let last = rate(FINAL).context("the run has no final evaluation")?;
            Ok(SplitSummary {
                warm_start: rate(WARM_START).map_or(0.0, |success| success.rate),
                r#final: last.rate,
                final_bank_off: rate(FINAL_BANK_OFF).map(|success| success.rate),
                n_games: last.n_games,
            })
        };
        let lifecycle = &self.state.lifecycle;
        let adaptation = self
            .config
            .is_frozen()
            .then(|| self.state.validation.adaptation(WARM_START, FINAL, self.state.unknown_words.clone()));
        let summary = Summary {
            seen: split("seen")?,
            unseen: split("unseen")?,
            versions: versions(lifecycle.history()),
            seconds: self.state.costs.wall_seconds,
            peak_rss_bytes: self.state.costs.peak_rss_bytes,
            seed: self.config.seed,
            steps,
            skills: lifecycle.incumbent().skills().iter().map(|skill| name(skill).to_string()).collect(),
            creator: CreatorSummary::of(lifecycle),
            seconds_by_phase: self.state.costs.seconds.clone(),
            tokens_by_phase: self.state.costs.tokens.clone(),
            evaluations: self.state.evaluations.clone(),
            adaptation,
        };
        let json = serde_json::to_vec_pretty(&summary).context("the summary cannot be written as JSON")?;
        write_atomically(&self.run.summary(), &json)?;
        self.checkpoint()?;
        crate::report::write(&self.run)?;
        Ok(summary)
    }

    /// Whether this step was evaluated and did better than every checkpoint there is.
    pub(super) fn is_best_so_far(&self) -> Result<bool> {
        if self.config.checkpoint.keep_best == 0 {
            return Ok(false);
        }
        let Some(score) = self.state.score() else { return Ok(false) };
        let best = checkpoint::best_score(&self.run.checkpoints())?;
        Ok(best.is_none_or(|best| score.success > best.success))
    }

    /// Saves everything that the run needs to go on.
    #[instrument(skip(self), level = "info")]
    pub(super) fn checkpoint(&mut self) -> Result<()> {
        self.metrics.sync()?;
        self.episodes.sync()?;
        self.state.metrics_len = self.metrics.len();
        self.state.episodes_len = self.episodes.len();
        self.state.costs.note(&mut self.since);
        let name = match self.state.stage {
            Stage::WarmStart { batches } => format!("0-warm-start-{batches:06}"),
            Stage::Train { steps } => format!("1-step-{steps:06}"),
            Stage::Done => format!("2-done-{:06}", self.config.grpo.steps),
        };
        let learning = self.learning.as_ref();
        checkpoint::save(
            &self.run.checkpoints(),
            &name,
            &self.config.checkpoint,
            self.state.score(),
            Parts {
                policy: &self.policy.model,
                optimizer: learning.map(|learning| &learning.optimizer),
                reference: learning.and_then(|learning| learning.reference.as_ref()),
                bases: &self.bases,
                state: &self.state,
            },
        )?;
        Ok(())
    }

    /// The bank and its history, as files.
    pub(super) fn write_history(&self) -> Result<()> {
        let lifecycle = &self.state.lifecycle;
        reskill_skills::store::save_bank(&self.run.skills(), lifecycle.incumbent())?;
        if let Some(bank) = &self.config.bank {
            // Scripts and references of skills that the run began with; gone by now, they do not matter.
            if bank.is_dir() {
                reskill_skills::library::copy_other_files(bank, &self.run.skills())?;
            }
        }
        reskill_skills::store::save_history(&self.run.history(), lifecycle.history())?;
        Ok(())
    }

    /// The policy as a folder with Hugging Face's file names; an adapter alone as a folder of PEFT.
    pub(super) fn write_policy(&self) -> Result<()> {
        if self.learning.is_none() {
            // The policy lies where it came from.
            return Ok(());
        }
        let dir = self.run.policy();
        if let Some(language) = &self.policy.language {
            let model = &self.policy.model;
            match model.adapter() {
                Some(adapter) if !self.config.model.merge => {
                    adapter.save(&dir, &model_source::public_name(&self.config.model.path))?;
                }
                Some(_) => {
                    let mut merged = model.clone();
                    merged.merge_adapter()?;
                    language.checkpoint.save(&merged, &dir, &SaveOptions::default())?;
                }
                None => language.checkpoint.save(model, &dir, &SaveOptions::default())?,
            }
            return Ok(());
        }
        let model = self.policy.model.config();
        let weights = reskill_model::weights::to_safetensors(model, self.policy.model.params())?;
        write_atomically(&dir.join("model.safetensors"), &weights)?;
        write_atomically(&dir.join("tokenizer.json"), self.policy.tokenizer.to_json()?.as_bytes())?;
        let end_token = json!(self.policy.tokenizer.end_token());
        let config = reskill_model::hf_config::to_json(model, "float32", &[("eos_token_id", end_token)])?;
        write_atomically(&dir.join("config.json"), config.as_bytes())
    }
}
