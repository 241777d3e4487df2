//! Causal grouped-query attention: over packed sequences with a shared prefix, and over a key-value cache.
//!
//! `out_i = sum_j p_ij v_j`, `p_ij = exp(scale q_i . k_j - lse_i)`, `scale = 1 / sqrt(D)`, over the keys `j` that row
//! `i` sees.
//!
//! Source: Vaswani et al. 2017, arXiv:1706.03762; grouped queries: Ainslie et al. 2023, arXiv:2305.13245; backward
//! from the saved log-sum-exp as in Dao 2023, arXiv:2307.08691.

//!
//! On the CPU both forms sum the visible keys in the same order, so a reply that was sampled from the cache gets the same
//! log-probabilities to the bit when it is trained on in a packed batch. On a CUDA device they agree to rounding.

mod segments;
mod cached_plan;
mod cost;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

pub use cached_plan::CachedPlan;
pub use cost::{AttentionCost, cached_cost, packed_cost};
pub use segments::{PackedSegment, PackedSegments};

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_range, check_shape};
use crate::tensor::Tensor;

/// Head counts and size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShape {
    /// Query heads H, a multiple of K.
    pub n_heads: usize,
    /// Key-value heads K; query head `h` reads key-value head `h / (H / K)`.
    pub n_kv_heads: usize,
    /// Elements per head D.
    pub head_dim: usize,
}

impl AttentionShape {
    /// Width of a packed row: (H + 2K) D, the queries before the keys before the values.
    #[must_use]
    pub fn qkv_width(&self) -> usize {
        (self.n_heads + 2 * self.n_kv_heads) * self.head_dim
    }

    /// Width of an output row: H D.
    #[must_use]
    pub fn out_width(&self) -> usize {
        self.n_heads * self.head_dim
    }

    /// Query heads that share a key-value head: H / K.
    #[must_use]
    pub fn group(&self) -> usize {
        self.n_heads / self.n_kv_heads
    }

    /// Width of a cached key or value row: K D.
    #[must_use]
    pub fn kv_width(&self) -> usize {
        self.n_kv_heads * self.head_dim
    }
}

/// Rows that continue one sequence of a paged key-value cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedSpan<'a> {
    /// First row of the batch.
    pub row: usize,
    /// Number of rows.
    pub len: usize,
    /// Position in the sequence of the first row: how many rows the cache holds before it.
    pub position: usize,
    /// The sequence's pages: position `p` is row `p % P` of block `blocks[p / P]`.
    pub blocks: &'a [u32],
}

/// Attention over a packed batch.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `out` | (N, H D) | T | out |
/// | `lse` | (N, H) | f32 | out, log-sum-exp of the scaled scores, kept for the backward pass |
/// | `qkv` | (N, (H + 2K) D) | T | in |
/// | `segments` | | | in, covering the rows in order |
///
/// T is f32, or bf16 on a CUDA device; there D is at most 256, and heads of 64 and 128 in bf16 run on tensor cores.
///
/// # Errors
/// [`KernelError::Shape`]; [`KernelError::Range`] if the segments leave a gap or a prefix leaves its sequence;
/// [`KernelError::DType`], [`KernelError::Placement`]; errors of the device.
pub fn attention_forward(
    out: &mut Tensor,
    lse: &mut Tensor,
    qkv: &Tensor,
    segments: &PackedSegments,
    shape: AttentionShape,
) -> Result<(), KernelError> {
    const OP: &str = "attention_forward";
    check_heads(OP, shape)?;
    let n = qkv.rows();
    check_shape(OP, "qkv", qkv.shape(), &[n, shape.qkv_width()])?;
    check_shape(OP, "out", out.shape(), &[n, shape.out_width()])?;
    check_shape(OP, "lse", lse.shape(), &[n, shape.n_heads])?;
    check_segments(OP, segments, n)?;
    let t = qkv.dtype();
    match placed(OP, &[qkv.is("qkv", t), out.is("out", t), lse.is("lse", DType::F32)])? {
        Device::Cpu => cpu::forward(out, lse, qkv, segments, shape),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::forward(&device, out, lse, qkv, segments, shape)?,
    }
    Ok(())
}

