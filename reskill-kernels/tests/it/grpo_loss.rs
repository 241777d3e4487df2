use reskill_kernels::ops::{
    GrpoLossInputs, GrpoLossParams, GrpoLossSums, KlEstimator, RatioLevel, Surrogate, grpo_loss,
};

use crate::support::{ids, message, random, tensor, wide, zeros};

const PARAMS: GrpoLossParams = GrpoLossParams {
    surrogate: Surrogate::Clip,
    ratio: RatioLevel::Token,
    kl: KlEstimator::K3,
    importance_truncation: None,
    clip_low: 0.2,
    clip_high: 0.3,
    dual_clip: None,
    kl_coef: 0.0,
    entropy_coef: 0.0,
    log_ratio_clamp: None,
    k3_clamp: None,
};

/// One token: log-probability now, when sampled, under the reference; entropy, advantage, weight.
#[derive(Clone, Copy)]
struct Token {
    logprob: f64,
    old: f64,
    reference: f64,
    entropy: f64,
    advantage: f64,
    weight: f64,
}

const TOKEN: Token =
    Token { logprob: -1.0, old: -1.0, reference: -1.0, entropy: 0.0, advantage: 1.0, weight: 1.0 };

/// A token whose ratio is `ratio`.
fn with_ratio(ratio: f64, advantage: f64) -> Token {
    Token { logprob: -1.0 + ratio.ln(), advantage, ..TOKEN }
}

struct Result {
    sums: GrpoLossSums,
    d_logprobs: Vec<f64>,
    d_entropy: Vec<f64>,
}

fn run(tokens: &[Token], params: &GrpoLossParams) -> Result {
    let column = |f: fn(&Token) -> f64| {
        tensor(&[tokens.len()], &tokens.iter().map(|t| f(t) as f32).collect::<Vec<_>>())
    };
    let inputs = GrpoLossInputs {
        logprobs: &column(|t| t.logprob),
        old_logprobs: &column(|t| t.old),
        ref_logprobs: &column(|t| t.reference),
        entropy: &column(|t| t.entropy),
        advantages: &column(|t| t.advantage),
        weights: &column(|t| t.weight),
        sampler_logprobs: &column(|t| t.old),
        sequences: &ids(&vec![0; tokens.len()]),
    };
    // Whatever stood in the outputs is overwritten.
    let (mut d_logprobs, mut d_entropy) = (random(&[tokens.len()], 8), random(&[tokens.len()], 9));
    let sums = grpo_loss(&mut d_logprobs, &mut d_entropy, &inputs, params).unwrap();
    Result { sums, d_logprobs: wide(&d_logprobs), d_entropy: wide(&d_entropy) }
}

/// Loss of one token in f64, from the formula in the paper.
fn reference(token: &Token, params: &GrpoLossParams) -> f64 {
    let bound = params.log_ratio_clamp.unwrap_or(f64::INFINITY);
    let ratio = (token.logprob - token.old).clamp(-bound, bound).exp();
    let clipped = ratio.clamp(1.0 - params.clip_low, 1.0 + params.clip_high);
    let mut loss = -(ratio * token.advantage).min(clipped * token.advantage);
    if let Some(dual) = params.dual_clip
        && token.advantage < 0.0
    {
        loss = loss.min(-dual * token.advantage);
    }
    let d = (token.reference - token.logprob).clamp(-bound, bound);
    let k3 = (d.exp() - d - 1.0).min(params.k3_clamp.unwrap_or(f64::INFINITY));
    token.weight * (loss + params.kl_coef * k3 - params.entropy_coef * token.entropy)
}

/// One token: loss, gradient by its log-probability, clipped above and below.
fn check(token: Token, params: &GrpoLossParams, loss: f64, slope: f64, clipped: (u64, u64)) {
    let result = run(&[token], params);
    // Log-probabilities near -1 are rounded by 6e-8, and exponentials carry that on.
    assert!(
        (result.sums.loss - loss).abs() < 2e-6 * (1.0 + loss.abs()),
        "loss {} for {loss}",
        result.sums.loss
    );
    let d = result.d_logprobs[0];
    assert!((d - slope).abs() < 2e-6 * (1.0 + slope.abs()), "gradient {d} for {slope}");
    assert_eq!((result.sums.clipped_high, result.sums.clipped_low), clipped);
}

