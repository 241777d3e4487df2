//! Rows with an allowed set.

use std::sync::OnceLock;

use super::head_plan::{HeadPlan, Host, PlacedHeadPlan};
use super::{F32, Problem, null, upload};
use crate::cuda::{CudaDevice, Grid, Scratch};
use crate::error::KernelError;
use crate::ops::linear_logprob::{TokenSets, Upstream};
use crate::tensor::Tensor;

const UNIT: &str = "linear_logprob_sets";

/// The rows that allow a set, and the sets of all rows.
#[derive(Debug)]
pub(crate) struct Sets {
    /// (R): the rows.
    pub(crate) rows: Tensor<u32>,
    /// (N + 1).
    pub(crate) offsets: Tensor<u32>,
    /// (E).
    pub(crate) ids: Tensor<u32>,
    host: Host,
    /// Made by the first pass that wants the head's gradient.
    head_plan: OnceLock<PlacedHeadPlan>,
}

/// One number for each token of each set.
pub(crate) type SetLogits<'d> = Scratch<'d>;

impl Sets {
    pub(super) fn new(device: &CudaDevice, allowed: &TokenSets, rows: Vec<u32>) -> Result<Sets, KernelError> {
        let host = Host { rows, offsets: allowed.offsets().to_vec(), ids: allowed.ids().to_vec() };
        let table = |values: &[u32]| upload(device, values);
        let (rows, offsets, ids) = (table(&host.rows)?, table(&host.offsets)?, table(&host.ids)?);
        Ok(Sets { rows, offsets, ids, host, head_plan: OnceLock::new() })
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Logits over the temperature.
    pub(crate) fn logits<'d>(&self, problem: &Problem<'d>) -> Result<SetLogits<'d>, KernelError> {
        let logits = problem.device.scratch(problem.op, self.ids.len() * F32)?;
        let kernel = problem.dtype().pick("linear_logprob_set_logits_f32", "linear_logprob_set_logits_bf16");
        let launch =
            problem.launch(UNIT, kernel).scratch(&logits, 0).input(problem.hidden).input(problem.head);
        let launch = launch.input(&self.rows).input(&self.offsets).input(&self.ids);
        let launch = launch.size(problem.width()).number(problem.inverse_temperature());
        // SAFETY:
        // - arguments: order and types match `linear_logprob_set_logits_T(float*, const T*, const T*, const u32*, const
        //   u32*, const u32*, int, float)`, T being the type of `hidden` and `head` (checked in `mod.rs`);
        // - bounds: block b writes the entries of row rows[b]; offsets end at the number of entries, ids are below V
        //   (checked in `mod.rs`);
        // - aliasing: only the scratch memory is written.
        unsafe { launch.launch(Grid::linear(self.len(), 128)) }?;
        Ok(logits)
    }

    pub(super) fn forward(
        &self,
        logprobs: &mut Tensor,
        entropy: &mut Tensor,
        lse: &mut Tensor,
        problem: &Problem<'_>,
        targets: &Tensor<u32>,
    ) -> Result<(), KernelError> {
        let logits = self.logits(problem)?;
        let launch = problem.launch(UNIT, "linear_logprob_set_statistics");
        let launch = launch.output(logprobs).output(entropy).output(lse).scratch(&logits, 0);
        let launch = launch.input(&self.rows).input(&self.offsets).input(&self.ids).input(targets);
        // SAFETY:
        // - arguments: order and types match `linear_logprob_set_statistics(float*, float*, float*, const float*, const
        //   u32* x 4)`;
        // - bounds: block b touches row rows[b] of the columns (N elements, checked in `mod.rs`) and its entries;
        // - aliasing: the three columns are borrowed mutably.
        unsafe { launch.launch(Grid::linear(self.len(), 128)) }
    }

    /// Log-sum-exps alone, into scratch memory of N f32.
    pub(crate) fn log_sum_exps(
        &self,
        lse: &Scratch<'_>,
        problem: &Problem<'_>,
        logits: &SetLogits<'_>,
    ) -> Result<(), KernelError> {
        let launch = null(null(problem.launch(UNIT, "linear_logprob_set_statistics"))).scratch(lse, 0);
        let launch = launch.scratch(logits, 0).input(&self.rows).input(&self.offsets).input(&self.ids);
        // SAFETY: as in `forward`; with null for the targets the kernel writes `lse` alone, which is scratch memory of N
        // f32.
        unsafe { null(launch).launch(Grid::linear(self.len(), 128)) }
    }

    pub(super) fn backward(
        &self,
        d_hidden: &mut Tensor,
        d_head: Option<&mut Tensor>,
        problem: &Problem<'_>,
        upstream: &Upstream<'_>,
        targets: &Tensor<u32>,
    ) -> Result<(), KernelError> {
        let logits = self.logits(problem)?;
        let launch = problem.launch(UNIT, "linear_logprob_set_d_logits").scratch(&logits, 0);
        let launch = launch.input(&self.rows).input(&self.offsets).input(&self.ids).input(targets);
        let launch = launch.input(upstream.d_logprobs).input(upstream.d_entropy);
        let launch = launch.input(upstream.entropy).input(upstream.lse).number(problem.inverse_temperature());
        // SAFETY:
        // - arguments: order and types match `linear_logprob_set_d_logits(float*, const u32* x 4, const float* x 4,
        //   float)`;
        // - bounds: block b touches the entries of row rows[b]; the columns hold N elements (checked in `mod.rs`);
        // - aliasing: only the scratch memory is written.
        unsafe { launch.launch(Grid::linear(self.len(), 128)) }?;
        self.products(d_hidden, d_head, problem, &logits, false)
    }

    /// The two products of the gradients of the sets' logits.
    pub(crate) fn products(
        &self,
        d_hidden: &mut Tensor,
        d_head: Option<&mut Tensor>,
        problem: &Problem<'_>,
        d_logits: &SetLogits<'_>,
        accumulate: bool,
    ) -> Result<(), KernelError> {
        let kernel =
            problem.dtype().pick("linear_logprob_set_d_hidden_f32", "linear_logprob_set_d_hidden_bf16");
        let launch = problem.launch(UNIT, kernel).output(d_hidden).scratch(d_logits, 0).input(problem.head);
        let launch = launch.input(&self.rows).input(&self.offsets).input(&self.ids);
        let launch = launch.size(problem.width()).number(i32::from(accumulate));
        // SAFETY:
        // - arguments: order and types match `linear_logprob_set_d_hidden_T(T*, const float*, const T*, const u32* x 3,
        //   int, int)`, T being the type of `head` and `d_hidden` (checked in `mod.rs`);
        // - bounds: block b writes the C elements of row rows[b] of `d_hidden` (N * C); ids are below V;
        // - aliasing: only `d_hidden`, borrowed mutably, is written.
        unsafe { launch.launch(Grid::linear(self.len(), 128)) }?;
        match d_head {
            Some(d_head) => self.add_to_head(d_head, problem, d_logits),
            None => Ok(()),
        }
    }

    fn head_plan(&self, device: &CudaDevice) -> Result<&PlacedHeadPlan, KernelError> {
        if let Some(plan) = self.head_plan.get() {
            return Ok(plan);
        }
        let plan = PlacedHeadPlan::new(device, &HeadPlan::new(&self.host))?;
        Ok(self.head_plan.get_or_init(|| plan))
    }

    fn add_to_head(
        &self,
        d_head: &mut Tensor,
        problem: &Problem<'_>,
        d_logits: &SetLogits<'_>,
    ) -> Result<(), KernelError> {
        let c = problem.width();
        let plan = self.head_plan(problem.device)?;
        let parts = problem.scratch(plan.n_parts * c * F32)?;
        let kernel = problem.dtype().pick("linear_logprob_set_d_head_f32", "linear_logprob_set_d_head_bf16");
        let launch = problem.launch(UNIT, kernel).output(d_head).scratch(&parts, 0).scratch(d_logits, 0);
        let launch =
            launch.input(problem.hidden).input(&plan.segments).input(&plan.tokens).input(&plan.part_of);
        let launch = launch.input(&plan.entries).input(&plan.entry_rows).size(c);
        // SAFETY:
        // - arguments: order and types match `linear_logprob_set_d_head_T(float*, float*, const float*, const T*, const
        //   u32* x 5, int)`, T being the type of `hidden` (checked in `mod.rs`), `d_head` f32;
        // - bounds: block s reads its entries (all below E) and their rows (below N), and writes one row of C: that of its
        //   token (below V), which no other block writes, or a part of its own;
        // - aliasing: `d_head` is borrowed mutably, the parts are scratch of this call.
        unsafe { launch.launch(Grid::linear(plan.tokens.len(), 128)) }?;
        let launch = problem.launch(UNIT, "linear_logprob_set_d_head_join").output(d_head).scratch(&parts, 0);
        let launch = launch.input(&plan.joined).input(&plan.join_tokens).size(c);
        // SAFETY:
        // - arguments: order and types match `linear_logprob_set_d_head_join(float*, const float*, const u32*, const u32*,
        //   int)`;
        // - bounds: block t adds the parts joined[t]..joined[t + 1], all written above, to the row of its token;
        // - aliasing: `d_head` is borrowed mutably.
        unsafe { launch.launch(Grid::linear(plan.join_tokens.len(), 128)) }
    }
}
