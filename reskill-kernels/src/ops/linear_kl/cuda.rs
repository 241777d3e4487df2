//! The divergence on a CUDA device: two tiles of logits side by side.

use std::sync::Arc;

use super::Distribution;
use crate::cuda::{CudaDevice, Grid, Launch};
use crate::error::KernelError;
use crate::ops::linear_logprob::TokenSets;
use crate::ops::linear_logprob::cuda::{
    Block, F32, Problem, Rows, SHARED_F32, STRIP, Sets, Slab, add_slabs, hopper,
};
use crate::tensor::Tensor;

const UNIT: &str = "linear_kl";
const UNIT_SM90A: &str = "linear_kl_sm90a";
const SET_UNIT: &str = "linear_logprob_sets";
/// Rows worked on at once: bounds the memory of the strips' sums, 4 bytes a row and strip.
const ROWS: usize = 16_384;
/// Bytes of shared memory of a tile of bf16: three stages of 64 rows and 128 columns.
const SHARED_BF16: usize = 3 * (64 + 128) * 32 * 2;
/// Rows of both tiles.
const HEIGHT: usize = 64;

/// Policy and reference over the same rows and tokens.
pub(super) struct Pair<'a> {
    policy: Problem<'a>,
    reference: Problem<'a>,
    lse: &'a Tensor,
    ref_lse: &'a Tensor,
    rows: Arc<Rows>,
    /// Whether the kernels for compute capability 9.0 compute the logits of both; asked once, since another thread may change the backend.
    by_warpgroups: bool,
}

