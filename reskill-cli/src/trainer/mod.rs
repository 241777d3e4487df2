//! A training run: warm start, GRPO with the skill lifecycle, evaluation, files.

mod start;
mod learning;
mod imitation;
mod lost;
mod evaluation;
mod record;
mod keep;
mod console;
mod files;
mod groups;
mod restore;
mod playing;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use anyhow::{Context, Result};
use reskill_envs::{Split, Suite};
use reskill_grpo::{
    Optimizer, Reference, StepOutcome, TokenTrajectory, UpdateMetrics, turn_advantages_with_steps,
};
use reskill_skills::Lifecycle;
use serde::{Deserialize, Serialize};
use tracing::{info, info_span, instrument};

use self::learning::Learning;
pub use self::playing::HowToPlay;
use self::record::StepFacts;
use self::restore::Restored;
pub use self::restore::Trained;
use self::start::{base_models, initial_bank, unknown_words, untrained};
use crate::base_model::BaseModel;
use crate::checkpoint::{self, CheckpointChoice, Score};
use crate::config::TrainConfig;
use crate::creators::CreatorRunner;
use crate::episodes::uses;
use crate::evaluate::Evaluation;
use crate::journal::Journal;
use crate::journal::prometheus::PrometheusServer;
use crate::jsonl::JsonlWriter;
use crate::memory::{Purpose, planned_memory};
use crate::output::{Shown, show};
use crate::policy::Policy;
use crate::progress::{Progress, print_line};
use crate::resources::Costs;
use crate::rollout::{Assignment, RolloutCost, RolloutSettings, Trajectory, collect};
use crate::run_dir::{RunDir, write_atomically};
use crate::streams::{permutation, stream};
use crate::summary::Summary;
use crate::unknown_words::UnknownWords;
use crate::validation::Validation;

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
    /// Bytes of `episodes.jsonl`.
    #[serde(default)]
    pub episodes_len: u64,
    /// What the evaluations show together.
    #[serde(default)]
    pub validation: Validation,
    /// What the policy cannot read, if it was trained on other words.
    #[serde(default)]
    pub unknown_words: Option<UnknownWords>,
}

impl TrainState {
    /// The validation success of exactly this policy and bank, if they were evaluated.
    fn score(&self) -> Option<Score> {
        match self.stage {
            Stage::WarmStart { .. } => None,
            Stage::Train { steps } => self.validation.score_of(steps),
            Stage::Done => self.validation.score,
        }
    }
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
    /// What updates the policy; absent if its weights are frozen from the first step to the last.
    learning: Option<Learning>,
    bases: Vec<BaseModel>,
    creator: CreatorRunner,
    metrics: Journal,
    /// Kept episodes.
    episodes: JsonlWriter,
    state: TrainState,
    stop: Arc<AtomicBool>,
    /// Since when this process adds to the run's seconds.
    since: Instant,
    /// Steps in a row of which the environment lost every episode.
    lost_steps: u32,
}

/// Names of the evaluations that the summary is made of.
const WARM_START: &str = "warm_start";
const FINAL: &str = "final";
const FINAL_BANK_OFF: &str = "final_bank_off";
/// The held-out splits, with their names in the summary.
const HELD_OUT: [(&str, Split); 2] = [("seen", Split::ValidSeen), ("unseen", Split::ValidUnseen)];

/// What memory is needed for: frozen weights are played with, and nothing else.
fn purpose(config: &TrainConfig) -> Purpose {
    if config.is_frozen() { Purpose::Playing(None) } else { Purpose::Training }
}

