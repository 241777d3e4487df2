//! Work lists of attention to a paged cache: which rows read which positions of which pages together.
//!
//! Rows of one token whose page lists begin alike read those pages together, level by level, as in a radix tree: a node of
//! the tree is a run of pages and the rows that share it, a leaf what a row has for itself. A span of several tokens is a
//! node of its own. Nodes become tiles of rows, and long ones are cut along the positions until there is work for the whole
//! device. A row that is in one tile gets its result from it; otherwise its partial results are merged.

use std::ops::Range;

use super::kernels::{LARGE_TILE, SMALL_TILE};
use crate::ops::attention::CachedSpan;

/// A slot that stands for the result itself.
const NONE: u32 = u32::MAX;
/// Full pages that rows must share to read them together: less is not worth a partial result.
const LEAST_SHARED_PAGES: usize = 2;
/// Levels of sharing; pages below the last are read by each row for itself.
const MOST_LEVELS: usize = 4;
/// Positions below which a tile is not cut.
const LEAST_POSITIONS: usize = 256;

/// How rows become tiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CachedSizes {
    /// Query heads a key-value head.
    pub(super) group: usize,
    /// Positions of a page.
    pub(super) page: usize,
    /// Flat query rows of a tile of the only kind, or None for small and large ones.
    pub(super) only: Option<usize>,
    /// Tiles that keep the device busy.
    pub(super) enough_tiles: usize,
}

/// Work lists of one step; all records as the kernels read them (`attention.cuh`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CachedLists {
    pub(super) small_tiles: Vec<[u32; 8]>,
    pub(super) large_tiles: Vec<[u32; 8]>,
    /// Rows of the tiles.
    pub(super) rows: Vec<u32>,
    /// Blocks of the nodes.
    pub(super) pages: Vec<u32>,
    /// (rows) positions that each row sees; 0 for padding.
    pub(super) n_seen: Vec<u32>,
    /// (rows) where the row's key and value go: `block * P + place`, or NONE for padding.
    pub(super) places: Vec<u32>,
    /// (rows + 1) into `parts`.
    pub(super) part_offsets: Vec<u32>,
    /// Slots of the partial results, row by row.
    pub(super) parts: Vec<u32>,
    pub(super) n_slots: usize,
}

/// Rows that read a run of positions together.
#[derive(Debug)]
struct Node<'a> {
    rows: Vec<usize>,
    blocks: &'a [u32],
    positions: Range<usize>,
    /// Positions that all rows see end here.
    full: usize,
}

impl Node<'_> {
    fn n_tiles(&self, sizes: CachedSizes) -> usize {
        (self.rows.len() * sizes.group).div_ceil(self.tile(sizes).0)
    }

    /// Flat rows of a tile, and whether it is a large one. Rows that one warp of a large tile would hold alone are two small
    /// tiles: all four warps of each work, and the second finds the pages in the second-level cache.
    fn tile(&self, sizes: CachedSizes) -> (usize, bool) {
        match sizes.only {
            Some(tile) => (tile, false),
            None if self.rows.len() * sizes.group <= 2 * SMALL_TILE => (SMALL_TILE, false),
            None => (LARGE_TILE, true),
        }
    }

    fn n_pages(&self, sizes: CachedSizes) -> usize {
        self.positions.end.div_ceil(sizes.page) - self.positions.start / sizes.page
    }
}

