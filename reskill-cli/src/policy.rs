//! The policy as an agent: tokenizer, network, prompts, and how a reply is read.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use reskill_envs::prompt::{
    ANSWER, ActionFormat, ENTRY, Manner, ParsedReply, PromptConfig, PromptLayout, PromptStyle,
    compact_command, paper_words,
};
use reskill_envs::{EnvError, Observation, Split, Suite, Task};
use reskill_kernels::Device;
use reskill_model::constraint::Unconstrained;
use reskill_model::{
    Lora, LoraConfig, ModelConfig, Next, PolicyTokenizer, Pretrained, Reply, TokenConstraint, TokenTrie,
    Transformer,
};
use reskill_skills::creator::offline;

use crate::evaluate::fixed_games;
use crate::language::{Language, TaggedReply};
use crate::model_config::BaseModelConfig;
use crate::model_source;

/// A policy that plays text games.
#[derive(Debug)]
pub struct Policy {
    /// The network.
    pub model: Transformer,
    /// The tokenizer.
    pub tokenizer: Arc<PolicyTokenizer>,
    /// What it is shown.
    pub prompt: PromptConfig,
    /// Longest prompt and reply together, in tokens.
    pub context: usize,
    /// Episodes that are played side by side in an evaluation. Results do not depend on it.
    pub evaluation_slots: usize,
    /// How the environment speaks, and how replies are read.
    pub manner: Arc<Manner>,
    /// What a pretrained model brings along.
    pub language: Option<Language>,
}

/// Episodes side by side in an evaluation of a small policy.
const EVALUATION_SLOTS: usize = 128;

/// Episodes side by side in an evaluation: of a pretrained model as many as a step plays.
#[must_use]
pub fn evaluation_slots(is_pretrained: bool, rollouts: usize) -> usize {
    if is_pretrained { rollouts } else { EVALUATION_SLOTS }
}

/// A tokenizer over all words of `games` of the environment's training games, of its commands and of skill guidance.
///
/// # Errors
/// If a game cannot be opened.
pub fn build_tokenizer(suite: &dyn Suite, prompt: &PromptConfig, games: usize) -> Result<PolicyTokenizer> {
    let manner = suite.manner();
    let mut texts: HashSet<String> = HashSet::new();
    texts.extend(
        [ENTRY, ANSWER, "task: tip: new: commands: nothing * , .", &manner.tag_words()].map(String::from),
    );
    if prompt.prompt_layout == PromptLayout::Paper {
        texts.extend(paper_words(&manner));
    }
    texts.extend(offline::guidance_words().iter().map(ToString::to_string));
    for template in &suite.vocabulary().templates {
        texts.insert(template.template.replace(['{', '}'], " "));
    }
    for number in 0..=40 {
        texts.insert(number.to_string());
    }
    let tasks = suite.tasks(Split::Train);
    for task in tasks {
        texts.insert(task.goal.clone());
    }
    let read: Vec<Vec<Observation>> = fixed_games(tasks, games)
        .par_iter()
        .map(|task| read_game(suite, task))
        .collect::<Result<_, EnvError>>()?;
    for now in read.into_iter().flatten() {
        texts.insert(now.text);
        texts.extend(now.admissible);
    }
    Ok(PolicyTokenizer::word_level(texts.iter().map(String::as_str))?)
}

/// What a player of a game reads on the expert's way.
///
/// # Errors
/// If the game cannot be played, or its environment lost it twice.
pub(crate) fn read_game(suite: &dyn Suite, task: &Task) -> Result<Vec<Observation>, EnvError> {
    read_once(suite, task).or_else(|error| match error.is_fault() {
        // A program that failed once is replaced; the words must not depend on it.
        true => read_once(suite, task),
        false => Err(error),
    })
}

fn read_once(suite: &dyn Suite, task: &Task) -> Result<Vec<Observation>, EnvError> {
    let mut env = suite.open(&task.id)?;
    let mut seen = vec![env.reset()?];
    let plan = match env.expert() {
        Err(error) if error.is_fault() => return Err(error),
        // A game without a plan still gives its first words.
        plan => plan.unwrap_or_default(),
    };
    for action in plan {
        seen.push(env.step(&action)?.observation);
    }
    Ok(seen)
}

impl Policy {
    /// The sizes of a policy that knows these words.
    #[must_use]
    pub fn sizes(config: &ModelConfig, tokenizer: &PolicyTokenizer) -> ModelConfig {
        ModelConfig { vocab_size: tokenizer.vocab_size(), ..config.clone() }
    }

