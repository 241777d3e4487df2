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
/// Parts are made if the model promises less than this of the time without.
const WORTH_SPLITTING: f64 = 0.95;
/// Up to so many rows small tiles are taken whatever they cost: the memory decides, and large tiles would be empty.
const FEW_ROWS: usize = 64;

/// Rows, columns and stages of a tile, and the blocks of them that run at once on a multiprocessor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) cols: usize,
    stages: usize,
    pub(super) resident: usize,
    /// Bytes of shared memory that results pass through.
    results: usize,
}

impl Tile {
    /// Results that leave by copies take two boxes of 2 KiB for each of eight warps.
    pub(super) const LARGE: Tile = Tile { rows: 128, cols: 256, stages: 4, resident: 1, results: 16 * 2048 };
    /// The sums of a tile are shared with the cluster.
    pub(super) const ROWS: Tile = Tile { rows: 64, cols: 64, stages: 6, resident: 2, results: 64 * 64 * 4 };

    /// Threads that multiply.
    pub(super) fn multiplying(self) -> usize {
        2 * self.rows
    }

    /// Dynamic shared memory: stages and two barriers of 8 bytes for each, rounded up to the alignment of what results pass
    /// through. Where they go straight to memory the cache for their old values has its room.
    pub(super) fn shared_bytes(self, results_pass: bool) -> usize {
        let stages = (self.stages * ((self.rows + self.cols) * DEPTH * 2 + 16)).next_multiple_of(1024);
        if results_pass { stages + self.results } else { stages }
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
        let (large, large_micros) = Large::choose(p, multiprocessors);
        if p.layout == Layout::Nt && out == DType::Bf16 {
            let (tiles, cluster, micros) = rows(p, multiprocessors);
            if p.m <= FEW_ROWS || micros < large_micros {
                return Plan::Rows { tiles, cluster };
            }
        }
        Plan::Large(large)
    }

    /// Whether the portable kernels would take longer. Taken for them are 250 TFLOP/s on an H200 whatever the size: at
    /// 8192^3 they reach 335, with few tiles less.
    pub(super) fn pays(p: &Product, out: DType, multiprocessors: usize) -> bool {
        let rate = 250e6 * multiprocessors as f64 / 132.0;
        let portable = 2.5 + 2.0 * p.m as f64 * p.n as f64 * p.k as f64 / rate;
        match Plan::choose(p, out, multiprocessors) {
            Plan::Large(large) => large.cost(p.k.div_ceil(DEPTH), multiprocessors.max(1)) < portable,
            Plan::Rows { .. } => true,
        }
    }
}

/// Small tiles, the blocks that share one, and microseconds: the largest cluster with which each block has a multiprocessor
/// and two stages of K. A launch takes 2.5 us, a stage 0.2, whether a multiprocessor has its blocks at once or one by one.
fn rows(p: &Product, multiprocessors: usize) -> (usize, usize, f64) {
    let (tiles, n_stages) = (Tile::ROWS.tiles(p), p.k.div_ceil(DEPTH));
    let fits = |cluster: &usize| tiles * cluster <= multiprocessors && n_stages >= 2 * cluster;
    let cluster = [8, 4, 2].into_iter().find(fits).unwrap_or(1);
    let stages = (tiles * cluster).div_ceil(multiprocessors.max(1)) * n_stages.div_ceil(cluster);
    (tiles, cluster, 2.5 + 0.2 * stages as f64)
}

impl Large {
    /// Nothing split.
    pub(super) fn whole(p: &Product) -> Large {
        let tiles = Tile::LARGE.tiles(p);
        Large { tiles, whole: tiles, splits: 1 }
    }

    /// What a simple model of the time likes best: the tiles of the last, incomplete turn of all blocks may be split, or
    /// all tiles, or none; and its microseconds.
    fn choose(p: &Product, multiprocessors: usize) -> (Large, f64) {
        let all = Large::whole(p);
        let at_once = multiprocessors.max(1);
        let n_stages = p.k.div_ceil(DEPTH);
        let split = [all.tiles / at_once * at_once, 0].into_iter().flat_map(|whole| {
            (2..=MAX_SPLITS.min(n_stages / MIN_STAGES)).map(move |splits| Large { whole, splits, ..all })
        });
        let cost = |plan: &Large| plan.cost(n_stages, at_once);
        let best = split.filter(|plan| plan.whole < all.tiles).min_by(|a, b| cost(a).total_cmp(&cost(b)));
        let best = best.filter(|best| cost(best) < WORTH_SPLITTING * cost(&all)).unwrap_or(all);
        (best, cost(&best))
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

    /// Microseconds, from times on an H200: a launch takes 3.5, a stage of all blocks 0.6; parts cost another launch, and 8
    /// bytes an element at 3 TB/s.
    fn cost(&self, n_stages: usize, at_once: usize) -> f64 {
        let turns = |units: usize, stages: usize| (units.div_ceil(at_once) * stages) as f64 * 0.6;
        let parts = turns(self.split_tiles() * self.splits, n_stages.div_ceil(self.splits));
        let join = if self.split_tiles() > 0 { 2.5 + self.part_elements() as f64 * 8.0 / 3e6 } else { 0.0 };
        3.5 + turns(self.whole, n_stages) + parts + join
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(layout: Layout, m: usize, n: usize, k: usize) -> Large {
        Large::choose(&Product::new(layout, m, n, k, false), 132).0
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
    fn large_tiles_that_are_few_and_short_are_left_to_the_portable_kernels() {
        let pays = |layout, m, n, k| Plan::pays(&Product::new(layout, m, n, k, false), DType::F32, 132);
        assert!(pays(Layout::Tn, 1024, 2048, 4096) && pays(Layout::Nn, 1024, 1024, 6144));
        assert!(!pays(Layout::Tn, 576, 576, 2048) && !pays(Layout::Nn, 256, 1024, 1024));
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
    fn few_rows_go_to_small_tiles_and_to_clusters_that_run_at_once() {
        let plan = |m, n, k| Plan::choose(&Product::new(Layout::Nt, m, n, k, false), DType::Bf16, 132);
        assert_eq!(plan(16, 1024, 2048), Plan::Rows { tiles: 16, cluster: 8 });
        assert_eq!(plan(128, 1024, 2048), Plan::Rows { tiles: 32, cluster: 4 });
        assert_eq!(plan(128, 6144, 1024), Plan::Rows { tiles: 192, cluster: 1 });
        assert_eq!(plan(512, 1024, 2048), Plan::Rows { tiles: 128, cluster: 1 });
        assert_eq!(plan(16, 151_936, 1024), Plan::Rows { tiles: 2374, cluster: 1 });
        // A block has at least two stages of K.
        assert_eq!(plan(8, 64, 256), Plan::Rows { tiles: 1, cluster: 2 });
        // Many tiles are better large.
        assert!(
            matches!(plan(128, 151_936, 1024), Plan::Large(_))
                && matches!(plan(512, 6144, 1024), Plan::Large(_))
        );
    }

    #[test]
    fn blocks_fit_a_multiprocessor() {
        for tile in [Tile::LARGE, Tile::ROWS] {
            // 228 KiB in all, of which each block also takes 1 KiB.
            assert!((tile.shared_bytes(true) + 1024) * tile.resident <= 228 * 1024, "{tile:?}");
        }
    }
}