impl CachedLists {
    /// - `spans`: checked, covering the first rows in order
    /// - `rows`: those of the batch; rows behind the spans are padding
    pub(super) fn new(spans: &[CachedSpan<'_>], rows: usize, sizes: CachedSizes) -> CachedLists {
        let mut lists =
            CachedLists { n_seen: vec![0; rows], places: vec![NONE; rows], ..CachedLists::default() };
        for span in spans {
            for t in 0..span.len {
                let position = span.position + t;
                lists.n_seen[span.row + t] = position as u32 + 1;
                let block = span.blocks[position / sizes.page] as usize;
                lists.places[span.row + t] = (block * sizes.page + position % sizes.page) as u32;
            }
        }
        let nodes = nodes(spans, sizes.page);
        let n_pages: usize = nodes.iter().map(|node| node.n_tiles(sizes) * node.n_pages(sizes)).sum();
        let least = LEAST_POSITIONS.div_ceil(sizes.page);
        let most_pages = n_pages.div_ceil(sizes.enough_tiles.max(1)).max(least);
        // Chunks of positions that each row has to do with.
        let mut n_chunks = vec![0; rows];
        for node in &nodes {
            node.rows.iter().for_each(|&row| n_chunks[row] += node.n_pages(sizes).div_ceil(most_pages));
        }
        let mut slots_of_rows = vec![Vec::new(); rows];
        for node in &nodes {
            lists.add(node, most_pages, &n_chunks, &mut slots_of_rows, sizes);
        }
        lists.part_offsets.push(0);
        for slots in slots_of_rows {
            lists.parts.extend(slots);
            lists.part_offsets.push(lists.parts.len() as u32);
        }
        for tiles in [&mut lists.small_tiles, &mut lists.large_tiles] {
            tiles.sort_by_key(|tile| std::cmp::Reverse(tile[5] - tile[4]));
        }
        lists
    }

    fn add(
        &mut self,
        node: &Node<'_>,
        most_pages: usize,
        n_chunks: &[usize],
        slots_of_rows: &mut [Vec<u32>],
        sizes: CachedSizes,
    ) {
        let n_pages = node.n_pages(sizes);
        let first_page = node.positions.start / sizes.page;
        let rows_first = self.rows.len();
        // Kernels look for page `p` of the sequence at `pages_first + p` in 32 bits, which may wrap around.
        let pages_first = (self.pages.len() as u32).wrapping_sub(first_page as u32);
        self.rows.extend(node.rows.iter().map(|&row| row as u32));
        self.pages.extend_from_slice(&node.blocks[first_page..first_page + n_pages]);
        let direct = node.rows.iter().all(|&row| n_chunks[row] == 1);
        let (tile, is_large) = node.tile(sizes);
        let chunk = n_pages.div_ceil(n_pages.div_ceil(most_pages).max(1)).max(1);
        for page in (first_page..first_page + n_pages).step_by(chunk) {
            let begin = page * sizes.page;
            let end = node.positions.end.min((page + chunk) * sizes.page);
            let slot = if direct { NONE } else { self.n_slots as u32 };
            if !direct {
                for (index, &row) in node.rows.iter().enumerate() {
                    slots_of_rows[row].push((self.n_slots + index) as u32);
                }
                self.n_slots += node.rows.len();
            }
            let n_flat = node.rows.len() * sizes.group;
            for first in (0..n_flat).step_by(tile) {
                let numbers = [rows_first, first, tile.min(n_flat - first), begin, end, node.full];
                let [rows_first, first, len, begin, end, full] = numbers.map(|number| number as u32);
                let record = [rows_first, first, len, pages_first, begin, end, slot, full];
                if is_large { self.large_tiles.push(record) } else { self.small_tiles.push(record) }
            }
        }
    }
}

/// The nodes of all spans; together, those of a row cover the positions that it sees, each once.
fn nodes<'a>(spans: &'a [CachedSpan<'a>], page: usize) -> Vec<Node<'a>> {
    let mut nodes = Vec::new();
    let (mut single, several): (Vec<&CachedSpan<'_>>, Vec<&CachedSpan<'_>>) =
        spans.iter().filter(|span| span.len > 0).partition(|span| span.len == 1);
    for span in several {
        nodes.push(Node {
            rows: (span.row..span.row + span.len).collect(),
            blocks: span.blocks,
            positions: 0..span.position + span.len,
            full: span.position + 1,
        });
    }
    single.sort_by(|a, b| visible(a, page).cmp(visible(b, page)));
    share(&mut nodes, &single, 0, 0, page);
    nodes
}

/// The blocks of the positions that the row of a span of one token sees.
fn visible<'a>(span: &CachedSpan<'a>, page: usize) -> &'a [u32] {
    &span.blocks[..(span.position + 1).div_ceil(page)]
}

/// Nodes of the pages from `depth` on of rows sorted by their pages, which agree before.
fn share<'a>(nodes: &mut Vec<Node<'a>>, spans: &[&CachedSpan<'a>], depth: usize, level: usize, page: usize) {
    let (Some(first), Some(last)) = (spans.first(), spans.last()) else { return };
    if spans.len() == 1 || level == MOST_LEVELS {
        nodes.extend(spans.iter().filter_map(|span| leaf(span, depth, page)));
        return;
    }
    // Sorted, so what the first and the last agree on all do. Only full pages are shared.
    let agreed = visible(first, page).iter().zip(visible(last, page)).take_while(|(a, b)| a == b).count();
    let full = spans.iter().map(|span| (span.position + 1) / page).min().unwrap_or(0);
    let common = agreed.min(full);
    let mut start = depth;
    if common >= depth + LEAST_SHARED_PAGES {
        nodes.push(Node {
            rows: spans.iter().map(|span| span.row).collect(),
            blocks: first.blocks,
            positions: depth * page..common * page,
            full: common * page,
        });
        start = common;
    }
    if common < agreed {
        // They agree further, but on a page that is not full for all of them.
        nodes.extend(spans.iter().filter_map(|span| leaf(span, start, page)));
        return;
    }
    let level = level + usize::from(start > depth);
    for part in spans.chunk_by(|a, b| a.blocks.get(agreed) == b.blocks.get(agreed)) {
        match part.len() == spans.len() {
            // All of them end here.
            true => nodes.extend(part.iter().filter_map(|span| leaf(span, start, page))),
            false => share(nodes, part, start, level, page),
        }
    }
}

/// What a row has for itself from page `depth` on.
fn leaf<'a>(span: &CachedSpan<'a>, depth: usize, page: usize) -> Option<Node<'a>> {
    let n_seen = span.position + 1;
    let positions = depth * page..n_seen;
    let node = Node { rows: vec![span.row], blocks: span.blocks, positions, full: n_seen };
    (depth * page < n_seen).then_some(node)
}

#[cfg(test)]
mod tests;