    /// A policy with random weights, the same on every device.
    ///
    /// # Errors
    /// If the sizes are impossible.
    pub fn init(
        config: &ModelConfig,
        prompt: &PromptConfig,
        tokenizer: PolicyTokenizer,
        rng: &mut ChaCha8Rng,
        device: &Device,
    ) -> Result<Policy> {
        let config = Policy::sizes(config, &tokenizer);
        let model = Transformer::init(&config, rng)?;
        Ok(Policy {
            model: if device.is_cpu() { model } else { model.to_device(device)? },
            tokenizer: Arc::new(tokenizer),
            prompt: prompt.clone(),
            context: config.max_position_embeddings,
            evaluation_slots: EVALUATION_SLOTS,
            manner: Arc::default(),
            language: None,
        })
    }

    /// The small policy of these sizes that an earlier run left in a folder, with its words: `model.safetensors`,
    /// `tokenizer.json`.
    ///
    /// # Errors
    /// If a file is missing, odd, or of other sizes: one line names it.
    pub fn load(
        config: &ModelConfig,
        prompt: &PromptConfig,
        folder: &Path,
        device: &Device,
    ) -> Result<Policy> {
        let read = || -> Result<Policy> {
            let tokenizer = PolicyTokenizer::load(&folder.join("tokenizer.json"))?;
            let config = ModelConfig { vocab_size: tokenizer.vocab_size(), ..config.clone() };
            let params = reskill_model::weights::from_folder(&config, folder, device)?;
            Ok(Policy {
                context: config.max_position_embeddings,
                model: Transformer::new(&config, params)?,
                tokenizer: Arc::new(tokenizer),
                prompt: prompt.clone(),
                evaluation_slots: EVALUATION_SLOTS,
                manner: Arc::default(),
                language: None,
            })
        };
        read().with_context(|| {
            format!("`policy.path` = {}: no small policy of `policy.model`", folder.display())
        })
    }

    /// The same in the words of an environment.
    #[must_use]
    pub fn speaking(self, manner: Manner) -> Policy {
        Policy { manner: Arc::new(manner), ..self }
    }

    /// A pretrained model on `device` as a policy, with a fresh adapter beside it if one is trained. `fits` is asked, with
    /// its sizes and the longest context, before its weights are read.
    ///
    /// # Errors
    /// If a file is missing or odd: one line names it.
    pub fn open(
        base: &BaseModelConfig,
        prompt: &PromptConfig,
        manner: &Manner,
        slots: usize,
        rng: &mut ChaCha8Rng,
        device: &Device,
        fits: &dyn Fn(&ModelConfig, usize) -> Result<()>,
    ) -> Result<Policy> {
        let mut read = || -> Result<Policy> {
            let language = Language::new(
                Pretrained::open(&model_source::locate(&base.path)?)?,
                prompt.action_format,
                manner,
            )?;
            let tokenizer = Arc::new(language.tokenizer()?);
            let sizes = language.checkpoint.config();
            let context = base.context.min(sizes.max_position_embeddings);
            fits(sizes, context)?;
            let mut model = language.checkpoint.model_on(device)?;
            if let Some(lora) = &base.lora {
                let adapter = match &base.adapter {
                    Some(folder) => trained_adapter(model.config(), lora, folder)?,
                    None => Lora::init(model.config(), lora, rng)?,
                };
                model.attach(adapter)?;
            }
            let style = Some(prompt.style.unwrap_or(PromptStyle::Plain));
            Ok(Policy {
                context,
                model,
                tokenizer,
                prompt: PromptConfig { style, ..prompt.clone() },
                evaluation_slots: slots,
                manner: Arc::new(manner.clone()),
                language: Some(language),
            })
        };
        read().with_context(|| format!("`model.path` = {}", base.path.display()))
    }

