//! Which kernels compute a batch, and the sizes they work with: the counterpart of the constants in the `.cu` files.

use super::plan::TileSizes;
use crate::cuda::CudaDevice;
use crate::dtype::DType;
use crate::error::KernelError;
use crate::ops::attention::AttentionShape;

/// Largest size of a head.
pub(super) const MOST_HEAD_DIM: usize = 256;
/// Tokens of a page that the kernels on tensor cores take.
pub(super) const FLASH_PAGE: usize = 32;
/// Flat query rows of a small and of a large tile of the cached kernels on tensor cores.
pub(super) const SMALL_TILE: usize = 16;
/// See [`SMALL_TILE`].
pub(super) const LARGE_TILE: usize = 128;
/// Bytes that two bf16 head rows in shared memory differ in length from D elements: 8 elements against bank conflicts.
const PAD: usize = 8;

/// The family of kernels for a type and a size of heads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Variant {
    /// f32 arithmetic, tiles of `tile` rows by `tile` keys, in the instance for heads of up to `limit` elements.
    Plain { tile: usize, limit: usize, head_dim: usize },
    /// Tensor cores; `stages` buffers for what streams through the backward kernels.
    Flash { head_dim: usize, stages: usize },
}

impl Variant {
    pub(super) fn of(
        op: &'static str,
        device: &CudaDevice,
        dtype: DType,
        shape: AttentionShape,
    ) -> Result<Variant, KernelError> {
        let head_dim = shape.head_dim;
        if dtype == DType::Bf16 && matches!(head_dim, 64 | 128) {
            let stages = [2, 1].into_iter().find(|&stages| {
                let variant = Variant::Flash { head_dim, stages };
                variant.offered() && variant.most_shared() <= device.properties().shared_memory_per_block
            });
            if let Some(stages) = stages {
                return Ok(Variant::Flash { head_dim, stages });
            }
        }
        let (tile, limit) = match head_dim {
            0..=64 => (32, 64),
            65..=128 => (32, 128),
            129..=MOST_HEAD_DIM => (16, 256),
            _ => {
                return Err(KernelError::Unsupported {
                    op,
                    device: format!("cuda:{}", device.ordinal()),
                    what: format!("heads of {head_dim} elements"),
                    remedy: "use a model with heads of at most 256 elements, or device `cpu`",
                });
            }
        };
        Ok(Variant::Plain { tile, limit, head_dim })
    }

    /// Whether there is such an instance.
    fn offered(self) -> bool {
        !matches!(self, Variant::Flash { head_dim: 64, stages: 1 })
    }

    fn most_shared(self) -> usize {
        self.query_shared().max(self.key_value_shared()).max(self.forward_shared())
    }

    pub(super) fn tile_sizes(self) -> TileSizes {
        match self {
            Variant::Plain { tile, .. } => TileSizes { queries: tile, keys: tile, run: tile },
            Variant::Flash { head_dim: 64, .. } => TileSizes { queries: 128, keys: 128, run: 32 },
            Variant::Flash { stages: 1, .. } => TileSizes { queries: 128, keys: 64, run: 32 },
            Variant::Flash { .. } => TileSizes { queries: 128, keys: 64, run: 64 },
        }
    }

    pub(super) fn threads(self) -> u32 {
        match self {
            Variant::Plain { .. } => 256,
            Variant::Flash { .. } => 128,
        }
    }

    /// Bytes of `rows` rows of a head and `squares` square blocks of weights.
    fn plain_shared(tile: usize, head_dim: usize, tiles: usize, squares: usize) -> usize {
        4 * (tiles * tile * (head_dim + 1) + squares * tile * (tile + 1))
    }

    pub(super) fn forward_shared(self) -> usize {
        match self {
            Variant::Plain { tile, head_dim, .. } => Variant::plain_shared(tile, head_dim, 2, 1),
            // 128 queries, keys and values.
            Variant::Flash { head_dim, .. } => {
                let keys = if head_dim == 64 { 64 } else { 48 };
                2 * (128 + 2 * keys) * (head_dim + PAD)
            }
        }
    }

    pub(super) fn query_shared(self) -> usize {
        match self {
            Variant::Plain { tile, head_dim, .. } => Variant::plain_shared(tile, head_dim, 4, 1),
            // 128 queries and as many rows of d_out; keys and values.
            Variant::Flash { head_dim, stages } => {
                let keys = if head_dim == 64 { 64 } else { 32 };
                2 * (256 + stages * 2 * keys) * (head_dim + PAD)
            }
        }
    }

