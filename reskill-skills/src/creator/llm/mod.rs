//! Skills written by a language model.
//!
//! [`LlmCreator`] asks a [`ChatModel`] stage by stage: *contrast* the episodes of each task, *diagnose* what the findings
//! have in common, *recommend* one to three changes, *author* each of them. What can be computed is computed: the pass
//! rates of assertions, and how often a trigger would have fired, which the author is told until its skill passes the gate.
//!
//! A reply that is no JSON of the stage's shape is sent back once; calls are retried, recorded, replayed and counted in
//! [`calls`]. Clients: [`openai`], [`anthropic`], and `bedrock` behind its feature. A generator in this process is a client
//! too: any closure from messages to a reply is a [`ChatModel`].

pub mod chat;
pub mod schema;
pub mod reply;
pub mod retry;
pub mod record;
pub mod calls;
pub mod prompts;
pub mod stages;
mod brief;
mod pipeline;
pub mod http;
pub mod openai;
pub mod anthropic;
#[cfg(feature = "bedrock")]
pub mod bedrock;
pub mod open;

use std::path::PathBuf;
use std::sync::Arc;

use crate::creator::config::CreatorConfig;
use crate::creator::cost::CreatorHandle;
use crate::creator::llm::calls::Caller;
use crate::creator::llm::prompts::Prompts;
use crate::creator::llm::record::CallFiles;
use crate::creator::llm::retry::RetryPolicy;
use crate::creator::llm::stages::author::Lexicon;
use crate::creator::{Creator, CreatorContext, Proposal};
use crate::error::SkillError;
use crate::transcript::{CharsPerToken, TokenEstimate};

pub use chat::{ChatError, ChatModel, FailureKind, Message, Reply, Role, Usage};
pub use http::Secret;
pub use open::open;
pub use schema::Schema;

/// A creator that asks a language model.
#[derive(Clone)]
pub struct LlmCreator {
    config: CreatorConfig,
    caller: Caller,
    prompts: Arc<Prompts>,
    estimate: Arc<dyn TokenEstimate>,
    lexicon: Option<(Arc<dyn Lexicon>, String)>,
    artefacts: Option<PathBuf>,
}

impl LlmCreator {
    /// A creator over a model; `None` replays recorded calls only. `seed` is that of the jitter between attempts.
    ///
    /// # Errors
    /// If a prompt of `config.prompts_dir` cannot be read or uses an unknown placeholder.
    pub fn new(
        config: &CreatorConfig,
        model: Option<Arc<dyn ChatModel>>,
        seed: u64,
    ) -> Result<Self, SkillError> {
        let prompts = Arc::new(match &config.prompts_dir {
            Some(folder) => Prompts::load(folder)?,
            None => Prompts::built_in(),
        });
        let files = match (&config.replay_dir, &config.record_dir) {
            (Some(folder), _) => Some(CallFiles::Replay(folder.clone())),
            (None, Some(folder)) => Some(CallFiles::Record(folder.clone())),
            (None, None) => None,
        };
        let caller = Caller {
            model,
            retry: RetryPolicy::new(config, seed),
            files,
            handle: CreatorHandle::default(),
            prompts: Arc::clone(&prompts),
        };
        Ok(Self {
            estimate: Arc::new(CharsPerToken(config.transcript.chars_per_token)),
            config: config.clone(),
            caller,
            prompts,
            lexicon: None,
            artefacts: None,
        })
    }

    /// Stores the input and output of every stage below `folder`, in a folder a request: `step-000012/diagnose.json`.
    #[must_use]
    pub fn with_artefacts(mut self, folder: PathBuf) -> Self {
        self.artefacts = Some(folder);
        self
    }

    /// Counts tokens exactly instead of guessing from characters.
    #[must_use]
    pub fn with_token_estimate(mut self, estimate: Arc<dyn TokenEstimate>) -> Self {
        self.estimate = estimate;
        self
    }

    /// Refuses skills with words that the agent cannot read; `hint` tells the author what it can.
    #[must_use]
    pub fn with_lexicon(mut self, lexicon: Arc<dyn Lexicon>, hint: String) -> Self {
        self.lexicon = Some((lexicon, hint));
        self
    }

    /// The ledger of calls, and the way to call a request off.
    #[must_use]
    pub fn handle(&self) -> CreatorHandle {
        self.caller.handle.clone()
    }
}

impl std::fmt::Debug for LlmCreator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LlmCreator").field("kind", &self.config.kind).finish_non_exhaustive()
    }
}

impl Creator for LlmCreator {
    fn propose(&mut self, context: &CreatorContext<'_>) -> Result<Option<Proposal>, SkillError> {
        pipeline::Pipeline { creator: self, context }.run().map(Some)
    }
}
