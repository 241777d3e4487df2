//! Rows with an allowed set.

use super::{F32, Problem, null, upload};
use crate::cuda::{CudaDevice, Grid, Scratch};
use crate::error::KernelError;
use crate::ops::linear_logprob::{TokenSets, Upstream};
use crate::tensor::Tensor;

const UNIT: &str = "linear_logprob_sets";
/// Rows of one token that a block adds up for the head's gradient.
const SEGMENT: usize = 256;

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
}

/// The same on the host, for the order of sums in the head's gradient.
#[derive(Debug)]
struct Host {
    rows: Vec<u32>,
    offsets: Vec<u32>,
    ids: Vec<u32>,
}

/// One number for each token of each set.
pub(crate) type SetLogits<'d> = Scratch<'d>;

impl Sets {
    pub(super) fn new(device: &CudaDevice, allowed: &TokenSets, rows: Vec<u32>) -> Result<Sets, KernelError> {
        let host = Host { rows, offsets: allowed.offsets().to_vec(), ids: allowed.ids().to_vec() };
        let table = |values: &[u32]| upload(device, values);
        Ok(Sets { rows: table(&host.rows)?, offsets: table(&host.offsets)?, ids: table(&host.ids)?, host })
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

    fn add_to_head(
        &self,
        d_head: &mut Tensor,
        problem: &Problem<'_>,
        d_logits: &SetLogits<'_>,
    ) -> Result<(), KernelError> {
        let c = problem.width();
        let plan = HeadPlan::new(&self.host);
        let table = |values: &[u32]| upload(problem.device, values);
        let (segments, tokens, part_of) =
            (table(&plan.segments)?, table(&plan.tokens)?, table(&plan.part_of)?);
        let (entries, entry_rows) = (table(&plan.entries)?, table(&plan.entry_rows)?);
        let parts = problem.scratch(plan.n_parts * c * F32)?;
        let kernel = problem.dtype().pick("linear_logprob_set_d_head_f32", "linear_logprob_set_d_head_bf16");
        let launch = problem.launch(UNIT, kernel).output(d_head).scratch(&parts, 0).scratch(d_logits, 0);
        let launch = launch.input(problem.hidden).input(&segments).input(&tokens).input(&part_of);
        let launch = launch.input(&entries).input(&entry_rows).size(c);
        // SAFETY:
        // - arguments: order and types match `linear_logprob_set_d_head_T(float*, float*, const float*, const T*, const
        //   u32* x 5, int)`, T being the type of `hidden` (checked in `mod.rs`), `d_head` f32;
        // - bounds: block s reads its entries (all below E) and their rows (below N), and writes one row of C: that of its
        //   token (below V), which no other block writes, or a part of its own;
        // - aliasing: `d_head` is borrowed mutably, the parts are scratch of this call.
        unsafe { launch.launch(Grid::linear(plan.tokens.len(), 128)) }?;
        let (joined, join_tokens) = (table(&plan.joined)?, table(&plan.join_tokens)?);
        let launch = problem.launch(UNIT, "linear_logprob_set_d_head_join").output(d_head).scratch(&parts, 0);
        let launch = launch.input(&joined).input(&join_tokens).size(c);
        // SAFETY:
        // - arguments: order and types match `linear_logprob_set_d_head_join(float*, const float*, const u32*, const u32*,
        //   int)`;
        // - bounds: block t adds the parts joined[t]..joined[t + 1], all written above, to the row of its token;
        // - aliasing: `d_head` is borrowed mutably.
        unsafe { launch.launch(Grid::linear(plan.join_tokens.len(), 128)) }
    }
}

/// Who adds what to the head's gradient: entries by token, then row, in segments.
#[derive(Debug, Default)]
struct HeadPlan {
    /// (S + 1): where segments of `entries` begin.
    segments: Vec<u32>,
    /// (S): their tokens.
    tokens: Vec<u32>,
    /// (S): the part they write, counted from 1, or 0: the token has one segment and is added to at once.
    part_of: Vec<u32>,
    /// (E): places of the entries.
    entries: Vec<u32>,
    /// (E): rows of the entries.
    entry_rows: Vec<u32>,
    /// (J + 1), (J): the parts of the tokens that have several.
    joined: Vec<u32>,
    join_tokens: Vec<u32>,
    n_parts: usize,
}

impl HeadPlan {
    fn new(host: &Host) -> HeadPlan {
        let entries_of = |&row: &u32| {
            let entries = host.offsets[row as usize] as usize..host.offsets[row as usize + 1] as usize;
            entries.map(move |entry| (entry, row))
        };
        // Counting the entries of each token is a sort that keeps the order of rows.
        let n_tokens = host.ids.iter().max().map_or(0, |&token| token as usize + 1);
        let mut ends = vec![0_usize; n_tokens];
        host.rows.iter().flat_map(entries_of).for_each(|(entry, _)| ends[host.ids[entry] as usize] += 1);
        let mut n_entries = 0;
        for end in &mut ends {
            let begin = n_entries;
            n_entries += *end;
            *end = begin;
        }
        let (mut entries, mut entry_rows) = (vec![0; n_entries], vec![0; n_entries]);
        for (entry, row) in host.rows.iter().flat_map(entries_of) {
            let end = &mut ends[host.ids[entry] as usize];
            (entries[*end], entry_rows[*end]) = (entry as u32, row);
            *end += 1;
        }
        let plan =
            HeadPlan { segments: vec![0], joined: vec![0], entries, entry_rows, ..HeadPlan::default() };
        plan.with_segments(&ends)
    }

    /// Cuts the entries of each token, which end at `ends`, into segments.
    fn with_segments(mut self, ends: &[usize]) -> HeadPlan {
        let mut begin = 0;
        for (token, &end) in ends.iter().enumerate() {
            let several = end - begin > SEGMENT;
            while begin < end {
                begin = end.min(begin + SEGMENT);
                self.segments.push(begin as u32);
                self.tokens.push(token as u32);
                self.n_parts += usize::from(several);
                self.part_of.push(if several { self.n_parts as u32 } else { 0 });
            }
            if several {
                self.joined.push(self.n_parts as u32);
                self.join_tokens.push(token as u32);
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(sets: &[&[u32]]) -> HeadPlan {
        let mut allowed = TokenSets::new();
        sets.iter().for_each(|set| allowed.push(set));
        let rows = (0..sets.len() as u32).filter(|&row| !sets[row as usize].is_empty()).collect();
        HeadPlan::new(&Host { rows, offsets: allowed.offsets().to_vec(), ids: allowed.ids().to_vec() })
    }

    #[test]
    fn entries_are_grouped_by_token_in_the_order_of_rows() {
        let plan = plan(&[&[7, 2], &[], &[2, 9]]);
        assert_eq!(plan.tokens, [2, 7, 9]);
        assert_eq!((plan.entries, plan.entry_rows), (vec![1, 2, 0, 3], vec![0, 2, 0, 2]));
        assert_eq!((plan.segments, plan.part_of, plan.n_parts), (vec![0, 2, 3, 4], vec![0, 0, 0], 0));
    }

    #[test]
    fn a_token_of_many_rows_is_added_up_in_parts() {
        let sets: Vec<&[u32]> = std::iter::repeat_n(&[3_u32, 5][..], SEGMENT).chain([&[5_u32][..]]).collect();
        let plan = plan(&sets);
        assert_eq!(plan.tokens, [3, 5, 5]);
        assert_eq!(plan.part_of, [0, 1, 2]);
        assert_eq!((plan.joined, plan.join_tokens, plan.n_parts), (vec![0, 2], vec![5], 2));
    }
}
