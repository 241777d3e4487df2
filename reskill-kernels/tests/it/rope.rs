use reskill_kernels::Tensor;
use reskill_kernels::ops::{RopeTable, rope_backward, rope_forward};

use crate::support::{
    assert_close, assert_thread_count_does_not_matter, bits, ids, inner, message, numerical_gradient, random,
    rows, tensor, wide,
};

const THETA: f64 = 10_000.0;

fn rotated(x: &Tensor, positions: &[u32], head_dim: usize, n_heads: usize) -> Tensor {
    let table = RopeTable::new(300, head_dim, THETA).unwrap();
    let mut out = x.clone();
    rope_forward(&mut out, &ids(positions), &table, n_heads).unwrap();
    out
}

fn reference(x: &[f64], positions: &[u32], head_dim: usize, n_heads: usize) -> Vec<f64> {
    let (width, half) = (x.len() / positions.len(), head_dim / 2);
    let mut out = x.to_vec();
    for (n, &position) in positions.iter().enumerate() {
        for head in 0..n_heads {
            for d in 0..half {
                let angle = f64::from(position) * THETA.powf(-2.0 * d as f64 / head_dim as f64);
                let (low, high) = (n * width + head * head_dim + d, n * width + head * head_dim + d + half);
                out[low] = x[low] * angle.cos() - x[high] * angle.sin();
                out[high] = x[high] * angle.cos() + x[low] * angle.sin();
            }
        }
    }
    out
}

fn check(n: usize, head_dim: usize, n_heads: usize) {
    // One head more than is rotated: the values.
    let x = random(&[n, (n_heads + 1) * head_dim], 1);
    let positions: Vec<u32> = (0..n as u32).map(|i| i * 5 % 300).collect();
    let want = reference(&wide(&x), &positions, head_dim, n_heads);
    // Two products of numbers below 1 whose factors are rounded once.
    assert_close(&rotated(&x, &positions, head_dim, n_heads), &want, 3e-7, "rotated");
}

#[test]
fn rope_matches_hand_computed_quarter_turn() {
    // With D = 2 there is one angle, the position itself.
    let (sin, cos) = 3.0_f64.sin_cos();
    let out = rotated(&tensor(&[1, 4], &[1.0, 2.0, 5.0, 6.0]), &[3], 2, 1);
    assert_close(&out, &[cos - 2.0 * sin, 2.0 * cos + sin, 5.0, 6.0], 3e-7, "rotated");
}

#[test]
fn rope_leaves_position_zero_and_other_heads_alone() {
    let x = random(&[1, 64], 1);
    assert_eq!(bits(&rotated(&x, &[0], 16, 4)), bits(&x));
    assert_eq!(rotated(&x, &[9], 16, 3).as_slice()[48..], x.as_slice()[48..]);
}

#[test]
fn rope_of_odd_sizes_equals_the_f64_version() {
    for (n, head_dim, n_heads) in [(1, 16, 1), (37, 24, 3), (257, 32, 6), (65, 2, 1)] {
        check(n, head_dim, n_heads);
    }
}

#[test]
fn rope_makes_scores_depend_on_the_distance_alone() {
    let (query, key) = (random(&[1, 32], 1), random(&[1, 32], 2));
    let score =
        |i: u32, j: u32| inner(&wide(&rotated(&query, &[i], 32, 1)), &wide(&rotated(&key, &[j], 32, 1)));
    // Tables are rounded to f32, so a score of 32 terms moves by some 1e-7.
    assert!((score(7, 3) - score(204, 200)).abs() < 1e-5);
    assert!((score(7, 3) - score(7, 4)).abs() > 1e-3);
}

#[test]
fn rope_gradient_equals_finite_differences_and_undoes_the_rotation() {
    let (x, d_out) = (random(&[3, 24], 1), random(&[3, 24], 2));
    let positions = [4, 0, 11];
    let table = RopeTable::new(12, 8, THETA).unwrap();
    let mut d_x = d_out.clone();
    rope_backward(&mut d_x, &ids(&positions), &table, 2).unwrap();
    let want = numerical_gradient(&wide(&x), |x| inner(&reference(x, &positions, 8, 2), &wide(&d_out)));
    assert_close(&d_x, &want, 1e-6, "d_x");
    let mut back = rotated(&x, &positions, 8, 2);
    rope_backward(&mut back, &ids(&positions), &table, 2).unwrap();
    assert_close(&back, &wide(&x), 1e-6, "x");
}

#[test]
fn rope_does_not_depend_on_other_rows_or_on_threads() {
    let x = random(&[200, 48], 1);
    let positions: Vec<u32> = (0..200).collect();
    let all = rotated(&x, &positions, 16, 2);
    for n in [0, 63, 64, 199] {
        assert_eq!(bits(&rotated(&rows(&x, n, 1), &[n as u32], 16, 2)), bits(&rows(&all, n, 1)));
    }
    assert_thread_count_does_not_matter(|| vec![rotated(&x, &positions, 16, 2)]);
}

#[test]
fn rope_refuses_positions_beyond_the_table_and_odd_heads() {
    assert_eq!(
        message(RopeTable::new(4, 3, THETA)),
        "RopeTable::new: `head_dim` = 3, expected even and positive"
    );
    assert_eq!(message(RopeTable::new(4, 4, 0.0)), "RopeTable::new: `theta` = 0, expected > 0");
    let table = RopeTable::new(4, 2, THETA).unwrap();
    let mut x = random(&[1, 4], 1);
    assert_eq!(
        message(rope_forward(&mut x, &ids(&[4]), &table, 1)),
        "rope_forward: `positions` = 4, expected < 4 (max_position_embeddings)"
    );
    assert_eq!(
        message(rope_backward(&mut x, &ids(&[0]), &table, 3)),
        "rope_backward: `n_heads * head_dim` = 6, expected <= 4"
    );
}

#[test]
fn rope_angles_from_frequencies_are_rounded_to_f32_first() {
    let frequency = 0.1_f32;
    let table = RopeTable::from_frequencies(8001, &[1.0, frequency]).unwrap();
    let rounded = f64::from(7999.0 * frequency);
    assert_eq!(table.cos.as_slice()[2 * 7999 + 1], rounded.cos() as f32);
    assert_eq!(table.sin.as_slice()[2 * 7999], 7999_f64.sin() as f32);
    // The exact angle differs by more than f32 can hide.
    assert_ne!(table.cos.as_slice()[2 * 7999 + 1], (7999.0 * f64::from(frequency)).cos() as f32);
    let refused = RopeTable::from_frequencies(4, &[1.0, f32::NAN]).unwrap_err().to_string();
    assert_eq!(refused, "RopeTable::from_frequencies: `frequencies` = NaN, expected finite numbers");
}
