//! A training run: warm start, GRPO with the skill lifecycle, evaluation, files.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use reskill_envs::{Split, Suite};
use reskill_grpo::{Learner, Optimizer, TokenTrajectory, UpdateMetrics, turn_advantages};
use reskill_model::{SamplingParams, Transformer};
use reskill_skills::{Decision, Lifecycle, OfflineCreator, SkillBank, SkillMode, Verdict};
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::checkpoint::{self, Checkpoint};
use crate::config::TrainConfig;
use crate::evaluate::{Evaluation, play, summarise};
use crate::metrics::MetricsWriter;
use crate::policy::{Policy, build_tokenizer};
use crate::progress::{Progress, print_line};
use crate::resources::{Costs, peak_rss_bytes};
use crate::rollout::{Assignment, RolloutCost, RolloutSettings, Trajectory, collect};
use crate::run_dir::{RunDir, write_atomically};
use crate::streams::{permutation, stream};
use crate::suites::open_suite;
use crate::summary::{SplitSummary, Summary, describe, versions};
use crate::warm_start::{demonstrations, epoch_batches};

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Imitating; this many mini-batches are done.
    WarmStart {
        /// Mini-batches done.
        batches: usize,
    },
    /// Training; this many steps are done.
    Train {
        /// Steps done.
        steps: u64,
    },
    /// The summary is written.
    Done,
}

/// All of a run that is not weights: what a checkpoint holds beside them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TrainState {
    /// How far the run has come.
    pub stage: Stage,
    /// Banks, running test, reservoir, assertions, history.
    pub lifecycle: Lifecycle,
    /// Evaluations so far, by name.
    pub evaluations: BTreeMap<String, Evaluation>,
    /// Seconds and tokens by phase.
    pub costs: Costs,
    /// Bytes of `metrics.jsonl`.
    pub metrics_len: u64,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ending {
    /// All steps are done.
    Finished(Box<Summary>),
    /// It was asked to stop, and a checkpoint is written.
    Interrupted,
}

/// A run in memory.
pub struct Trainer {
    config: TrainConfig,
    run: RunDir,
    suite: Box<dyn Suite>,
    policy: Policy,
    reference: Transformer,
    optimizer: Optimizer,
    learner: Learner,
    creator: OfflineCreator,
    metrics: MetricsWriter,
    state: TrainState,
    stop: Arc<AtomicBool>,
}

/// Names of the evaluations that the summary is made of.
const WARM_START: &str = "warm_start";
const FINAL: &str = "final";
const FINAL_BANK_OFF: &str = "final_bank_off";
/// The held-out splits, with their names in the summary.
const HELD_OUT: [(&str, Split); 2] = [("seen", Split::ValidSeen), ("unseen", Split::ValidUnseen)];

impl Trainer {
    /// A new run in an empty directory.
    ///
    /// # Errors
    /// If the environment cannot be opened.
    pub fn new(config: TrainConfig, run: RunDir, stop: Arc<AtomicBool>) -> Result<Trainer> {
        let suite = open_suite(&config.env)?;
        let tokenizer = build_tokenizer(suite.as_ref())?;
        let mut rng = stream(config.seed, "weights", &[]);
        let policy = Policy::init(&config.policy.model, &config.policy.prompt, tokenizer, &mut rng)?;
        let state = TrainState {
            stage: Stage::WarmStart { batches: 0 },
            lifecycle: Lifecycle::new(config.skills.clone(), SkillBank::default())?,
            evaluations: BTreeMap::new(),
            costs: Costs::default(),
            metrics_len: 0,
        };
        write_atomically(&run.config(), config.to_toml()?.as_bytes())?;
        let optimizer = Optimizer::new(policy.model.config(), &config.sft.optimizer)?;
        Trainer::assemble(config, run, suite, policy, None, optimizer, state, stop)
    }

