//! The configuration of a run: one TOML file, overridden by `--set key=value`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use reskill_envs::prompt::PromptConfig;
use reskill_envs::search::SearchConfig;
use reskill_grpo::{AdvantageConfig, LearnerConfig, LossConfig, OptimizerConfig};
use reskill_model::ModelConfig;
use reskill_skills::{LifecycleConfig, SkillMode, Trigger};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::config_source::{Layered, one_line, parse, read_layers, set};
use crate::device::DeviceConfig;
pub use crate::env_config::{EnvConfig, EnvName};
use crate::log_config::LogConfig;
use crate::model_config::BaseModelConfig;
use crate::model_source;
use crate::schedule::Schedule;

/// Everything a training run depends on.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Seed of every random choice.
    pub seed: u64,
    /// Threads; 0 takes all cores. Results do not depend on it.
    pub threads: usize,
    /// Who learns when: `joint`, `skill_first`, `policy_first` or `skills_only`.
    pub schedule: Schedule,
    /// Where the policy runs and is trained.
    pub device: DeviceConfig,
    /// The environment.
    pub env: EnvConfig,
    /// A pretrained model to begin with, adapters, memory.
    pub model: BaseModelConfig,
    /// The policy.
    pub policy: PolicyConfig,
    /// The warm start.
    pub sft: SftConfig,
    /// Rollouts.
    pub rollout: RolloutConfig,
    /// Policy optimisation.
    pub grpo: GrpoConfig,
    /// Folder of Agent Skills that the run begins with. Absent: an empty bank.
    pub bank: Option<PathBuf>,
    /// The skill lifecycle.
    pub skills: LifecycleConfig,
    /// Evaluation.
    pub eval: EvalConfig,
    /// Checkpoints.
    pub checkpoint: CheckpointConfig,
    /// What is written beside the results.
    pub log: LogConfig,
}

/// The policy: its sizes and what it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PolicyConfig {
    /// Sizes of the transformer; `vocab_size` is set from the tokenizer.
    pub model: ModelConfig,
    /// What a prompt shows.
    pub prompt: PromptConfig,
    /// Training games that the words of a policy without pretrained model are read from, >= 1.
    pub vocabulary_games: usize,
    /// Folder `policy` of an earlier run: its weights, of the sizes in `model`, and its words. Absent: random weights, and the
    /// words of the training games.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<PathBuf>,
    /// With `path`: the largest share of the environment's words that the policy may not know, in 0..=1.
    pub max_unknown: f64,
}

impl Default for PolicyConfig {
    fn default() -> Self {
        PolicyConfig {
            model: ModelConfig::default(),
            prompt: PromptConfig::default(),
            vocabulary_games: VOCABULARY_GAMES,
            path: None,
            max_unknown: 0.2,
        }
    }
}

/// All words of an environment occur in far fewer games.
const VOCABULARY_GAMES: usize = 400;

/// The warm start: imitation of expert episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SftConfig {
    /// Expert episodes, >= 1.
    pub episodes: usize,
    /// Passes over them; 0: no warm start.
    pub epochs: usize,
    /// Optimizer steps at most; 0: no warm start. Absent: as many as the passes have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Episodes in one optimizer step, >= 1.
    pub batch_episodes: usize,
    /// Share of episodes with skills in the prompt that the expert obeys, in 0..=1.
    pub skill_fraction: f64,
    /// Whether demonstrations search for what they have not seen, instead of going straight to it.
    pub search: bool,
    /// Household: share of closed containers in the demonstrations without skills, in 0..=1.
    pub closed_fraction: f64,
    /// Household: share of idle appliances in the demonstrations without skills, in 0..=1.
    pub idle_fraction: f64,
    /// Verbs that demonstrations without needed guidance do not need: their tasks are drawn so that the plan has none.
    pub avoid: Vec<String>,
    /// Kinds of demonstration with guidance that its world needs. Empty: only guidance drawn at random.
    pub guided: Vec<GuidedDemonstration>,
    /// Learning rate and the rest of AdamW.
    pub optimizer: OptimizerConfig,
}

/// Demonstrations in a world whose habit only the prompt asks for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GuidedDemonstration {
    /// Household: share of closed containers, in 0..=1.
    pub closed_fraction: f64,
    /// Household: share of idle appliances, in 0..=1.
    pub idle_fraction: f64,
    /// The guidance in the prompt.
    pub tips: Vec<Tip>,
}

/// Guidance after an action.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tip {
    /// Pattern searched in the previous action.
    pub after: String,
    /// The verb that should come next.
    pub next: String,
}

impl GuidedDemonstration {
    fn validate(&self) -> Result<()> {
        for (key, value) in [("closed_fraction", self.closed_fraction), ("idle_fraction", self.idle_fraction)]
        {
            if !(0.0..=1.0).contains(&value) {
                bail!("`{key}` = {value}, expected a number in [0, 1]");
            }
        }
        if self.tips.is_empty() || self.tips.len() > 2 {
            bail!("`tips` has {} entries, expected 1 or 2", self.tips.len());
        }
        for tip in &self.tips {
            Trigger::after_action(&tip.after)
                .map_err(|error| anyhow::anyhow!("`tips.after`: {}", one_line(&error.to_string())))?;
        }
        Ok(())
    }
}

