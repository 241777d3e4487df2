//! A row's result does not depend on the batch, and what is worked on in several pieces is joined rightly.

use reskill_kernels::DType;

use crate::head::{Case, Products, entropy_of};
use crate::support::{STORED, assert_close, assert_within, bits, device, values};

#[test]
fn a_row_has_the_same_bits_in_every_batch() {
    let device = device();
    for dtype in STORED {
        for (c, vocab, mixed) in [(24, 90, false), (33, 300, true)] {
            let case = Case::random(70, c, vocab, mixed, 3.0);
            let (d_logprobs, d_entropy) = (values(5, 70, 1.0), values(6, 70, 1.0));
            let all = case.forward(&device, dtype);
            let [d_all, _] = case.backward(&device, dtype, &d_logprobs, &d_entropy, None);
            // 1 to 32 rows use the lower tile in the forward pass, 33 the higher one.
            for n in [1, 5, 32, 33, 64] {
                let first = (n * 13) % (71 - n);
                let part = case.part(first, n);
                for (part, all) in part.forward(&device, dtype).iter().zip(&all) {
                    assert_eq!(bits(part), bits(all)[first..first + n], "{dtype}, {n} rows");
                }
                let d = first..first + n;
                let [d_part, _] = part.backward(&device, dtype, &d_logprobs[d.clone()], &d_entropy[d], None);
                assert_eq!(bits(&d_part), bits(&d_all)[first * c..(first + n) * c], "{dtype}, {n} rows");
            }
        }
    }
}

#[test]
fn several_slabs_of_tokens_are_joined() {
    let device = device();
    for dtype in STORED {
        // 8192 tokens make a slab.
        let case = Case::random(3, 8, 8192 + 300, false, 3.0);
        let (d_logprobs, d_entropy) = (values(5, 3, 1.0), values(6, 3, 1.0));
        let [d_hidden, d_head] = case.backward(&device, dtype, &d_logprobs, &d_entropy, None);
        let want = Products::of_logprobs(&case, &device, dtype, &d_logprobs, &d_entropy);
        // As in `logprob_backward`; sums of 8,492 terms.
        let rounding = if dtype == DType::Bf16 { 1.0 / 128.0 } else { 0.0 } + 5e-5;
        assert_within(&d_hidden, &want.d_hidden, |i| rounding * want.d_hidden_size[i] + 1e-6, "d_hidden");
        let and_one: Vec<f64> = want.d_head.iter().map(|d| d + 1.0).collect();
        assert_within(&d_head, &and_one, |i| rounding * want.d_head_size[i] + 1e-6, "d_head");
    }
}

#[test]
fn several_blocks_of_rows_are_joined() {
    let device = device();
    for mixed in [false, true] {
        // 8192 rows make a slab, 4096 a block of the forward pass; of the mixed rows a third allows everything.
        let n = if mixed { 3 * 4096 + 500 } else { 8192 + 70 };
        let case = Case::random(n, 2, 20, mixed, 3.0);
        let (d_logprobs, d_entropy) = (values(5, n, 1.0), values(6, n, 1.0));
        let dtype = DType::Bf16;
        let [logprobs, entropy, _] = case.forward(&device, dtype);
        let exact = case.exact(&device, dtype);
        let want: Vec<f64> = exact.iter().enumerate().map(|(n, row)| row[case.target_index(n)]).collect();
        let want_entropy: Vec<f64> = exact.iter().map(|row| entropy_of(row)).collect();
        // Two exact products and one exponential each.
        assert_close(&logprobs, &want, 5e-6, "logprobs");
        assert_close(&entropy, &want_entropy, 5e-6, "entropy");
        let [d_hidden, d_head] = case.backward(&device, dtype, &d_logprobs, &d_entropy, None);
        let want = Products::of_logprobs(&case, &device, dtype, &d_logprobs, &d_entropy);
        // bf16 as in `logprob_backward`; f32 sums of 8,000 terms are good to 1e-4 of their magnitudes.
        let rounding = 1.0 / 128.0 + 1e-4;
        assert_within(&d_hidden, &want.d_hidden, |i| rounding * want.d_hidden_size[i] + 1e-6, "d_hidden");
        let and_one: Vec<f64> = want.d_head.iter().map(|d| d + 1.0).collect();
        assert_within(&d_head, &and_one, |i| rounding * want.d_head_size[i] + 1e-6, "d_head");
    }
}
