//! What updates the policy of a run. A run with frozen weights has none of it.

use anyhow::Result;
use reskill_grpo::{Learner, Optimizer};
use reskill_model::Transformer;

use crate::config::TrainConfig;
use crate::policy::Policy;
use crate::run_dir::RunDir;

/// Learner, optimizer, reference.
pub(super) struct Learning {
    pub(super) learner: Learner,
    pub(super) optimizer: Optimizer,
    /// The frozen copy that the divergence is measured from, if there is one.
    pub(super) reference: Option<Transformer>,
}

impl Learning {
    pub(super) fn new(
        config: &TrainConfig,
        run: &RunDir,
        policy: &Policy,
        optimizer: Optimizer,
        reference: Option<Transformer>,
    ) -> Result<Learning> {
        let mut learner = Learner::for_model(&policy.model, &config.grpo.learner)?.dumping_to(&run.skipped());
        if config.model.recompute {
            learner = learner.recomputing(policy.model.config())?;
        }
        Ok(Learning { learner, optimizer, reference })
    }

    /// Goes over from imitation to policy optimisation: a new optimizer, and the policy of this moment as reference.
    pub(super) fn begin_optimisation(&mut self, config: &TrainConfig, policy: &Policy) -> Result<()> {
        // The reference of an adapter is the model without it.
        let needs_copy = policy.model.adapter().is_none() && config.grpo.loss.kl_coef > 0.0;
        self.reference = needs_copy.then(|| policy.model.clone());
        self.optimizer = Optimizer::for_model(&policy.model, &config.grpo.optimizer)?;
        Ok(())
    }
}
