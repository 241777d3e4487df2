use reskill_kernels::Tensor;
use reskill_kernels::ops::{TokenSets, linear_logprob_backward, linear_logprob_forward};

use crate::support::{
    assert_close, assert_thread_count_does_not_matter, bits, ids, inner, message, numerical_gradient, random,
    rows, tensor, wide, zeros,
};

struct Case {
    hidden: Tensor,
    head: Tensor,
    targets: Vec<u32>,
    sets: Vec<Vec<u32>>,
    temperature: f32,
}

impl Case {
    /// Rows that allow everything and rows that allow a few tokens (one of them a single one), by turns if `mixed`.
    fn random(n: usize, c: usize, vocab: u32, mixed: bool) -> Case {
        let mut sets = Vec::new();
        let mut targets = Vec::new();
        for row in 0..n as u32 {
            let set: Vec<u32> = if mixed && row % 3 > 0 {
                (0..1 + row % 4).map(|i| (row * 5 + i * 3) % vocab).collect()
            } else {
                vec![]
            };
            targets.push(set.last().copied().unwrap_or(row * 11 % vocab));
            sets.push(set);
        }
        let mut head = random(&[vocab as usize, c], 2);
        head.as_mut_slice().iter_mut().for_each(|x| *x *= 3.0);
        Case { hidden: random(&[n, c], 1), head, targets, sets, temperature: 0.7 }
    }

    fn part(&self, first: usize, n: usize) -> Case {
        Case {
            hidden: rows(&self.hidden, first, n),
            head: self.head.clone(),
            targets: self.targets[first..first + n].to_vec(),
            sets: self.sets[first..first + n].to_vec(),
            temperature: self.temperature,
        }
    }

    fn allowed(&self) -> TokenSets {
        let mut allowed = TokenSets::new();
        self.sets.iter().for_each(|set| allowed.push(set));
        allowed
    }

    /// Log-probabilities, entropies, log-sum-exps.
    fn forward(&self) -> [Tensor; 3] {
        let n = self.hidden.rows();
        let [mut logprobs, mut entropy, mut lse] = [zeros(&[n]), zeros(&[n]), zeros(&[n])];
        linear_logprob_forward(
            &mut logprobs,
            &mut entropy,
            &mut lse,
            &self.hidden,
            &self.head,
            &ids(&self.targets),
            &self.allowed(),
            self.temperature,
        )
        .unwrap();
        [logprobs, entropy, lse]
    }

    /// Gradients by the hidden states and the head.
    fn backward(&self, d_logprobs: &Tensor, d_entropy: &Tensor) -> (Tensor, Tensor) {
        let [_, entropy, lse] = self.forward();
        let (mut d_hidden, mut d_head) = (random(self.hidden.shape(), 98), zeros(self.head.shape()));
        linear_logprob_backward(
            &mut d_hidden,
            &mut d_head,
            d_logprobs,
            d_entropy,
            &entropy,
            &lse,
            &self.hidden,
            &self.head,
            &ids(&self.targets),
            &self.allowed(),
            self.temperature,
        )
        .unwrap();
        (d_hidden, d_head)
    }

    fn reference(&self, hidden: &[f64], head: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let c = self.hidden.row_len();
        let per_row = self.sets.iter().zip(&self.targets).enumerate().map(|(n, (set, &target))| {
            let tokens: Vec<u32> =
                if set.is_empty() { (0..self.head.rows() as u32).collect() } else { set.clone() };
            let logit = |token: u32| {
                inner(&hidden[n * c..][..c], &head[token as usize * c..][..c]) / f64::from(self.temperature)
            };
            let lse = tokens.iter().map(|&token| logit(token).exp()).sum::<f64>().ln();
            let entropy =
                -tokens.iter().map(|&token| (logit(token) - lse).exp() * (logit(token) - lse)).sum::<f64>();
            (logit(target) - lse, entropy)
        });
        per_row.unzip()
    }
}

