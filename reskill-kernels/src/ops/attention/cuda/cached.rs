//! Attention to a paged cache on a CUDA device.

use super::cached_lists::{CachedLists, CachedSizes};
use super::hopper::{self, Hopper};
use super::kernels::{FLASH_PAGE, Variant};
use super::packed::with_heads;
use crate::cuda::{CudaDevice, Grid, Launch, Scratch, TensorMap};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::{KernelError, check_range};
use crate::ops::attention::{AttentionShape, CachedPlan, CachedSpan};
use crate::tensor::Tensor;

/// The tables of one step in device memory.
///
/// Every table has room for more than the step at hand, and launches have blocks for as many tiles: so launches that were
/// recorded fit later steps.
#[derive(Debug)]
pub(in crate::ops::attention) struct CachedTables {
    device: CudaDevice,
    shape: AttentionShape,
    page: usize,
    /// Of the cache and the rows.
    dtype: DType,
    variant: Variant,
    /// Takes the large tiles, where there is one.
    hopper: Option<Hopper>,
    sizes: CachedSizes,
    /// All tables, one behind the other.
    words: Tensor<u32>,
    layout: Layout,
    generation: u64,
}

/// Room in each table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Layout {
    small: usize,
    large: usize,
    rows: usize,
    pages: usize,
    /// Rows of the batch.
    n: usize,
    parts: usize,
    slots: usize,
}

/// Words before the first table.
const COUNTS: usize = 8;
/// Where the number of small tiles is.
const SMALL_COUNT: usize = 0;
/// Where the number of large tiles is.
const LARGE_COUNT: usize = 4;

impl Layout {
    /// Enough for `lists`, and no less than this one.
    fn grown(self, lists: &CachedLists) -> Layout {
        let room = |old: usize, needed: usize| match needed <= old {
            true => old,
            // A multiple of 4 words keeps every table aligned.
            false => needed.next_power_of_two().max(4),
        };
        Layout {
            small: room(self.small, lists.small_tiles.len()),
            large: room(self.large, lists.large_tiles.len()),
            rows: room(self.rows, lists.rows.len()),
            pages: room(self.pages, lists.pages.len()),
            n: lists.n_seen.len(),
            parts: room(self.parts, lists.parts.len()),
            slots: room(self.slots, lists.n_slots),
        }
    }

    /// First words of: small tiles, large tiles, rows, pages, n_seen, places, part offsets, parts; and the end.
    fn starts(self) -> [usize; 9] {
        let lens =
            [8 * self.small, 8 * self.large, self.rows, self.pages, self.n, self.n, self.n + 1, self.parts];
        let mut next = COUNTS;
        let mut starts = [0; 9];
        for (start, len) in starts.iter_mut().zip(lens) {
            *start = next;
            next += len.next_multiple_of(4);
        }
        starts[8] = next;
        starts
    }
}

impl CachedTables {
    /// Tables of no rows, for a cache in `dtype`.
    pub(in crate::ops::attention) fn new(
        op: &'static str,
        device: &CudaDevice,
        dtype: DType,
        shape: AttentionShape,
        page: usize,
    ) -> Result<CachedTables, KernelError> {
        // The kernels on tensor cores take pages of one length only.
        let variant = match page {
            FLASH_PAGE => Variant::of(op, device, dtype, shape)?,
            _ => Variant::of(op, device, DType::F32, shape)?,
        };
        let (only, hopper) = match variant {
            Variant::Plain { tile, .. } => (Some(tile), None),
            Variant::Flash { .. } => (None, Hopper::of(device, dtype, shape)),
        };
        // Four blocks a multiprocessor, or one that fills it. Each tile makes K of them.
        let blocks = [4, if hopper.is_some() { 1 } else { 4 }];
        let enough_tiles =
            blocks.map(|blocks| (blocks * device.properties().multiprocessors).div_ceil(shape.n_kv_heads));
        let sizes = CachedSizes { group: shape.group(), page, only, enough_tiles };
        let words = Tensor::zeros_as(&[0], &Device::Cuda(device.clone()), DType::U32)?;
        let (device, layout) = (device.clone(), Layout::default());
        Ok(CachedTables { device, shape, page, dtype, variant, hopper, sizes, words, layout, generation: 0 })
    }

