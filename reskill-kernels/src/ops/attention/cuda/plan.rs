//! Work lists of packed attention: which tile of query rows meets which keys.
//!
//! Query rows are counted flat, `row * group + head`, so that a tile of the query heads of one key-value head is full
//! even for short branches. A key tile of a trunk may be seen by many branches; its list of query rows is cut so that no
//! block works much longer than the others, and the parts are added up in a fixed order.

use std::ops::Range;

use crate::ops::attention::PackedSegment;

/// A slot that stands for the gradient itself.
const NONE: u32 = u32::MAX;

/// Rows that a kernel takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TileSizes {
    /// Flat query rows of a tile of the forward pass and of `d_q`.
    pub(super) queries: usize,
    /// Keys of a tile of `d_k` and `d_v`.
    pub(super) keys: usize,
    /// Flat query rows that such a tile takes at once.
    pub(super) run: usize,
}

/// Work lists of one batch; all records as the kernels read them (`cuda/attention.cuh`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PackedLists {
    /// (N, 4): prefix start and end, start of the own segment, row.
    pub(super) views: Vec<[u32; 4]>,
    /// Tiles of query rows, longest first.
    pub(super) query_tiles: Vec<[u32; 8]>,
    /// Tiles of keys, longest first.
    pub(super) key_tiles: Vec<[u32; 8]>,
    /// Query rows that a tile of keys meets.
    pub(super) runs: Vec<[u32; 4]>,
    /// Tiles of keys whose gradients are in several slots.
    pub(super) sums: Vec<[u32; 4]>,
    /// Number of slots.
    pub(super) n_slots: usize,
}

impl PackedLists {
    /// - `segments`: checked, covering all rows in order
    /// - `group`: query heads a key-value head
    pub(super) fn new(segments: &[PackedSegment], group: usize, sizes: TileSizes) -> PackedLists {
        let segments: Vec<PackedSegment> =
            segments.iter().copied().filter(|segment| segment.len > 0).collect();
        let mut lists = PackedLists { views: views(&segments), ..PackedLists::default() };
        lists.query_tiles = query_tiles(&segments, group, sizes.queries);
        lists.add_key_tiles(&segments, group, sizes);
        lists
    }

    fn add_key_tiles(&mut self, segments: &[PackedSegment], group: usize, sizes: TileSizes) {
        let mut tiles = Vec::new();
        for sequence in sequences(segments) {
            let first = sequence.first().map_or(0, |segment| segment.start);
            let end = sequence.last().map_or(0, |segment| segment.start + segment.len);
            for start in (first..end).step_by(sizes.keys) {
                let keys = start..end.min(start + sizes.keys);
                let begin = self.runs.len();
                for rows in rows_that_see(sequence, &keys) {
                    push_runs(&mut self.runs, &self.views, rows, &keys, group, sizes.run);
                }
                tiles.push((keys, begin..self.runs.len()));
            }
        }
        // Twice the mean keeps most tiles whole; those of a much seen trunk are cut into parts of about that length.
        let limit = (2 * self.runs.len()).div_ceil(tiles.len().max(1)).max(8);
        for (keys, runs) in tiles {
            let n_parts = runs.len().div_ceil(limit);
            let part_len = runs.len().div_ceil(n_parts.max(1)).max(1);
            let first_slot = self.n_slots;
            for begin in runs.clone().step_by(part_len) {
                let slot = if n_parts == 1 { NONE } else { self.n_slots as u32 };
                self.n_slots += usize::from(n_parts > 1);
                let end = runs.end.min(begin + part_len);
                let (first, len) = (keys.start as u32, keys.len() as u32);
                self.key_tiles.push([first, len, begin as u32, end as u32, slot, 0, 0, 0]);
            }
            let n_slots = (self.n_slots - first_slot) as u32;
            if n_slots > 0 {
                self.sums.push([keys.start as u32, keys.len() as u32, first_slot as u32, n_slots]);
            }
        }
        self.key_tiles.sort_by_key(|tile| std::cmp::Reverse(tile[3] - tile[2]));
    }
}

fn views(segments: &[PackedSegment]) -> Vec<[u32; 4]> {
    let view = |segment: &PackedSegment, row: usize| {
        let prefix_end = segment.prefix_start + segment.prefix_len;
        [segment.prefix_start as u32, prefix_end as u32, segment.start as u32, row as u32]
    };
    segments
        .iter()
        .flat_map(|segment| (segment.start..segment.start + segment.len).map(move |row| view(segment, row)))
        .collect()
}

/// Segments sequence by sequence.
fn sequences(segments: &[PackedSegment]) -> impl Iterator<Item = &[PackedSegment]> {
    segments.chunk_by(|_, next| !next.opens_sequence())
}