    /// A run as its latest checkpoint left it.
    ///
    /// # Errors
    /// If the checkpoint is missing or damaged.
    pub fn resume(run: RunDir, stop: Arc<AtomicBool>) -> Result<Trainer> {
        let config = TrainConfig::load(Some(&run.config()), &[])?;
        let suite = open_suite(&config.env)?;
        let tokenizer = build_tokenizer(suite.as_ref())?;
        let mut rng = stream(config.seed, "weights", &[]);
        let mut policy = Policy::init(&config.policy.model, &config.policy.prompt, tokenizer, &mut rng)?;
        let model = policy.model.config().clone();
        let Checkpoint { policy: weights, reference, mut optimizer, state } =
            checkpoint::load_latest(&run.checkpoints(), &model, &config.grpo.optimizer)?;
        if matches!(state.stage, Stage::WarmStart { .. }) {
            let (m, v) = optimizer.moments();
            optimizer =
                Optimizer::restore(&config.sft.optimizer, (m.clone(), v.clone()), optimizer.steps())?;
        }
        *policy.model.params_mut() = weights;
        let reference = Transformer::new(&model, reference)?;
        Trainer::assemble(config, run, suite, policy, Some(reference), optimizer, state, stop)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a run, from two constructors")]
    fn assemble(
        config: TrainConfig,
        run: RunDir,
        suite: Box<dyn Suite>,
        policy: Policy,
        reference: Option<Transformer>,
        optimizer: Optimizer,
        state: TrainState,
        stop: Arc<AtomicBool>,
    ) -> Result<Trainer> {
        let learner = Learner::new(policy.model.config(), &config.grpo.learner)?;
        let creator = OfflineCreator::new(config.skills.creator.clone());
        let metrics = MetricsWriter::open(&run.metrics(), state.metrics_len)?;
        let reference = reference.unwrap_or_else(|| policy.model.clone());
        Ok(Trainer {
            config,
            run,
            suite,
            policy,
            reference,
            optimizer,
            learner,
            creator,
            metrics,
            state,
            stop,
        })
    }

    /// Where the run keeps its files.
    #[must_use]
    pub fn run_dir(&self) -> &RunDir {
        &self.run
    }

    /// Runs to the end, or until `stop` is set.
    ///
    /// # Errors
    /// Whatever cannot be read, written or computed. The last checkpoint stays.
    pub fn run(mut self) -> Result<Ending> {
        let count = self.policy.model.params().count();
        print_line(&format!(
            "{}: {} training games, {} seen, {} unseen; policy of {count} parameters, {} words",
            self.suite.name(),
            self.suite.tasks(Split::Train).len(),
            self.suite.tasks(Split::ValidSeen).len(),
            self.suite.tasks(Split::ValidUnseen).len(),
            self.policy.tokenizer.vocab_size(),
        ));
        if let Stage::WarmStart { batches } = self.state.stage {
            if !self.warm_start(batches)? {
                return Ok(Ending::Interrupted);
            }
        }
        while let Stage::Train { steps } = self.state.stage {
            if steps >= self.config.grpo.steps {
                break;
            }
            self.step(steps + 1)?;
            if self.stop.load(Ordering::SeqCst) {
                self.checkpoint()?;
                return Ok(Ending::Interrupted);
            }
        }
        let summary = self.finish()?;
        Ok(Ending::Finished(Box::new(summary)))
    }

    /// Imitates the demonstrations; `false` if it was asked to stop.
    fn warm_start(&mut self, done: usize) -> Result<bool> {
        let start = Instant::now();
        let demos = demonstrations(&self.config, &self.policy)?;
        let solved = demos.iter().filter(|demo| demo.return_ > 0.0).count();
        let tokens: usize = demos.iter().map(TokenTrajectory::packed_len).sum();
        print_line(&format!(
            "warm start: {} demonstrations ({solved} reach the goal), {tokens} tokens, {:.1} s",
            demos.len(),
            self.state.costs.add("demonstrations", start, 0)
        ));
        let per_epoch = epoch_batches(&self.config, 0).len();
        let total = per_epoch * self.config.sft.epochs;
        let mut progress = Progress::new("warm start", "batches", total as u64, true);
        for index in done..total {
            let start = Instant::now();
            let (epoch, batch) = (index / per_epoch, index % per_epoch);
            let members: Vec<&TokenTrajectory> =
                epoch_batches(&self.config, epoch)[batch].iter().map(|&demo| &demos[demo]).collect();
            let metrics = self.learner.imitate(&mut self.policy.model, &mut self.optimizer, &members)?;
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
                &format!("loss {:.3}, {:.0}k tokens/s", metrics.loss, tokens_per_second / 1e3),
            );
            if self.stop.load(Ordering::SeqCst) {
                progress.finish();
                self.checkpoint()?;
                return Ok(false);
            }
        }
        progress.finish();
        self.reference = self.policy.model.clone();
        self.optimizer = Optimizer::new(self.policy.model.config(), &self.config.grpo.optimizer)?;
        self.state.stage = Stage::Train { steps: 0 };
        for (name, split) in HELD_OUT {
            let bank = SkillBank::default();
            self.evaluate(0, WARM_START, name, split, self.config.eval.games, &bank)?;
        }
        self.checkpoint()?;
        Ok(true)
    }

