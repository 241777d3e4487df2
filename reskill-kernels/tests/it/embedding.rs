use reskill_kernels::ops::{embedding_backward, embedding_forward};

use crate::support::{bits, ids, message, random, tensor, zeros};

#[test]
fn embedding_copies_the_rows_of_its_tokens() {
    let table = tensor(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let mut out = zeros(&[4, 2]);
    embedding_forward(&mut out, &table, &ids(&[2, 0, 2, 1])).unwrap();
    assert_eq!(out.as_slice(), &[5.0, 6.0, 1.0, 2.0, 5.0, 6.0, 3.0, 4.0]);
}

#[test]
fn embedding_gradient_adds_up_over_repeated_tokens() {
    let mut d_table = tensor(&[3, 2], &[10.0, 10.0, 0.0, 0.0, 0.0, 0.0]);
    let d_out = tensor(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    embedding_backward(&mut d_table, &d_out, &ids(&[2, 0, 2])).unwrap();
    assert_eq!(d_table.as_slice(), &[13.0, 14.0, 0.0, 0.0, 6.0, 8.0]);
}

#[test]
fn embedding_of_odd_sizes_equals_a_plain_loop() {
    for n in [1, 37, 257] {
        let table = random(&[19, 13], 1);
        let tokens: Vec<u32> = (0..n as u32).map(|i| i * 7 % 19).collect();
        let mut out = zeros(&[n, 13]);
        embedding_forward(&mut out, &table, &ids(&tokens)).unwrap();
        let plain: Vec<f32> =
            tokens.iter().flat_map(|&t| table.as_slice()[t as usize * 13..][..13].to_vec()).collect();
        assert_eq!(bits(&out), bits(&tensor(&[n, 13], &plain)));
    }
}

#[test]
fn embedding_refuses_a_token_outside_the_table_and_odd_shapes() {
    let (table, tokens) = (zeros(&[3, 2]), ids(&[1, 3]));
    assert_eq!(
        message(embedding_forward(&mut zeros(&[2, 2]), &table, &tokens)),
        "embedding_forward: `tokens` = 3, expected < 3"
    );
    assert_eq!(
        message(embedding_backward(&mut zeros(&[3, 2]), &zeros(&[2, 5]), &tokens)),
        "embedding_backward: `d_out` has shape [2, 5], expected [2, 2]"
    );
}