fn check(n: usize, c: usize, vocab: u32, mixed: bool) {
    let case = Case::random(n, c, vocab, mixed);
    let [logprobs, entropy, _] = case.forward();
    let (want, want_entropy) = case.reference(&wide(&case.hidden), &wide(&case.head));
    // Logits are sums of at most 96 terms below 3 over 0.7: they carry some 1e-6 each.
    assert_close(&logprobs, &want, 1e-5, "logprobs");
    assert_close(&entropy, &want_entropy, 1e-5, "entropy");
}

fn check_gradient(n: usize, c: usize, vocab: u32, mixed: bool) {
    let case = Case::random(n, c, vocab, mixed);
    let (d_logprobs, d_entropy) = (random(&[n], 5), random(&[n], 6));
    let (d_hidden, d_head) = case.backward(&d_logprobs, &d_entropy);
    let total = |hidden: &[f64], head: &[f64]| {
        let (logprobs, entropy) = case.reference(hidden, head);
        inner(&logprobs, &wide(&d_logprobs)) + inner(&entropy, &wide(&d_entropy))
    };
    let (hidden, head) = (wide(&case.hidden), wide(&case.head));
    let by_hidden = numerical_gradient(&hidden, |hidden| total(hidden, &head));
    let by_head = numerical_gradient(&head, |head| total(&hidden, head));
    assert_close(&d_hidden, &by_hidden, 1e-5, "d_hidden");
    assert_close(&d_head, &by_head, 1e-5, "d_head");
}

#[test]
fn linear_logprob_matches_hand_computed_numbers() {
    // Logits 0, ln 2, ln 5 at temperature 1: probabilities 1/8, 2/8, 5/8. The second row allows tokens 2 and 0 alone.
    let ln = |x: f32| x.ln();
    let case = Case {
        hidden: tensor(&[2, 1], &[1.0, 1.0]),
        head: tensor(&[3, 1], &[0.0, ln(2.0), ln(5.0)]),
        targets: vec![1, 0],
        sets: vec![vec![], vec![2, 0]],
        temperature: 1.0,
    };
    let [logprobs, entropy, lse] = case.forward();
    let entropy_of = |p: &[f64]| -p.iter().map(|p| p * p.ln()).sum::<f64>();
    assert_close(&logprobs, &[0.25_f64.ln(), (1.0_f64 / 6.0).ln()], 5e-7, "logprobs");
    assert_close(
        &entropy,
        &[entropy_of(&[0.125, 0.25, 0.625]), entropy_of(&[1.0 / 6.0, 5.0 / 6.0])],
        5e-7,
        "entropy",
    );
    assert_close(&lse, &[8.0_f64.ln(), 6.0_f64.ln()], 5e-7, "lse");
}

#[test]
fn linear_logprob_of_a_forced_token_is_zero() {
    let mut case = Case::random(1, 8, 20, false);
    (case.sets, case.targets) = (vec![vec![7]], vec![7]);
    let [logprobs, entropy, _] = case.forward();
    assert_eq!((logprobs.as_slice(), entropy.as_slice()), (&[0.0][..], &[0.0][..]));
}

#[test]
fn linear_logprob_divides_logits_by_the_temperature() {
    let mut hot = Case::random(3, 8, 20, false);
    let mut scaled = hot.part(0, 3);
    (hot.temperature, scaled.temperature) = (2.0, 1.0);
    scaled.hidden.as_mut_slice().iter_mut().for_each(|x| *x *= 0.5);
    let (hot, scaled) = (hot.forward(), scaled.forward());
    assert_close(&hot[0], &wide(&scaled[0]), 1e-6, "logprobs");
}

#[test]
fn linear_logprob_of_odd_sizes_equals_the_f64_version() {
    for (n, c, vocab) in [(1, 16, 23), (37, 24, 70), (257, 33, 40), (5, 96, 1001), (3, 2, 2)] {
        check(n, c, vocab, false);
        check(n, c, vocab, true);
    }
}

#[test]
fn linear_logprob_gradients_equal_finite_differences() {
    for mixed in [false, true] {
        check_gradient(1, 3, 5, mixed);
        check_gradient(7, 4, 9, mixed);
        check_gradient(37, 3, 40, mixed);
    }
}

