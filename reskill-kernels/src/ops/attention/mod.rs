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
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

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
/// - `keys`: (blocks, K D, P) f32, transposed, so that the scores of many keys are computed side by side
/// - `values`: (blocks, P, K D) f32
/// - `qkv`: (N, (H + 2K) D) f32, keys already rotated
///
/// A page length P that is a multiple of 16 is quickest. No two spans may write to the same block.
///
/// # Errors
/// [`KernelError::Shape`]; [`KernelError::Range`] for a span outside the batch or the cache.
pub fn cache_append(
    keys: &mut Tensor,
    values: &mut Tensor,
    qkv: &Tensor,
    spans: &[CachedSpan<'_>],
    shape: AttentionShape,
) -> Result<(), KernelError> {
    const OP: &str = "cache_append";
    check_cache(OP, keys, values, qkv, spans, shape)?;
    match placed(OP, &[keys.is("keys", DType::F32), values.is("values", DType::F32), qkv.is("qkv", DType::F32)])? {
        Device::Cpu => cpu::append(keys, values, qkv, spans, shape),
        #[cfg(feature = "cuda")]
        Device::Cuda(_) => return Err(KernelError::CudaNotCompiled { ordinal: 0 }),
    }
    Ok(())
}

/// Attention of new rows to their sequence in the paged cache, which already holds their own keys and values: row `t` of a
/// span sees the positions `0..=position + t`. Sequences may share blocks.
///
/// - `out`: (N, H D) f32, overwritten
/// - `qkv`: (N, (H + 2K) D) f32, of which the queries are read
/// - `keys`: (blocks, K D, P) f32, `values`: (blocks, P, K D) f32
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
    check_cache(OP, keys, values, qkv, spans, shape)?;
    check_shape(OP, "out", out.shape(), &[qkv.rows(), shape.out_width()])?;
    cpu::forward_cached(out, qkv, keys, values, spans, shape);
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

fn check_cache(
    op: &'static str,
    keys: &Tensor,
    values: &Tensor,
    qkv: &Tensor,
    spans: &[CachedSpan<'_>],
    shape: AttentionShape,
) -> Result<(), KernelError> {
    check_heads(op, shape)?;
    check_shape(op, "qkv", qkv.shape(), &[qkv.rows(), shape.qkv_width()])?;
    let page = values.shape().get(1).copied().unwrap_or(0);
    check_range(page > 0, op, "values.shape()[1]", page, ">= 1")?;
    check_shape(op, "values", values.shape(), &[values.rows(), page, shape.kv_width()])?;
    check_shape(op, "keys", keys.shape(), &[values.rows(), shape.kv_width(), page])?;
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
        let unknown = span.blocks.iter().find(|&&block| block as usize >= values.rows());
        let largest = unknown.copied().unwrap_or(0);
        check_range(unknown.is_none(), op, "spans[].blocks", largest, format!("< {}", values.rows()))?;
        next += span.len;
    }
    check_range(next == qkv.rows(), op, "spans", format!("{next} rows"), format!("{} rows", qkv.rows()))
}
