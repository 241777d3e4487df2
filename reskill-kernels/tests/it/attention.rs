use reskill_kernels::Tensor;
use reskill_kernels::ops::{
    AttentionShape, CachedSpan, PackedSegment, PackedSegments, attention_backward, attention_cached,
    attention_forward, cache_append,
};

use crate::support::{
    assert_close, assert_thread_count_does_not_matter, bits, inner, message, numerical_gradient, random,
    rows, tensor, wide, zeros,
};

fn shape(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> AttentionShape {
    AttentionShape { n_heads, n_kv_heads, head_dim }
}

fn segment(start: usize, len: usize, prefix_start: usize, prefix_len: usize) -> PackedSegment {
    PackedSegment { start, len, prefix_start, prefix_len }
}

/// Segments of sequences, each given by its trunk length and its branches (visible part of the trunk, length).
fn packed(sequences: &[(usize, &[(usize, usize)])]) -> (PackedSegments, usize) {
    let (mut segments, mut next) = (PackedSegments::new(), 0);
    for &(trunk_len, branches) in sequences {
        let trunk = next;
        segments.push(segment(trunk, trunk_len, trunk, 0));
        next += trunk_len;
        for &(visible, len) in branches {
            segments.push(segment(next, len, trunk, visible));
            next += len;
        }
    }
    (segments, next)
}

/// Plain branches, branches that see nothing, little or all of the trunk, empty branches and empty trunks.
fn odd_batch() -> (PackedSegments, usize) {
    packed(&[
        (5, &[(3, 4), (5, 2), (0, 3), (2, 0), (1, 1)]),
        (0, &[(0, 2), (0, 3)]),
        (0, &[(0, 0), (0, 1)]),
        (7, &[]),
        (2, &[(2, 33), (1, 17)]),
    ])
}

/// The rows that each row sees, in order.
fn visible(segments: &[PackedSegment]) -> Vec<Vec<usize>> {
    let mut seen = Vec::new();
    for segment in segments {
        for t in 0..segment.len {
            let prefix = segment.prefix_start..segment.prefix_start + segment.prefix_len;
            seen.push(prefix.chain(segment.start..=segment.start + t).collect());
        }
    }
    seen
}

fn reference(qkv: &[f64], seen: &[Vec<usize>], shape: AttentionShape) -> (Vec<f64>, Vec<f64>) {
    let (d, width) = (shape.head_dim, shape.qkv_width());
    let (mut out, mut lse) = (vec![0.0; seen.len() * shape.out_width()], Vec::new());
    for (n, seen) in seen.iter().enumerate() {
        for head in 0..shape.n_heads {
            let kv_head = head / (shape.n_heads / shape.n_kv_heads);
            let key = shape.out_width() + kv_head * d;
            let value = key + shape.kv_width();
            let query = &qkv[n * width + head * d..][..d];
            let scores: Vec<f64> = seen
                .iter()
                .map(|&j| inner(query, &qkv[j * width + key..][..d]) / (d as f64).sqrt())
                .collect();
            let total: f64 = scores.iter().map(|s| s.exp()).sum();
            lse.push(total.ln());
            for (&j, score) in seen.iter().zip(&scores) {
                for c in 0..d {
                    out[n * shape.out_width() + head * d + c] +=
                        score.exp() / total * qkv[j * width + value + c];
                }
            }
        }
    }
    (out, lse)
}

fn forward(qkv: &Tensor, segments: &PackedSegments, shape: AttentionShape) -> (Tensor, Tensor) {
    let (mut out, mut lse) = (zeros(&[qkv.rows(), shape.out_width()]), zeros(&[qkv.rows(), shape.n_heads]));
    attention_forward(&mut out, &mut lse, qkv, segments, shape).unwrap();
    (out, lse)
}

fn backward(qkv: &Tensor, d_out: &Tensor, segments: &PackedSegments, shape: AttentionShape) -> Tensor {
    let (out, lse) = forward(qkv, segments, shape);
    // Whatever stood there is overwritten.
    let mut d_qkv = random(qkv.shape(), 99);
    attention_backward(&mut d_qkv, d_out, &out, &lse, qkv, segments, shape).unwrap();
    d_qkv
}

fn random_qkv(n: usize, shape: AttentionShape, seed: u64) -> Tensor {
    let mut qkv = random(&[n, shape.qkv_width()], seed);
    qkv.as_mut_slice().iter_mut().for_each(|x| *x *= 2.0);
    qkv
}

fn check((segments, n): (PackedSegments, usize), shape: AttentionShape) {
    let qkv = random_qkv(n, shape, 1);
    let (out, lse) = forward(&qkv, &segments, shape);
    let (want, want_lse) = reference(&wide(&qkv), &visible(&segments), shape);
    // Scores of at most 64 terms of size 4 carry 1e-6; so do their exponentials; the weighted mean keeps it.
    assert_close(&out, &want, 5e-6, "out");
    assert_close(&lse, &want_lse, 5e-6, "lse");
}

fn check_gradient((segments, n): (PackedSegments, usize), shape: AttentionShape) {
    let (qkv, d_out) = (random_qkv(n, shape, 1), random(&[n, shape.out_width()], 2));
    let d_qkv = backward(&qkv, &d_out, &segments, shape);
    let (seen, d_out) = (visible(&segments), wide(&d_out));
    let want = numerical_gradient(&wide(&qkv), |qkv| inner(&reference(qkv, &seen, shape).0, &d_out));
    assert_close(&d_qkv, &want, 1e-5, "d_qkv");
}

#[test]
fn attention_matches_hand_computed_pair() {
    // D = 1. Row 1 has scores 2 * 1 and 2 * 0.5: weights e and 1 after division by the smaller.
    let qkv = tensor(&[2, 3], &[1.0, 1.0, 10.0, 2.0, 0.5, 20.0]);
    let (out, lse) = forward(&qkv, &packed(&[(2, &[])]).0, shape(1, 1, 1));
    let e = std::f64::consts::E;
    assert_close(&out, &[10.0, (10.0 * e + 20.0) / (e + 1.0)], 1e-6, "out");
    assert_close(&lse, &[1.0, 1.0 + (e + 1.0).ln()], 1e-6, "lse");
}

#[test]
fn attention_of_equal_keys_averages_the_visible_values() {
    // Trunk values 1, 2, 3; the branch sees two of them and itself.
    let values = [1.0, 2.0, 3.0, 9.0];
    let qkv: Vec<f32> = values.iter().flat_map(|&v| [0.7, 0.0, v]).collect();
    let (out, _) = forward(&tensor(&[4, 3], &qkv), &packed(&[(3, &[(2, 1)])]).0, shape(1, 1, 1));
    assert_close(&out, &[1.0, 1.5, 2.0, 4.0], 1e-6, "out");
}

#[test]
fn attention_of_odd_sizes_equals_the_f64_version() {
    for shape in [shape(1, 1, 16), shape(4, 2, 24), shape(3, 1, 32), shape(2, 2, 5), shape(4, 2, 64)] {
        check(odd_batch(), shape);
        check(packed(&[(1, &[])]), shape);
        check(packed(&[(37, &[]), (1, &[(1, 36)])]), shape);
    }
    check(packed(&[(200, &[(100, 57)])]), shape(4, 2, 32));
}

#[test]
fn attention_gradient_equals_finite_differences() {
    for shape in [shape(4, 2, 2), shape(3, 1, 3), shape(1, 1, 16)] {
        check_gradient(packed(&[(3, &[(2, 2), (0, 2), (3, 1)]), (0, &[(0, 2), (0, 1)])]), shape);
        check_gradient(packed(&[(1, &[])]), shape);
    }
    check_gradient(packed(&[(4, &[(2, 3), (4, 2)])]), shape(4, 2, 24));
    check_gradient(packed(&[(2, &[(1, 19)])]), shape(2, 1, 16));
}

#[test]
fn attention_of_a_branch_equals_that_of_its_whole_sequence() {
    let shape = shape(4, 2, 24);
    let (segments, n) = packed(&[(9, &[(4, 5), (9, 3)])]);
    let qkv = random_qkv(n, shape, 1);
    let (out, _) = forward(&qkv, &segments, shape);
    for branch in &segments[1..] {
        let mut alone = rows(&qkv, 0, branch.prefix_len).as_slice().to_vec();
        alone.extend_from_slice(rows(&qkv, branch.start, branch.len).as_slice());
        let alone_len = branch.prefix_len + branch.len;
        let alone = tensor(&[alone_len, shape.qkv_width()], &alone);
        let (whole, _) = forward(&alone, &packed(&[(alone_len, &[])]).0, shape);
        assert_eq!(
            bits(&rows(&out, branch.start, branch.len)),
            bits(&rows(&whole, branch.prefix_len, branch.len))
        );
    }
}

/// Runs a sequence in pieces through a cache whose pages lie in odd order.
fn cached(qkv: &Tensor, pieces: &[usize], page: usize, shape: AttentionShape) -> Tensor {
    let n_blocks = qkv.rows().div_ceil(page);
    let blocks: Vec<u32> = (0..n_blocks as u32).map(|index| n_blocks as u32 - index).collect();
    let mut keys = random(&[n_blocks + 2, shape.kv_width(), page], 50);
    let mut values = random(&[n_blocks + 2, page, shape.kv_width()], 51);
    let mut all = Vec::new();
    let mut position = 0;
    for &len in pieces {
        let new = rows(qkv, position, len);
        let span = [CachedSpan { row: 0, len, position, blocks: &blocks }];
        cache_append(&mut keys, &mut values, &new, &span, shape).unwrap();
        let mut out = zeros(&[len, shape.out_width()]);
        attention_cached(&mut out, &new, &keys, &values, &span, shape).unwrap();
        all.extend_from_slice(out.as_slice());
        position += len;
    }
    tensor(&[position, shape.out_width()], &all)
}

#[test]
fn attention_from_the_cache_equals_packed_attention_to_the_bit() {
    for shape in [shape(4, 2, 16), shape(6, 2, 24), shape(7, 1, 32), shape(1, 1, 64), shape(2, 2, 5)] {
        let qkv = random_qkv(70, shape, 1);
        let (packed_out, _) = forward(&qkv, &packed(&[(70, &[])]).0, shape);
        for pieces in [vec![70], vec![1; 70], vec![33, 1, 1, 16, 17, 2], vec![16, 48, 6]] {
            for page in [1, 5, 16, 32, 96] {
                let got = cached(&qkv, &pieces, page, shape);
                assert_eq!(bits(&got), bits(&packed_out), "{shape:?} {pieces:?} pages of {page}");
            }
        }
    }
}

#[test]
fn attention_from_the_cache_equals_that_of_a_branch_to_the_bit() {
    let shape = shape(4, 2, 24);
    let (segments, n) = packed(&[(40, &[(37, 19)])]);
    let qkv = random_qkv(n, shape, 1);
    let (out, _) = forward(&qkv, &segments, shape);
    let branch = segments[1];
    let mut sequence = rows(&qkv, 0, 37).as_slice().to_vec();
    sequence.extend_from_slice(rows(&qkv, branch.start, branch.len).as_slice());
    let sequence = tensor(&[37 + 19, shape.qkv_width()], &sequence);
    let from_cache = cached(&sequence, &[37, 10, 9], 16, shape);
    assert_eq!(bits(&rows(&from_cache, 37, 19)), bits(&rows(&out, 40, 19)));
}

#[test]
fn attention_spans_do_not_depend_on_the_spans_beside_them() {
    let shape = shape(4, 2, 32);
    let qkv = random_qkv(9, shape, 1);
    let keys = random(&[4, shape.kv_width(), 6], 2);
    let values = random(&[4, 6, shape.kv_width()], 3);
    // The first and the last share a page.
    let spans = [
        CachedSpan { row: 0, len: 4, position: 5, blocks: &[2, 0] },
        CachedSpan { row: 4, len: 1, position: 0, blocks: &[1] },
        CachedSpan { row: 5, len: 4, position: 8, blocks: &[2, 3] },
    ];
    let mut all = zeros(&[9, shape.out_width()]);
    attention_cached(&mut all, &qkv, &keys, &values, &spans, shape).unwrap();
    for span in spans {
        let mut one = zeros(&[span.len, shape.out_width()]);
        let alone = [CachedSpan { row: 0, ..span }];
        attention_cached(&mut one, &rows(&qkv, span.row, span.len), &keys, &values, &alone, shape).unwrap();
        assert_eq!(bits(&one), bits(&rows(&all, span.row, span.len)));
    }
}

#[test]
fn cache_append_writes_its_span_and_nothing_else() {
    let shape = shape(2, 1, 2);
    let qkv =
        tensor(&[2, 8], &[0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 0.0, 0.0, 5.0, 6.0, 7.0, 8.0]);
    let (mut keys, mut values) = (zeros(&[2, 2, 3]), zeros(&[2, 3, 2]));
    let spans = [
        CachedSpan { row: 0, len: 1, position: 5, blocks: &[0, 1] },
        CachedSpan { row: 1, len: 1, position: 0, blocks: &[0] },
    ];
    cache_append(&mut keys, &mut values, &qkv, &spans, shape).unwrap();
    // Keys are transposed: per page, element after element of all positions.
    assert_eq!(keys.as_slice(), &[5.0, 0.0, 0.0, 6.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0]);
    assert_eq!(values.as_slice(), &[7.0, 8.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 3.0, 4.0]);
}

#[test]
fn attention_does_not_depend_on_the_number_of_threads() {
    let shape = shape(4, 2, 32);
    let (segments, n) = odd_batch();
    let (qkv, d_out) = (random_qkv(n, shape, 1), random(&[n, shape.out_width()], 2));
    assert_thread_count_does_not_matter(|| {
        let (out, lse) = forward(&qkv, &segments, shape);
        vec![out, lse, backward(&qkv, &d_out, &segments, shape)]
    });
}

#[test]
fn attention_of_very_large_scores_stays_finite() {
    let shape = shape(1, 1, 16);
    let mut qkv = random(&[20, shape.qkv_width()], 1);
    qkv.as_mut_slice().iter_mut().for_each(|x| *x *= 1e4);
    let segments = packed(&[(20, &[])]).0;
    let (out, lse) = forward(&qkv, &segments, shape);
    let d_qkv = backward(&qkv, &random(&[20, 16], 2), &segments, shape);
    assert!(wide(&out).iter().chain(&wide(&lse)).chain(&wide(&d_qkv)).all(|x| x.is_finite()));
}

#[test]
fn attention_refuses_gaps_foreign_prefixes_and_odd_heads() {
    let one = shape(1, 1, 1);
    let run = |segments: &[PackedSegment], n: usize, shape: AttentionShape| {
        let segments = PackedSegments::from(segments.to_vec());
        let (mut out, mut lse) = (zeros(&[n, shape.out_width()]), zeros(&[n, shape.n_heads]));
        message(attention_forward(&mut out, &mut lse, &zeros(&[n, shape.qkv_width()]), &segments, shape))
    };
    assert_eq!(run(&[segment(1, 1, 1, 0)], 2, one), "attention_forward: `segments[].start` = 1, expected 0");
    assert_eq!(
        run(&[segment(0, 1, 0, 0)], 2, one),
        "attention_forward: `segments` = 1 rows, expected 2 rows"
    );
    // A branch must not look into the sequence before its own.
    assert_eq!(
        run(&[segment(0, 2, 0, 0), segment(2, 1, 2, 0), segment(3, 1, 1, 1)], 4, one),
        "attention_forward: `segments[].prefix` = 1..2, expected inside 2..3"
    );
    assert_eq!(
        run(&[segment(0, 1, 0, 0), segment(1, 1, 0, 2)], 2, one),
        "attention_forward: `segments[].prefix` = 0..2, expected inside 0..1"
    );
    assert_eq!(
        run(&[segment(0, 1, 0, 0)], 1, shape(3, 2, 1)),
        "attention_forward: `n_heads` = 3, expected a multiple of n_kv_heads = 2"
    );
    assert_eq!(
        run(&[segment(0, 1, 0, 0)], 1, shape(1, 1, 0)),
        "attention_forward: `head_dim` = 0, expected >= 1"
    );
}

#[test]
fn attention_refuses_spans_outside_the_cache() {
    let one = shape(1, 1, 1);
    let (mut keys, mut values, qkv) = (zeros(&[2, 1, 4]), zeros(&[2, 4, 1]), zeros(&[2, 3]));
    let mut run = |span: CachedSpan<'_>| message(cache_append(&mut keys, &mut values, &qkv, &[span], one));
    assert_eq!(
        run(CachedSpan { row: 0, len: 2, position: 0, blocks: &[0, 2] }),
        "cache_append: `spans[].blocks` = 2, expected < 2"
    );
    assert_eq!(
        run(CachedSpan { row: 0, len: 2, position: 3, blocks: &[0] }),
        "cache_append: `spans[].position + len` = 5, expected <= 4 (1 blocks of 4)"
    );
    assert_eq!(
        run(CachedSpan { row: 0, len: 1, position: 0, blocks: &[0] }),
        "cache_append: `spans` = 1 rows, expected 2 rows"
    );
}
