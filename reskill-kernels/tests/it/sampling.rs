use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_kernels::Tensor;
use reskill_kernels::ops::{
    PackedWeight, TokenSets, WeightStorage, linear_logprob_forward, linear_sample, linear_sample_packed,
};

use crate::support::{assert_thread_count_does_not_matter, bits, ids, message, random, rows, tensor, zeros};

fn token_sets(sets: &[Vec<u32>]) -> TokenSets {
    let mut all = TokenSets::new();
    sets.iter().for_each(|set| all.push(set));
    all
}

fn sample(
    hidden: &Tensor,
    head: &Tensor,
    sets: &[Vec<u32>],
    temperature: f32,
    uniforms: &[f32],
) -> (Vec<u32>, Tensor) {
    let (mut tokens, mut logprobs) = (ids(&vec![0; hidden.rows()]), zeros(&[hidden.rows()]));
    let uniforms = tensor(&[uniforms.len()], uniforms);
    linear_sample(&mut tokens, &mut logprobs, hidden, head, &token_sets(sets), temperature, &uniforms)
        .unwrap();
    (tokens.as_slice().to_vec(), logprobs)
}

fn uniforms(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..n).map(|_| rng.random::<f32>()).collect()
}

/// Draws at the given uniforms from probabilities 1/8, 2/8, 5/8.
fn check(sets: &[Vec<u32>], uniforms: &[f32], want: &[u32]) {
    let n = uniforms.len();
    let head = tensor(&[3, 1], &[0.0, 2.0_f32.ln(), 5.0_f32.ln()]);
    let (tokens, _) = sample(&tensor(&[n, 1], &vec![1.0; n]), &head, sets, 1.0, uniforms);
    assert_eq!(tokens, want);
}

#[test]
fn sampling_inverts_the_hand_computed_cumulative_distribution() {
    let all = vec![vec![]; 6];
    check(&all, &[0.0, 0.12, 0.13, 0.37, 0.38, 0.999_999_9], &[0, 0, 1, 1, 2, 2]);
    // In the order of the set: token 2 with 5/6, then token 0.
    check(&vec![vec![2, 0]; 3], &[0.0, 0.83, 0.84], &[2, 2, 0]);
    check(&[vec![1]], &[0.7], &[1]);
}

#[test]
fn sampling_at_temperature_zero_takes_the_first_of_equal_logits() {
    let head = tensor(&[4, 1], &[1.0, 3.0, 3.0, 2.0]);
    let hidden = tensor(&[3, 1], &[1.0; 3]);
    let (tokens, logprobs) = sample(&hidden, &head, &[vec![], vec![3, 2, 1], vec![0, 3]], 0.0, &[0.9; 3]);
    assert_eq!(tokens, [1, 2, 3]);
    // Log-probabilities are those at temperature 1: here 1/(1 + e^-1) of two.
    let want = -(1.0 + (-1.0_f64).exp()).ln();
    assert!((f64::from(logprobs.as_slice()[2]) - want).abs() < 1e-6);
}

#[test]
fn sampling_frequencies_follow_the_softmax() {
    let (n, vocab) = (20_000, 12);
    let head = random(&[vocab, 1], 3);
    let hidden = tensor(&[n, 1], &vec![1.0; n]);
    let temperature = 0.5;
    for set in [vec![], vec![7, 2, 9, 4]] {
        let (tokens, _) = sample(&hidden, &head, &vec![set.clone(); n], temperature, &uniforms(n, 4));
        let support: Vec<u32> = if set.is_empty() { (0..vocab as u32).collect() } else { set };
        let weight = |token: u32| f64::from(head.as_slice()[token as usize] / temperature).exp();
        let total: f64 = support.iter().map(|&token| weight(token)).sum();
        let mut chi_square = 0.0;
        for &token in &support {
            let expected = n as f64 * weight(token) / total;
            let count = tokens.iter().filter(|&&drawn| drawn == token).count() as f64;
            chi_square += (count - expected) * (count - expected) / expected;
        }
        assert!(tokens.iter().all(|token| support.contains(token)));
        // Mean 11 and standard deviation 4.7 at the most: 35 lies five of them above.
        assert!(chi_square < 35.0, "chi-square is {chi_square}");
    }
}

