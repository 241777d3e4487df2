//! What a run begins with: device, environment, policy, skills; and what must be there for it.

use anyhow::{Context, Result, bail};
use reskill_envs::{Split, Suite};
use reskill_model::ModelConfig;
use reskill_skills::SkillBank;

use crate::base_model::BaseModel;
use crate::config::TrainConfig;
use crate::memory::{Purpose, check_memory, planned_memory};
use crate::model_source;
use crate::policy::{Policy, build_tokenizer};
use crate::progress::print_line;
use crate::streams::stream;
use crate::suites::open_suite;
use crate::unknown_words::UnknownWords;

/// The environment, and the policy as it begins, if the memory that `purpose` needs is there.
pub(super) fn untrained(config: &TrainConfig, purpose: Purpose) -> Result<(Box<dyn Suite>, Policy)> {
    // First: a machine without the device should say so before games are read.
    let device = config.device.open()?;
    let suite = open_suite(&config.env)?;
    check_games(suite.as_ref())?;
    check_start(suite.as_ref())?;
    check_verbs(config, suite.as_ref())?;
    let fits = |model: &ModelConfig, context: usize| {
        // Playing on a CPU takes memory as it goes.
        if device.is_cpu() && purpose != Purpose::Training {
            return Ok(());
        }
        check_memory(&planned_memory(config, model, context, &device, purpose), &device)
    };
    let policy = if config.model.is_pretrained() {
        let slots = config.rollout.tasks_per_step * config.rollout.group_size;
        let (prompt, manner) = (&config.policy.prompt, suite.manner());
        let rng = &mut stream(config.seed, "adapter", &[]);
        Policy::open(&config.model, prompt, &manner, slots, rng, &device, &fits)?
    } else if let Some(folder) = &config.policy.path {
        let policy = Policy::load(&config.policy.model, &config.policy.prompt, folder, &device)?;
        policy.speaking(suite.manner())
    } else {
        let tokenizer =
            build_tokenizer(suite.as_ref(), &config.policy.prompt, config.policy.vocabulary_games)?;
        let sizes = Policy::sizes(&config.policy.model, &tokenizer);
        fits(&sizes, sizes.max_position_embeddings)?;
        let mut rng = stream(config.seed, "weights", &[]);
        let policy = Policy::init(&config.policy.model, &config.policy.prompt, tokenizer, &mut rng, &device)?;
        policy.speaking(suite.manner())
    };
    Ok((suite, policy))
}

/// The models that the run begins with, as they lie on disk now.
pub(super) fn base_models(config: &TrainConfig) -> Result<Vec<BaseModel>> {
    let mut bases = Vec::new();
    if config.model.is_pretrained() {
        let path = &config.model.path;
        bases.push(BaseModel::of(path, &model_source::locate(path)?)?);
    }
    for folder in config.model.adapter.iter().chain(&config.policy.path) {
        bases.push(BaseModel::of(folder, folder)?);
    }
    Ok(bases)
}

/// What a policy that was trained elsewhere cannot read here; an error if that is too much.
pub(super) fn unknown_words(
    config: &TrainConfig,
    suite: &dyn Suite,
    policy: &Policy,
) -> Result<Option<UnknownWords>> {
    if config.policy.path.is_none() {
        return Ok(None);
    }
    let unknown = UnknownWords::survey(suite, policy, config.policy.vocabulary_games)?;
    if let Some(unknown) = &unknown {
        unknown.check(config.policy.max_unknown)?;
        if unknown.unknown > 0 {
            print_line(&unknown.to_string());
        }
    }
    Ok(unknown)
}

/// Games of every kind must be there.
fn check_games(suite: &dyn Suite) -> Result<()> {
    let needed = [
        (Split::Train, "training games", "env.household.n_train"),
        (Split::ValidSeen, "seen games to evaluate on", "env.household.n_seen"),
        (Split::ValidUnseen, "unseen games to evaluate on", "env.household.n_unseen"),
    ];
    for (split, what, key) in needed {
        if suite.tasks(split).is_empty() {
            bail!("env: there are no {what} (split {split}); check env.data and its splits, or {key}");
        }
    }
    Ok(())
}

/// The first training game must begin: later on, a game that does not is a lost episode and no error.
fn check_start(suite: &dyn Suite) -> Result<()> {
    let Some(task) = suite.tasks(Split::Train).first() else { return Ok(()) };
    suite.open(&task.id).and_then(|mut env| env.reset()).with_context(|| format!("env: task {}", task.id))?;
    Ok(())
}

/// The verbs that the demonstrations are told of must be verbs of the environment.
fn check_verbs(config: &TrainConfig, suite: &dyn Suite) -> Result<()> {
    let verbs = suite.vocabulary().verbs();
    let tips = config
        .sft
        .guided
        .iter()
        .flat_map(|guided| &guided.tips)
        .map(|tip| ("sft.guided.tips.next", &tip.next));
    for (key, verb) in config.sft.avoid.iter().map(|verb| ("sft.avoid", verb)).chain(tips) {
        if !verbs.contains(&verb.as_str()) {
            bail!("`{key}`: `{verb}` is no verb of {}, expected one of {}", suite.name(), verbs.join(", "));
        }
    }
    Ok(())
}

/// The bank that a run begins with.
pub(super) fn initial_bank(config: &TrainConfig) -> Result<SkillBank> {
    match &config.bank {
        Some(path) => reskill_skills::store::load_bank(path)
            .with_context(|| format!("`bank` = {}: cannot be read as Agent Skills folders", path.display())),
        None => Ok(SkillBank::default()),
    }
}
