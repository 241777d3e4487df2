//! The least work of an operation: bytes that must move between memory and processor (every input read once, every output
//! written once), and floating-point operations. A measured time is judged against these.
//!
//! Sizes have the letters of the crate: N rows, C width, F width of the MLP, V vocabulary; `s` is the size of an element of
//! T in bytes. Tables of a few numbers a row, such as token sets, are counted; what an operation takes for itself is not.
//! The formulas of attention stand beside it, in `ops::attention`.

/// Bytes and floating-point operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cost {
    /// Bytes read and written.
    pub bytes: u64,
    /// Floating-point operations; a multiply-add is two. Exponentials and roots count one.
    pub flops: u64,
}

impl Cost {
    fn new(bytes: usize, flops: usize) -> Cost {
        Cost { bytes: bytes as u64, flops: flops as u64 }
    }

    fn with(self, bytes: usize, flops: usize) -> Cost {
        Cost { bytes: self.bytes + bytes as u64, flops: self.flops + flops as u64 }
    }

    /// Seconds that the work takes at `bytes_per_second` and `flops_per_second`, whichever is slower.
    #[must_use]
    pub fn floor(&self, bytes_per_second: f64, flops_per_second: f64) -> f64 {
        (self.bytes as f64 / bytes_per_second).max(self.flops as f64 / flops_per_second)
    }
}

/// A copy of `n` elements.
#[must_use]
pub fn copy(n: usize, s: usize) -> Cost {
    Cost::new(2 * n * s, 0)
}

/// [`super::embedding_forward`] of N tokens, `distinct` of them different: so many rows of the table are read.
#[must_use]
pub fn embedding_forward(n: usize, distinct: usize, c: usize, s: usize) -> Cost {
    Cost::new((n + distinct) * c * s + 4 * n, 0)
}

/// [`super::embedding_backward`] of N tokens, `distinct` of them different: so many rows of an f32 gradient are read and
/// written.
#[must_use]
pub fn embedding_backward(n: usize, distinct: usize, c: usize, s: usize) -> Cost {
    Cost::new(n * c * s + 8 * distinct * c + 4 * n, n * c)
}

/// [`super::bias_forward`]: `out` is read and written.
#[must_use]
pub fn bias_forward(n: usize, o: usize, s: usize) -> Cost {
    Cost::new(s * (2 * n * o + o), n * o)
}

/// [`super::bias_backward`]: the f32 gradient is read and written.
#[must_use]
pub fn bias_backward(n: usize, o: usize, s: usize) -> Cost {
    Cost::new(s * n * o + 8 * o, n * o)
}

/// [`super::qk_norm_forward`] of `heads` query and key heads of `d` elements: they are read, written, and kept.
#[must_use]
pub fn qk_norm_forward(n: usize, heads: usize, d: usize, s: usize) -> Cost {
    Cost::new(s * (3 * n * heads * d + 2 * d) + 4 * n * heads, 4 * n * heads * d)
}

/// [`super::qk_norm_backward`]: `d_qkv` is read and written, and so are the two f32 gradients of the weights.
#[must_use]
pub fn qk_norm_backward(n: usize, heads: usize, d: usize, s: usize) -> Cost {
    Cost::new(s * (3 * n * heads * d + 2 * d) + 4 * n * heads + 16 * d, 11 * n * heads * d)
}

/// [`super::qk_norm_rope_forward`]: as [`qk_norm_forward`], and the positions. The tables' rows are shared by the heads of a
/// row and by its neighbours, so they count nothing.
#[must_use]
pub fn qk_norm_rope_forward(n: usize, heads: usize, d: usize, s: usize) -> Cost {
    qk_norm_forward(n, heads, d, s).with(4 * n, 3 * n * heads * d)
}

/// [`super::qk_norm_rope_backward`]: as [`qk_norm_backward`], and the positions.
#[must_use]
pub fn qk_norm_rope_backward(n: usize, heads: usize, d: usize, s: usize) -> Cost {
    qk_norm_backward(n, heads, d, s).with(4 * n, 3 * n * heads * d)
}

