//! Work lists of attention to a paged cache: which rows read which positions of which pages together.
//!
//! Rows of one token whose page lists begin alike read those pages together, level by level, as in a radix tree: a node of
//! the tree is a run of pages and the rows that share it, a leaf what a row has for itself. A span of several tokens is a
//! node of its own. Nodes become tiles of rows, each up to the last position that any of its rows sees, and long ones are cut
//! along the positions until there is work for the whole device. A row that is in one tile gets its result from it; otherwise its partial results are merged.

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
    /// Tiles that keep the device busy: small ones, and large ones or those of the only kind. Each kind is a launch.
    pub(super) enough_tiles: [usize; 2],
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
    /// Either all of them see all of the positions, or each row sees no fewer than the row before.
    rows: Vec<usize>,
    blocks: &'a [u32],
    positions: Range<usize>,
}

/// Flat rows of a node that are one tile.
#[derive(Debug, Clone, Copy)]
struct Tile {
    first: usize,
    len: usize,
    /// Positions that all of the rows see, and that any of them sees, counted from the beginning of the sequence.
    full: usize,
    end: usize,
}

impl Node<'_> {
    /// Flat rows of a tile, and whether it is a large one. Rows that one warp of a large tile would hold alone are two small
    /// tiles: all four warps of each work, and the second finds the pages in the second-level cache.
    fn tile(&self, sizes: CachedSizes) -> (usize, bool) {
        match sizes.only {
            Some(tile) => (tile, false),
            None if self.rows.len() * sizes.group <= 2 * SMALL_TILE => (SMALL_TILE, false),
            None => (LARGE_TILE, true),
        }
    }

    /// Tiles of rows of which `n_seen` says how many positions they see.
    fn tiles(&self, n_seen: &[u32], sizes: CachedSizes) -> impl Iterator<Item = Tile> {
        let (tile, _) = self.tile(sizes);
        let n_flat = self.rows.len() * sizes.group;
        (0..n_flat).step_by(tile).map(move |first| {
            let len = tile.min(n_flat - first);
            let rows = &self.rows[first / sizes.group..(first + len).div_ceil(sizes.group)];
            let seen = |row: usize| (n_seen[row] as usize).min(self.positions.end);
            let full = rows.iter().map(|&row| seen(row)).min().unwrap_or(0);
            let end = rows.iter().map(|&row| seen(row)).max().unwrap_or(0);
            Tile { first, len, full, end }
        })
    }

    /// Pages of the positions before `end`.
    fn n_pages(&self, end: usize, sizes: CachedSizes) -> usize {
        end.div_ceil(sizes.page).saturating_sub(self.positions.start / sizes.page)
    }

    /// Pages that are read at once, where no tile is to read more than `most` at once.
    fn chunk(&self, most: usize, sizes: CachedSizes) -> usize {
        let n_pages = self.n_pages(self.positions.end, sizes);
        n_pages.div_ceil(n_pages.div_ceil(most).max(1)).max(1)
    }
}

/// Pages that a tile reads at once at most, for small tiles, and for large ones or those of the only kind: so many that the
/// tiles of each kind keep the device busy.
fn most_pages(nodes: &[Node<'_>], n_seen: &[u32], sizes: CachedSizes) -> [usize; 2] {
    let mut n_pages = [0; 2];
    for node in nodes {
        n_pages[kind(node.tile(sizes).1, sizes)] +=
            node.tiles(n_seen, sizes).map(|tile| node.n_pages(tile.end, sizes)).sum::<usize>();
    }
    let least = LEAST_POSITIONS.div_ceil(sizes.page);
    [0, 1].map(|kind| n_pages[kind].div_ceil(sizes.enough_tiles[kind].max(1)).max(least))
}

/// Which of the two kinds of tiles.
fn kind(is_large: bool, sizes: CachedSizes) -> usize {
    usize::from(is_large || sizes.only.is_some())
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
        let most = most_pages(&nodes, &lists.n_seen, sizes);
        let chunk = |node: &Node<'_>| node.chunk(most[kind(node.tile(sizes).1, sizes)], sizes);
        // Chunks of positions that each row has to do with.
        let mut n_chunks = vec![0; rows];
        for node in &nodes {
            let chunk = chunk(node);
            for &row in &node.rows {
                let end = node.positions.end.min(lists.n_seen[row] as usize);
                n_chunks[row] += node.n_pages(end, sizes).div_ceil(chunk);
            }
        }
        let mut slots_of_rows = vec![Vec::new(); rows];
        for node in &nodes {
            lists.add(node, chunk(node), &n_chunks, &mut slots_of_rows, sizes);
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
        chunk: usize,
        n_chunks: &[usize],
        slots_of_rows: &mut [Vec<u32>],
        sizes: CachedSizes,
    ) {
        let n_pages = node.n_pages(node.positions.end, sizes);
        let first_page = node.positions.start / sizes.page;
        let rows_first = self.rows.len();
        // Kernels look for page `p` of the sequence at `pages_first + p` in 32 bits, which may wrap around.
        let pages_first = (self.pages.len() as u32).wrapping_sub(first_page as u32);
        self.rows.extend(node.rows.iter().map(|&row| row as u32));
        self.pages.extend_from_slice(&node.blocks[first_page..first_page + n_pages]);
        let direct = node.rows.iter().all(|&row| n_chunks[row] == 1);
        let is_large = node.tile(sizes).1;
        let tiles: Vec<Tile> = node.tiles(&self.n_seen, sizes).collect();
        for page in (first_page..first_page + n_pages).step_by(chunk) {
            let begin = page * sizes.page;
            // Tiles whose rows all come before the chunk have nothing to do.
            let seeing = tiles.partition_point(|tile| tile.end <= begin);
            let slot =
                if direct { NONE } else { self.slots(node, begin, tiles[seeing], slots_of_rows, sizes) };
            for tile in &tiles[seeing..] {
                let end = tile.end.min((page + chunk) * sizes.page);
                let numbers = [rows_first, tile.first, tile.len, begin, end, tile.full];
                let [rows_first, first, len, begin, end, full] = numbers.map(|number| number as u32);
                let record = [rows_first, first, len, pages_first, begin, end, slot, full];
                if is_large { self.large_tiles.push(record) } else { self.small_tiles.push(record) }
            }
        }
    }

    /// Slots for the rows of a node from tile `first` on, for the positions from `begin` on; the one of the node's first row,
    /// if it had one. A row that sees none of these positions may be in a tile with rows that do; its slot is not looked at.
    fn slots(
        &mut self,
        node: &Node<'_>,
        begin: usize,
        first: Tile,
        slots_of_rows: &mut [Vec<u32>],
        sizes: CachedSizes,
    ) -> u32 {
        let first = first.first / sizes.group;
        // The node's first chunk is seen by all of its rows, so before a later one there are as many slots as rows.
        let slot = self.n_slots - first;
        for (index, &row) in node.rows.iter().enumerate().skip(first) {
            if self.n_seen[row] as usize > begin {
                slots_of_rows[row].push((slot + index) as u32);
            }
        }
        self.n_slots += node.rows.len() - first;
        slot as u32
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
    let positions = depth * page..span.position + 1;
    (!positions.is_empty()).then(|| Node { rows: vec![span.row], blocks: span.blocks, positions })
}

#[cfg(test)]
mod tests;
