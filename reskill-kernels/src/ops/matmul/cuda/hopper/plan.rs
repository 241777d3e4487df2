//! How a product is cut for the kernels of compute capability 9.0: by the sizes and the device alone, so that the same
//! product gives the same bits each time.

use super::super::{Layout, Product};
use crate::dtype::DType;

/// K of a stage, in every tile.
pub(super) const DEPTH: usize = 64;
/// The most parts that the sums of a large tile are cut into.
const MAX_SPLITS: usize = 16;
/// The fewest stages of a part.
const MIN_STAGES: usize = 4;
/// The most rows for small tiles.
const MAX_ROWS: usize = 128;

/// Rows, columns and stages of a tile, and the blocks of them that run at once on a multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) cols: usize,
    stages: usize,
    pub(super) resident: usize,
    /// Bytes of shared memory beside the stages.
    beside: usize,
}

impl Tile {
    /// Results leave by two boxes of 2 KiB for each of eight warps.
    pub(super) const LARGE: Tile = Tile { rows: 128, cols: 256, stages: 4, resident: 1, beside: 16 * 2048 };
    /// The sums of a tile are shared with the cluster.
    pub(super) const ROWS: Tile = Tile { rows: 64, cols: 64, stages: 6, resident: 2, beside: 64 * 64 * 4 };

    /// Threads that multiply.
    pub(super) fn multiplying(self) -> usize {
        2 * self.rows
    }

    /// Dynamic shared memory: stages and two barriers of 8 bytes for each, rounded up to the alignment of what follows.
    pub(super) fn shared_bytes(self) -> usize {
        (self.stages * ((self.rows + self.cols) * DEPTH * 2 + 16)).next_multiple_of(1024) + self.beside
    }

    fn tiles(self, p: &Product) -> usize {
        p.m.div_ceil(self.rows) * p.n.div_ceil(self.cols)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Plan {
    Large(Large),
    /// Small tiles, each by a cluster of so many blocks that sum a part of K each.
    Rows {
        tiles: usize,
        cluster: usize,
    },
}

/// Large tiles: the first `whole` are computed by a unit of work each, each of the others by `splits` units that sum a part
/// of K.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Large {
    pub(super) tiles: usize,
    pub(super) whole: usize,
    pub(super) splits: usize,
}

impl Plan {
    pub(super) fn choose(p: &Product, out: DType, multiprocessors: usize) -> Plan {
        if p.layout == Layout::Nt && out == DType::Bf16 && p.m <= MAX_ROWS {
            return Plan::rows(p, multiprocessors);
        }
        Plan::Large(Large::choose(p, multiprocessors))
    }

    /// The largest cluster with which all blocks run at once, with two stages of K each.
    fn rows(p: &Product, multiprocessors: usize) -> Plan {
        let tiles = Tile::ROWS.tiles(p);
        let fits = |cluster: &usize| {
            tiles * cluster <= multiprocessors * Tile::ROWS.resident && p.k.div_ceil(DEPTH) >= 2 * cluster
        };
        Plan::Rows { tiles, cluster: [8, 4, 2].into_iter().find(fits).unwrap_or(1) }
    }

    /// Units of work.
    pub(super) fn units(&self) -> usize {
        match *self {
            Plan::Large(large) => large.units(),
            Plan::Rows { tiles, cluster } => tiles * cluster,
        }
    }
}

impl Large {
    /// Nothing split.
    pub(super) fn whole(p: &Product) -> Large {
        let tiles = Tile::LARGE.tiles(p);
        Large { tiles, whole: tiles, splits: 1 }
    }

    /// What a simple model of the time likes best: the tiles of the last, incomplete turn of all blocks may be split, or
    /// all tiles, or none.
    fn choose(p: &Product, multiprocessors: usize) -> Large {
        let all = Large::whole(p);
        let at_once = multiprocessors.max(1);
        let n_stages = p.k.div_ceil(DEPTH);
        let split = [all.tiles / at_once * at_once, 0].into_iter().flat_map(|whole| {
            (2..=MAX_SPLITS.min(n_stages / MIN_STAGES)).map(move |splits| Large { whole, splits, ..all })
        });
        let cost = |plan: &Large| plan.cost(n_stages, at_once);
        let best = split.filter(|plan| plan.whole < all.tiles).min_by(|a, b| cost(a).total_cmp(&cost(b)));
        best.filter(|best| cost(best) < cost(&all)).unwrap_or(all)
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
        self.split_tiles() * self.splits * Tile::LARGE.rows * Tile::LARGE.cols
    }

    /// Microseconds: a stage of all blocks takes 0.6, and a unit as long as 4 before and after its stages; parts cost
    /// another launch, and 8 bytes an element at 3 TB/s.
    fn cost(&self, n_stages: usize, at_once: usize) -> f64 {
        let turns = |units: usize, stages: usize| (units.div_ceil(at_once) * (stages + 4)) as f64 * 0.6;
        let parts = turns(self.split_tiles() * self.splits, n_stages.div_ceil(self.splits));
        let join = if self.split_tiles() > 0 { 2.5 + self.part_elements() as f64 * 8.0 / 3e6 } else { 0.0 };
        if self.whole == 0 { parts + join } else { turns(self.whole, n_stages) + parts + join }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(layout: Layout, m: usize, n: usize, k: usize) -> Large {
        Large::choose(&Product::new(layout, m, n, k, false), 132)
    }

    #[test]
    fn many_tiles_of_short_sums_stay_whole() {
        for (m, n, k) in [(16_384, 6144, 1024), (16_384, 1024, 2048), (8192, 8192, 8192)] {
            assert_eq!(large(Layout::Nt, m, n, k).splits, 1, "{m} {n} {k}");
        }
    }

    #[test]
    fn long_sums_are_split_where_tiles_leave_multiprocessors_idle() {
        // 192 tiles: a turn of 132 blocks, and 60 tiles more.
        let gate_up = large(Layout::Tn, 6144, 1024, 16_384);
        assert_eq!((gate_up.whole, gate_up.splits), (132, 2));
        let out = large(Layout::Tn, 1024, 2048, 16_384);
        assert_eq!((out.whole, out.splits), (0, 2));
    }

    #[test]
    fn parts_cover_the_sum_and_are_never_empty() {
        for k in [1, 64, 300, 1024, 16_384] {
            for (m, n) in [(32, 576), (128, 1024), (1024, 1024)] {
                let plan = large(Layout::Nt, m, n, k);
                assert!(plan.splits == 1 || k.div_ceil(DEPTH) / plan.splits >= MIN_STAGES, "{plan:?} {k}");
                assert!(plan.whole <= plan.tiles && plan.units() >= plan.tiles, "{plan:?}");
            }
        }
    }

    #[test]
    fn few_rows_go_to_clusters_that_run_at_once() {
        let cluster =
            |m, n, k| match Plan::choose(&Product::new(Layout::Nt, m, n, k, false), DType::Bf16, 132) {
                Plan::Rows { tiles, cluster } => (tiles, cluster),
                plan @ Plan::Large(_) => panic!("{plan:?}"),
            };
        assert_eq!(cluster(16, 1024, 2048), (16, 8));
        assert_eq!(cluster(128, 151_936, 1024), (4748, 1));
        // Two stages of K.
        assert_eq!(cluster(8, 64, 128), (1, 1));
    }

    #[test]
    fn blocks_fit_a_multiprocessor() {
        for tile in [Tile::LARGE, Tile::ROWS] {
            // 228 KiB in all, of which each block also takes 1 KiB.
            assert!((tile.shared_bytes() + 1024) * tile.resident <= 228 * 1024, "{tile:?}");
        }
    }
}
