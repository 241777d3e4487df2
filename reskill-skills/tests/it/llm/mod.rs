//! Language models as authors of skills.

pub(crate) mod brain;
mod server;
mod pipeline;
mod replies;
mod faults;
mod apis;
mod background;
mod corpus;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use reskill_envs::ActionVocabulary;
use reskill_skills::assertion::AssertionSet;
use reskill_skills::creator::llm::{ChatError, LlmCreator, Message, Reply, Schema, Usage};
use reskill_skills::creator::{CreatorCost, VerifyConfig};
use reskill_skills::{
    Creator, CreatorConfig, CreatorContext, Proposal, Reservoir, ReservoirConfig, SkillBank, SkillError,
    SkillLimits,
};

use crate::world::{FORGETFUL, batch, vocabulary};

/// What a creator is shown in these tests.
pub(crate) struct World {
    pub(crate) bank: SkillBank,
    pub(crate) reservoir: Reservoir,
    pub(crate) vocabulary: ActionVocabulary,
    pub(crate) assertions: AssertionSet,
    pub(crate) limits: SkillLimits,
    pub(crate) verify: VerifyConfig,
}

impl World {
    pub(crate) fn new() -> Self {
        let mut reservoir = Reservoir::new(ReservoirConfig::default());
        reservoir.extend(&batch(0, 12, 6, FORGETFUL, 5));
        Self {
            bank: SkillBank::default(),
            reservoir,
            vocabulary: vocabulary(),
            assertions: AssertionSet::default(),
            limits: SkillLimits::default(),
            verify: VerifyConfig::default(),
        }
    }

    /// Asks a creator, at step 3, with at most `groups` task groups.
    pub(crate) fn ask(
        &self,
        creator: &mut dyn Creator,
        groups: usize,
    ) -> Result<Option<Proposal>, SkillError> {
        let groups = self.reservoir.task_groups(groups);
        creator.propose(&CreatorContext {
            step: 3,
            bank: &self.bank,
            episodes: self.reservoir.entries(),
            groups: &groups,
            vocabulary: &self.vocabulary,
            assertions: &self.assertions,
            history: &[],
            limits: &self.limits,
            verify: &self.verify,
        })
    }
}

/// Settings under which nothing waits long.
pub(crate) fn quick() -> CreatorConfig {
    CreatorConfig {
        retry_base_secs: 0.002,
        retry_cap_secs: 0.01,
        max_concurrent: 4,
        model: Some("tiny".into()),
        ..CreatorConfig::default()
    }
}

/// A creator over a script: stage, prompt (of a correction: the last message) and number of the call give the text.
pub(crate) fn scripted(
    config: &CreatorConfig,
    script: impl Fn(&str, &str, usize) -> Result<String, ChatError> + Send + Sync + 'static,
) -> LlmCreator {
    let calls = AtomicUsize::new(0);
    let model = move |messages: &[Message], schema: &Schema| {
        let n = calls.fetch_add(1, Ordering::SeqCst);
        let text = script(schema.name(), &messages[messages.len() - 1].content, n)?;
        Ok(Reply { text, usage: Usage { prompt_tokens: 10, completion_tokens: 2 } })
    };
    LlmCreator::new(config, Some(Arc::new(model)), 0).unwrap()
}

/// A creator that always does as it is told.
pub(crate) fn sensible(config: &CreatorConfig) -> LlmCreator {
    scripted(config, |stage, prompt, _| Ok(brain::answer(stage, prompt).to_string()))
}

pub(crate) fn cost(creator: &LlmCreator) -> CreatorCost {
    creator.handle().take_cost()
}
