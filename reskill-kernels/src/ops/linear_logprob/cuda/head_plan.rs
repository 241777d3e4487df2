//! In which order the gradients of the head's rows are added up for tokens of allowed sets.

use super::upload;
use crate::cuda::CudaDevice;
use crate::error::KernelError;
use crate::tensor::Tensor;

/// Rows of one token that a block adds up.
const SEGMENT: usize = 256;

/// Rows with a set, and the sets of all rows, on the host.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) rows: Vec<u32>,
    pub(super) offsets: Vec<u32>,
    pub(super) ids: Vec<u32>,
}

/// Who adds what to the head's gradient: entries by token, then row, in segments.
#[derive(Debug, Default)]
pub(super) struct HeadPlan {
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
    pub(super) fn new(host: &Host) -> HeadPlan {
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

/// The same in the device's memory.
#[derive(Debug)]
pub(super) struct PlacedHeadPlan {
    pub(super) segments: Tensor<u32>,
    pub(super) tokens: Tensor<u32>,
    pub(super) part_of: Tensor<u32>,
    pub(super) entries: Tensor<u32>,
    pub(super) entry_rows: Tensor<u32>,
    pub(super) joined: Tensor<u32>,
    pub(super) join_tokens: Tensor<u32>,
    pub(super) n_parts: usize,
}

impl PlacedHeadPlan {
    pub(super) fn new(device: &CudaDevice, plan: &HeadPlan) -> Result<PlacedHeadPlan, KernelError> {
        let table = |values: &[u32]| upload(device, values);
        Ok(PlacedHeadPlan {
            segments: table(&plan.segments)?,
            tokens: table(&plan.tokens)?,
            part_of: table(&plan.part_of)?,
            entries: table(&plan.entries)?,
            entry_rows: table(&plan.entry_rows)?,
            joined: table(&plan.joined)?,
            join_tokens: table(&plan.join_tokens)?,
            n_parts: plan.n_parts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::TokenSets;

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