impl Default for SftConfig {
    fn default() -> Self {
        SftConfig {
            episodes: 1000,
            epochs: 6,
            steps: None,
            batch_episodes: 16,
            skill_fraction: 0.5,
            search: true,
            closed_fraction: 0.0,
            idle_fraction: 0.0,
            avoid: Vec::new(),
            guided: Vec::new(),
            optimizer: OptimizerConfig {
                learning_rate: 2e-3,
                warmup_steps: 20,
                ..OptimizerConfig::default()
            },
        }
    }
}

/// Rollouts of one step.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RolloutConfig {
    /// Tasks (GRPO groups) per step, >= 1.
    pub tasks_per_step: usize,
    /// Rollouts per task, >= 1.
    pub group_size: usize,
    /// Longest episode, in turns, >= 1.
    pub max_turns: usize,
    /// Sampling temperature, > 0.
    pub temperature: f32,
    /// Longest reply, in tokens, >= 1.
    pub max_new_tokens: usize,
    /// Return of a success, or of a full score.
    pub success_reward: f32,
    /// What the return is made of: `success` or `score`.
    pub reward: Reward,
}

/// What the return of an episode is made of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reward {
    /// `success_reward` for a success, else 0.
    #[default]
    Success,
    /// `success_reward` times the score at the end, which may be partial or negative.
    Score,
}

impl Default for RolloutConfig {
    fn default() -> Self {
        RolloutConfig {
            tasks_per_step: 16,
            group_size: 8,
            max_turns: 12,
            temperature: 1.0,
            max_new_tokens: 16,
            success_reward: 1.0,
            reward: Reward::Success,
        }
    }
}

/// Policy optimisation.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct GrpoConfig {
    /// Training steps.
    pub steps: u64,
    /// Advantages.
    pub advantage: AdvantageConfig,
    /// Loss.
    pub loss: LossConfig,
    /// Mini-batches.
    pub learner: LearnerConfig,
    /// AdamW.
    pub optimizer: OptimizerConfig,
}

/// Evaluation on fixed games.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EvalConfig {
    /// Games per split in the evaluations before and after training; fewer if the split has fewer.
    pub games: usize,
    /// Games per split in the evaluations during training.
    pub games_during: usize,
    /// Steps between evaluations during training; 0: none.
    pub every: u64,
    /// Sampling temperature; 0 takes the likeliest token.
    pub temperature: f32,
}

impl Default for EvalConfig {
    fn default() -> Self {
        EvalConfig { games: 200, games_during: 100, every: 5, temperature: 1.0 }
    }
}

/// Checkpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CheckpointConfig {
    /// Steps between checkpoints; 0: only at the end and when interrupted.
    pub every: u64,
    /// How many of the latest are kept, >= 1.
    pub keep: usize,
    /// How many of the best are kept beside them: by success on the seen validation games, of checkpoints that were
    /// evaluated as they are. After an evaluation that beats all before it a checkpoint is made at once. 0: none.
    pub keep_best: usize,
}

impl Default for CheckpointConfig {
    fn default() -> Self {
        CheckpointConfig { every: 10, keep: 2, keep_best: 1 }
    }
}

impl TrainConfig {
    /// Reads a configuration: the layers that `source` names ([`crate::config_source`]) or the embedded default, then each
    /// `key=value` of `overrides` in order.
    ///
    /// # Errors
    /// One line that names the file (or `--set`), the key and what to do.
    pub fn load(source: Option<&Path>, overrides: &[String]) -> Result<TrainConfig> {
        let Layered { name, table } = read_layers(source.unwrap_or(Path::new("default")))?;
        TrainConfig::from_table(&name, table, overrides)
    }

    /// The configuration in `table`, which is called `name` in messages, then each `key=value` of `overrides` in order.
    ///
    /// # Errors
    /// As [`TrainConfig::load`].
    pub fn from_table(name: &str, mut table: toml::Table, overrides: &[String]) -> Result<TrainConfig> {
        let mut origin = name.to_string();
        if !overrides.is_empty() {
            // A wrong key in the file should not be blamed on --set.
            parse(&table).with_context(|| origin.clone())?;
            origin = "--set".into();
        }
        for assignment in overrides {
            set(&mut table, assignment)?;
        }
        let config = parse(&table).with_context(|| origin.clone())?;
        config.validate().with_context(|| origin)?;
        Ok(config)
    }