    /// Takes the spans of a step of `rows` rows; they have been checked.
    pub(in crate::ops::attention) fn set(
        &mut self,
        op: &'static str,
        spans: &[CachedSpan<'_>],
        rows: usize,
    ) -> Result<(), KernelError> {
        let most = i32::MAX as usize / self.shape.n_heads;
        check_range(rows <= most, op, "rows", rows, format!("at most {most}"))?;
        let lists = CachedLists::new(spans, rows, self.sizes);
        let layout = self.layout.grown(&lists);
        let words = words(&lists, layout);
        if layout == self.layout && words.len() == self.words.len() {
            return self.words.copy_from_slice(&words);
        }
        let device = Device::Cuda(self.device.clone());
        self.words = Tensor::from_slice(&[words.len()], &words, &device, DType::U32)?;
        self.layout = layout;
        self.generation += 1;
        Ok(())
    }

    pub(in crate::ops::attention) fn generation(&self) -> u64 {
        self.generation
    }
}

/// All tables, one behind the other.
fn words(lists: &CachedLists, layout: Layout) -> Vec<u32> {
    let starts = layout.starts();
    let mut words = vec![0; starts[8]];
    words[SMALL_COUNT] = lists.small_tiles.len() as u32;
    words[LARGE_COUNT] = lists.large_tiles.len() as u32;
    let tables = [
        lists.small_tiles.as_flattened(),
        lists.large_tiles.as_flattened(),
        &lists.rows,
        &lists.pages,
        &lists.n_seen,
        &lists.places,
        &lists.part_offsets,
        &lists.parts,
    ];
    for (start, table) in starts.iter().zip(tables) {
        words[*start..][..table.len()].copy_from_slice(table);
    }
    words
}

/// The tables of a plan, which must be on this device.
pub(in crate::ops::attention) fn tables<'a>(
    op: &'static str,
    plan: &'a CachedPlan,
    device: &CudaDevice,
) -> Result<&'a CachedTables, KernelError> {
    plan.tables().filter(|tables| tables.device == *device).ok_or_else(|| KernelError::Placement {
        op,
        arg: "plan",
        expected: format!("cuda:{}", device.ordinal()),
        got: plan
            .tables()
            .map_or_else(|| "cpu".to_owned(), |tables| format!("cuda:{}", tables.device.ordinal())),
    })
}

pub(in crate::ops::attention) fn append(
    device: &CudaDevice,
    keys: &mut Tensor,
    values: &mut Tensor,
    qkv: &Tensor,
    tables: &CachedTables,
) -> Result<(), KernelError> {
    let kernel = qkv.dtype().pick("cache_append_f32", "cache_append_bf16");
    let [.., places, _, _, _] = tables.layout.starts();
    let n = tables.layout.n;
    let blocks = [n.div_ceil(32), tables.shape.kv_width().div_ceil(64), 1];
    let grid = Grid { blocks, threads: [256, 1, 1], shared: 0 };
    let launch = Launch::of(device, "cache_append", "attention_cached", kernel)
        .output(keys)
        .output(values)
        .input(qkv)
        .input_at(&tables.words, places)
        .size(tables.page);
    // SAFETY:
    // - arguments: order and types match `cache_append_T(T*, T*, const T*, const u32*, int, int, int, int, float, int)`, T
    //   being the type of `keys`, `values` and `qkv` (checked in `mod.rs`);
    // - bounds: `qkv` and `places` have n rows, and blocks touch nothing behind them; of a row the column and the row of
    //   its place are written, which lies in a block of the cache (the spans have been checked against it), or nothing
    //   if there is none;
    // - aliasing: the kernel writes `keys` and `values` only, both borrowed mutably here; no two spans share a place.
    unsafe { with_heads(launch, tables.shape).size(n).launch(grid) }
}

pub(in crate::ops::attention) fn forward_cached(
    device: &CudaDevice,
    out: &mut Tensor,
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    tables: &CachedTables,
) -> Result<(), KernelError> {
    const OP: &str = "attention_cached";
    let CachedTables { shape, variant, hopper, layout, ref words, .. } = *tables;
    if qkv.dtype() != tables.dtype {
        return Err(KernelError::DType { op: OP, arg: "qkv", expected: tables.dtype, got: qkv.dtype() });
    }
    let slots = layout.slots * shape.n_heads;
    let lse_at = (slots * shape.head_dim * size_of::<f32>()).next_multiple_of(256);
    let partials = device.scratch(OP, lse_at + slots * size_of::<f32>())?;
    let [small_tiles, large_tiles, _, _, n_seen, _, part_offsets, parts, _] = layout.starts();
    let pass = Pass { device, qkv, keys, values, tables, partials: &partials, lse_at };
    let small = (layout.small, variant.small_shared());
    pass.launch(out, variant.cached_small(tables.dtype), (SMALL_COUNT, small_tiles), small)?;
    match hopper {
        Some(hopper) => pass.launch_hopper(out, hopper, large_tiles)?,
        None => {
            let large = (layout.large, variant.large_shared());
            pass.launch(out, variant.cached_large(tables.dtype), (LARGE_COUNT, large_tiles), large)?;
        }
    }

    let kernel = qkv.dtype().pick("attention_cached_merge_f32", "attention_cached_merge_bf16");
    let n = layout.n * shape.n_heads;
    let launch = Launch::of(device, OP, "attention_cached", kernel)
        .output(out)
        .scratch(&partials, 0)
        .scratch(&partials, lse_at)
        .input_at(words, n_seen)
        .input_at(words, part_offsets)
        .input_at(words, parts);
    // SAFETY:
    // - arguments: order and types match `attention_cached_merge_T(T*, float*, float*, const u32*, const u32*, const u32*,
    //   int, int, int, float, int)`, T being the type of `out`;
    // - bounds: a warp works on one of the N * H rows of `out` or ends at once; `parts` names slots below `slots` only;
    // - aliasing: the kernel writes `out` only, borrowed mutably here.
    unsafe { with_heads(launch, shape).size(n).launch(Grid::linear(n.div_ceil(8), 256)) }
}

