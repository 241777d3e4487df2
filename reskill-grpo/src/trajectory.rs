//! A trajectory: one episode as the policy saw it, in tokens.

use reskill_model::ReplyToken;
use serde::{Deserialize, Serialize};

/// One turn in tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenTurn {
    /// Tokens that joined the trunk before this turn.
    pub trunk: Vec<u32>,
    /// Tokens of this turn only; never empty.
    pub branch: Vec<u32>,
    /// The reply, with the log-probabilities of the policy that sampled it.
    pub reply: Vec<ReplyToken>,
    /// Whether the action could not be read or was not admissible.
    pub invalid: bool,
}

impl TokenTurn {
    /// Reply tokens that were drawn, not forced: those that carry a gradient.
    #[must_use]
    pub fn trained_len(&self) -> usize {
        self.reply.iter().filter(|token| !token.is_forced()).count()
    }
}

/// One episode in tokens, with what the learner needs to know of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TokenTrajectory {
    /// The GRPO group: rollouts of one task.
    pub group: u64,
    /// The arm of the version test, as a number: kept with the tokens for baselines by arm.
    pub stratum: u32,
    /// The turns in order.
    pub turns: Vec<TokenTurn>,
    /// Undiscounted return, without penalties.
    pub return_: f32,
}

impl TokenTrajectory {
    /// Tokens of a packed trunk/branch sequence.
    #[must_use]
    pub fn packed_len(&self) -> usize {
        self.turns.iter().map(|turn| turn.trunk.len() + turn.branch.len() + turn.reply.len()).sum()
    }

    /// The most tokens that are visible at once: the trunk up to a turn, its branch and its reply.
    #[must_use]
    pub fn longest_context(&self) -> usize {
        let mut trunk = 0;
        let contexts = self.turns.iter().map(|turn| {
            trunk += turn.trunk.len();
            trunk + turn.branch.len() + turn.reply.len()
        });
        contexts.max().unwrap_or(0)
    }

    /// Reply tokens that were drawn, not forced: those that carry a gradient.
    #[must_use]
    pub fn trained_len(&self) -> usize {
        self.turns.iter().map(TokenTurn::trained_len).sum()
    }
}