#[test]
fn sampling_reports_the_log_probability_that_training_computes_to_the_bit() {
    for (c, vocab) in [(24, 90), (8, 20), (33, 700), (96, 300)] {
        let n = 45;
        let (hidden, head) = (random(&[n, c], 1), random(&[vocab, c], 2));
        let set = |row: u32| -> Vec<u32> {
            if row.is_multiple_of(2) {
                vec![]
            } else {
                (0..1 + row % 7).map(|i| (row + 3 * i) % vocab as u32).collect()
            }
        };
        let sets: Vec<Vec<u32>> = (0..n as u32).map(set).collect();
        for temperature in [1.0, 0.4] {
            let (tokens, sampled) = sample(&hidden, &head, &sets, temperature, &uniforms(n, 5));
            let [mut logprobs, mut entropy, mut lse] = [zeros(&[n]), zeros(&[n]), zeros(&[n])];
            linear_logprob_forward(
                &mut logprobs,
                &mut entropy,
                &mut lse,
                &hidden,
                &head,
                &ids(&tokens),
                &token_sets(&sets),
                temperature,
            )
            .unwrap();
            assert_eq!(bits(&sampled), bits(&logprobs));
        }
    }
}

#[test]
fn sampling_of_a_row_does_not_depend_on_other_rows_or_on_threads() {
    let (hidden, head, draws) = (random(&[40, 24], 1), random(&[70, 24], 2), uniforms(40, 3));
    let (tokens, logprobs) = sample(&hidden, &head, &vec![vec![]; 40], 1.0, &draws);
    for n in 0..40 {
        let (token, logprob) = sample(&rows(&hidden, n, 1), &head, &[vec![]], 1.0, &draws[n..=n]);
        assert_eq!((token[0], bits(&logprob)[0]), (tokens[n], bits(&logprobs)[n]));
    }
    assert_thread_count_does_not_matter(|| vec![sample(&hidden, &head, &vec![vec![]; 40], 1.0, &draws).1]);
}

/// Three tiles of the vocabulary, the last one short, and more rows than are worked on at once.
const WIDE: (usize, usize, usize) = (37, 24, 2300);

#[test]
fn sampling_over_several_tiles_inverts_the_cumulative_distribution() {
    let (n, c, vocab) = WIDE;
    let (hidden, head, draws) = (random(&[n, c], 1), random(&[vocab, c], 2), uniforms(n, 3));
    let temperature = 0.7;
    let (tokens, _) = sample(&hidden, &head, &vec![vec![]; n], temperature, &draws);
    for (row, (&token, &uniform)) in tokens.iter().zip(&draws).enumerate() {
        let hidden = rows(&hidden, row, 1);
        let product = |token: usize| -> f64 {
            let weights = &head.as_slice()[token * c..(token + 1) * c];
            hidden.as_slice().iter().zip(weights).map(|(h, w)| f64::from(*h) * f64::from(*w)).sum()
        };
        let weights: Vec<f64> =
            (0..vocab).map(|token| (product(token) / f64::from(temperature)).exp()).collect();
        let total: f64 = weights.iter().sum();
        let below: f64 = weights[..token as usize].iter().sum::<f64>() / total;
        let above = below + weights[token as usize] / total;
        // Probabilities in f32, summed in f64: 2^-24 of each, and as much of the log-sum-exp.
        let (low, high) = (below - 1e-5, above + 1e-5);
        assert!((low..high).contains(&f64::from(uniform)), "row {row}: {uniform} is not in {below}..{above}");
    }
    assert!(tokens.iter().any(|&token| token > 2047) && tokens.iter().any(|&token| token < 1024));
}