#[test]
fn grpo_loss_at_ratio_one_is_the_policy_gradient() {
    check(TOKEN, &PARAMS, -1.0, -1.0, (0, 0));
    check(Token { advantage: -2.0, weight: 0.25, ..TOKEN }, &PARAMS, 0.5, 0.5, (0, 0));
    check(Token { advantage: 0.0, ..TOKEN }, &PARAMS, 0.0, 0.0, (0, 0));
}

#[test]
fn grpo_loss_clips_each_side_for_the_sign_that_gains_from_it() {
    // Ratio 1.5 is above 1.3, ratio 0.5 below 0.8.
    check(with_ratio(1.5, 2.0), &PARAMS, -2.6, 0.0, (1, 0));
    check(with_ratio(1.5, -2.0), &PARAMS, 3.0, 3.0, (0, 0));
    check(with_ratio(0.5, 2.0), &PARAMS, -1.0, -1.0, (0, 0));
    check(with_ratio(0.5, -2.0), &PARAMS, 1.6, 0.0, (0, 1));
    check(with_ratio(1.2, 2.0), &PARAMS, -2.4, -2.4, (0, 0));
}

#[test]
fn grpo_loss_dual_clip_bounds_the_loss_of_negative_advantages() {
    let params = GrpoLossParams { dual_clip: Some(3.0), ..PARAMS };
    check(with_ratio(4.0, -2.0), &params, 6.0, 0.0, (0, 1));
    check(with_ratio(2.9, -2.0), &params, 5.8, 5.8, (0, 0));
    check(with_ratio(4.0, 2.0), &params, -2.6, 0.0, (1, 0));
}

#[test]
fn grpo_loss_adds_k3_against_the_reference() {
    let params = GrpoLossParams { kl_coef: 0.5, ..PARAMS };
    // d = ln 2: k3 = 2 - ln 2 - 1, and its slope is 1 - 2 = -1.
    let token = Token { reference: -1.0 + 2.0_f64.ln(), advantage: 0.0, ..TOKEN };
    let k3 = 1.0 - 2.0_f64.ln();
    check(token, &params, 0.5 * k3, -0.5, (0, 0));
    assert!((run(&[token], &params).sums.ref_kl - k3).abs() < 1e-6);
    // d = -ln 2: k3 = 0.5 + ln 2 - 1, slope 0.5.
    let token = Token { reference: -1.0 - 2.0_f64.ln(), advantage: 0.0, ..TOKEN };
    check(token, &params, 0.5 * (2.0_f64.ln() - 0.5), 0.25, (0, 0));
}

#[test]
fn grpo_loss_rewards_entropy() {
    let params = GrpoLossParams { entropy_coef: 0.1, ..PARAMS };
    let token = Token { entropy: 2.0, weight: 0.5, ..TOKEN };
    check(token, &params, 0.5 * (-1.0 - 0.2), -0.5, (0, 0));
    let result = run(&[token], &params);
    assert!((result.d_entropy[0] + 0.05).abs() < 1e-8);
    assert!((result.sums.entropy - 2.0).abs() < 1e-8);
}

#[test]
fn grpo_loss_clamps_stop_the_gradient_beyond_and_change_nothing_within() {
    let clamped = GrpoLossParams { log_ratio_clamp: Some(1.0), kl_coef: 1.0, k3_clamp: Some(0.2), ..PARAMS };
    let free = GrpoLossParams { kl_coef: 1.0, ..PARAMS };
    let e = std::f64::consts::E;
    // The log-ratio 2 is cut to 1 (unclipped side), and so is d = -2.
    let far = Token { logprob: -1.0, old: -3.0, reference: -3.0, advantage: -1.0, ..TOKEN };
    check(far, &GrpoLossParams { k3_clamp: None, ..clamped }, e + (1.0 / e), 0.0, (0, 0));
    // k3 at d = 0.9 is 0.56, above 0.2.
    let wide = Token { reference: -0.1, advantage: 0.0, ..TOKEN };
    check(wide, &clamped, 0.2, 0.0, (0, 0));
    let near = Token { logprob: -1.1, reference: -0.9, ..TOKEN };
    let (a, b) = (run(&[near], &clamped), run(&[near], &free));
    assert_eq!((a.sums, a.d_logprobs), (b.sums, b.d_logprobs));
}

#[test]
fn grpo_loss_skips_tokens_of_weight_zero() {
    let broken = Token { logprob: f64::NAN, weight: 0.0, ..TOKEN };
    let result = run(&[broken, TOKEN], &PARAMS);
    assert_eq!((result.sums.tokens, result.sums.loss), (1, -1.0));
    assert_eq!((result.d_logprobs[0], result.d_entropy[0]), (0.0, 0.0));
}

