use half::bf16;
use reskill_kernels::Tensor;
use reskill_kernels::ops::{PackedWeight, WeightStorage, packed_matmul};

use crate::support::{
    assert_close, assert_thread_count_does_not_matter, bits, message, random, rows, tensor, wide, zeros,
};

const STORAGES: [WeightStorage; 2] = [WeightStorage::F32, WeightStorage::Bf16];

/// (outputs, inputs): every number of panels that is a case of its own, and the sizes of real layers.
const WIDTHS: [(usize, usize); 9] =
    [(1, 1), (15, 3), (16, 7), (17, 64), (49, 20), (130, 33), (131, 16), (576, 300), (1027, 40)];

fn product(x: &Tensor, weight: &PackedWeight) -> Tensor {
    let mut out = zeros(&[x.rows(), weight.outputs()]);
    packed_matmul(&mut out, x, weight, false).unwrap();
    out
}

/// The weight as stored, in f64.
fn stored(weight: &Tensor, storage: WeightStorage) -> Vec<f64> {
    let widen = |&w: &f32| match storage {
        WeightStorage::F32 => f64::from(w),
        WeightStorage::Bf16 => bf16::from_f32(w).to_f64(),
    };
    weight.as_slice().iter().map(widen).collect()
}

#[test]
fn packed_matmul_matches_hand_computed_products() {
    let x = tensor(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let weight = tensor(&[2, 3], &[1.0, 0.0, -1.0, 2.0, 1.0, 0.0]);
    for storage in STORAGES {
        let packed = PackedWeight::new(&weight, storage);
        assert_eq!(product(&x, &packed).as_slice(), &[-2.0, 4.0, -2.0, 13.0]);
    }
    // 1 + 2^-8 lies between the bf16 numbers 1 and 1 + 2^-7, and 1 is the even one.
    let packed = PackedWeight::new(&tensor(&[1, 1], &[1.003_906_3]), WeightStorage::Bf16);
    assert_eq!(product(&tensor(&[1, 1], &[3.0]), &packed).as_slice(), &[3.0]);
}

#[test]
fn packed_matmul_of_odd_sizes_equals_the_f64_version() {
    for storage in STORAGES {
        for (outputs, inputs) in WIDTHS {
            let weight = random(&[outputs, inputs], 1);
            let packed = PackedWeight::new(&weight, storage);
            let w = stored(&weight, storage);
            for n in [1, 2, 3, 8, 37] {
                let x = random(&[n, inputs], 2);
                let wide_x = wide(&x);
                let cell = |i: usize| -> f64 {
                    let (row, column) = (&wide_x[i / outputs * inputs..], &w[i % outputs * inputs..]);
                    row[..inputs].iter().zip(column).map(|(x, w)| x * w).sum()
                };
                let want: Vec<f64> = (0..n * outputs).map(cell).collect();
                // 300 terms below 1 in one chain: each addition rounds by 6e-8 of a sum that stays below 20.
                assert_close(&product(&x, &packed), &want, 2e-5, &format!("{n} x {inputs} -> {outputs}"));
                let mut added = tensor(&[n, outputs], &vec![1.0; n * outputs]);
                packed_matmul(&mut added, &x, &packed, true).unwrap();
                let want: Vec<f64> = want.iter().map(|x| x + 1.0).collect();
                assert_close(&added, &want, 2e-5, "added");
            }
        }
    }
}

#[test]
fn packed_matmul_of_a_row_does_not_depend_on_the_rows_beside_it() {
    for storage in STORAGES {
        for (outputs, inputs) in WIDTHS {
            let x = random(&[260, inputs], 1);
            let packed = PackedWeight::new(&random(&[outputs, inputs], 2), storage);
            let all = product(&x, &packed);
            for n in (1..=20).chain([239, 240, 241, 259]) {
                let first = (n * 13) % (261 - n);
                let part = product(&rows(&x, first, n), &packed);
                assert_eq!(bits(&part), bits(&rows(&all, first, n)), "{n} rows, {inputs} -> {outputs}");
            }
        }
    }
}

#[test]
fn packed_matmul_does_not_depend_on_the_number_of_threads() {
    let x = random(&[500, 70], 1);
    let packed = PackedWeight::new(&random(&[300, 70], 2), WeightStorage::Bf16);
    assert_thread_count_does_not_matter(|| vec![product(&x, &packed)]);
}

#[test]
fn packed_matmul_of_nothing_is_zero_or_empty() {
    for storage in STORAGES {
        assert!(product(&zeros(&[0, 4]), &PackedWeight::new(&zeros(&[3, 4]), storage)).is_empty());
        assert!(product(&zeros(&[2, 4]), &PackedWeight::new(&zeros(&[0, 4]), storage)).is_empty());
        let empty = PackedWeight::new(&zeros(&[2, 0]), storage);
        let mut out = tensor(&[1, 2], &[5.0, 5.0]);
        packed_matmul(&mut out, &zeros(&[1, 0]), &empty, true).unwrap();
        assert_eq!(out.as_slice(), &[5.0, 5.0]);
        packed_matmul(&mut out, &zeros(&[1, 0]), &empty, false).unwrap();
        assert_eq!(out.as_slice(), &[0.0, 0.0]);
    }
}

#[test]
fn packed_weights_take_the_bytes_of_their_storage() {
    let weight = random(&[33, 10], 1);
    assert_eq!(PackedWeight::new(&weight, WeightStorage::F32).bytes(), 48 * 10 * 4);
    assert_eq!(PackedWeight::new(&weight, WeightStorage::Bf16).bytes(), 48 * 10 * 2);
}

#[test]
fn packed_matmul_refuses_odd_shapes() {
    let packed = PackedWeight::new(&zeros(&[4, 5]), WeightStorage::F32);
    assert_eq!(
        message(packed_matmul(&mut zeros(&[2, 4]), &zeros(&[2, 3]), &packed, false)),
        "packed_matmul: `x` has shape [2, 3], expected [2, 5]"
    );
    assert_eq!(
        message(packed_matmul(&mut zeros(&[2, 5]), &zeros(&[2, 5]), &packed, false)),
        "packed_matmul: `out` has shape [2, 5], expected [2, 4]"
    );
}