/// Gradients of [`attention_forward`].
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `d_qkv` | (N, (H + 2K) D) | T | out |
/// | `d_out` | (N, H D) | T | in |
/// | `out` | (N, H D) | T | in, from the forward pass |
/// | `lse` | (N, H) | f32 | in, from the forward pass |
/// | `qkv` | (N, (H + 2K) D) | T | in |
///
/// Two runs give the same bits: no sum depends on the order in which parts of it are ready.
///
/// # Errors
/// As [`attention_forward`].
pub fn attention_backward(
    d_qkv: &mut Tensor,
    d_out: &Tensor,
    out: &Tensor,
    lse: &Tensor,
    qkv: &Tensor,
    segments: &PackedSegments,
    shape: AttentionShape,
) -> Result<(), KernelError> {
    const OP: &str = "attention_backward";
    check_heads(OP, shape)?;
    let n = qkv.rows();
    check_shape(OP, "qkv", qkv.shape(), &[n, shape.qkv_width()])?;
    check_shape(OP, "d_qkv", d_qkv.shape(), qkv.shape())?;
    check_shape(OP, "d_out", d_out.shape(), &[n, shape.out_width()])?;
    check_shape(OP, "out", out.shape(), &[n, shape.out_width()])?;
    check_shape(OP, "lse", lse.shape(), &[n, shape.n_heads])?;
    check_segments(OP, segments, n)?;
    let t = qkv.dtype();
    let arguments = [
        qkv.is("qkv", t),
        d_qkv.is("d_qkv", t),
        d_out.is("d_out", t),
        out.is("out", t),
        lse.is("lse", DType::F32),
    ];
    match placed(OP, &arguments)? {
        Device::Cpu => cpu::backward(d_qkv, d_out, out, lse, qkv, segments, shape),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let saved = cuda::Saved { d_out, out, lse, qkv };
            cuda::backward(&device, d_qkv, &saved, segments, shape)?;
        }
    }
    Ok(())
}

/// Writes the keys and values of new rows into the paged cache of one layer.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `keys` | (blocks, K D, P), transposed, so that the scores of many keys are computed side by side | T | out |
/// | `values` | (blocks, P, K D) | T | out |
/// | `qkv` | (N, (H + 2K) D), keys already rotated | T | in |
/// | `spans` | | | in, covering the rows in order |
///
/// T is f32, or bf16 on a CUDA device. A page length P that is a multiple of 16 is quickest; tensor cores take 32. No two
/// spans may write to the same block. On a device [`cache_append_planned`] is quicker from the second layer on.
///
/// # Errors
/// [`KernelError::Shape`]; [`KernelError::Range`] for a span outside the batch or the cache; [`KernelError::DType`],
/// [`KernelError::Placement`]; errors of the device.
pub fn cache_append(
    keys: &mut Tensor,
    values: &mut Tensor,
    qkv: &Tensor,
    spans: &[CachedSpan<'_>],
    shape: AttentionShape,
) -> Result<(), KernelError> {
    const OP: &str = "cache_append";
    let page = check_cache(OP, keys, values, qkv, shape)?;
    let covered = check_spans(OP, spans, page, values.rows())?;
    check_range(
        covered == qkv.rows(),
        OP,
        "spans",
        format!("{covered} rows"),
        format!("{} rows", qkv.rows()),
    )?;
    match placed_cache(OP, keys, values, qkv)? {
        Device::Cpu => cpu::append(keys, values, qkv, spans, shape),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let mut tables = cuda::CachedTables::new(OP, &device, qkv.dtype(), shape, page)?;
            tables.set(OP, spans, qkv.rows())?;
            cuda::append(&device, keys, values, qkv, &tables)?;
        }
    }
    Ok(())
}

