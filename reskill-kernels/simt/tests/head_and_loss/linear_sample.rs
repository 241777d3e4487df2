//! Tokens drawn from hidden states are those that their uniform numbers mean.

use reskill_kernels::ops::linear_sample;
use reskill_kernels::{DType, Device, Tensor};

use crate::head::Case;
use crate::support::{STORED, bits, column, device, ids, poisoned, uniforms};

fn sample(case: &Case, device: &Device, dtype: DType, temperature: f32, u: &[f32]) -> (Vec<u32>, Tensor) {
    let mut tokens = ids(device, &vec![u32::MAX; case.n()]);
    let mut logprobs = poisoned(device, DType::F32, &[case.n()]);
    let (hidden, head) = (case.hidden_on(device, dtype), case.head_on(device, dtype));
    linear_sample(
        &mut tokens,
        &mut logprobs,
        &hidden,
        &head,
        &case.allowed(),
        temperature,
        &column(device, u),
    )
    .unwrap();
    (tokens.to_vec().unwrap(), logprobs)
}

fn check(n: usize, c: usize, vocab: usize, mixed: bool, scale: f32) {
    let device = device();
    for dtype in STORED {
        let mut case = Case::random(n, c, vocab, mixed, scale);
        let mut u = uniforms(9, n);
        (u[0], u[n / 2]) = (0.0, 0.999_999_94);
        let (tokens, logprobs) = sample(&case, &device, dtype, case.temperature, &u);
        for (n, logprobs) in case.exact(&device, dtype).iter().enumerate() {
            // A number within rounding of a border may mean either neighbour: cumulative sums of the device are f32
            // exponentials, each off by some 1e-6 of itself. A token may stand in its set more than once.
            let (u, slack) = (f64::from(u[n]), 5e-5);
            let means = |at: usize| {
                let below: f64 = logprobs[..at].iter().map(|l| l.exp()).sum();
                (below - slack..=below + logprobs[at].exp() + slack).contains(&u)
            };
            let drawn = case.tokens(n).iter().enumerate().any(|(at, &token)| token == tokens[n] && means(at));
            assert!(drawn, "{dtype} row {n} of {vocab}: {u} does not mean {}", tokens[n]);
        }
        // The log-probabilities are those of training.
        case.targets = tokens;
        assert_eq!(bits(&logprobs), bits(&case.forward(&device, dtype)[0]), "{dtype} {n} {c} {vocab}");
    }
}

#[test]
fn tokens_are_where_their_uniform_numbers_fall() {
    for (n, c, vocab) in [(1, 16, 23), (37, 24, 70), (40, 33, 1001), (3, 2, 2), (5, 96, 513)] {
        check(n, c, vocab, false, 1.0);
        check(n, c, vocab, true, 1.0);
    }
}

#[test]
fn peaked_distributions_are_drawn_from() {
    check(37, 64, 700, true, 30.0);
}

#[test]
fn without_temperature_the_likeliest_token_is_taken_the_first_on_ties() {
    let device = device();
    for dtype in STORED {
        let mut case = Case::random(40, 24, 600, true, 3.0);
        // Row 0 is 0: all its logits are equal. Row 3 finds the head's row 77 again at 411.
        case.hidden[..24].fill(0.0);
        let (from, to) = (77 * 24, 411 * 24);
        let row: Vec<f32> = case.head[from..from + 24].iter().map(|x| x * 4.0).collect();
        case.head[from..from + 24].copy_from_slice(&row);
        case.head[to..to + 24].copy_from_slice(&row);
        case.hidden[3 * 24..4 * 24].copy_from_slice(&row);
        let (tokens, logprobs) = sample(&case, &device, dtype, 0.0, &[0.7; 40]);
        assert_eq!((tokens[0], tokens[3]), (0, 77));
        case.temperature = 1.0;
        for (n, logprobs) in case.exact(&device, dtype).iter().enumerate() {
            let at = case.tokens(n).iter().position(|&token| token == tokens[n]).unwrap();
            let best = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            // Logits carry some 1e-6; of two as close either may be found.
            assert!(logprobs[at] >= best - 1e-5, "{dtype} row {n}");
        }
        case.targets = tokens;
        assert_eq!(bits(&logprobs), bits(&case.forward(&device, dtype)[0]));
    }
}

#[test]
fn a_set_is_drawn_from_in_its_order_and_duplicates_count_twice() {
    let device = device();
    let mut case = Case::random(3, 4, 30, false, 1.0);
    case.hidden.fill(0.0);
    case.sets = vec![vec![9, 2, 9, 5]; 3];
    let (tokens, _) = sample(&case, &device, DType::Bf16, 1.0, &[0.1, 0.3, 0.6]);
    assert_eq!(tokens, [9, 2, 9]);
    // More tokens than threads.
    case.sets = vec![(0..30).cycle().take(300).collect(); 3];
    let (tokens, _) = sample(&case, &device, DType::F32, 1.0, &[0.0, 0.5, 0.999_9]);
    assert_eq!(tokens, [0, 0, 29]);
}
