//! Logits by the kernels for compute capability 9.0, whose factors the copy engine brings (`cuda/warpgroup_logits.cuh`).

use super::{Block, Problem, STRIP};
use crate::cuda::{Grid, TensorMap};
use crate::dtype::DType;
use crate::error::KernelError;
use crate::gemm::GemmBackend;
use crate::tensor::Tensor;

/// Steps of k in a stage, each of two bytes.
const DEPTH_BYTES: usize = 64 * 2;

/// A tile of rows and tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tile {
    /// Rows.
    pub(crate) height: usize,
    /// Tokens.
    pub(crate) width: usize,
    threads: u32,
    stages: usize,
}

impl Tile {
    /// `HighTile` of the kernels.
    pub(crate) const HIGH: Tile = Tile { height: 128, width: STRIP, threads: 384, stages: 4 };
    /// `LowTile` of the kernels.
    pub(crate) const LOW: Tile = Tile { height: 64, width: STRIP, threads: 160, stages: 5 };
    /// The tile of `linear_kl_sm90a.cu`.
    pub(crate) const PAIR: Tile = Tile { height: 128, width: 128, threads: 384, stages: 6 };

    /// A grid of this many blocks. In shared memory lie the stages, and two barriers of 8 bytes for each.
    pub(crate) fn grid(self, blocks: usize) -> Grid {
        let stage = (self.height + self.width) * DEPTH_BYTES + 16;
        Grid::linear(blocks, self.threads).with_shared(self.stages * stage)
    }

    /// Blocks that stay, for all tiles of `rows` rows and `tokens` tokens.
    pub(crate) fn staying(self, problem: &Problem<'_>, rows: usize, tokens: usize) -> Grid {
        let tiles = rows.div_ceil(self.height) * tokens.div_ceil(self.width);
        self.grid(tiles.min(problem.device.properties().multiprocessors))
    }
}

/// Whether logits are computed by these kernels: by the device, the type and the width alone and never by the number of
/// rows, so that a row has the same bits in every batch, in sampling and in training.
pub(crate) fn takes(problem: &Problem<'_>) -> bool {
    // Rows at multiples of 16 bytes; the memory of a tensor begins at a multiple of 256.
    problem.device.properties().capability == (9, 0)
        && problem.device.gemm_backend() != GemmBackend::Portable
        && problem.dtype() == DType::Bf16
        && problem.width().is_multiple_of(8)
}

/// Hidden states of a block's rows, in its order, and the head, as the copy engine takes them.
#[derive(Debug)]
pub(crate) struct Factors {
    /// (R, C): the rows beside each other, if an index chooses them.
    gathered: Option<Tensor>,
    pub(crate) hidden: TensorMap,
    pub(crate) head: TensorMap,
}

impl Factors {
    pub(crate) fn new(problem: &Problem<'_>, block: Block<'_>, tile: Tile) -> Result<Factors, KernelError> {
        let gathered = gather(problem, block)?;
        let c = problem.width();
        let hidden = match &gathered {
            Some(gathered) => map(problem, (gathered, 0), block.len, tile.height)?,
            None => map(problem, (problem.hidden, block.first(c)), block.len, tile.height)?,
        };
        Ok(Factors { gathered, hidden, head: head(problem, tile)? })
    }

    /// The rows of the block beside each other: the tensor, and the element at which they begin.
    pub(crate) fn rows<'f>(&'f self, problem: &Problem<'f>, block: Block<'_>) -> (&'f Tensor, usize) {
        match &self.gathered {
            Some(gathered) => (gathered, 0),
            None => (problem.hidden, block.first(problem.width())),
        }
    }
}

/// The head in boxes of a tile's tokens.
pub(crate) fn head(problem: &Problem<'_>, tile: Tile) -> Result<TensorMap, KernelError> {
    map(problem, (problem.head, 0), problem.vocab(), tile.width)
}

/// `rows` rows of hidden states or head from element `first` on, in boxes of `height` rows.
pub(crate) fn map(
    problem: &Problem<'_>,
    (tensor, first): (&Tensor, usize),
    rows: usize,
    height: usize,
) -> Result<TensorMap, KernelError> {
    let c = problem.width();
    TensorMap::of(problem.device, problem.op, (tensor, first, c), (rows, c), height as u32)
}

/// The rows that the block's index chooses, beside each other; none without an index.
fn gather(problem: &Problem<'_>, block: Block<'_>) -> Result<Option<Tensor>, KernelError> {
    let Some(index) = block.index else { return Ok(None) };
    let c = problem.width();
    let mut rows: Tensor = problem.device.scratch_tensor(problem.op, &[block.len, c], DType::Bf16)?;
    let launch = problem.launch("embedding", "embedding_forward_bf16").output(&mut rows);
    let launch = launch.input(problem.hidden).input_at(index, block.start).size(c);
    let launch = launch.number(problem.hidden.rows() as u32);
    // SAFETY:
    // - arguments: order and types match `embedding_forward_bf16(bf16*, const bf16*, const u32*, int, u32)`;
    // - bounds: block b writes row b of `rows`, of which there are `len`; the index has `len` numbers from `start` on,
    //   which name rows of `hidden`;
    // - aliasing: only `rows`, which is new, is written.
    unsafe { launch.launch(Grid::linear(block.len, 256)) }?;
    Ok(Some(rows))
}