    /// One step: rollouts, update, version test, creator.
    fn step(&mut self, step: u64) -> Result<()> {
        let start = Instant::now();
        let (trajectories, cost) = self.rollout(step)?;
        let rollout_seconds = self.state.costs.add("rollout", start, cost.tokens_run as u64);
        let start = Instant::now();
        let update = self.update(step, &trajectories)?;
        let update_seconds = self.state.costs.add("update", start, update.packed_tokens);
        let start = Instant::now();
        let records: Vec<_> = trajectories.into_iter().map(|trajectory| trajectory.record).collect();
        let decision = self.state.lifecycle.observe(step, &records)?;
        let posterior = self.state.lifecycle.posterior_summary();
        let n_history = self.state.lifecycle.history().len();
        self.state.lifecycle.evolve(step, &mut self.creator, self.suite.vocabulary());
        let skills_seconds = self.state.costs.add("skills", start, 0);
        let won = records.iter().filter(|record| record.episode.is_success()).count();
        let success = won as f64 / records.len().max(1) as f64;
        let turns: usize = records.iter().map(|record| record.episode.turns.len()).sum();
        let invalid: usize =
            records.iter().flat_map(|record| &record.episode.turns).filter(|turn| !turn.valid).count();
        let bank: Vec<&str> = self.state.lifecycle.incumbent().skills().iter().map(name).collect();
        let rates = (
            cost.tokens_run as f64 / rollout_seconds.max(1e-9),
            update.packed_tokens as f64 / update_seconds.max(1e-9),
        );
        self.metrics.write(&json!({
            "kind": "step",
            "step": step,
            "success": success,
            "episodes": records.len(),
            "mean_turns": turns as f64 / records.len().max(1) as f64,
            "invalid_fraction": invalid as f64 / turns.max(1) as f64,
            "update": update,
            "posterior": posterior.as_ref(),
            "decision": decision.as_ref().map(|decision| decision.verdict),
            "bank": bank,
            "tokens": {
                "run": cost.tokens_run,
                "without_reuse": cost.tokens_without_reuse,
                "generated": cost.tokens_generated,
            },
            "time": {
                "rollout_seconds": rollout_seconds,
                "update_seconds": update_seconds,
                "skills_seconds": skills_seconds,
                "rollout_tokens_per_second": rates.0,
                "update_tokens_per_second": rates.1,
            },
        }))?;
        self.print_step(step, success, &update, rollout_seconds, update_seconds, rates);
        self.print_skills(decision.as_ref(), n_history);
        self.write_history()?;
        self.state.stage = Stage::Train { steps: step };
        let every = self.config.eval.every;
        if every > 0 && step.is_multiple_of(every) && step < self.config.grpo.steps {
            for (name, split) in HELD_OUT {
                let bank = self.state.lifecycle.incumbent().clone();
                self.evaluate(step, "during", name, split, self.config.eval.games_during, &bank)?;
            }
        }
        let every = self.config.checkpoint.every;
        if every > 0 && step.is_multiple_of(every) {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Plays this step's groups.
    fn rollout(&self, step: u64) -> Result<(Vec<Trajectory>, RolloutCost)> {
        let seed = self.config.seed;
        let (tasks_per_step, group_size) = (self.config.rollout.tasks_per_step, self.config.rollout.group_size);
        let tasks = self.suite.tasks(Split::Train);
        let mut assignments = Vec::with_capacity(tasks_per_step * group_size);
        for index in 0..tasks_per_step {
            // Task `n` of the run: the games in one random order after the other, so that all come equally often.
            let n = (step - 1) as usize * tasks_per_step + index;
            let (pass, position) = (n / tasks.len(), n % tasks.len());
            let order = permutation(tasks.len(), &mut stream(seed, "task order", &[pass as u64]));
            let group = n as u64;
            let arms = self.state.lifecycle.assign_arms(group_size, &mut stream(seed, "arms", &[group]));
            for (member, arm) in arms.into_iter().enumerate() {
                assignments.push(Assignment {
                    task: Arc::clone(&tasks[order[position]]),
                    group,
                    arm,
                    bank: self.state.lifecycle.bank(arm),
                    rng: stream(seed, "rollout", &[group, member as u64]),
                });
            }
        }
        let settings = self.rollout_settings(step, self.config.rollout.temperature);
        let mut progress =
            Progress::new("rollout", "turns", self.config.rollout.max_turns as u64, false);
        let result = collect(&self.policy, self.suite.as_ref(), assignments, &settings, &mut |turn, n, of| {
            progress.set(turn as u64, &format!("{n} of {of} episodes running"));
        });
        progress.finish();
        result
    }

    /// Updates the policy, unless it is frozen.
    fn update(&mut self, step: u64, trajectories: &[Trajectory]) -> Result<UpdateMetrics> {
        let tokens: Vec<TokenTrajectory> =
            trajectories.iter().map(|trajectory| trajectory.tokens.clone()).collect();
        let grpo = &self.config.grpo;
        let advantages = turn_advantages(&tokens, &grpo.advantage)?;
        let mut progress = Progress::new("update", "steps", 1, false);
        progress.set(0, "");
        let metrics = self.learner.update(
            &mut self.policy.model,
            &mut self.optimizer,
            &self.reference,
            &tokens,
            &advantages,
            &grpo.loss,
            self.config.rollout.temperature,
            &mut stream(self.config.seed, "mini-batches", &[step]),
        );
        progress.finish();
        metrics.with_context(|| format!("step {step}"))
    }

    /// Plays held-out games with `bank`, and without it for the rate of the guided actions if there is one.
    fn evaluate(
        &mut self,
        step: u64,
        phase: &str,
        name: &str,
        split: Split,
        games: usize,
        bank: &SkillBank,
    ) -> Result<()> {
        let start = Instant::now();
        let settings = self.rollout_settings(step, self.config.eval.temperature);
        let mut progress = Progress::new(&format!("eval {name}"), "games", games as u64, false);
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
                &mut |done, _| progress.set(done as u64, ""),
            )
        };
        let played = play_with(bank)?;
        let is_final = phase == FINAL && self.config.skills.mode != SkillMode::Off;
        let without = if is_final { Some(play_with(&empty)?) } else { None };
        progress.finish();
        let suite = self.suite.as_ref();
        let evaluation = summarise(split, &played, without.as_ref(), bank, suite);
        let seconds = self.state.costs.add("evaluation", start, played.cost.tokens_run as u64);
        self.metrics.write(&json!({
            "kind": "evaluation",
            "step": step,
            "phase": phase,
            "evaluation": evaluation,
            "time": { "seconds": seconds },
        }))?;
        let [low, high] = evaluation.overall.interval.map(|bound| bound * 100.0);
        print_line(&format!(
            "{:>12}  {:.1}% of {} games ({low:.1} to {high:.1}), {:.1} turns{}",
            format!("eval {name}"),
            evaluation.overall.rate * 100.0,
            evaluation.overall.n_games,
            evaluation.mean_turns,
            if bank.skills().is_empty() { "" } else { ", with skills" },
        ));
        self.state.evaluations.insert(format!("{phase}/{name}"), evaluation);
        if let Some(without) = without {
            let off = summarise(split, &without, None, &empty, suite);
            self.metrics.write(&json!({
                "kind": "evaluation", "step": step, "phase": FINAL_BANK_OFF, "evaluation": off,
            }))?;
            self.state.evaluations.insert(format!("{FINAL_BANK_OFF}/{name}"), off);
        }
        Ok(())
    }

