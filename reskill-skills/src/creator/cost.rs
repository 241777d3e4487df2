//! What calls to a language model cost: a ledger that adds up.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// Calls, tokens, time and mishaps of a creator. All counts only grow.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CreatorCost {
    /// Calls that ended, with an answer or without.
    pub calls: u64,
    /// Attempts beyond the first, over all calls.
    pub retries: u64,
    /// Calls that told the model what was wrong with its last answer.
    pub corrections: u64,
    /// Tokens of the prompts, as the servers counted them.
    pub prompt_tokens: u64,
    /// Tokens of the replies, as the servers counted them.
    pub completion_tokens: u64,
    /// Everything that went wrong, by kind, whether or not another attempt mended it.
    pub errors: BTreeMap<String, u64>,
    /// Seconds in calls, added up over calls that ran side by side.
    pub seconds: f64,
}

impl CreatorCost {
    /// Adds another ledger to this one.
    pub fn add(&mut self, other: &CreatorCost) {
        self.calls += other.calls;
        self.retries += other.retries;
        self.corrections += other.corrections;
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
        for (kind, n) in &other.errors {
            *self.errors.entry(kind.clone()).or_default() += n;
        }
        self.seconds += other.seconds;
    }

    /// Counts one error.
    pub fn count_error(&mut self, kind: &str) {
        *self.errors.entry(kind.to_owned()).or_default() += 1;
    }

    /// All errors.
    #[must_use]
    pub fn n_errors(&self) -> u64 {
        self.errors.values().sum()
    }

    /// What the tokens cost at prices per million, in the currency of the prices.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "token counts stay far below 2^52")]
    pub fn price(&self, prompt_per_mtok: f64, completion_per_mtok: f64) -> f64 {
        (self.prompt_tokens as f64 * prompt_per_mtok + self.completion_tokens as f64 * completion_per_mtok)
            / 1e6
    }
}

/// What a creator in another thread shares with the one who waits for it: its ledger, and a way to call it off.
#[derive(Debug, Clone, Default)]
pub struct CreatorHandle {
    cost: Arc<Mutex<CreatorCost>>,
    /// Requests of steps below this one are called off.
    called_off_below: Arc<AtomicU64>,
}

impl CreatorHandle {
    /// Changes the ledger.
    pub fn record(&self, change: impl FnOnce(&mut CreatorCost)) {
        change(&mut self.cost.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The ledger since the last call of this function.
    #[must_use]
    pub fn take_cost(&self) -> CreatorCost {
        std::mem::take(&mut self.cost.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Calls off the requests of all steps up to `step`.
    pub fn call_off(&self, step: u64) {
        self.called_off_below.fetch_max(step.saturating_add(1), Ordering::SeqCst);
    }

    /// Whether the request of `step` was called off.
    #[must_use]
    pub fn is_called_off(&self, step: u64) -> bool {
        step < self.called_off_below.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_add_up_and_have_a_price() {
        let mut cost = CreatorCost { calls: 1, prompt_tokens: 2_000_000, ..CreatorCost::default() };
        cost.count_error("timeout");
        let mut sum = cost.clone();
        sum.add(&cost);
        sum.add(&CreatorCost { completion_tokens: 500_000, ..CreatorCost::default() });
        assert_eq!((sum.calls, sum.errors["timeout"], sum.n_errors()), (2, 2, 2));
        assert!((sum.price(0.5, 2.0) - 3.0).abs() < 1e-12);
    }

    #[test]
    fn calling_off_reaches_earlier_steps_only() {
        let handle = CreatorHandle::default();
        assert!(!handle.is_called_off(0));
        handle.call_off(3);
        assert!(handle.is_called_off(3) && handle.is_called_off(1) && !handle.is_called_off(4));
        handle.call_off(1);
        assert!(handle.is_called_off(3));
    }
}
