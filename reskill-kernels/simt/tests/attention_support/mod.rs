//! What the tests of attention share: batches, inputs, and attention in f64.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(dead_code, clippy::allow_attributes, reason = "each test binary uses its own part")]

pub(crate) mod cached;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::ops::{AttentionShape, PackedSegment, PackedSegments};
use reskill_kernels::{DType, Device, Tensor};

pub(crate) fn shape(n_heads: usize, n_kv_heads: usize, head_dim: usize) -> AttentionShape {
    AttentionShape { n_heads, n_kv_heads, head_dim }
}

/// Segments of sequences, each given by its trunk length and its branches (visible part of the trunk, length); and the
/// number of rows.
pub(crate) fn packed(sequences: &[(usize, &[(usize, usize)])]) -> (PackedSegments, usize) {
    let (mut segments, mut next) = (PackedSegments::new(), 0);
    for &(trunk_len, branches) in sequences {
        let trunk = next;
        segments.push(PackedSegment { start: trunk, len: trunk_len, prefix_start: trunk, prefix_len: 0 });
        next += trunk_len;
        for &(visible, len) in branches {
            segments.push(PackedSegment { start: next, len, prefix_start: trunk, prefix_len: visible });
            next += len;
        }
    }
    (segments, next)
}

/// Several trunks; branches that see nothing, one row, some or all of their trunk; empty branches and empty trunks.
pub(crate) fn odd_batch() -> (PackedSegments, usize) {
    packed(&[
        (37, &[(1, 3), (37, 21), (0, 5), (20, 0), (19, 1)]),
        (0, &[(0, 2), (0, 3)]),
        (0, &[(0, 0), (0, 1)]),
        (1, &[]),
        (70, &[(70, 35), (69, 2), (33, 2), (32, 4), (64, 17)]),
    ])
}

/// The rows that each row sees, in order.
pub(crate) fn visible(segments: &[PackedSegment]) -> Vec<Vec<usize>> {
    let mut seen = Vec::new();
    for segment in segments {
        for t in 0..segment.len {
            let prefix = segment.prefix_start..segment.prefix_start + segment.prefix_len;
            seen.push(prefix.chain(segment.start..=segment.start + t).collect());
        }
    }
    seen
}

/// Values in [-limit, limit).
pub(crate) fn values(seed: u64, n: usize, limit: f32) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random_range(-limit..limit)).collect()
}

/// Random values on the device and what it holds of them, in f64.
pub(crate) fn random(
    device: &Device,
    dtype: DType,
    shape: &[usize],
    seed: u64,
    limit: f32,
) -> (Tensor, Vec<f64>) {
    let data = values(seed, shape.iter().product(), limit);
    let tensor = Tensor::from_slice(shape, &data, device, dtype).unwrap();
    let held = wide(&tensor);
    (tensor, held)
}

/// A tensor of NaN: what is not written shows.
pub(crate) fn poisoned(device: &Device, dtype: DType, shape: &[usize]) -> Tensor {
    let nan = vec![f32::NAN; shape.iter().product()];
    Tensor::from_slice(shape, &nan, device, dtype).unwrap()
}

pub(crate) fn wide(tensor: &Tensor) -> Vec<f64> {
    tensor.to_vec().unwrap().into_iter().map(f64::from).collect()
}

pub(crate) fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.to_vec().unwrap().into_iter().map(f32::to_bits).collect()
}

/// Largest distance; a NaN counts as infinite.
pub(crate) fn distance(got: &[f64], want: &[f64]) -> f64 {
    assert_eq!(got.len(), want.len());
    let far = |(got, want): (&f64, &f64)| {
        let far = (got - want).abs();
        if far.is_nan() { f64::INFINITY } else { far }
    };
    got.iter().zip(want).map(far).fold(0.0, f64::max)
}

#[track_caller]
pub(crate) fn assert_close(got: &[f64], want: &[f64], tolerance: f64, what: &str) {
    let far = distance(got, want);
    assert!(far <= tolerance, "{what}: off by {far:e}, allowed {tolerance:e}");
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// A number with its spread: the root of the sum of the squares of the terms that it is the sum of. Roundings of the terms,
/// relative `u` and independent, put the sum off by about `u` times the spread.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sum {
    pub(crate) value: f64,
    squares: f64,
}

impl Sum {
    fn add(&mut self, term: f64) {
        self.value += term;
        self.squares += term * term;
    }

    pub(crate) fn spread(self) -> f64 {
        self.squares.sqrt()
    }
}

