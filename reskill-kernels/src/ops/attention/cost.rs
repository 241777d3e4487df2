//! Work and traffic of attention at the least, for measurements to be held against.

use super::{AttentionShape, CachedSpan, PackedSegment};

/// Floating-point operations (a multiplication and an addition are two) and bytes of device memory, each input read once
/// and each output written once.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionCost {
    /// Of the forward pass.
    pub forward_flops: f64,
    /// Of the forward pass.
    pub forward_bytes: f64,
    /// Of the backward pass: five products for the forward's two.
    pub backward_flops: f64,
    /// Of the backward pass.
    pub backward_bytes: f64,
}

/// Cost of attention over a packed batch whose numbers take `element` bytes.
///
/// Forward: `4 H D` operations for each pair of a row and a row that it sees; bytes `N ((2H + 2K) D e + 4 H)`: qkv and out,
/// and lse in f32. Backward: `10 H D` operations a pair (scores again, and four gradients' products); bytes
/// `N ((4H + 4K) D e + 4 H)`: qkv, d_qkv, out, d_out and lse.
#[must_use]
pub fn packed_cost(segments: &[PackedSegment], shape: AttentionShape, element: usize) -> AttentionCost {
    let rows: usize = segments.iter().map(|segment| segment.len).sum();
    let pairs = |segment: &PackedSegment| {
        let len = segment.len as f64;
        len * segment.prefix_len as f64 + len * (len + 1.0) / 2.0
    };
    let flops = segments.iter().map(pairs).sum::<f64>() * shape.out_width() as f64;
    let row = ((shape.qkv_width() + shape.out_width()) * element) as f64;
    let lse = (4 * shape.n_heads) as f64;
    AttentionCost {
        forward_flops: 4.0 * flops,
        forward_bytes: rows as f64 * (row + lse),
        backward_flops: 10.0 * flops,
        backward_bytes: rows as f64 * (2.0 * row + lse),
    }
}

/// Cost of attention to a paged cache of `page` positions a page: operations and bytes of the forward pass, the latter
/// with each page that any row sees read once (`unshared` counts it once for each span).
///
/// `4 H D` operations for each row and position that it sees; `2 K D e` bytes for each position read and
/// `(2H) D e` for each row (queries and out).
#[must_use]
pub fn cached_cost(
    spans: &[CachedSpan<'_>],
    shape: AttentionShape,
    element: usize,
    page: usize,
    unshared: bool,
) -> (f64, f64) {
    let mut pairs = 0.0;
    let (mut rows, mut positions) = (0, 0);
    // How much of each block is seen.
    let mut blocks = std::collections::HashMap::new();
    for span in spans.iter().filter(|span| span.len > 0) {
        let (len, before) = (span.len as f64, span.position as f64);
        pairs += len * before + len * (len + 1.0) / 2.0;
        rows += span.len;
        let n_seen = span.position + span.len;
        positions += n_seen;
        for (index, &block) in span.blocks[..n_seen.div_ceil(page.max(1))].iter().enumerate() {
            let seen = blocks.entry(block).or_insert(0);
            *seen = page.min(n_seen - index * page).max(*seen);
        }
    }
    let read = if unshared { positions } else { blocks.values().sum() };
    let bytes = 2 * (read * shape.kv_width() + rows * shape.out_width()) * element;
    (4.0 * pairs * shape.out_width() as f64, bytes as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: AttentionShape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim: 8 };

    #[test]
    fn packed_cost_counts_each_visible_pair_once() {
        let trunk = PackedSegment { start: 0, len: 3, prefix_start: 0, prefix_len: 0 };
        let branch = PackedSegment { start: 3, len: 2, prefix_start: 0, prefix_len: 2 };
        let cost = packed_cost(&[trunk, branch], SHAPE, 2);
        // 1 + 2 + 3 pairs in the trunk, 3 + 4 in the branch.
        assert_eq!(cost.forward_flops, 13.0 * 4.0 * 32.0);
        assert_eq!(cost.backward_flops, 2.5 * cost.forward_flops);
        assert_eq!(cost.forward_bytes, 5.0 * ((64.0 + 32.0) * 2.0 + 16.0));
    }

    #[test]
    fn cached_cost_counts_a_shared_page_once() {
        let first = CachedSpan { row: 0, len: 1, position: 5, blocks: &[0, 1] };
        let second = CachedSpan { row: 1, len: 1, position: 6, blocks: &[0, 2] };
        let (flops, bytes) = cached_cost(&[first, second], SHAPE, 2, 4, false);
        assert_eq!(flops, 13.0 * 4.0 * 32.0);
        // 4 shared positions, 2 and 3 own ones, two rows of queries and results.
        assert_eq!(bytes, 2.0 * 2.0 * (9.0 * 16.0 + 2.0 * 32.0));
        assert_eq!(
            cached_cost(&[first, second], SHAPE, 2, 4, true).1,
            2.0 * 2.0 * (13.0 * 16.0 + 2.0 * 32.0)
        );
    }
}
