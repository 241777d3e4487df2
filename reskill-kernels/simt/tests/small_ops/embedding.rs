use reskill_kernels::DType;
use reskill_kernels::ops::{embedding_backward, embedding_forward};
use reskill_simt::with_each_order;

use crate::support::{Wide, assert_close, bits, for_both, ids, poisoned, random, there, wide, zeros};

/// Tokens below `vocab`, some of them many times, one of them in more than one run of rows.
fn tokens(n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|i| if i % 3 == 0 { 0 } else { (i * 7 % vocab) as u32 }).collect()
}

/// Nearly all are one token: runs of rows that a warp comes back for, and full ones. The first row and a few others are
/// not, so that runs do not begin where memory is aligned.
fn tokens_with_a_frequent_one(n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|i| if i % 301 == 0 { (1 + i / 301 % (vocab - 1)) as u32 } else { 0 }).collect()
}

#[test]
fn embedding_copies_the_rows_of_its_tokens() {
    with_each_order(|_| {
        for_both(|dtype| {
            for (n, vocab, c) in [(1, 1, 1), (37, 19, 24), (257, 11, 33)] {
                let (table, ids_) = (there(&random(&[vocab, c], 1), dtype), tokens(n, vocab));
                let mut out = poisoned(&[n, c], dtype);
                embedding_forward(&mut out, &table, &ids(&ids_)).unwrap();
                let table = bits(&table);
                let want: Vec<u32> =
                    ids_.iter().flat_map(|&token| table[token as usize * c..][..c].to_vec()).collect();
                assert_eq!(bits(&out), want);
            }
        });
    });
}

fn check_gradient(n: usize, vocab: usize, c: usize, ids_: &[u32], tolerance: f64) {
    for_both(|dtype| {
        let d_out = there(&random(&[n, c], 1), dtype);
        let start = random(&[vocab, c], 2);
        let mut want: Wide = wide(&start);
        for (row, &token) in wide(&d_out).chunks(c).zip(ids_) {
            want[token as usize * c..][..c].iter_mut().zip(row).for_each(|(to, d)| *to += d);
        }
        let mut seen: Option<Vec<u32>> = None;
        with_each_order(|order| {
            let mut d_table = there(&start, DType::F32);
            embedding_backward(&mut d_table, &d_out, &ids(ids_)).unwrap();
            assert_close(&d_table, &want, tolerance, "d_table");
            let got = bits(&d_table);
            assert_eq!(seen.get_or_insert_with(|| got.clone()), &got, "{order:?}");
        });
    });
}

#[test]
fn embedding_gradient_adds_up_over_repeated_tokens_the_same_way_in_every_order() {
    // The last two have more columns than one pass over the tokens takes.
    for (n, vocab, c) in [(1, 1, 1), (37, 19, 24), (600, 11, 33), (150, 7, 1032), (150, 7, 133)] {
        // Sums of at most 200 numbers in f32.
        check_gradient(n, vocab, c, &tokens(n, vocab), 1e-5);
    }
}

#[test]
fn embedding_gradient_adds_up_a_token_of_nearly_all_rows_the_same_way_in_every_order() {
    for (n, vocab, c) in [(2500, 5, 40), (2305, 3, 5)] {
        // Sums of 2,500 numbers in f32, each warp's of about 300.
        check_gradient(n, vocab, c, &tokens_with_a_frequent_one(n, vocab), 1e-5);
    }
}

#[test]
fn a_token_outside_the_table_gives_nan_and_adds_to_nothing() {
    let table = there(&random(&[3, 4], 1), DType::F32);
    let mut out = zeros(&[2, 4], DType::F32);
    embedding_forward(&mut out, &table, &ids(&[2, 3])).unwrap();
    let out = out.to_vec().unwrap();
    assert_eq!(out[..4], table.to_vec().unwrap()[8..]);
    assert!(out[4..].iter().all(|x| x.is_nan()));
    let mut d_table = zeros(&[3, 4], DType::F32);
    embedding_backward(&mut d_table, &there(&random(&[2, 4], 2), DType::F32), &ids(&[4, u32::MAX])).unwrap();
    assert_eq!(d_table.to_vec().unwrap(), [0.0; 12]);
}