/// [`super::cache_append`] of N rows whose keys and values have `width` elements each, with a place for each.
#[must_use]
pub fn cache_append(n: usize, width: usize, s: usize) -> Cost {
    Cost::new(4 * n * width * s + 4 * n, 0)
}

/// [`super::rms_norm_forward`].
#[must_use]
pub fn rms_norm_forward(n: usize, c: usize, s: usize) -> Cost {
    Cost::new(s * (2 * n * c + c) + 4 * n, 4 * n * c)
}

/// [`super::residual_rms_norm_forward`]: two rows are read, their sum and its norm written.
#[must_use]
pub fn residual_rms_norm_forward(n: usize, c: usize, s: usize) -> Cost {
    Cost::new(s * (4 * n * c + c) + 4 * n, 5 * n * c)
}

/// [`super::rms_norm_backward`]: `d_x` and the f32 `d_weight` are read and written.
#[must_use]
pub fn rms_norm_backward(n: usize, c: usize, s: usize) -> Cost {
    Cost::new(s * (4 * n * c + c) + 4 * n + 8 * c, 11 * n * c)
}

/// [`super::rope_forward`] and its gradient: `width` elements of each row are rotated in place.
#[must_use]
pub fn rope(n: usize, width: usize, s: usize) -> Cost {
    Cost::new(2 * n * width * s + 4 * n, 3 * n * width)
}

/// [`super::swiglu_forward`].
#[must_use]
pub fn swiglu_forward(n: usize, f: usize, s: usize) -> Cost {
    Cost::new(3 * n * f * s, 5 * n * f)
}

/// [`super::swiglu_backward`].
#[must_use]
pub fn swiglu_backward(n: usize, f: usize, s: usize) -> Cost {
    Cost::new(5 * n * f * s, 11 * n * f)
}

/// [`super::matmul()`] and [`super::matmul_backward_input`], overwriting: (N, I) times (O, I) in elements of one size.
#[must_use]
pub fn matmul(n: usize, i: usize, o: usize, s: usize) -> Cost {
    Cost::new(s * (n * i + o * i + n * o), 2 * n * i * o)
}

/// [`super::matmul_backward_weight`]: the f32 gradient is read and written.
#[must_use]
pub fn matmul_backward_weight(n: usize, i: usize, o: usize, s: usize) -> Cost {
    Cost::new(s * (n * i + n * o) + 8 * o * i, 2 * n * i * o)
}

/// [`super::low_rank_forward`] of rank R: (N, I) through (R, I) and (O, R); the O columns are read and written.
#[must_use]
pub fn low_rank_forward(n: usize, i: usize, r: usize, o: usize, s: usize) -> Cost {
    Cost::new(s * (n * i + r * (i + o) + 2 * n * o), 2 * n * r * (i + o) + 2 * n * o)
}

/// [`super::low_rank_backward`]: `d_x` and the f32 gradients of both factors are read and written. The inner values are
/// computed again: five products, two over outputs and three over inputs.
#[must_use]
pub fn low_rank_backward(n: usize, i: usize, r: usize, o: usize, s: usize) -> Cost {
    Cost::new(s * (n * o + 3 * n * i + r * (i + o)) + 8 * r * (i + o), 2 * n * r * (3 * i + 2 * o) + n * o)
}

/// [`super::linear_logprob_forward`] over the whole vocabulary: hidden states, head, targets and three columns.
#[must_use]
pub fn linear_logprob_forward(n: usize, c: usize, v: usize, s: usize) -> Cost {
    Cost::new(s * (n * c + v * c) + 16 * n, 2 * n * c * v)
}

/// [`super::linear_logprob_backward`] over the whole vocabulary: `d_hidden` is written, the f32 `d_head` read and written;
/// the logits are computed again, so three products.
#[must_use]
pub fn linear_logprob_backward(n: usize, c: usize, v: usize, s: usize) -> Cost {
    Cost::new(s * (2 * n * c + v * c) + 8 * v * c + 20 * n, 6 * n * c * v)
}