/// bf16 has 8 bits of significand: a rounded number is off by up to 2^-8 of itself.
pub(crate) const BF16: f64 = 1.0 / 256.0;

/// `got` is `want` with its terms rounded to `dtype` up to `roundings` times each, and the result once; `f32` is the error
/// of the same in f32. Six spreads: a million independent roundings do not reach that.
#[track_caller]
pub(crate) fn assert_rounded(got: &[f64], want: &[Sum], dtype: DType, roundings: f64, f32: f64, what: &str) {
    assert_eq!(got.len(), want.len());
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        let bf16 = BF16 * (want.value.abs() + 6.0 * roundings * want.spread());
        let allowed = if dtype == DType::Bf16 { bf16 + f32 } else { f32 };
        let far = (got - want.value).abs();
        assert!(far <= allowed, "{what}[{index}]: {got:e} for {:e}, allowed {allowed:e}", want.value);
    }
}

pub(crate) fn value_of(sums: &[Sum]) -> Vec<f64> {
    sums.iter().map(|sum| sum.value).collect()
}

/// Attention in f64: out, lse.
pub(crate) fn reference(qkv: &[f64], seen: &[Vec<usize>], shape: AttentionShape) -> (Vec<Sum>, Vec<f64>) {
    let (d, width) = (shape.head_dim, shape.qkv_width());
    let (mut out, mut lse) = (vec![Sum::default(); seen.len() * shape.out_width()], Vec::new());
    for (n, seen) in seen.iter().enumerate() {
        for head in 0..shape.n_heads {
            let key = shape.out_width() + head / shape.group() * d;
            let value = key + shape.kv_width();
            let query = &qkv[n * width + head * d..][..d];
            let score = |j: &usize| inner(query, &qkv[j * width + key..][..d]) / (d as f64).sqrt();
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = scores.iter().map(|s| (s - top).exp()).sum();
            lse.push(top + total.ln());
            let out = &mut out[n * shape.out_width() + head * d..][..d];
            for (j, score) in seen.iter().zip(&scores) {
                let weight = (score - top).exp() / total;
                for (out, value) in out.iter_mut().zip(&qkv[j * width + value..][..d]) {
                    out.add(weight * value);
                }
            }
        }
    }
    (out, lse)
}

/// The gradient of `sum(d_out * out)` with respect to `qkv`, in f64. Its spreads count `d_out . v` and `delta` apart.
pub(crate) fn reference_gradient(
    qkv: &[f64],
    d_out: &[f64],
    seen: &[Vec<usize>],
    shape: AttentionShape,
) -> Vec<Sum> {
    let (d, width) = (shape.head_dim, shape.qkv_width());
    let scale = 1.0 / (d as f64).sqrt();
    let (out, lse) = reference(qkv, seen, shape);
    let out = value_of(&out);
    let mut gradient = vec![Sum::default(); qkv.len()];
    for (n, seen) in seen.iter().enumerate() {
        for head in 0..shape.n_heads {
            let key = shape.out_width() + head / shape.group() * d;
            let value = key + shape.kv_width();
            let (query, at) = (n * width + head * d, n * shape.out_width() + head * d);
            let d_out = &d_out[at..at + d];
            let delta = inner(d_out, &out[at..at + d]);
            for j in seen.iter().map(|j| j * width) {
                let score = scale * inner(&qkv[query..query + d], &qkv[j + key..][..d]);
                let weight = (score - lse[n * shape.n_heads + head]).exp();
                let d_weight = inner(d_out, &qkv[j + value..][..d]);
                for c in 0..d {
                    for part in [d_weight, -delta] {
                        gradient[query + c].add(scale * weight * part * qkv[j + key + c]);
                        gradient[j + key + c].add(scale * weight * part * qkv[query + c]);
                    }
                    gradient[j + value + c].add(weight * d_out[c]);
                }
            }
        }
    }
    gradient
}

/// The same by finite differences.
pub(crate) fn numerical_gradient(
    qkv: &[f64],
    d_out: &[f64],
    seen: &[Vec<usize>],
    shape: AttentionShape,
) -> Vec<f64> {
    let loss = |qkv: &[f64]| inner(&value_of(&reference(qkv, seen, shape).0), d_out);
    let mut x = qkv.to_vec();
    (0..qkv.len())
        .map(|index| {
            let (kept, step) = (x[index], 1e-5);
            x[index] = kept + step;
            let above = loss(&x);
            x[index] = kept - step;
            let below = loss(&x);
            x[index] = kept;
            (above - below) / (2.0 * step)
        })
        .collect()
}