#[test]
fn sampling_over_several_tiles_does_not_depend_on_other_rows_or_on_threads() {
    let (n, c, vocab) = WIDE;
    let (hidden, head, draws) = (random(&[n, c], 1), random(&[vocab, c], 2), uniforms(n, 3));
    for temperature in [1.0, 0.0] {
        let all = || sample(&hidden, &head, &vec![vec![]; n], temperature, &draws);
        let (tokens, logprobs) = all();
        for row in 0..n {
            let (token, logprob) =
                sample(&rows(&hidden, row, 1), &head, &[vec![]], temperature, &draws[row..=row]);
            assert_eq!((token[0], bits(&logprob)[0]), (tokens[row], bits(&logprobs)[row]));
        }
        assert_thread_count_does_not_matter(|| vec![all().1]);
    }
}

#[test]
fn sampling_at_temperature_zero_takes_the_first_of_equal_logits_of_several_tiles() {
    let mut head = vec![0.0; 2300];
    [1023, 1500, 1501, 2299].iter().for_each(|&token| head[token] = 1.0);
    let head = tensor(&[2300, 1], &head);
    let (tokens, _) = sample(&tensor(&[1, 1], &[1.0]), &head, &[vec![]], 0.0, &[0.5]);
    assert_eq!(tokens, [1023]);
}

#[test]
fn sampling_by_panels_draws_what_sampling_by_the_head_draws() {
    let (n, c, vocab) = WIDE;
    let (hidden, head, draws) = (random(&[n, c], 1), random(&[vocab, c], 2), uniforms(n, 3));
    // A few rows with sets between those without.
    let sets: Vec<Vec<u32>> =
        (0..n as u32).map(|row| if row % 5 == 0 { vec![row, 2 * row + 1, 2200] } else { vec![] }).collect();
    for temperature in [1.0, 0.6, 0.0] {
        let (tokens, logprobs) = sample(&hidden, &head, &sets, temperature, &draws);
        let panels = PackedWeight::new(&head, WeightStorage::F32);
        let (mut by_panels, mut by_panels_logprobs) = (ids(&vec![0; n]), zeros(&[n]));
        linear_sample_packed(
            &mut by_panels,
            &mut by_panels_logprobs,
            &hidden,
            &head,
            &panels,
            &token_sets(&sets),
            temperature,
            &tensor(&[n], &draws),
        )
        .unwrap();
        assert_eq!(by_panels.as_slice(), tokens);
        for (got, want) in by_panels_logprobs.as_slice().iter().zip(logprobs.as_slice()) {
            // Sums of 24 products in another order where the processor lacks AVX-512; with it the bits are equal.
            assert!((got - want).abs() < 1e-5, "{got} for {want}");
        }
    }
    let narrow = PackedWeight::new(&random(&[vocab, 8], 1), WeightStorage::F32);
    let mut out = (ids(&vec![0; n]), zeros(&[n]));
    let refused = linear_sample_packed(
        &mut out.0,
        &mut out.1,
        &hidden,
        &head,
        &narrow,
        &token_sets(&sets),
        1.0,
        &tensor(&[n], &draws),
    );
    assert_eq!(message(refused), "linear_sample: `panels` has shape [2300, 8], expected [2300, 24]");
}

#[test]
fn sampling_refuses_negative_temperatures_and_odd_shapes() {
    let (hidden, head) = (zeros(&[1, 2]), zeros(&[3, 2]));
    let run = |temperature: f32, uniforms: usize, head: &Tensor| {
        let allowed = token_sets(&[vec![]]);
        message(linear_sample(
            &mut ids(&[0]),
            &mut zeros(&[1]),
            &hidden,
            head,
            &allowed,
            temperature,
            &zeros(&[uniforms]),
        ))
    };
    assert_eq!(run(-1.0, 1, &head), "linear_sample: `temperature` = -1, expected >= 0");
    assert_eq!(run(1.0, 2, &head), "linear_sample: `uniforms` has shape [2], expected [1]");
    assert_eq!(run(1.0, 1, &zeros(&[0, 2])), "linear_sample: `head.rows()` = 0, expected >= 1");
}