/// [`cache_append`] of the spans of a plan; rows behind them are left out.
///
/// # Errors
/// As [`cache_append`]; [`KernelError::Range`] if the plan was set for another cache or batch.
pub fn cache_append_planned(
    keys: &mut Tensor,
    values: &mut Tensor,
    qkv: &Tensor,
    plan: &CachedPlan,
) -> Result<(), KernelError> {
    const OP: &str = "cache_append";
    check_plan(OP, keys, values, qkv, plan)?;
    match placed_cache(OP, keys, values, qkv)? {
        Device::Cpu => cpu::append(keys, values, qkv, &plan.spans(), plan.shape()),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::append(&device, keys, values, qkv, cuda::tables(OP, plan, &device)?)?,
    }
    Ok(())
}

/// Attention of new rows to their sequence in the paged cache, which already holds their own keys and values: row `t` of a
/// span sees the positions `0..=position + t`. Sequences may share blocks; on a device rows of one token that share their
/// first pages read them together.
///
/// | argument | shape | dtype | direction |
/// |---|---|---|---|
/// | `out` | (N, H D) | T | out |
/// | `qkv` | (N, (H + 2K) D), of which the queries are read | T | in |
/// | `keys` | (blocks, K D, P) | T | in |
/// | `values` | (blocks, P, K D) | T | in |
/// | `spans` | | | in, covering the rows in order |
///
/// On a device [`attention_cached_planned`] is quicker from the second layer on.
///
/// # Errors
/// As [`cache_append`].
pub fn attention_cached(
    out: &mut Tensor,
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    spans: &[CachedSpan<'_>],
    shape: AttentionShape,
) -> Result<(), KernelError> {
    const OP: &str = "attention_cached";
    let page = check_cache(OP, keys, values, qkv, shape)?;
    let covered = check_spans(OP, spans, page, values.rows())?;
    check_range(
        covered == qkv.rows(),
        OP,
        "spans",
        format!("{covered} rows"),
        format!("{} rows", qkv.rows()),
    )?;
    check_shape(OP, "out", out.shape(), &[qkv.rows(), shape.out_width()])?;
    placed(OP, &[qkv.is("qkv", qkv.dtype()), out.is("out", qkv.dtype())])?;
    match placed_cache(OP, keys, values, qkv)? {
        Device::Cpu => cpu::forward_cached(out, qkv, keys, values, spans, shape),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let mut tables = cuda::CachedTables::new(OP, &device, qkv.dtype(), shape, page)?;
            tables.set(OP, spans, qkv.rows())?;
            cuda::forward_cached(&device, out, qkv, keys, values, &tables)?;
        }
    }
    Ok(())
}

/// [`attention_cached`] of the spans of a plan; rows behind them get zeros.
///
/// # Errors
/// As [`cache_append_planned`].
pub fn attention_cached_planned(
    out: &mut Tensor,
    qkv: &Tensor,
    keys: &Tensor,
    values: &Tensor,
    plan: &CachedPlan,
) -> Result<(), KernelError> {
    const OP: &str = "attention_cached";
    let shape = plan.shape();
    check_plan(OP, keys, values, qkv, plan)?;
    check_shape(OP, "out", out.shape(), &[qkv.rows(), shape.out_width()])?;
    placed(OP, &[qkv.is("qkv", qkv.dtype()), out.is("out", qkv.dtype())])?;
    match placed_cache(OP, keys, values, qkv)? {
        Device::Cpu => {
            let spans = plan.spans();
            let covered: usize = spans.iter().map(|span| span.len).sum();
            out.as_mut_slice()[covered * shape.out_width()..].fill(0.0);
            cpu::forward_cached(out, qkv, keys, values, &spans, shape);
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            cuda::forward_cached(&device, out, qkv, keys, values, cuda::tables(OP, plan, &device)?)?;
        }
    }
    Ok(())
}