    /// The key of the configuration that bounds [`Policy::context`].
    #[must_use]
    pub fn context_key(&self) -> &'static str {
        if self.language.is_some() { "model.context" } else { "policy.model.max_position_embeddings" }
    }

    /// Ids of the first trunk segment: the chat template's marks before the user's words, then those words.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    pub fn opening_ids(&self, text: &str) -> Result<Vec<u32>> {
        let before = self.language.as_ref().map_or("", |language| language.before.as_str());
        Ok(self.tokenizer.encode_segments(&[before, text])?)
    }

    /// Ids of a branch segment: the words of this turn, then the template's marks before the reply.
    ///
    /// # Errors
    /// If the text cannot be encoded.
    pub fn branch_ids(&self, text: &str) -> Result<Vec<u32>> {
        let after = self.language.as_ref().map_or("", |language| language.after.as_str());
        Ok(self.tokenizer.encode_segments(&[text, after])?)
    }

    /// A command as a masked reply names it.
    fn choice(&self, command: &str) -> Result<Arc<[u32]>> {
        let words = if self.language.is_some() { command.to_string() } else { compact_command(command) };
        Ok(self.tokenizer.encode(&words)?)
    }

    /// Whether no two of these commands read the same.
    ///
    /// # Errors
    /// If a command cannot be encoded.
    pub fn tells_apart(&self, commands: &[String]) -> Result<bool> {
        let encoded = commands.iter().map(|command| self.choice(command)).collect::<Result<HashSet<_>>>()?;
        Ok(encoded.len() == commands.len())
    }

    /// What a reply may be when these commands are admissible.
    ///
    /// # Errors
    /// If a command cannot be encoded.
    pub fn constraint(&self, admissible: &[String]) -> Result<ReplyConstraint> {
        if self.prompt.action_format == ActionFormat::Tagged || admissible.is_empty() {
            return Ok(match &self.language {
                None => ReplyConstraint::Free,
                Some(language) => ReplyConstraint::Tagged(TaggedReply {
                    tokenizer: Arc::clone(&self.tokenizer),
                    end_tokens: Arc::clone(&language.end_tokens),
                    manner: Arc::clone(&self.manner),
                }),
            });
        }
        let encoded: Vec<Arc<[u32]>> =
            admissible.iter().map(|command| self.choice(command)).collect::<Result<_>>()?;
        let sequences: Vec<&[u32]> = encoded.iter().map(AsRef::as_ref).collect();
        Ok(ReplyConstraint::Commands(TokenTrie::new(&sequences, self.tokenizer.end_token())))
    }

    /// The command that a reply stands for.
    ///
    /// # Errors
    /// If the reply cannot be decoded.
    pub fn read_reply(
        &self,
        constraint: &ReplyConstraint,
        admissible: &[String],
        reply: &Reply,
    ) -> Result<(String, ParsedReply)> {
        let ids = reply.ids();
        let text = match self.language {
            None => self.tokenizer.decode(&ids)?,
            Some(_) => self.tokenizer.decode_plain(&ids)?,
        };
        let parsed = match constraint {
            ReplyConstraint::Commands(trie) => {
                let action = trie.resolve(&ids).map(|index| admissible[index].clone());
                ParsedReply { valid: action.is_some(), action }
            }
            ReplyConstraint::Free | ReplyConstraint::Tagged(_) => self.manner.parse_reply(&text, admissible),
        };
        Ok((text, parsed))
    }

    /// The tokens of the reply that plays `action`, as a demonstration.
    ///
    /// # Errors
    /// If the action cannot be encoded.
    pub fn demonstrate(&self, constraint: &ReplyConstraint, action: &str) -> Result<Vec<u32>> {
        match constraint {
            ReplyConstraint::Commands(trie) => {
                let all = self.choice(action)?;
                let mut said = Vec::new();
                while trie.next(&said) != Next::Done {
                    said.push(all.get(said.len()).copied().unwrap_or(self.tokenizer.end_token()));
                }
                Ok(said)
            }
            ReplyConstraint::Tagged(_) => {
                Ok(self.tokenizer.encode(&self.manner.demonstration(action))?.to_vec())
            }
            ReplyConstraint::Free => {
                let mut said = self.tokenizer.encode(&self.manner.tagged(action))?.to_vec();
                said.push(self.tokenizer.end_token());
                Ok(said)
            }
        }
    }
}

/// An adapter that was trained before, with the numbers that the configuration expects of it.
fn trained_adapter(model: &ModelConfig, expected: &LoraConfig, folder: &Path) -> Result<Lora> {
    let adapter = Lora::load(model, folder)?;
    if adapter.config() != expected {
        bail!(
            "`model.adapter` = {}: was trained with {:?}, `model.lora` says {expected:?}",
            folder.display(),
            adapter.config()
        );
    }
    Ok(adapter)
}

/// What a reply may be.
#[derive(Debug, Clone)]
pub enum ReplyConstraint {
    /// One of the admissible commands, in compact form.
    Commands(TokenTrie),
    /// Free text.
    Free,
    /// Free text of a language model.
    Tagged(TaggedReply),
}

impl TokenConstraint for ReplyConstraint {
    fn next(&self, generated: &[u32]) -> Next {
        match self {
            ReplyConstraint::Commands(trie) => trie.next(generated),
            ReplyConstraint::Free => Unconstrained.next(generated),
            ReplyConstraint::Tagged(reply) => reply.next(generated),
        }
    }
}