#[test]
fn grpo_loss_reports_how_far_the_policy_moved() {
    // Tokens come from the old policy, so k3 of the ratio r = new / old is (r - 1) - ln r.
    let result = run(&[with_ratio(2.0, 1.0), with_ratio(1.5, 1.0)], &PARAMS);
    let want = (1.0 - 2.0_f64.ln()) + (0.5 - 1.5_f64.ln());
    assert!((result.sums.approx_kl - want).abs() < 1e-6);
    assert!((result.sums.max_log_ratio - 2.0_f64.ln()).abs() < 1e-6);
}

#[test]
fn grpo_loss_equals_the_f64_version_and_its_finite_differences() {
    let all = GrpoLossParams {
        dual_clip: Some(2.5),
        kl_coef: 0.3,
        entropy_coef: 0.05,
        log_ratio_clamp: Some(1.5),
        k3_clamp: Some(1.2),
        ..PARAMS
    };
    for n in [1, 37, 257] {
        let columns = random(&[6, n], n as u64);
        let at = |row: usize, i: usize| f64::from(columns.as_slice()[row * n + i]);
        let tokens: Vec<Token> = (0..n)
            .map(|i| Token {
                logprob: -2.0 + at(0, i),
                old: -2.0 + at(1, i),
                reference: -2.0 + at(2, i),
                entropy: 1.0 + at(3, i),
                advantage: 2.0 * at(4, i),
                weight: 0.5 + at(5, i).abs(),
            })
            .collect();
        let result = run(&tokens, &all);
        let want: f64 = tokens.iter().map(|token| reference(token, &all)).sum();
        assert!((result.sums.loss - want).abs() < 1e-6 * n as f64, "{} for {want}", result.sums.loss);
        for (i, token) in tokens.iter().enumerate() {
            let step = 1e-6;
            let moved = |by: f64| reference(&Token { logprob: token.logprob + by, ..*token }, &all);
            let (left, right) = (
                (reference(token, &all) - moved(-step)) / step,
                (moved(step) - reference(token, &all)) / step,
            );
            // At a kink the sides differ; none of the seeded tokens lies within 1e-6 of one.
            assert!((left - right).abs() < 1e-4, "token {i} lies at a kink");
            let slope = (left + right) / 2.0;
            assert!((result.d_logprobs[i] - slope).abs() < 1e-5 * (1.0 + slope.abs()), "token {i}");
        }
    }
}

#[test]
fn grpo_loss_refuses_odd_shapes_and_numbers() {
    let (a, b) = (zeros(&[2]), zeros(&[3]));
    let inputs = GrpoLossInputs {
        logprobs: &a,
        old_logprobs: &a,
        ref_logprobs: &b,
        entropy: &a,
        advantages: &a,
        weights: &a,
        sampler_logprobs: &b,
        sequences: &ids(&[0; 3]),
    };
    let run = |inputs: &GrpoLossInputs<'_>, params: &GrpoLossParams| {
        grpo_loss(&mut zeros(&[2]), &mut zeros(&[2]), inputs, params)
    };
    // Without a KL penalty the reference is not read.
    run(&inputs, &PARAMS).unwrap();
    assert_eq!(
        message(run(&inputs, &GrpoLossParams { kl_coef: 0.1, ..PARAMS })),
        "grpo_loss: `ref_logprobs` has shape [3], expected [2]"
    );
    assert_eq!(
        message(run(&GrpoLossInputs { weights: &b, ..inputs }, &PARAMS)),
        "grpo_loss: `weights` has shape [3], expected [2]"
    );
    assert_eq!(
        message(run(&inputs, &GrpoLossParams { log_ratio_clamp: Some(-1.0), ..PARAMS })),
        "grpo_loss: `log_ratio_clamp` = -1, expected > 0"
    );
    assert_eq!(
        message(run(&inputs, &GrpoLossParams { clip_low: -0.1, ..PARAMS })),
        "grpo_loss: `clip_low` = -0.1, expected >= 0"
    );
    assert_eq!(
        message(run(&inputs, &GrpoLossParams { ratio: RatioLevel::Sequence, ..PARAMS })),
        "grpo_loss: `sequences` has shape [3], expected [2]"
    );
    assert_eq!(
        message(run(&inputs, &GrpoLossParams { importance_truncation: Some(2.0), ..PARAMS })),
        "grpo_loss: `sampler_logprobs` has shape [3], expected [2]"
    );
}