    /// The same with the paths it names made absolute, so that a resumed run finds them from any folder.
    ///
    /// # Errors
    /// If the current folder is gone.
    pub fn with_absolute_paths(mut self) -> Result<TrainConfig> {
        let creator = &mut self.skills.creator;
        let folders = [&mut creator.prompts_dir, &mut creator.record_dir, &mut creator.replay_dir];
        let is_path = self.model.is_pretrained() && model_source::hub_name(&self.model.path).is_none();
        let base = is_path.then_some(&mut self.model.path);
        if self.env.name == EnvName::External {
            self.env.external.folder.get_or_insert_with(|| PathBuf::from("."));
        }
        let folder = &mut self.env.external.folder;
        let SearchConfig { corpus, index, model: embedding, .. } = &mut self.env.search;
        let folders = folders.into_iter().chain([folder, corpus, index, embedding]);
        let own = [&mut self.env.data, &mut self.bank, &mut self.policy.path, &mut self.model.adapter];
        for path in own.into_iter().chain(folders).flatten().chain(base) {
            *path = std::path::absolute(&*path)
                .with_context(|| format!("{}: cannot be made absolute", path.display()))?;
        }
        Ok(self)
    }

    /// Whether demonstrations are imitated before the first step.
    #[must_use]
    pub fn has_warm_start(&self) -> bool {
        self.sft.epochs > 0 && self.sft.steps != Some(0)
    }

    /// Whether the weights stay as they begin, from the first step to the last.
    #[must_use]
    pub fn is_frozen(&self) -> bool {
        self.schedule == Schedule::SkillsOnly && !self.has_warm_start()
    }

    /// The configuration as TOML.
    ///
    /// # Errors
    /// If a value cannot be written as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).context("the configuration cannot be written as TOML")
    }

    /// Refuses values out of range, naming the key.
    ///
    /// # Errors
    /// One line.
    pub fn validate(&self) -> Result<()> {
        self.model.validate().context("model")?;
        self.policy.model.validate().context("policy.model")?;
        self.grpo.advantage.validate().context("grpo")?;
        self.grpo.loss.validate().context("grpo")?;
        self.grpo.learner.validate().context("grpo")?;
        self.grpo.learner.check_with(&self.grpo.loss).context("grpo")?;
        self.grpo.optimizer.validate().context("grpo")?;
        self.sft.optimizer.validate().context("sft")?;
        self.skills.validate().context("skills")?;
        self.env.validate()?;
        self.log.validate().context("log")?;
        if self.policy.path.is_some() && self.model.is_pretrained() {
            bail!(
                "`policy.path` and `model.path` are both set, expected one of them: where the policy comes from"
            );
        }
        if self.policy.vocabulary_games == 0 {
            bail!("`policy.vocabulary_games` = 0, expected at least 1");
        }
        let at_least_one = [
            ("sft.episodes", self.sft.episodes),
            ("sft.batch_episodes", self.sft.batch_episodes),
            ("rollout.tasks_per_step", self.rollout.tasks_per_step),
            ("rollout.group_size", self.rollout.group_size),
            ("rollout.max_turns", self.rollout.max_turns),
            ("rollout.max_new_tokens", self.rollout.max_new_tokens),
            ("eval.games", self.eval.games),
            ("checkpoint.keep", self.checkpoint.keep),
        ];
        for (key, value) in at_least_one {
            if value == 0 {
                bail!("`{key}` = 0, expected at least 1");
            }
        }
        for (key, value) in [
            ("sft.skill_fraction", self.sft.skill_fraction),
            ("sft.closed_fraction", self.sft.closed_fraction),
            ("sft.idle_fraction", self.sft.idle_fraction),
            ("policy.max_unknown", self.policy.max_unknown),
        ] {
            if !(0.0..=1.0).contains(&value) {
                bail!("`{key}` = {value}, expected a number in [0, 1]");
            }
        }
        for (index, guided) in self.sft.guided.iter().enumerate() {
            guided.validate().with_context(|| format!("`sft.guided` entry {}", index + 1))?;
        }
        let temperature = self.rollout.temperature;
        if !(1e-3..=1e3).contains(&temperature) {
            bail!("`rollout.temperature` = {temperature}, expected a number in [0.001, 1000]");
        }
        if self.threads > 1024 {
            bail!("`threads` = {}, expected at most 1024 (0: all cores)", self.threads);
        }
        if self.eval.every > 0 && self.eval.games_during == 0 {
            bail!("`eval.games_during` = 0, expected at least 1 where eval.every > 0");
        }
        let tests_versions = self.skills.mode == SkillMode::Evolve;
        if tests_versions && self.rollout.group_size < 2 {
            bail!(
                "`rollout.group_size` = {}, expected at least 2 where skills.mode = \"evolve\": a group must hold both \
                 versions",
                self.rollout.group_size
            );
        }
        if self.schedule != Schedule::Joint && !tests_versions {
            bail!(
                "`schedule` = {}, expected joint unless skills.mode = \"evolve\": there is no bank to take turns with",
                self.schedule.name()
            );
        }
        if self.skills.mode == SkillMode::Static && self.bank.is_none() {
            bail!("`bank` is missing, expected a folder of Agent Skills where skills.mode = \"static\"");
        }
        if !(self.eval.temperature >= 0.0 && self.eval.temperature.is_finite()) {
            bail!("`eval.temperature` = {}, expected a number >= 0", self.eval.temperature);
        }
        let reward = self.rollout.success_reward;
        if !(reward > 0.0 && reward.is_finite()) {
            bail!("`rollout.success_reward` = {reward}, expected a number > 0");
        }
        Ok(())
    }
}