    pub(super) fn key_value_shared(self) -> usize {
        match self {
            Variant::Plain { tile, head_dim, .. } => Variant::plain_shared(tile, head_dim, 4, 2),
            Variant::Flash { head_dim, stages } => {
                let TileSizes { keys, run, .. } = self.tile_sizes();
                // Queries, d_out, their views (16 bytes), lse and delta.
                let buffer = run * (2 * 2 * (head_dim + PAD) + 16 + 8);
                2 * 2 * keys * (head_dim + PAD) + stages * buffer
            }
        }
    }

    pub(super) fn small_shared(self) -> usize {
        match self {
            Variant::Plain { .. } => self.forward_shared(),
            Variant::Flash { head_dim, .. } => {
                // A warp: keys or, later, sums; values.
                let warp = (2 * head_dim * (FLASH_PAGE + PAD)).max(4 * SMALL_TILE * (head_dim + PAD))
                    + 2 * FLASH_PAGE * (head_dim + PAD);
                2 * SMALL_TILE * (head_dim + PAD) + 2 * 4 * SMALL_TILE * 4 + 4 * warp
            }
        }
    }

    pub(super) fn large_shared(self) -> usize {
        match self {
            Variant::Plain { .. } => self.forward_shared(),
            Variant::Flash { head_dim, .. } => {
                let keys = 2 * FLASH_PAGE;
                2 * (LARGE_TILE * (head_dim + PAD) + head_dim * (keys + PAD) + keys * (head_dim + PAD))
            }
        }
    }
}

/// A kernel: its unit and name.
pub(super) type Kernel = (&'static str, &'static str);

/// Picks among the instances of the plain kernels.
fn plain(dtype: DType, limit: usize, f32: [&'static str; 3], bf16: [&'static str; 3]) -> &'static str {
    let index = match limit {
        64 => 0,
        128 => 1,
        _ => 2,
    };
    dtype.pick(f32[index], bf16[index])
}

macro_rules! plain_names {
    ($dtype:expr, $limit:expr, $stem:literal) => {
        plain(
            $dtype,
            $limit,
            [concat!($stem, "_f32_64"), concat!($stem, "_f32_128"), concat!($stem, "_f32_256")],
            [concat!($stem, "_bf16_64"), concat!($stem, "_bf16_128"), concat!($stem, "_bf16_256")],
        )
    };
}

impl Variant {
    pub(super) fn forward(self, dtype: DType) -> Kernel {
        match self {
            Variant::Plain { limit, .. } => {
                ("attention_forward", plain_names!(dtype, limit, "attention_forward"))
            }
            Variant::Flash { head_dim: 64, .. } => {
                ("attention_flash_forward", "attention_flash_forward_bf16_64")
            }
            Variant::Flash { .. } => ("attention_flash_forward", "attention_flash_forward_bf16_128"),
        }
    }

    pub(super) fn backward_query(self, dtype: DType) -> Kernel {
        const FLASH: &str = "attention_flash_backward";
        match self {
            Variant::Plain { limit, .. } => {
                ("attention_backward", plain_names!(dtype, limit, "attention_backward_query"))
            }
            Variant::Flash { head_dim: 64, .. } => (FLASH, "attention_flash_backward_query_bf16_64_2"),
            Variant::Flash { stages: 2, .. } => (FLASH, "attention_flash_backward_query_bf16_128_2"),
            Variant::Flash { .. } => (FLASH, "attention_flash_backward_query_bf16_128_1"),
        }
    }

    pub(super) fn backward_key_value(self, dtype: DType) -> Kernel {
        const FLASH: &str = "attention_flash_backward";
        match self {
            Variant::Plain { limit, .. } => {
                ("attention_backward", plain_names!(dtype, limit, "attention_backward_key_value"))
            }
            Variant::Flash { head_dim: 64, .. } => (FLASH, "attention_flash_backward_key_value_bf16_64_2"),
            Variant::Flash { stages: 2, .. } => (FLASH, "attention_flash_backward_key_value_bf16_128_2"),
            Variant::Flash { .. } => (FLASH, "attention_flash_backward_key_value_bf16_128_1"),
        }
    }

    pub(super) fn cached_small(self, dtype: DType) -> Kernel {
        match self {
            Variant::Plain { limit, .. } => {
                ("attention_cached", plain_names!(dtype, limit, "attention_cached"))
            }
            Variant::Flash { head_dim: 64, .. } => {
                ("attention_flash_cached", "attention_flash_cached_small_bf16_64")
            }
            Variant::Flash { .. } => ("attention_flash_cached", "attention_flash_cached_small_bf16_128"),
        }
    }

    pub(super) fn cached_large(self, dtype: DType) -> Kernel {
        match self {
            Variant::Plain { .. } => self.cached_small(dtype),
            Variant::Flash { head_dim: 64, .. } => {
                ("attention_flash_cached", "attention_flash_cached_large_bf16_64")
            }
            Variant::Flash { .. } => ("attention_flash_cached", "attention_flash_cached_large_bf16_128"),
        }
    }
}