impl Trainer {
    /// A new run in an empty directory.
    ///
    /// # Errors
    /// If the environment cannot be opened.
    pub fn new(config: TrainConfig, run: RunDir, stop: Arc<AtomicBool>) -> Result<Trainer> {
        let prometheus = config.log.prometheus.map(PrometheusServer::start).transpose()?;
        let (suite, policy) = untrained(&config, purpose(&config))?;
        let state = TrainState {
            stage: Stage::WarmStart { batches: 0 },
            lifecycle: Lifecycle::new(config.skills.clone(), initial_bank(&config)?)?,
            evaluations: BTreeMap::new(),
            costs: Costs::default(),
            metrics_len: 0,
            episodes_len: 0,
            validation: Validation::default(),
            unknown_words: unknown_words(&config, suite.as_ref(), &policy)?,
        };
        let creator = CreatorRunner::open(&config, &run, &policy.tokenizer)?;
        // The configuration first: a run that was killed before its first checkpoint begins anew from it.
        write_atomically(&run.config(), config.to_toml()?.as_bytes())?;
        run.create()?;
        let learning = match config.is_frozen() {
            true => None,
            false => {
                let optimizer = Optimizer::for_model(&policy.model, &config.sft.optimizer)?;
                Some(Learning::new(&config, &run, &policy, optimizer, None)?)
            }
        };
        let bases = base_models(&config)?;
        let mut trainer =
            Trainer::assemble(config, run, suite, policy, learning, bases, creator, state, stop, prometheus)?;
        trainer.checkpoint()?;
        Ok(trainer)
    }

