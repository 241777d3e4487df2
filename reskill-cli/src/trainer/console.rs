//! What a person sees of a step.

use anyhow::Result;
use reskill_skills::{Decision, HistoryRecord, Verdict};

use super::Trainer;
use super::record::StepFacts;
use crate::progress::{print_line, short_rate};
use crate::summary::describe;

impl Trainer {
    pub(super) fn print_step(&self, facts: &StepFacts<'_>) {
        let (step, rates) = (facts.step, facts.tokens_per_second());
        let [rollout_seconds, update_seconds, _] = facts.seconds;
        let test = self.state.lifecycle.posterior_summary().filter(|test| test.n_episodes > 0).map_or(
            String::new(),
            |test| {
                let rates: Vec<String> = test
                    .arms
                    .iter()
                    .map(|arm| format!("{:.2}", arm.successes as f64 / arm.episodes.max(1) as f64))
                    .collect();
                format!("  test old/new {} P(new better) {:.2}", rates.join("/"), test.p_new_better)
            },
        );
        let (policy, update) = match facts.update {
            Some(update) => (
                format!("kl {:.3}  entropy {:.2}", update.ref_kl, update.entropy),
                match update.skipped_updates {
                    0 => format!("update {update_seconds:.1} s ({} tok/s)", short_rate(rates.1)),
                    n => format!(
                        "{n} updates skipped: not finite (batches in {})",
                        self.run.skipped().display()
                    ),
                },
            ),
            None => ("policy frozen".to_string(), "no update".to_string()),
        };
        print_line(&format!(
            "step {step:>3}/{}  success {:.2}  skills {}  {policy}  rollout {rollout_seconds:.1} s ({} tok/s)  \
             {update}{test}",
            self.config.grpo.steps,
            facts.success(),
            self.state.lifecycle.incumbent().skills().len(),
            short_rate(rates.0),
        ));
    }

    /// What happened to the skills in this step.
    pub(super) fn print_skills(&self, decision: Option<&Decision>, n_before: usize) {
        if let Some(decision) = decision {
            let verdict = if decision.verdict == Verdict::Accept { "accepted" } else { "rejected" };
            let z = decision.z.map_or(String::new(), |z| format!(", z {z:.2}"));
            print_line(&format!(
                "      skills  version {verdict} after {} episodes: P(new better) {:.3}{z}",
                decision.n_episodes, decision.p_new_better
            ));
        }
        for record in &self.state.lifecycle.history()[n_before..] {
            print_line(&format!("      skills  {}", in_words(record)));
        }
    }

    /// The same for TensorBoard.
    pub(super) fn remark_history(&mut self, step: u64, n_before: usize) -> Result<()> {
        for record in &self.state.lifecycle.history()[n_before..] {
            let text = format!("{}\n\n{}", in_words(record), record.reason);
            self.metrics.remark("skills/history", step, &text)?;
        }
        Ok(())
    }
}

/// What happened to a version of the bank.
fn in_words(record: &HistoryRecord) -> String {
    let change: Vec<String> = record.operations.iter().map(describe).collect();
    let kind = serde_json::to_value(record.kind).ok();
    let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_string();
    format!("{kind}: {}", change.join("; "))
}
