//! Who writes the skills of a run: the statistical creator inside the step, or a language model beside it.

#[cfg(feature = "llm")]
use std::collections::HashSet;
#[cfg(feature = "llm")]
use std::sync::Arc;
#[cfg(feature = "llm")]
use std::time::Duration;

use anyhow::Result;
use reskill_envs::ActionVocabulary;
use reskill_model::PolicyTokenizer;
use reskill_skills::{BackgroundCreator, CreatorKind, Lifecycle, OfflineCreator};
use serde::{Deserialize, Serialize};

use crate::config::TrainConfig;
use crate::run_dir::RunDir;

/// The creator of a run.
#[derive(Debug)]
pub enum CreatorRunner {
    /// Statistics: proposes at once, at the end of a step.
    Now(OfflineCreator),
    /// A language model: works beside training.
    Beside {
        /// Its thread.
        creator: Box<BackgroundCreator>,
        /// The last step at whose end a request can still bring a candidate that is played.
        last_request_step: u64,
    },
}

/// What a language model as creator did so far, for metrics and summary. Seconds stand apart, they depend on the clock.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreatorSummary {
    /// Requests for a proposal.
    pub requests: u64,
    /// Requests that ended with an error.
    pub failures: u64,
    /// Requests without an answer when it was due.
    pub misses: u64,
    /// Calls to the model.
    pub calls: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Replies that were sent back.
    pub corrections: u64,
    /// Tokens of prompts.
    pub prompt_tokens: u64,
    /// Tokens of replies.
    pub completion_tokens: u64,
    /// Everything that went wrong in calls, by kind, whether or not another attempt mended it.
    pub errors: std::collections::BTreeMap<String, u64>,
    /// What the tokens cost, where prices are configured.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<f64>,
}

impl CreatorRunner {
    /// The creator that the configuration asks for. Keys are read from the environment here and kept nowhere else.
    ///
    /// # Errors
    /// If a key is missing, a prompt is malformed, a replay folder is not there, or the kind is not compiled in.
    pub fn open(config: &TrainConfig, run: &RunDir, tokenizer: &PolicyTokenizer) -> Result<CreatorRunner> {
        let creator = &config.skills.creator;
        match creator.kind {
            CreatorKind::Offline => Ok(CreatorRunner::Now(OfflineCreator::new(creator.offline.clone()))),
            _ => beside(config, run, tokenizer),
        }
    }

    /// Goes on with a request that a checkpoint holds.
    pub fn resume(&mut self, lifecycle: &Lifecycle) {
        if let CreatorRunner::Beside { creator, .. } = self {
            lifecycle.resume_creation(creator);
        }
    }

    /// Asks for the next candidate at the end of a step, or lets an answer join.
    pub fn evolve(&mut self, lifecycle: &mut Lifecycle, step: u64, vocabulary: &ActionVocabulary) {
        match self {
            CreatorRunner::Now(creator) => drop(lifecycle.evolve(step, creator, vocabulary)),
            CreatorRunner::Beside { creator, last_request_step } => {
                if lifecycle.pending_request().is_some() || step <= *last_request_step {
                    lifecycle.evolve_beside(step, creator, vocabulary);
                }
            }
        }
    }
}

impl CreatorSummary {
    /// What a language model did in this run; `None` for the statistical creator.
    #[must_use]
    pub fn of(lifecycle: &Lifecycle) -> Option<CreatorSummary> {
        let config = &lifecycle.config().creator;
        if config.kind == CreatorKind::Offline {
            return None;
        }
        let cost = lifecycle.creator_cost();
        let price = match (config.price_prompt_per_mtok, config.price_completion_per_mtok) {
            (None, None) => None,
            (prompt, completion) => Some(cost.price(prompt.unwrap_or(0.0), completion.unwrap_or(0.0))),
        };
        Some(CreatorSummary {
            requests: lifecycle.n_creator_requests(),
            failures: lifecycle.n_creator_failures(),
            misses: lifecycle.n_creator_misses(),
            calls: cost.calls,
            retries: cost.retries,
            corrections: cost.corrections,
            prompt_tokens: cost.prompt_tokens,
            completion_tokens: cost.completion_tokens,
            errors: cost.errors.clone(),
            price,
        })
    }
}

#[cfg(feature = "llm")]
fn beside(run_config: &TrainConfig, run: &RunDir, tokenizer: &PolicyTokenizer) -> Result<CreatorRunner> {
    use anyhow::Context as _;
    use reskill_skills::creator::llm;
    use reskill_skills::lifecycle::OutcomeFiles;
    let mut config = run_config.skills.creator.clone();
    let files = match (&config.replay_dir, &config.record_dir) {
        (Some(folder), _) => OutcomeFiles { folder: folder.clone(), write: false },
        (None, folder) => OutcomeFiles {
            folder: folder.clone().unwrap_or_else(|| run.creator().join("calls")),
            write: true,
        },
    };
    if files.write {
        config.record_dir = Some(files.folder.clone());
    }
    let mut creator = llm::open(&config, run_config.seed, &|name| std::env::var(name).ok())
        .context("skills")?
        .with_artefacts(run.creator());
    if let Some(words) = words(tokenizer)? {
        let unknown = move |text: &str| -> Vec<String> {
            let mut unknown: Vec<String> = text
                .to_lowercase()
                .split(|c: char| !(c.is_alphanumeric() || c == '_'))
                .filter(|word| !word.is_empty() && !words.contains(*word))
                .map(ToOwned::to_owned)
                .collect();
            unknown.dedup();
            unknown
        };
        let hint = "The agent reads only the words of its environment. Write `action` as `next <verb>` or `do not \
                    <verb>`, with a verb of the commands above: what the very next command should or should not be; \
                    and no example.";
        creator = creator.with_lexicon(Arc::new(unknown), hint.into());
    }
    let handle = creator.handle();
    let wait = Duration::from_secs_f64(config.wait_secs);
    let background = BackgroundCreator::new(Box::new(creator), handle, config.join_after_steps, wait);
    let creator = Box::new(background.with_outcome_files(files));
    // The answer joins at the end of a step, so its candidate is first played in the next.
    let last_request_step = run_config.grpo.steps.saturating_sub(config.join_after_steps.saturating_add(1));
    Ok(CreatorRunner::Beside { creator, last_request_step })
}

#[cfg(not(feature = "llm"))]
fn beside(config: &TrainConfig, _run: &RunDir, _tokenizer: &PolicyTokenizer) -> Result<CreatorRunner> {
    anyhow::bail!(
        "`skills.creator.kind` = \"{}\": this program was built without language models; build with `--features llm`",
        config.skills.creator.kind.as_str()
    )
}

/// The words of a word-level tokenizer; `None` for one that can read any text.
#[cfg(feature = "llm")]
fn words(tokenizer: &PolicyTokenizer) -> Result<Option<HashSet<String>>> {
    let json: serde_json::Value = serde_json::from_str(&tokenizer.to_json()?)?;
    let is_word_level = json.pointer("/model/type").is_some_and(|kind| kind == "WordLevel");
    let vocab = json.pointer("/model/vocab").and_then(serde_json::Value::as_object);
    Ok(vocab.filter(|_| is_word_level).map(|vocab| vocab.keys().cloned().collect()))
}