    /// A run as a checkpoint left it, or from its beginning if it was stopped before the first one; `config` is the run's own.
    /// Checkpoints after the chosen one step aside.
    ///
    /// # Errors
    /// If the checkpoint is missing or damaged.
    pub fn resume(
        config: TrainConfig,
        run: RunDir,
        from: CheckpointChoice,
        stop: Arc<AtomicBool>,
    ) -> Result<Trainer> {
        if !checkpoint::any(&run.checkpoints())? {
            print_line("there is no checkpoint yet: the run begins anew");
            return Trainer::new(config, run, stop);
        }
        let prometheus = config.log.prometheus.map(PrometheusServer::start).transpose()?;
        let path = checkpoint::choose(&run.checkpoints(), from)?;
        let Restored { suite, policy, learned, bases, state } =
            Restored::read(&config, &path, purpose(&config))?;
        for moved in checkpoint::set_aside_after(&run.checkpoints(), &path)? {
            print_line(&format!("a later checkpoint steps aside: {}", moved.display()));
        }
        let learning = match learned {
            Some((optimizer, reference)) => {
                Some(Learning::new(&config, &run, &policy, optimizer, reference)?)
            }
            None => None,
        };
        let mut creator = CreatorRunner::open(&config, &run, &policy.tokenizer)?;
        creator.resume(&state.lifecycle);
        Trainer::assemble(config, run, suite, policy, learning, bases, creator, state, stop, prometheus)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a run, from two constructors")]
    fn assemble(
        config: TrainConfig,
        run: RunDir,
        suite: Box<dyn Suite>,
        policy: Policy,
        learning: Option<Learning>,
        bases: Vec<BaseModel>,
        creator: CreatorRunner,
        state: TrainState,
        stop: Arc<AtomicBool>,
        prometheus: Option<PrometheusServer>,
    ) -> Result<Trainer> {
        if let Some(server) = &prometheus {
            print_line(&format!("numbers for Prometheus: http://{}/metrics", server.address()));
        }
        let step = if let Stage::Train { steps } = state.stage { steps } else { 0 };
        let metrics = Journal::open(&run, &config.log, state.metrics_len, step, prometheus)?;
        let episodes = keep::open(&run.episodes(), state.episodes_len)?;
        Ok(Trainer {
            config,
            run,
            suite,
            policy,
            learning,
            bases,
            creator,
            metrics,
            episodes,
            state,
            stop,
            since: Instant::now(),
            lost_steps: 0,
        })
    }

    /// Where the run keeps its files.
    #[must_use]
    pub fn run_dir(&self) -> &RunDir {
        &self.run
    }

    /// Its configuration.
    #[must_use]
    pub fn config(&self) -> &TrainConfig {
        &self.config
    }

    /// Runs to the end, or until `stop` is set.
    ///
    /// # Errors
    /// Whatever cannot be read, written or computed. The last checkpoint stays.
    pub fn run(mut self) -> Result<Ending> {
        let count = self.policy.model.params().count();
        let trained: usize = self.policy.model.trainable().iter().map(|tensor| tensor.len()).sum();
        let adapter = match self.policy.model.adapter() {
            Some(_) => format!(", {trained} more in the adapter that is trained"),
            None => String::new(),
        };
        print_line(&format!(
            "{}: {} training games, {} seen, {} unseen; policy of {count} parameters{adapter}, {} {}",
            self.suite.name(),
            self.suite.tasks(Split::Train).len(),
            self.suite.tasks(Split::ValidSeen).len(),
            self.suite.tasks(Split::ValidUnseen).len(),
            self.policy.tokenizer.vocab_size(),
            if self.policy.language.is_some() { "tokens" } else { "words" },
        ));
        let device = self.policy.model.device();
        print_line(&format!("device: {}", device.describe()));
        let (sizes, context) = (self.policy.model.config(), self.policy.context);
        let plan = planned_memory(&self.config, sizes, context, &device, purpose(&self.config));
        print_line(&format!("memory: {plan}"));
        if let Stage::WarmStart { batches } = self.state.stage
            && !self.warm_start(batches)?
        {
            return Ok(Ending::Interrupted);
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
        if !self.last_evaluations()? {
            return Ok(Ending::Interrupted);
        }
        let summary = self.finish()?;
        Ok(Ending::Finished(Box::new(summary)))
    }

    /// One step: rollouts, update, version test, creator.
    fn step(&mut self, step: u64) -> Result<()> {
        let start = Instant::now();
        let (trajectories, cost) = self.rollout(step)?;
        let rollout_seconds = self.state.costs.add("rollout", start, cost.tokens_run as u64);
        let start = Instant::now();
        let (updates_policy, evolves_bank) = self.scheduled(step);
        let (trajectories, faults) = self.whole_episodes(trajectories)?;
        let learns = updates_policy && !trajectories.is_empty();
        let update = if learns { Some(self.update(step, &trajectories)?) } else { None };
        let packed_tokens = update.as_ref().map_or(0, |update| update.packed_tokens);
        let update_seconds = self.state.costs.add("update", start, packed_tokens);
        let start = Instant::now();
        let records: Vec<_> = trajectories.into_iter().map(|trajectory| trajectory.record).collect();
        self.keep_training(step, &records)?;
        let lifecycle = &mut self.state.lifecycle;
        let shown = uses(&records, |record| lifecycle.bank(record.arm));
        let n_history = lifecycle.history().len();
        let span = info_span!("skills", step).entered();
        let decision = lifecycle.observe(step, &records)?;
        let posterior = lifecycle.posterior_summary();
        if evolves_bank && self.scheduled(step + 1).1 {
            self.creator.evolve(&mut self.state.lifecycle, step, self.suite.vocabulary());
        } else if evolves_bank {
            self.state.lifecycle.withdraw_test(step, "withdrawn: the bank is frozen from the next step on");
        }
        drop(span);
        let skills_seconds = self.state.costs.add("skills", start, 0);
        let facts = StepFacts {
            step,
            records: &records,
            faults,
            update: update.as_ref(),
            posterior: posterior.as_ref(),
            decision: decision.as_ref(),
            shown,
            cost,
            max_turns: self.config.rollout.max_turns,
            seconds: [rollout_seconds, update_seconds, skills_seconds],
        };
        self.metrics.write(&facts.record(&self.state.lifecycle))?;
        info!(step, success = facts.success(), loss = update.as_ref().map(|update| update.loss), "step done");
        self.print_step(&facts);
        self.remark_history(step, n_history)?;
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
        if (every > 0 && step.is_multiple_of(every)) || self.is_best_so_far()? {
            self.checkpoint()?;
        }
        Ok(())
    }

    /// Whether the policy is updated in this step, and whether the bank evolves. After the last step nothing changes.
    fn scheduled(&self, step: u64) -> (bool, bool) {
        let (schedule, steps) = (self.config.schedule, self.config.grpo.steps);
        (schedule.updates_policy(step, steps), schedule.evolves_bank(step, steps))
    }

    /// Plays this step's groups.
    #[instrument(skip(self), level = "info")]
    fn rollout(&mut self, step: u64) -> Result<(Vec<Trajectory>, RolloutCost)> {
        self.pack();
        let seed = self.config.seed;
        let (tasks_per_step, group_size) =
            (self.config.rollout.tasks_per_step, self.config.rollout.group_size);
        let tasks = self.suite.tasks(Split::Train);
        let mut assignments = Vec::with_capacity(tasks_per_step * group_size);
        let mut shuffled: Option<(usize, Vec<usize>)> = None;
        for index in 0..tasks_per_step {
            // Task `n` of the run: the games in one random order after the other, so that all come equally often.
            let n = (step - 1) as usize * tasks_per_step + index;
            let (pass, position) = (n / tasks.len(), n % tasks.len());
            let order = match shuffled.take() {
                Some((of, order)) if of == pass => order,
                _ => permutation(tasks.len(), &mut stream(seed, "task order", &[pass as u64])),
            };
            let task = &tasks[order[position]];
            shuffled = Some((pass, order));
            let group = n as u64;
            let arms = self.state.lifecycle.assign_arms(group_size, &mut stream(seed, "arms", &[group]));
            for (member, arm) in arms.into_iter().enumerate() {
                assignments.push(Assignment {
                    task: Arc::clone(task),
                    group,
                    arm,
                    bank: self.state.lifecycle.bank(arm),
                    rng: stream(seed, "rollout", &[group, member as u64]),
                });
            }
        }
        let settings = self.rollout_settings(step, self.config.rollout.temperature);
        let mut progress = Progress::new("rollout", "turns", self.config.rollout.max_turns as u64, true);
        let result = collect(&self.policy, self.suite.as_ref(), assignments, &settings, &mut |flight| {
            let (n, of) = (flight.n_running(), flight.episodes.len());
            progress.set(flight.turn_idx as u64, &format!("{n} of {of} episodes running"));
            show(|| Shown::Flight(flight));
        });
        progress.finish();
        result
    }

    /// Updates the policy.
    #[instrument(skip(self, trajectories), level = "info")]
    fn update(&mut self, step: u64, trajectories: &[Trajectory]) -> Result<UpdateMetrics> {
        let tokens: Vec<TokenTrajectory> =
            trajectories.iter().map(|trajectory| trajectory.tokens.clone()).collect();
        let grpo = &self.config.grpo;
        let steps: Vec<Vec<StepOutcome>> = match grpo.advantage.step {
            Some(_) => trajectories.iter().map(Trajectory::step_outcomes).collect(),
            None => Vec::new(),
        };
        let advantages = turn_advantages_with_steps(&tokens, &steps, &grpo.advantage)?;
        let mut progress: Option<Progress> = None;
        // With the adapter off the policy is its own reference, and the weights are shared.
        let Learning { learner, optimizer, reference: copy } =
            self.learning.as_mut().context("frozen weights are not updated")?;
        let without_adapter = self.policy.model.adapter().map(|_| self.policy.model.without_adapter());
        let reference = match (&without_adapter, &*copy) {
            (Some(model), _) | (None, Some(model)) => Reference::Frozen(model),
            (None, None) => Reference::None,
        };
        let metrics = learner.update_reporting(
            &mut self.policy.model,
            optimizer,
            reference,
            &tokens,
            &advantages,
            &grpo.loss,
            self.config.rollout.temperature,
            &mut stream(self.config.seed, "mini-batches", &[step]),
            &mut |done, total| {
                let bar = progress
                    .get_or_insert_with(|| Progress::new("update", "mini-batches", total as u64, true));
                bar.set(done as u64, "");
            },
        );
        if let Some(progress) = progress {
            progress.finish();
        }
        metrics.with_context(|| format!("step {step}"))
    }

    /// Lays the weights out for generation, if that is asked for and they changed since.
    fn pack(&mut self) {
        restore::pack(&self.config, &mut self.policy);
    }

    fn rollout_settings(&self, step: u64, temperature: f32) -> RolloutSettings {
        RolloutSettings::new(&self.config.rollout, &self.policy, step, temperature)
    }
}

fn name(skill: &reskill_skills::Skill) -> &str {
    &skill.content.name
}