/// [`super::linear_logprob_forward`] over sets of `e` tokens in all, `distinct` of them different.
#[must_use]
pub fn linear_logprob_sets_forward(n: usize, c: usize, e: usize, distinct: usize, s: usize) -> Cost {
    Cost::new(s * (n * c + distinct * c) + 4 * e + 20 * n, 2 * e * c)
}

/// [`super::linear_logprob_backward`] over sets of `e` tokens in all, `distinct` of them different: `d_hidden` is written,
/// rows of the f32 `d_head` are read and written; the logits are computed again, so three products.
#[must_use]
pub fn linear_logprob_sets_backward(n: usize, c: usize, e: usize, distinct: usize, s: usize) -> Cost {
    Cost::new(s * (2 * n * c + distinct * c) + 8 * distinct * c + 4 * e + 24 * n, 6 * e * c)
}

/// [`super::linear_kl_forward`] over the whole vocabulary, with a reference of width `ref_c`.
#[must_use]
pub fn linear_kl_forward(n: usize, c: usize, ref_c: usize, v: usize, s: usize) -> Cost {
    Cost::new(s * (n + v) * (c + ref_c) + 12 * n, 2 * n * v * (c + ref_c))
}

/// [`super::linear_kl_backward`] over the whole vocabulary: `d_hidden` and the f32 `d_head` are read and written.
#[must_use]
pub fn linear_kl_backward(n: usize, c: usize, ref_c: usize, v: usize, s: usize) -> Cost {
    Cost::new(s * (n + v) * (c + ref_c) + 2 * s * n * c + 8 * v * c + 16 * n, 2 * n * v * (3 * c + ref_c))
}

/// [`super::linear_sample`] over the whole vocabulary.
#[must_use]
pub fn linear_sample(n: usize, c: usize, v: usize, s: usize) -> Cost {
    Cost::new(s * (n * c + v * c) + 12 * n, 2 * n * c * v)
}

/// [`super::sample_logits`]: logits, filters and uniform numbers in, tokens with their log-probabilities out.
#[must_use]
pub fn sample_logits(n: usize, v: usize, s: usize) -> Cost {
    Cost::new(s * n * v + 36 * n, 3 * n * v)
}

/// [`super::grpo_loss()`] of f32 columns: five are read, and one more for each of the divergence and the sampler's
/// log-probabilities; two are written.
#[must_use]
pub fn grpo_loss(n: usize, optional_columns: usize) -> Cost {
    Cost::new(4 * n * (7 + optional_columns) + 72, 60 * n)
}

/// [`super::adamw()`] in f32: weight and both moments are read and written, the gradient read.
#[must_use]
pub fn adamw(n: usize) -> Cost {
    Cost::new(28 * n, 14 * n)
}

/// [`super::adamw_scaled`] with weights in bf16: master and both moments are read and written, the gradient read, the
/// weight written.
#[must_use]
pub fn adamw_bf16(n: usize) -> Cost {
    Cost::new(30 * n, 14 * n)
}

/// [`super::adamw_8bit`]: weight and codes are read and written, the gradient read, a scale of each moment every 256.
#[must_use]
pub fn adamw_8bit(n: usize) -> Cost {
    Cost::new(16 * n + 16 * n.div_ceil(256), 40 * n)
}

/// [`super::sum_squares()`].
#[must_use]
pub fn sum_squares(n: usize, s: usize) -> Cost {
    Cost::new(n * s, 2 * n)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_floor_is_that_of_the_slower_of_both() {
        let cost = matmul(128, 64, 256, 2);
        assert_eq!(cost, Cost { bytes: 2 * (8192 + 16_384 + 32_768), flops: 4_194_304 });
        assert_eq!(cost.floor(1e6, f64::INFINITY), 114_688.0 / 1e6);
        assert_eq!(cost.floor(f64::INFINITY, 4_194_304.0), 1.0);
    }

    #[test]
    fn eight_bit_moments_halve_the_traffic_of_the_optimizer() {
        assert_eq!((adamw(2560).bytes, adamw_8bit(2560).bytes), (71_680, 41_120));
    }
}