    fn rollout_settings(&self, step: u64, temperature: f32) -> RolloutSettings {
        RolloutSettings {
            max_turns: self.config.rollout.max_turns,
            success_reward: self.config.rollout.success_reward,
            sampling: SamplingParams {
                temperature,
                max_new_tokens: self.config.rollout.max_new_tokens,
                end_token: self.policy.tokenizer.end_token(),
            },
            step,
        }
    }

    /// Last evaluations, summary, policy, report.
    fn finish(&mut self) -> Result<Summary> {
        let steps = self.config.grpo.steps;
        if self.state.stage != Stage::Done {
            for (name, split) in HELD_OUT {
                let bank = self.state.lifecycle.incumbent().clone();
                self.evaluate(steps, FINAL, name, split, self.config.eval.games, &bank)?;
            }
            self.state.stage = Stage::Done;
        }
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
        let summary = Summary {
            seen: split("seen")?,
            unseen: split("unseen")?,
            versions: versions(lifecycle.history()),
            seconds: self.state.costs.total_seconds(),
            peak_rss_bytes: peak_rss_bytes(),
            seed: self.config.seed,
            steps,
            skills: lifecycle.incumbent().skills().iter().map(|skill| name(skill).to_string()).collect(),
            seconds_by_phase: self.state.costs.seconds.clone(),
            evaluations: self.state.evaluations.clone(),
        };
        let json = serde_json::to_vec_pretty(&summary).context("the summary cannot be written as JSON")?;
        write_atomically(&self.run.summary(), &json)?;
        self.checkpoint()?;
        crate::report::write(&self.run)?;
        Ok(summary)
    }