fn check_heads(op: &'static str, shape: AttentionShape) -> Result<(), KernelError> {
    let divides = shape.n_kv_heads > 0 && shape.n_heads > 0 && shape.n_heads.is_multiple_of(shape.n_kv_heads);
    check_range(
        divides,
        op,
        "n_heads",
        shape.n_heads,
        format!("a multiple of n_kv_heads = {}", shape.n_kv_heads),
    )?;
    check_range(shape.head_dim > 0, op, "head_dim", shape.head_dim, ">= 1")
}

fn check_segments(op: &'static str, segments: &[PackedSegment], n: usize) -> Result<(), KernelError> {
    let mut next = 0;
    let mut sequence_start = 0;
    for segment in segments {
        check_range(segment.start == next, op, "segments[].start", segment.start, next)?;
        if segment.opens_sequence() {
            sequence_start = segment.start;
        } else {
            let prefix_end = segment.prefix_start + segment.prefix_len;
            let inside = segment.prefix_start >= sequence_start && prefix_end <= segment.start;
            check_range(
                inside,
                op,
                "segments[].prefix",
                format!("{}..{prefix_end}", segment.prefix_start),
                format!("inside {sequence_start}..{}", segment.start),
            )?;
        }
        next += segment.len;
    }
    check_range(next == n, op, "segments", format!("{next} rows"), format!("{n} rows"))
}

/// The length of a page.
fn check_cache(
    op: &'static str,
    keys: &Tensor,
    values: &Tensor,
    qkv: &Tensor,
    shape: AttentionShape,
) -> Result<usize, KernelError> {
    check_heads(op, shape)?;
    check_shape(op, "qkv", qkv.shape(), &[qkv.rows(), shape.qkv_width()])?;
    let page = values.shape().get(1).copied().unwrap_or(0);
    check_range(page > 0, op, "values.shape()[1]", page, ">= 1")?;
    check_shape(op, "values", values.shape(), &[values.rows(), page, shape.kv_width()])?;
    check_shape(op, "keys", keys.shape(), &[values.rows(), shape.kv_width(), page])?;
    Ok(page)
}

fn placed_cache(
    op: &'static str,
    keys: &Tensor,
    values: &Tensor,
    qkv: &Tensor,
) -> Result<Device, KernelError> {
    let t = qkv.dtype();
    placed(op, &[qkv.is("qkv", t), keys.is("keys", t), values.is("values", t)])
}

/// The rows that the spans cover.
fn check_spans(
    op: &'static str,
    spans: &[CachedSpan<'_>],
    page: usize,
    n_blocks: usize,
) -> Result<usize, KernelError> {
    let mut next = 0;
    for span in spans {
        check_range(span.row == next, op, "spans[].row", span.row, next)?;
        let (end, capacity) = (span.position + span.len, span.blocks.len() * page);
        check_range(
            end <= capacity,
            op,
            "spans[].position + len",
            end,
            format!("<= {capacity} ({} blocks of {page})", span.blocks.len()),
        )?;
        let unknown = span.blocks.iter().find(|&&block| block as usize >= n_blocks);
        let largest = unknown.copied().unwrap_or(0);
        check_range(unknown.is_none(), op, "spans[].blocks", largest, format!("< {n_blocks}"))?;
        next += span.len;
    }
    Ok(next)
}

fn check_plan(
    op: &'static str,
    keys: &Tensor,
    values: &Tensor,
    qkv: &Tensor,
    plan: &CachedPlan,
) -> Result<(), KernelError> {
    let page = check_cache(op, keys, values, qkv, plan.shape())?;
    let (blocks, rows) = (plan.n_blocks(), plan.rows());
    check_range(page == plan.page(), op, "values.shape()[1]", page, plan.page())?;
    check_range(values.rows() >= blocks, op, "values.rows()", values.rows(), format!("at least {blocks}"))?;
    check_range(qkv.rows() == rows, op, "qkv.rows()", qkv.rows(), format!("{rows} rows of the plan"))
}
