//! What is asked of the engine, and what it answers.

use rand_chacha::ChaCha8Rng;
use reskill_kernels::ops::{SampledToken, SamplingFilter};

/// Names a request of one engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(super) u64);

/// A prompt to continue.
#[derive(Debug, Clone)]
pub struct GenerationRequest {
    /// The prompt; at least one token.
    pub tokens: Vec<u32>,
    /// The distribution that tokens are drawn from.
    pub filter: SamplingFilter,
    /// Longest reply, in tokens; at least 1.
    pub max_new_tokens: usize,
    /// Tokens that end the reply; the reply contains the one that did.
    pub stop_tokens: Vec<u32>,
    /// Source of the draws, one a token: of this request alone, so that its reply does not depend on the others.
    pub rng: ChaCha8Rng,
}

/// Why a reply ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// One of the stop tokens.
    StopToken,
    /// The receiver of the tokens asked for it, for instance because of a stop string.
    Stopped,
    /// `max_new_tokens`.
    Length,
    /// The model has no further positions.
    Context,
    /// The sequence alone fills the cache.
    Memory,
}

impl Finish {
    /// The customary short name: `stop` for an end that was meant, `length` for one that was not.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Finish::StopToken | Finish::Stopped => "stop",
            Finish::Length | Finish::Context | Finish::Memory => "length",
        }
    }
}

/// A reply.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    /// The request.
    pub id: RequestId,
    /// The tokens, each with its log-probability under the model and under the distribution it was drawn from.
    pub tokens: Vec<SampledToken>,
    /// Why it ended.
    pub finish: Finish,
}

/// What an engine has done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EngineStats {
    /// Tokens of prompts that were run.
    pub prefilled_tokens: u64,
    /// Tokens of prompts that were found in the cache.
    pub reused_tokens: u64,
    /// Tokens drawn.
    pub generated_tokens: u64,
    /// Sequences that had to leave the cache and were run again.
    pub preemptions: u64,
}
