//! Losses, gradients and advantages against those of verl, TRL and Liger: `tests/fixtures/*.py` made the numbers.

use reskill_grpo::advantage::group_advantages_f64;
use reskill_grpo::token_loss::{TokenLossConfig, TokenLossInputs, token_loss};
use reskill_grpo::{
    AdvantageConfig, Aggregation, Baseline, KlEstimator, LossConfig, RatioLevel, Singleton, StdNorm,
    Surrogate,
};
use reskill_kernels::Tensor;
use serde::Deserialize;

#[derive(Deserialize)]
struct LossCase {
    name: String,
    hidden: Vec<f32>,
    head: Vec<f32>,
    targets: Vec<u32>,
    old_logprobs: Vec<f64>,
    ref_logprobs: Vec<f64>,
    advantages: Vec<f64>,
    mask: Vec<bool>,
    temperature: f32,
    config: Config,
    loss: f64,
    d_hidden: Vec<f64>,
    d_head: Vec<f64>,
}

#[derive(Deserialize)]
struct Config {
    surrogate: Surrogate,
    clip_low: f32,
    clip_high: f32,
    dual_clip: Option<f32>,
    ratio: RatioLevel,
    kl: KlEstimator,
    kl_coef: f32,
    entropy_coef: f32,
    log_ratio_clamp: Option<f32>,
    k3_clamp: Option<f32>,
    aggregation: Aggregation,
    constant: f32,
}

fn check(case: &LossCase) {
    let config = &case.config;
    let loss = LossConfig {
        surrogate: config.surrogate,
        clip_low: config.clip_low,
        clip_high: config.clip_high,
        dual_clip: config.dual_clip,
        ratio: config.ratio,
        kl: config.kl,
        kl_coef: config.kl_coef,
        entropy_coef: config.entropy_coef,
        log_ratio_clamp: config.log_ratio_clamp,
        k3_clamp: config.k3_clamp,
        ..LossConfig::default()
    };
    loss.validate().unwrap();
    let (n, c) = (case.targets.len(), 5);
    let inputs = TokenLossInputs {
        hidden: &Tensor::from_vec(&[n, c], case.hidden.clone()).unwrap(),
        head: &Tensor::from_vec(&[case.head.len() / c, c], case.head.clone()).unwrap(),
        targets: &Tensor::from_vec(&[n], case.targets.clone()).unwrap(),
        old_logprobs: &case.old_logprobs,
        ref_logprobs: &case.ref_logprobs,
        advantages: &case.advantages,
        loss_mask: &case.mask,
        // Three sequences of four tokens.
        seq_ids: &(0..n as i64).map(|i| i / 4).collect::<Vec<_>>(),
    };
    let settings = TokenLossConfig {
        params: loss.params(),
        aggregation: config.aggregation,
        constant: f64::from(config.constant),
        temperature: case.temperature,
    };
    let result = token_loss(&inputs, &settings).unwrap();
    // Log-probabilities are f32, and so are 0.2 and the like; ratios stay below e^25 where they are clamped.
    let close = |got: f64, want: f64, scale: f64| (got - want).abs() <= 3e-6 * (scale + want.abs());
    assert!(close(result.loss, case.loss, 1.0), "{}: loss {} for {}", case.name, result.loss, case.loss);
    for (what, got, want) in
        [("d_hidden", &result.d_hidden, &case.d_hidden), ("d_head", &result.d_head, &case.d_head)]
    {
        let largest = want.iter().fold(0.0_f64, |a, x| a.max(x.abs()));
        assert_eq!(got.len(), want.len());
        for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
            assert!(close(got, want, largest.max(1e-3)), "{}: {what}[{i}] = {got} for {want}", case.name);
        }
    }
}

#[test]
fn losses_and_gradients_are_those_of_verl_trl_and_liger() {
    let cases: Vec<LossCase> = serde_json::from_str(include_str!("../fixtures/peer_losses.json")).unwrap();
    for peer in ["verl", "trl", "liger"] {
        assert!(cases.iter().filter(|case| case.name.starts_with(peer)).count() >= 10, "few cases of {peer}");
    }
    cases.iter().for_each(check);
}

#[derive(Deserialize)]
struct AdvantageCase {
    name: String,
    returns: Vec<f64>,
    groups: Vec<u64>,
    baseline: Baseline,
    std: StdNorm,
    advantages: Vec<f64>,
}

#[test]
fn advantages_are_those_of_verl() {
    let cases: Vec<AdvantageCase> =
        serde_json::from_str(include_str!("../fixtures/peer_advantages.json")).unwrap();
    assert!(cases.len() >= 6);
    for case in cases {
        let config = AdvantageConfig {
            baseline: case.baseline,
            std_norm: case.std,
            singleton: Singleton::Raw,
            ..AdvantageConfig::default()
        };
        let got = group_advantages_f64(&case.returns, &case.groups, &config).unwrap();
        for (got, want) in got.iter().zip(&case.advantages) {
            // A group of one is divided by 1 + 1e-6 there.
            assert!((got - want).abs() <= 1.1e-6 * want.abs().max(1e-3), "{}: {got} for {want}", case.name);
        }
    }
}