/// What the launches of one pass over the cache have in common.
struct Pass<'a> {
    device: &'a CudaDevice,
    qkv: &'a Tensor,
    keys: &'a Tensor,
    values: &'a Tensor,
    tables: &'a CachedTables,
    partials: &'a Scratch<'a>,
    lse_at: usize,
}

impl Pass<'_> {
    /// Launches a kernel over the tiles at `tiles_at`, whose number is at `count_at`, with blocks for `blocks` tiles.
    fn launch(
        &self,
        out: &mut Tensor,
        (unit, kernel): (&'static str, &'static str),
        (count_at, tiles_at): (usize, usize),
        (blocks, shared): (usize, usize),
    ) -> Result<(), KernelError> {
        let CachedTables { shape, variant, ref words, layout, page, .. } = *self.tables;
        let [_, _, rows, pages, n_seen, ..] = layout.starts();
        let mut launch = Launch::of(self.device, "attention_cached", unit, kernel)
            .output(out)
            .scratch(self.partials, 0)
            .scratch(self.partials, self.lse_at)
            .input(self.qkv)
            .input(self.keys)
            .input(self.values)
            .input_at(words, count_at)
            .input_at(words, tiles_at)
            .input_at(words, rows)
            .input_at(words, pages)
            .input_at(words, n_seen);
        if matches!(variant, Variant::Plain { .. }) {
            launch = launch.size(page);
        }
        let grid = Grid { blocks: [blocks, shape.n_kv_heads, 1], threads: [variant.threads(), 1, 1], shared };
        // SAFETY:
        // - arguments: order and types match `attention_cached_T(T*, float*, float*, const T*, const T*, const T*,
        //   const u32*, const SpanTile*, const u32*, const u32*, const u32*, int, int, int, int, float)`, or the same
        //   without the page length `attention_flash_cached_S_bf16_D`, T being the type of `out`, `qkv`, `keys`, `values`;
        // - bounds: tiles name rows of the batch and blocks of the cache only (`CachedLists`, tested; the spans have been
        //   checked), slots below `layout.slots`; a block behind the last tile ends at once;
        // - aliasing: the kernel writes `out`, borrowed mutably here, and scratch only.
        unsafe { with_heads(launch, shape).launch(grid) }
    }
    /// The same over large tiles, by warpgroups.
    fn launch_hopper(&self, out: &mut Tensor, hopper: Hopper, tiles_at: usize) -> Result<(), KernelError> {
        const OP: &str = "attention_cached";
        let CachedTables { shape, ref words, layout, page, .. } = *self.tables;
        if layout.large == 0 || self.keys.is_empty() {
            return Ok(());
        }
        let [_, _, rows, pages, n_seen, ..] = layout.starts();
        let (n_blocks, width) = (self.keys.rows(), shape.kv_width());
        let key_size = (n_blocks * width, page);
        let keys =
            TensorMap::of_32_columns(self.device, OP, (self.keys, 0, page), key_size, shape.head_dim as u32)?;
        let value_size = (n_blocks * page, width);
        let values = TensorMap::of(self.device, OP, (self.values, 0, width), value_size, page as u32)?;
        let kernel =
            hopper.pick("attention_flash_cached_sm90a_bf16_64", "attention_flash_cached_sm90a_bf16_128");
        let launch = Launch::of(self.device, OP, "attention_flash_cached_sm90a", kernel)
            .output(out)
            .scratch(self.partials, 0)
            .scratch(self.partials, self.lse_at)
            .input(self.qkv)
            .map(keys)
            .map(values)
            .input_at(words, LARGE_COUNT)
            .input_at(words, tiles_at)
            .input_at(words, rows)
            .input_at(words, pages)
            .input_at(words, n_seen);
        let grid = Grid::linear(layout.large * shape.n_kv_heads, hopper::THREADS);
        // SAFETY:
        // - arguments: order and types match `attention_flash_cached_sm90a_bf16_D(bf16*, float*, float*, const bf16*,
        //   TensorMap, TensorMap, const u32*, const SpanTile*, const u32*, const u32*, const u32*, int, int, int, float)`;
        //   the tensors are bf16, as the variant's type is;
        // - bounds: as in `launch`; the maps end where `keys` and `values` do, and pages have the 32 positions that the
        //   kernel's boxes have (the variant says so);
        // - aliasing: the kernel writes `out`, borrowed mutably here, and scratch only.
        unsafe { with_heads(launch, shape).launch(grid.with_shared(hopper.forward_shared())) }
    }
}
