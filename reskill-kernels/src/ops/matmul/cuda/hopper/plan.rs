//! Which tile a product is cut into for the kernels of compute capability 9.0, and which tiles' sums are cut as well.

use super::super::{Layout, Product};

/// K of a stage, in every tile.
pub(super) const DEPTH: usize = 64;
/// The most parts that the sums of a tile are cut into.
const MAX_SPLITS: usize = 16;
/// The fewest stages of a part.
const MIN_STAGES: usize = 4;

/// A kernel of `matmul_sm90a.cu`, by its tile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tile {
    /// 128 x 256.
    Large,
    /// 64 x 64, two at a time on a multiprocessor.
    Rows64,
    /// 128 x 64, two at a time on a multiprocessor.
    Rows128,
}

impl Tile {
    fn of(p: &Product) -> Tile {
        match (p.layout, p.m) {
            (Layout::Nt, ..=64) => Tile::Rows64,
            (Layout::Nt, ..=128) => Tile::Rows128,
            _ => Tile::Large,
        }
    }

    pub(super) fn rows(self) -> usize {
        if self == Tile::Rows64 { 64 } else { 128 }
    }

    pub(super) fn cols(self) -> usize {
        if self == Tile::Large { 256 } else { 64 }
    }

    /// Threads that multiply.
    pub(super) fn multiplying(self) -> usize {
        2 * self.rows()
    }

    /// Blocks that run at once on a multiprocessor.
    pub(super) fn resident(self) -> usize {
        if self == Tile::Large { 1 } else { 2 }
    }

    /// Dynamic shared memory: stages and two barriers of 8 bytes for each, rounded up to the alignment of what follows, the
    /// boxes of 2 KiB that results leave by: two for each multiplying warp, one in narrow tiles.
    pub(super) fn shared_bytes(self) -> usize {
        let stages = if self == Tile::Rows64 { 6 } else { 4 };
        let boxes = self.multiplying() / 32 * if self == Tile::Large { 2 } else { 1 };
        (stages * ((self.rows() + self.cols()) * DEPTH * 2 + 16)).next_multiple_of(1024) + boxes * 2048
    }

    fn tiles(self, p: &Product) -> usize {
        p.m.div_ceil(self.rows()) * p.n.div_ceil(self.cols())
    }
}

/// The first `whole` tiles are computed by a unit of work each, each of the others by `splits` units that sum a part of K.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) tile: Tile,
    pub(super) tiles: usize,
    pub(super) whole: usize,
    pub(super) splits: usize,
}

impl Plan {
    /// Nothing split.
    pub(super) fn whole(p: &Product) -> Plan {
        let tile = Tile::of(p);
        let tiles = tile.tiles(p);
        Plan { tile, tiles, whole: tiles, splits: 1 }
    }

    /// By the sizes and the device alone, so the same product gives the same bits each time.
    pub(super) fn choose(p: &Product, multiprocessors: usize) -> Plan {
        let all = Plan::whole(p);
        let Plan { tile, tiles, .. } = all;
        let at_once = multiprocessors.max(1) * tile.resident();
        let n_stages = p.k.div_ceil(DEPTH);
        // The tiles of the last, incomplete turn of all blocks, or all.
        let candidates = [tiles / at_once * at_once, 0].into_iter().flat_map(|whole| {
            (2..=MAX_SPLITS.min(n_stages / MIN_STAGES)).map(move |splits| Plan { whole, splits, ..all })
        });
        candidates
            .filter(|plan| plan.whole < tiles)
            .chain([all])
            .min_by(|a, b| a.cost(n_stages, at_once).total_cmp(&b.cost(n_stages, at_once)))
            .unwrap_or(all)
    }

    /// Units of work.
    pub(super) fn units(&self) -> usize {
        self.whole + self.split_tiles() * self.splits
    }

    pub(super) fn split_tiles(&self) -> usize {
        self.tiles - self.whole
    }

    /// f32 of all parts.
    pub(super) fn part_elements(&self) -> usize {
        self.split_tiles() * self.splits * self.tile.rows() * self.tile.cols()
    }

    /// Microseconds by a simple model: turns of all blocks, and what parts cost, another launch and 8 bytes an element.
    fn cost(&self, n_stages: usize, at_once: usize) -> f64 {
        let stage = match self.tile {
            Tile::Large => 0.6,
            Tile::Rows64 | Tile::Rows128 => 0.25,
        };
        let turns = |units: usize, stages: usize| units.div_ceil(at_once) as f64 * stages as f64 * stage;
        let work = turns(self.whole, n_stages)
            + turns(self.split_tiles() * self.splits, n_stages.div_ceil(self.splits));
        let join = if self.split_tiles() > 0 { 2.0 + self.part_elements() as f64 * 8.0 / 3e6 } else { 0.0 };
        work + join
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(layout: Layout, m: usize, n: usize, k: usize) -> Plan {
        Plan::choose(&Product::new(layout, m, n, k, false), 132)
    }

    #[test]
    fn many_tiles_of_short_sums_stay_whole() {
        for (m, n, k) in [(16_384, 6144, 1024), (16_384, 1024, 2048), (8192, 8192, 8192)] {
            let plan = plan(Layout::Nt, m, n, k);
            assert_eq!((plan.tile, plan.splits), (Tile::Large, 1), "{m} {n} {k}");
        }
    }

    #[test]
    fn long_sums_are_split_where_tiles_leave_multiprocessors_idle() {
        // 192 tiles: a turn of 132 blocks, and 60 tiles more.
        let gate_up = plan(Layout::Tn, 6144, 1024, 16_384);
        assert_eq!((gate_up.whole, gate_up.splits), (132, 2));
        let out = plan(Layout::Tn, 1024, 2048, 16_384);
        assert_eq!((out.whole, out.splits), (0, 2));
    }

    #[test]
    fn parts_cover_the_sum_and_are_never_empty() {
        for k in [1, 64, 300, 1024, 16_384] {
            for (m, n) in [(32, 576), (128, 1024), (1024, 1024)] {
                let plan = plan(Layout::Nt, m, n, k);
                assert!(plan.splits == 1 || k.div_ceil(DEPTH) / plan.splits >= MIN_STAGES, "{plan:?} {k}");
                assert!(plan.whole <= plan.tiles && plan.units() >= plan.tiles, "{plan:?}");
            }
        }
    }

    #[test]
    fn blocks_fit_a_multiprocessor() {
        for tile in [Tile::Large, Tile::Rows64, Tile::Rows128] {
            // 228 KiB in all, of which each block also takes 1 KiB.
            assert!((tile.shared_bytes() + 1024) * tile.resident() <= 228 * 1024, "{tile:?}");
        }
    }
}