impl<'a> Pair<'a> {
    pub(super) fn new(
        device: &'a CudaDevice,
        op: &'static str,
        policy: Distribution<'a>,
        reference: Distribution<'a>,
        allowed: &TokenSets,
        temperature: f32,
    ) -> Result<Pair<'a>, KernelError> {
        let problem =
            |of: Distribution<'a>| Problem { device, op, hidden: of.hidden, head: of.head, temperature };
        let (policy_problem, reference_problem) = (problem(policy), problem(reference));
        let by_warpgroups = hopper::takes(&policy_problem) && hopper::takes(&reference_problem);
        Ok(Pair {
            policy: policy_problem,
            reference: reference_problem,
            by_warpgroups,
            lse: policy.lse,
            ref_lse: reference.lse,
            rows: allowed.on(device)?,
        })
    }

    pub(super) fn forward(&self, kl: &mut Tensor) -> Result<(), KernelError> {
        let policy = &self.policy;
        let width = if self.by_warpgroups { hopper::Tile::PAIR.width } else { STRIP };
        let n_parts = policy.vocab().div_ceil(width);
        for block in self.rows.dense(ROWS) {
            let part = policy.scratch(block.len * n_parts * F32)?;
            let factors = self.factors(block)?;
            let (unit, kernel) = match &factors {
                Some(_) => (UNIT_SM90A, "linear_kl_parts_sm90a_bf16"),
                None => (UNIT, policy.dtype().pick("linear_kl_parts_f32", "linear_kl_parts_bf16")),
            };
            let launch = policy.launch(unit, kernel).scratch(&part, 0);
            let launch = self.distributions(launch, block, factors.as_ref());
            let launch = launch.size(block.len).size(policy.vocab());
            let launch = launch.size(policy.width()).size(self.reference.width());
            let launch = launch.number(policy.inverse_temperature());
            // SAFETY:
            // - arguments: order and types match `linear_kl_parts_T(float*, const T*, const T*, const float*, const T*,
            //   const T*, const float*, const u32*, int, int, int, int, float)`, T being the type of all four matrices
            //   (checked in `mod.rs`), and `linear_kl_parts_sm90a_bf16`, which has maps for these;
            // - bounds: rows from `len` and tokens from V on are read as zeros and not written; `part` holds len * n_parts
            //   f32; columns hold N elements (checked in `mod.rs`);
            // - aliasing: only the scratch memory is written.
            unsafe { launch.launch(self.grid(block, policy.vocab())) }?;
            let launch = block.output(policy.launch(UNIT, "linear_kl_join"), kl).scratch(&part, 0);
            let launch = block.index(launch).size(block.len).size(n_parts);
            // SAFETY:
            // - arguments: order and types match `linear_kl_join(float*, const float*, const u32*, int, int)`;
            // - bounds: a thread a row, rows from `len` on return; `kl` holds N elements, `part` was written above;
            // - aliasing: `kl` is borrowed mutably.
            unsafe { launch.launch(Grid::items(block.len)) }?;
        }
        match &self.rows.sets {
            Some(sets) => self.forward_sets(kl, sets),
            None => Ok(()),
        }
    }

    pub(super) fn backward(
        &self,
        d_hidden: &mut Tensor,
        mut d_head: Option<&mut Tensor>,
        d_kl: &Tensor,
        kl: &Tensor,
    ) -> Result<(), KernelError> {
        let gradient = |slab: &mut Slab<'_>, block: Block<'_>| self.d_logits(slab, block, d_kl, kl);
        add_slabs(d_hidden, d_head.as_deref_mut(), &self.policy, &self.rows, true, false, gradient)?;
        match &self.rows.sets {
            Some(sets) => self.backward_sets(d_hidden, d_head, d_kl, kl, sets),
            None => Ok(()),
        }
    }

    fn d_logits(
        &self,
        slab: &mut Slab<'_>,
        block: Block<'_>,
        d_kl: &Tensor,
        kl: &Tensor,
    ) -> Result<(), KernelError> {
        let policy = &self.policy;
        let factors = self.factors(block)?;
        let (unit, kernel) = match &factors {
            Some(_) => (UNIT_SM90A, "linear_kl_d_logits_sm90a_bf16"),
            None => (UNIT, policy.dtype().pick("linear_kl_d_logits_f32", "linear_kl_d_logits_bf16")),
        };
        let launch = policy.launch(unit, kernel).output(slab.values);
        let launch = self.distributions(launch, block, factors.as_ref());
        let launch = block.input(block.input(launch, d_kl), kl);
        let launch = launch.size(block.len).size(slab.first).size(slab.last).size(slab.ld);
        let launch = launch.size(policy.width()).size(self.reference.width());
        let launch = launch.number(policy.inverse_temperature());
        // SAFETY:
        // - arguments: order and types match `linear_kl_d_logits_T(T*, const T*, const T*, const float*, const T*, const
        //   T*, const float*, const u32*, const float*, const float*, int x 6, float)`, T as in `forward`, and
        //   `linear_kl_d_logits_sm90a_bf16`, which has maps for the four matrices;
        // - bounds: rows from `len` are not written; tokens from `last` on are read as zeros, and up to `ld`, whole strips,
        //   may be written: the slab holds len * ld elements; columns hold N elements (checked in `mod.rs`);
        // - aliasing: only the slab, scratch of the caller, is written.
        unsafe { launch.launch(self.grid(block, slab.last - slab.first)) }
    }

    /// A block's factors of the policy and of the reference, if these kernels take them.
    fn factors(&self, block: Block<'_>) -> Result<Option<[hopper::Factors; 2]>, KernelError> {
        if !self.by_warpgroups {
            return Ok(None);
        }
        let of = |problem| hopper::Factors::new(problem, block, hopper::Tile::PAIR);
        Ok(Some([of(&self.policy)?, of(&self.reference)?]))
    }

    /// The arguments that say where the two distributions are.
    fn distributions<'l>(
        &'l self,
        launch: Launch<'l>,
        block: Block<'l>,
        factors: Option<&[hopper::Factors; 2]>,
    ) -> Launch<'l> {
        let of = |launch: Launch<'l>, which: usize, problem: &Problem<'l>, lse| {
            let launch = match factors {
                Some(factors) => launch.map(factors[which].hidden).map(factors[which].head),
                None => block.input(launch, problem.hidden).input(problem.head),
            };
            block.input(launch, lse)
        };
        let launch = of(launch, 0, &self.policy, self.lse);
        block.index(of(launch, 1, &self.reference, self.ref_lse))
    }

    fn grid(&self, block: Block<'_>, tokens: usize) -> Grid {
        if self.by_warpgroups {
            return hopper::Tile::PAIR.staying(&self.policy, block.len, tokens);
        }
        let blocks = [block.len.div_ceil(HEIGHT), tokens.div_ceil(STRIP), 1];
        Grid { blocks, threads: [256, 1, 1], shared: self.policy.shared(SHARED_F32, SHARED_BF16) }
    }

    fn forward_sets(&self, kl: &mut Tensor, sets: &Sets) -> Result<(), KernelError> {
        let (logits, ref_logits) = (sets.logits(&self.policy)?, sets.logits(&self.reference)?);
        let launch = self.policy.launch(SET_UNIT, "linear_kl_set_forward").output(kl);
        let launch = launch.scratch(&logits, 0).scratch(&ref_logits, 0).input(self.lse).input(self.ref_lse);
        // SAFETY:
        // - arguments: order and types match `linear_kl_set_forward(float*, const float*, const float*, const float*,
        //   const float*, const u32*, const u32*)`;
        // - bounds: block b reads the entries of row rows[b] and touches that row of the columns (N elements);
        // - aliasing: `kl` is borrowed mutably.
        unsafe { launch.input(&sets.rows).input(&sets.offsets).launch(Grid::linear(sets.len(), 128)) }
    }

    fn backward_sets(
        &self,
        d_hidden: &mut Tensor,
        d_head: Option<&mut Tensor>,
        d_kl: &Tensor,
        kl: &Tensor,
        sets: &Sets,
    ) -> Result<(), KernelError> {
        let (logits, ref_logits) = (sets.logits(&self.policy)?, sets.logits(&self.reference)?);
        let launch = self.policy.launch(SET_UNIT, "linear_kl_set_d_logits");
        let launch = launch.scratch(&logits, 0).scratch(&ref_logits, 0).input(self.lse).input(self.ref_lse);
        let launch = launch.input(d_kl).input(kl).input(&sets.rows).input(&sets.offsets);
        let launch = launch.number(self.policy.inverse_temperature());
        // SAFETY:
        // - arguments: order and types match `linear_kl_set_d_logits(float*, const float*, const float* x 4, const u32*,
        //   const u32*, float)`;
        // - bounds: as in `forward_sets`;
        // - aliasing: only the scratch memory is written.
        unsafe { launch.launch(Grid::linear(sets.len(), 128)) }?;
        sets.products(d_hidden, d_head, &self.policy, &logits, true)
    }
}