#[test]
fn linear_logprob_of_a_row_does_not_depend_on_the_rows_beside_it() {
    for (c, vocab, mixed) in [(24, 90, false), (24, 90, true), (8, 20, false), (33, 300, true)] {
        let case = Case::random(70, c, vocab, mixed);
        let all = case.forward();
        let (d_logprobs, d_entropy) = (random(&[70], 5), random(&[70], 6));
        let (d_all, _) = case.backward(&d_logprobs, &d_entropy);
        for n in (1..=40).chain([64, 65]) {
            let first = (n * 13) % (71 - n);
            let part = case.part(first, n);
            for (part, all) in part.forward().iter().zip(&all) {
                assert_eq!(bits(part), bits(&rows(all, first, n)), "{n} rows");
            }
            let (d_part, _) = part.backward(&rows(&d_logprobs, first, n), &rows(&d_entropy, first, n));
            assert_eq!(bits(&d_part), bits(&rows(&d_all, first, n)), "{n} rows");
        }
    }
}

#[test]
fn linear_logprob_does_not_depend_on_the_number_of_threads() {
    for mixed in [false, true] {
        let case = Case::random(600, 16, 50, mixed);
        let (d_logprobs, d_entropy) = (random(&[600], 5), random(&[600], 6));
        assert_thread_count_does_not_matter(|| {
            let (d_hidden, d_head) = case.backward(&d_logprobs, &d_entropy);
            case.forward().into_iter().chain([d_hidden, d_head]).collect()
        });
    }
}

#[test]
fn linear_logprob_adds_to_the_gradient_of_the_head() {
    let case = Case::random(6, 4, 9, true);
    let (d_logprobs, d_entropy) = (random(&[6], 5), random(&[6], 6));
    let (_, once) = case.backward(&d_logprobs, &d_entropy);
    let [_, entropy, lse] = case.forward();
    let mut twice = once.clone();
    let targets = ids(&case.targets);
    linear_logprob_backward(
        &mut zeros(&[6, 4]),
        &mut twice,
        &d_logprobs,
        &d_entropy,
        &entropy,
        &lse,
        &case.hidden,
        &case.head,
        &targets,
        &case.allowed(),
        case.temperature,
    )
    .unwrap();
    let want: Vec<f64> = wide(&once).iter().map(|x| 2.0 * x).collect();
    assert_close(&twice, &want, 1e-6, "d_head");
}

#[test]
fn linear_logprob_refuses_tokens_outside_their_set_and_odd_temperatures() {
    let refused = |edit: fn(&mut Case)| {
        let mut case = Case::random(2, 4, 9, false);
        edit(&mut case);
        let column = || zeros(&[2]);
        message(linear_logprob_forward(
            &mut column(),
            &mut column(),
            &mut column(),
            &case.hidden,
            &case.head,
            &ids(&case.targets),
            &case.allowed(),
            case.temperature,
        ))
    };
    assert_eq!(
        refused(|case| (case.sets[1], case.targets[1]) = (vec![3, 4], 5)),
        "linear_logprob_forward: `targets` = 5, expected a token allowed in row 1"
    );
    assert_eq!(
        refused(|case| case.targets[0] = 9),
        "linear_logprob_forward: `targets` = 9, expected a token allowed in row 0"
    );
    assert_eq!(
        refused(|case| case.sets[0] = vec![0, 12]),
        "linear_logprob_forward: `allowed` = 12, expected < 9"
    );
    assert_eq!(
        refused(|case| case.temperature = 0.0),
        "linear_logprob_forward: `temperature` = 0, expected > 0"
    );
    assert_eq!(
        refused(|case| case.temperature = f32::NAN),
        "linear_logprob_forward: `temperature` = NaN, expected > 0"
    );
    assert_eq!(
        refused(|case| case.sets.push(vec![])),
        "linear_logprob_forward: `allowed.rows()` = 3, expected 2"
    );
    assert_eq!(
        refused(|case| case.head = zeros(&[9, 5])),
        "linear_logprob_forward: `head` has shape [9, 5], expected [9, 4]"
    );
}
