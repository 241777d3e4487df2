//! Products by panels: against plain sums, and every way of making them against the others, to the bit.

use half::bf16;

use super::*;

/// (rows, depth, columns): every number of rows and panels that is a case of its own, ends of blocks, a depth of two parts.
const SIZES: [(usize, usize, usize); 9] = [
    (1, 1, 1),
    (2, 3, 129),
    (5, 17, 16),
    (6, 16, 33),
    (7, 40, 15),
    (13, 1024, 64),
    (19, 1030, 97),
    (26, 2100, 20),
    (31, 33, 260),
];

/// Numbers in -0.5..0.5 that look random.
fn numbers(len: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from((state >> 16) as u16) / 65_536.0 - 0.5
    };
    (0..len).map(|_| next()).collect()
}

fn transpose(data: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|i| data[i % rows * cols + i / rows]).collect()
}

/// `product` of both factors as they are stored: row by row, or column by column.
fn stored((m, k, n): (usize, usize, usize), left_by_columns: bool, right_by_columns: bool) -> Vec<f32> {
    let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
    let (left_t, right_t) = (transpose(&left, m, k), transpose(&right, k, n));
    let left = if left_by_columns {
        Matrix::row_major(&left_t, k, m).transposed()
    } else {
        Matrix::row_major(&left, m, k)
    };
    let right = if right_by_columns {
        Matrix::row_major(&right_t, n, k).transposed()
    } else {
        Matrix::row_major(&right, k, n)
    };
    let mut out = vec![f32::NAN; m * n];
    product(MatrixMut::row_major(&mut out, m, n), left, right, false);
    out
}

fn bits(data: &[f32]) -> Vec<u32> {
    data.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn a_product_does_not_depend_on_how_its_factors_are_stored() {
    for sizes in SIZES {
        let want = bits(&stored(sizes, false, false));
        for (left, right) in [(false, true), (true, false), (true, true)] {
            assert_eq!(bits(&stored(sizes, left, right)), want, "{sizes:?}, by columns: {left}, {right}");
        }
    }
}

#[test]
fn a_product_equals_the_f64_version() {
    for (m, k, n) in SIZES {
        let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
        for (i, got) in stored((m, k, n), false, true).into_iter().enumerate() {
            let term = |l: usize| f64::from(left[i / n * k + l]) * f64::from(right[l * n + i % n]);
            let want: f64 = (0..k).map(term).sum();
            // 2100 terms below 1/4 in chains of 1024: a chain stays below 8, so an addition rounds by 5e-7, a thousand of
            // them by about 30 times that.
            assert!((f64::from(got) - want).abs() < 2e-5, "{m} x {k} x {n}: [{i}] = {got}, expected {want}");
        }
    }
}

#[test]
fn panels_made_before_give_the_same_bits() {
    for (m, k, n) in SIZES {
        let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
        let mut room = Packed::new();
        let panels = pack(&mut room, Matrix::row_major(&right, k, n));
        let mut out = vec![f32::NAN; m * n];
        packed_product(MatrixMut::row_major(&mut out, m, n), Matrix::row_major(&left, m, k), panels, false);
        assert_eq!(bits(&out), bits(&stored((m, k, n), false, false)), "{m} x {k} x {n}");
    }
}

#[test]
fn panels_of_bf16_give_the_bits_of_their_widened_weights() {
    for (m, k, n) in SIZES {
        let (left, right) = (numbers(m * k, 1), numbers(k * n, 2));
        let narrow: Vec<f32> = right.iter().map(|&x| bf16::from_f32(x).to_f32()).collect();
        let mut room = Packed::new();
        let panels = pack(&mut room, Matrix::row_major(&narrow, k, n));
        let halves: Vec<bf16> = panels.data.iter().map(|&x| bf16::from_f32(x)).collect();
        let [mut wide, mut half] = [vec![0.5; m * n], vec![0.5; m * n]];
        let left = Matrix::row_major(&left, m, k);
        packed_product(MatrixMut::row_major(&mut wide, m, n), left, panels, true);
        packed_product(MatrixMut::row_major(&mut half, m, n), left, Panels::new(&halves, k, n), true);
        assert_eq!(bits(&half), bits(&wide), "{m} x {k} x {n}");
    }
}

#[test]
fn a_product_in_tasks_over_shared_panels_adds_the_same_bits() {
    for (m, k, n) in SIZES {
        let (left, right) = (numbers(k * m, 1), numbers(k * n, 2));
        let (left, right) = (Matrix::row_major(&left, k, m), Matrix::row_major(&right, k, n));
        let [mut one, mut many] = [vec![0.25; m * n], vec![0.25; m * n]];
        product(MatrixMut::row_major(&mut one, m, n), left.transposed(), right, true);
        transposed_product(MatrixMut::row_major(&mut many, m, n), left, right, 7);
        assert_eq!(bits(&one), bits(&many), "{m} x {k} x {n}");
    }
}

#[test]
fn blocks_of_a_result_are_disjoint_and_cover_it() {
    let mut data = vec![0.0; 5 * 9];
    let blocks = MatrixMut::new(&mut data, (5, 7), 9).into_blocks(2, 3);
    assert_eq!(blocks.len(), 9);
    for (index, (row, col, mut block)) in blocks.into_iter().enumerate() {
        assert!(row % 2 == 0 && col % 3 == 0);
        (0..block.rows()).for_each(|i| block.row_mut(i).iter_mut().for_each(|x| *x += index as f32 + 1.0));
    }
    for (i, row) in data.chunks(9).enumerate() {
        let want: Vec<f32> = (0..7).map(|j| (j / 3 * 3 + i / 2 + 1) as f32).chain([0.0; 2]).collect();
        assert_eq!(row, want, "row {i}");
    }
}

#[test]
fn a_product_leaves_what_lies_between_rows_alone() {
    let (left, right) = (numbers(6 * 8, 1), numbers(8 * 5, 2));
    let mut out = vec![7.0; 6 * 9];
    product(
        MatrixMut::new(&mut out, (6, 5), 9),
        Matrix::row_major(&left, 6, 8),
        Matrix::row_major(&right, 8, 5),
        false,
    );
    assert!(
        out.chunks(9).all(|row| row[5..].iter().all(|&x| x == 7.0) && row[..5].iter().all(|&x| x != 7.0))
    );
}
