//! Words of an environment that a word-level policy was never trained on.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use rayon::prelude::*;
use reskill_envs::{Observation, Split, Suite};
use reskill_model::PolicyTokenizer;
use reskill_model::tokenizer::UNKNOWN;
use serde::{Deserialize, Serialize};

use crate::evaluate::fixed_games;
use crate::policy::{Policy, read_game};

/// Unknown words that are named.
const NAMED: usize = 12;

/// How much of an environment a policy cannot read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct UnknownWords {
    /// Words of goals, observations and commands on the expert's way through training games.
    pub words: u64,
    /// How many of them the policy does not know.
    pub unknown: u64,
    /// Turns on which at least two commands were listed.
    pub choices: u64,
    /// How many of them have commands that read the same to the policy; the first of them is played.
    pub ambiguous: u64,
    /// The unknown words that come most often.
    pub examples: Vec<String>,
}

impl UnknownWords {
    /// Reads training games as the policy would.
    ///
    /// - `games`: how many
    /// - result: `None` for a tokenizer that can read any text
    ///
    /// # Errors
    /// If a game cannot be played.
    pub fn survey(suite: &dyn Suite, policy: &Policy, games: usize) -> Result<Option<UnknownWords>> {
        let Some(unknown) = policy.tokenizer.token_id(UNKNOWN).filter(|_| policy.language.is_none()) else {
            return Ok(None);
        };
        let tasks = fixed_games(suite.tasks(Split::Train), games);
        let read: Vec<Vec<Observation>> =
            tasks.par_iter().map(|task| read_game(suite, task)).collect::<Result<_, _>>()?;
        let mut found = UnknownWords { words: 0, unknown: 0, choices: 0, ambiguous: 0, examples: Vec::new() };
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        for task in &tasks {
            found.add_text(&task.goal, &policy.tokenizer, unknown, &mut counts)?;
        }
        for now in read.iter().flatten() {
            found.add_text(&now.text, &policy.tokenizer, unknown, &mut counts)?;
            for command in &now.admissible {
                found.add_text(command, &policy.tokenizer, unknown, &mut counts)?;
            }
            if now.admissible.len() > 1 {
                found.choices += 1;
                found.ambiguous += u64::from(!policy.tells_apart(&now.admissible)?);
            }
        }
        let mut counts: Vec<(String, u64)> = counts.into_iter().collect();
        counts.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        found.examples = counts.into_iter().take(NAMED).map(|(word, _)| word).collect();
        Ok(Some(found))
    }

    fn add_text(
        &mut self,
        text: &str,
        tokenizer: &PolicyTokenizer,
        unknown: u32,
        counts: &mut BTreeMap<String, u64>,
    ) -> Result<()> {
        let ids = tokenizer.encode(text)?;
        self.words += ids.len() as u64;
        let n_unknown = ids.iter().filter(|&&id| id == unknown).count();
        self.unknown += n_unknown as u64;
        if n_unknown == 0 {
            return Ok(());
        }
        for word in text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()) {
            if tokenizer.encode(word)?.contains(&unknown) {
                *counts.entry(word.to_lowercase()).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Share of the words that are unknown, in 0..=1.
    #[must_use]
    pub fn share(&self) -> f64 {
        self.unknown as f64 / self.words.max(1) as f64
    }

    /// Refuses an environment of which the policy reads too little.
    ///
    /// # Errors
    /// One line with numbers, words and remedy.
    pub fn check(&self, max_share: f64) -> Result<()> {
        if self.share() > max_share {
            bail!(
                "{self}; `policy.max_unknown` = {max_share} allows {:.1}%: raise it, train the policy on words of both \
                 environments, or adapt a pretrained language model, which reads any text",
                max_share * 100.0
            );
        }
        Ok(())
    }
}

impl std::fmt::Display for UnknownWords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the policy does not know {:.2}% of the environment's words", self.share() * 100.0)?;
        if !self.examples.is_empty() {
            write!(f, " ({})", self.examples.join(", "))?;
        }
        let turns = 100.0 * self.ambiguous as f64 / self.choices.max(1) as f64;
        write!(f, "; on {turns:.1}% of the turns it cannot tell all commands apart")
    }
}