    /// Saves everything that the run needs to go on.
    fn checkpoint(&mut self) -> Result<()> {
        self.state.metrics_len = self.metrics.len();
        let name = match self.state.stage {
            Stage::WarmStart { batches } => format!("0-warm-start-{batches:06}"),
            Stage::Train { steps } => format!("1-step-{steps:06}"),
            Stage::Done => format!("2-done-{:06}", self.config.grpo.steps),
        };
        checkpoint::save(
            &self.run.checkpoints(),
            &name,
            self.config.checkpoint.keep,
            self.policy.model.config(),
            self.policy.model.params(),
            self.reference.params(),
            &self.optimizer,
            &self.state,
        )?;
        Ok(())
    }

    /// The bank and its history, as files.
    fn write_history(&self) -> Result<()> {
        let lifecycle = &self.state.lifecycle;
        reskill_skills::store::save_bank(&self.run.skills(), lifecycle.incumbent())?;
        reskill_skills::store::save_history(&self.run.history(), lifecycle.history())?;
        Ok(())
    }

    /// The policy as a folder with Hugging Face's file names.
    fn write_policy(&self) -> Result<()> {
        let dir = self.run.policy();
        let model = self.policy.model.config();
        let weights = reskill_model::weights::to_safetensors(model, self.policy.model.params())?;
        write_atomically(&dir.join("model.safetensors"), &weights)?;
        write_atomically(&dir.join("tokenizer.json"), self.policy.tokenizer.to_json()?.as_bytes())?;
        let mut config = serde_json::to_value(model).context("the model's sizes cannot be written as JSON")?;
        config["architectures"] = json!(["LlamaForCausalLM"]);
        config["model_type"] = json!("llama");
        config["hidden_act"] = json!("silu");
        config["torch_dtype"] = json!("float32");
        config["eos_token_id"] = json!(self.policy.tokenizer.end_token());
        let config = serde_json::to_vec_pretty(&config).context("the model's sizes cannot be written as JSON")?;
        write_atomically(&dir.join("config.json"), &config)
    }

    fn print_step(
        &self,
        step: u64,
        success: f64,
        update: &UpdateMetrics,
        rollout_seconds: f64,
        update_seconds: f64,
        rates: (f64, f64),
    ) {
        let test = self.state.lifecycle.posterior_summary().map_or(String::new(), |test| {
            let rates: Vec<String> = test
                .arms
                .iter()
                .map(|arm| format!("{:.2}", arm.successes as f64 / arm.episodes.max(1) as f64))
                .collect();
            format!("  test old/new {} P(new better) {:.2}", rates.join("/"), test.p_new_better)
        });
        print_line(&format!(
            "step {step:>3}/{}  success {:.2}  skills {}  kl {:.3}  entropy {:.2}  rollout {rollout_seconds:.1} s \
             ({:.0}k tok/s)  update {update_seconds:.1} s ({:.0}k tok/s){test}",
            self.config.grpo.steps,
            success,
            self.state.lifecycle.incumbent().skills().len(),
            update.ref_kl,
            update.entropy,
            rates.0 / 1e3,
            rates.1 / 1e3,
        ));
    }

    /// What happened to the skills in this step.
    fn print_skills(&self, decision: Option<&Decision>, n_before: usize) {
        if let Some(decision) = decision {
            let verdict = if decision.verdict == Verdict::Accept { "accepted" } else { "rejected" };
            let z = decision.z.map_or(String::new(), |z| format!(", z {z:.2}"));
            print_line(&format!(
                "      skills  version {verdict} after {} episodes: P(new better) {:.3}{z}",
                decision.n_episodes, decision.p_new_better
            ));
        }
        for record in &self.state.lifecycle.history()[n_before..] {
            let change: Vec<String> = record.operations.iter().map(describe).collect();
            let kind = serde_json::to_value(record.kind).ok();
            let kind = kind.as_ref().and_then(serde_json::Value::as_str).unwrap_or_default().to_string();
            print_line(&format!("      skills  {kind}: {}", change.join("; ")));
        }
    }
}

fn name(skill: &reskill_skills::Skill) -> &str {
    &skill.content.name
}
