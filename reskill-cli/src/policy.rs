//! The policy as an agent: tokenizer, network, prompts, and how a reply is read.

use std::collections::HashSet;
use std::sync::Arc;

use anyhow::Result;
use rand_chacha::ChaCha8Rng;
use reskill_envs::prompt::{
    ANSWER, ActionFormat, ENTRY, ParsedReply, PromptConfig, PromptLayout, compact_command, paper_words,
    parse_reply,
};
use reskill_envs::{Split, Suite};
use reskill_model::constraint::Unconstrained;
use reskill_model::{ModelConfig, Next, PolicyTokenizer, Reply, TokenConstraint, TokenTrie, Transformer};
use reskill_skills::creator::offline;

use crate::evaluate::fixed_games;

/// A policy that plays text games.
#[derive(Debug)]
pub struct Policy {
    /// The network.
    pub model: Transformer,
    /// The tokenizer.
    pub tokenizer: PolicyTokenizer,
    /// What it is shown.
    pub prompt: PromptConfig,
}

/// How many training games the vocabulary is read from. All words of an environment occur in far fewer.
const VOCABULARY_GAMES: usize = 400;

/// A tokenizer over all words of the environment's training games, of its commands and of skill guidance.
///
/// # Errors
/// If a game cannot be opened.
pub fn build_tokenizer(suite: &dyn Suite, prompt: &PromptConfig) -> Result<PolicyTokenizer> {
    let mut texts: HashSet<String> = HashSet::new();
    texts.extend(
        [ENTRY, ANSWER, "task: tip: new: commands: nothing * <action> </action> , ."].map(String::from),
    );
    if prompt.prompt_layout == PromptLayout::Paper {
        texts.extend(paper_words());
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
    for task in fixed_games(tasks, VOCABULARY_GAMES) {
        let mut env = suite.open(&task.id)?;
        let first = env.reset();
        texts.insert(first.text);
        texts.extend(first.admissible);
        // A game without a plan still gives its first words.
        for action in env.expert().unwrap_or_default() {
            let step = env.step(&action);
            texts.insert(step.observation.text);
            texts.extend(step.observation.admissible);
        }
    }
    Ok(PolicyTokenizer::word_level(texts.iter().map(String::as_str))?)
}

impl Policy {
    /// A policy with random weights.
    ///
    /// # Errors
    /// If the sizes are impossible.
    pub fn init(
        config: &ModelConfig,
        prompt: &PromptConfig,
        tokenizer: PolicyTokenizer,
        rng: &mut ChaCha8Rng,
    ) -> Result<Policy> {
        let config = ModelConfig { vocab_size: tokenizer.vocab_size(), ..config.clone() };
        Ok(Policy { model: Transformer::init(&config, rng)?, tokenizer, prompt: prompt.clone() })
    }

    /// What a reply may be when these commands are admissible.
    ///
    /// # Errors
    /// If a command cannot be encoded.
    pub fn constraint(&self, admissible: &[String]) -> Result<ReplyConstraint> {
        if self.prompt.action_format == ActionFormat::Tagged || admissible.is_empty() {
            return Ok(ReplyConstraint::Free);
        }
        let encoded: Vec<Arc<[u32]>> = admissible
            .iter()
            .map(|command| self.tokenizer.encode(&compact_command(command)))
            .collect::<Result<_, _>>()?;
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
        let text = self.tokenizer.decode(&ids)?;
        let parsed = match constraint {
            ReplyConstraint::Commands(trie) => {
                let action = trie.resolve(&ids).map(|index| admissible[index].clone());
                ParsedReply { valid: action.is_some(), action }
            }
            ReplyConstraint::Free => parse_reply(&text, admissible),
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
                let all = self.tokenizer.encode(&compact_command(action))?;
                let mut said = Vec::new();
                while trie.next(&said) != Next::Done {
                    said.push(all.get(said.len()).copied().unwrap_or(self.tokenizer.end_token()));
                }
                Ok(said)
            }
            ReplyConstraint::Free => {
                let mut said = self.tokenizer.encode(&format!("<action>{action}</action>"))?.to_vec();
                said.push(self.tokenizer.end_token());
                Ok(said)
            }
        }
    }
}

/// What a reply may be.
#[derive(Debug, Clone)]
pub enum ReplyConstraint {
    /// One of the admissible commands, in compact form.
    Commands(TokenTrie),
    /// Free text.
    Free,
}

impl TokenConstraint for ReplyConstraint {
    fn next(&self, generated: &[u32]) -> Next {
        match self {
            ReplyConstraint::Commands(trie) => trie.next(generated),
            ReplyConstraint::Free => Unconstrained.next(generated),
        }
    }
}