/// Flat query rows of one tile and the keys that they see.
#[derive(Debug, Clone)]
struct QueryTile {
    flat: Range<usize>,
    /// The prefix of any of them.
    prefix: Range<usize>,
    /// Keys from `prefix.start` that all of them see end here.
    prefix_full: usize,
    /// Keys of their own segments, up to the last row.
    own: Range<usize>,
    own_full: usize,
}

impl QueryTile {
    fn of(segment: &PackedSegment, flat: Range<usize>, group: usize) -> QueryTile {
        let prefix = segment.prefix_start..segment.prefix_start + segment.prefix_len;
        let (first_row, last_row) = (flat.start / group, (flat.end - 1) / group);
        QueryTile {
            prefix_full: prefix.end,
            prefix,
            own: segment.start..last_row + 1,
            own_full: first_row + 1,
            flat,
        }
    }

    fn n_keys(&self) -> usize {
        self.prefix.len() + self.own.len()
    }

    /// This tile and the next one in one, if they may be.
    fn joined(&self, next: &QueryTile) -> Option<QueryTile> {
        let prefix = match (self.prefix.is_empty(), next.prefix.is_empty()) {
            (_, true) => self.prefix.clone(),
            (true, false) => next.prefix.clone(),
            _ if self.prefix.start == next.prefix.start => {
                self.prefix.start..self.prefix.end.max(next.prefix.end)
            }
            _ => return None,
        };
        let prefix_full = match self.prefix.is_empty() || next.prefix.is_empty() {
            true => prefix.start,
            false => self.prefix_full.min(next.prefix_full),
        };
        let own = self.own.start..next.own.end;
        let own_full = own.start;
        Some(QueryTile { flat: self.flat.start..next.flat.end, prefix, prefix_full, own, own_full })
    }

    fn record(&self) -> [u32; 8] {
        let numbers = [
            self.flat.start,
            self.flat.len(),
            self.prefix.start,
            self.prefix.end,
            self.prefix_full,
            self.own.start,
            self.own.end,
            self.own_full,
        ];
        numbers.map(|number| number as u32)
    }
}

fn query_tiles(segments: &[PackedSegment], group: usize, size: usize) -> Vec<[u32; 8]> {
    let mut tiles: Vec<QueryTile> = Vec::new();
    for segment in segments {
        let end = (segment.start + segment.len) * group;
        for start in (segment.start * group..end).step_by(size) {
            let tile = QueryTile::of(segment, start..end.min(start + size), group);
            // Short segments share a tile where that saves keys to read.
            let joined = tiles
                .last()
                .filter(|last| !segment.opens_sequence() && last.flat.len() + tile.flat.len() <= size)
                .and_then(|last| Some((last.n_keys() + tile.n_keys(), last.joined(&tile)?)))
                .filter(|(apart, joined)| joined.n_keys() < *apart);
            match (joined, tiles.last_mut()) {
                (Some((_, joined)), Some(last)) => *last = joined,
                _ => tiles.push(tile),
            }
        }
    }
    tiles.sort_by_key(|tile| std::cmp::Reverse(tile.n_keys()));
    tiles.iter().map(QueryTile::record).collect()
}

/// The rows of a sequence that see any of the keys, in runs without gaps.
fn rows_that_see(sequence: &[PackedSegment], keys: &Range<usize>) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for segment in sequence {
        let end = segment.start + segment.len;
        let prefix_end = segment.prefix_start + segment.prefix_len;
        let sees_prefix = segment.prefix_start.max(keys.start) < prefix_end.min(keys.end);
        let start = if sees_prefix { segment.start } else { segment.start.max(keys.start) };
        if !sees_prefix && (segment.start >= keys.end || start >= end) {
            continue;
        }
        match runs.last_mut().filter(|run| run.end == start) {
            Some(run) => run.end = end,
            None => runs.push(start..end),
        }
    }
    runs
}

fn push_runs(
    runs: &mut Vec<[u32; 4]>,
    views: &[[u32; 4]],
    rows: Range<usize>,
    keys: &Range<usize>,
    group: usize,
    size: usize,
) {
    let sees_all = |[prefix_start, prefix_end, own_start, row]: [u32; 4]| {
        let (first, last) = (keys.start as u32, keys.end as u32 - 1);
        (first >= prefix_start && last < prefix_end) || (first >= own_start && last <= row)
    };
    let end = rows.end * group;
    for start in (rows.start * group..end).step_by(size) {
        let stop = end.min(start + size);
        let full = views[start / group..stop.div_ceil(group)].iter().all(|&view| sees_all(view));
        runs.push([start as u32, (stop - start) as u32, u32::from(full), 0]);
    }
}

#[cfg(test)]
mod tests;
