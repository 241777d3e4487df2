//! Loss and gradients of a list of tokens, for other languages: one JSON object in, one out.
//!
//! `cargo run --release -p reskill-grpo --example loss_json < tokens.json`
//!
//! Input: `hidden` (N lists of C), `lm_head` (V lists of C), `targets`, `old_logprobs`, `ref_logprobs` (or null),
//! `advantages`, `loss_mask` (0 and 1, or booleans), `seq_ids` (any integers, in any order), each N long, and `config`.
//! Keys of `config` that are missing have these values: `clip_low` 0.2, `clip_high` 0.2, `dual_clip` null (none), `kl_coef` 0,
//! `kl` "k3", `entropy_coef` 0, `aggregation` "token_mean", `constant` null (needed by aggregation "constant"), `ratio`
//! "token", `temperature` 1. Unknown keys are refused.
//!
//! Output: `loss`, `logprobs`, `entropy` (of masked tokens too), `d_hidden`, `d_lm_head`.
//!
//! Conventions: logits are divided by the temperature for log-probability and entropy alike; `old_logprobs` belong to the
//! same temperature; no clamps; sequences without a token that counts are not counted by the means over sequences, and
//! without any token that counts loss and gradients are 0; `entropy_coef` times the entropy is subtracted. The network's
//! part is f32, the loss f64: see `reskill_grpo::token_loss` for the tolerance. Bad input: a message on stderr, exit 2.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example prints its result")]

use std::process::ExitCode;

use reskill_grpo::Aggregation;
use reskill_grpo::token_loss::{TokenLossConfig, TokenLossInputs, token_loss};
use reskill_kernels::Tensor;
use reskill_kernels::ops::{GrpoLossParams, KlEstimator, RatioLevel, Surrogate};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Input {
    hidden: Vec<Vec<f64>>,
    lm_head: Vec<Vec<f64>>,
    targets: Vec<u32>,
    old_logprobs: Vec<f64>,
    #[serde(default)]
    ref_logprobs: Option<Vec<f64>>,
    advantages: Vec<f64>,
    loss_mask: Vec<Mask>,
    seq_ids: Vec<i64>,
    #[serde(default)]
    config: Config,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(untagged)]
enum Mask {
    Flag(bool),
    Number(f64),
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Config {
    clip_low: f64,
    clip_high: f64,
    dual_clip: Option<f64>,
    kl_coef: f64,
    kl: Kl,
    entropy_coef: f64,
    aggregation: Aggregate,
    constant: Option<f64>,
    ratio: Ratio,
    temperature: f64,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Kl {
    K1,
    K2,
    K3,
}

#[derive(Deserialize, Clone, Copy, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Aggregate {
    TokenMean,
    SeqMeanTokenSum,
    SeqMeanTokenMean,
    Constant,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Ratio {
    Token,
    Sequence,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            clip_low: 0.2,
            clip_high: 0.2,
            dual_clip: None,
            kl_coef: 0.0,
            kl: Kl::K3,
            entropy_coef: 0.0,
            aggregation: Aggregate::TokenMean,
            constant: None,
            ratio: Ratio::Token,
            temperature: 1.0,
        }
    }
}

impl Config {
    fn read(&self) -> Result<TokenLossConfig, String> {
        let check = |holds: bool, key: &str, value: f64, expected: &str| {
            if holds { Ok(()) } else { Err(format!("`config.{key}` = {value}, expected {expected}")) }
        };
        for (key, value) in [
            ("clip_low", self.clip_low),
            ("clip_high", self.clip_high),
            ("kl_coef", self.kl_coef),
            ("entropy_coef", self.entropy_coef),
        ] {
            check(value >= 0.0 && value.is_finite(), key, value, "a number >= 0")?;
        }
        if let Some(dual_clip) = self.dual_clip {
            check(
                dual_clip >= 1.0 && dual_clip.is_finite(),
                "dual_clip",
                dual_clip,
                "a number >= 1, or null",
            )?;
        }
        let in_f32 = self.temperature as f32;
        check(in_f32 > 0.0 && in_f32.is_finite(), "temperature", self.temperature, "a number > 0")?;
        let constant = match (self.aggregation, self.constant) {
            (Aggregate::Constant, None) => {
                return Err(
                    "`config.constant` is missing, expected a number > 0 where `aggregation` is \"constant\""
                        .to_string(),
                );
            }
            (_, constant) => constant.unwrap_or(1.0),
        };
        check(constant > 0.0 && constant.is_finite(), "constant", constant, "a number > 0")?;
        Ok(TokenLossConfig {
            params: GrpoLossParams {
                surrogate: Surrogate::Clip,
                clip_low: self.clip_low,
                clip_high: self.clip_high,
                dual_clip: self.dual_clip,
                ratio: match self.ratio {
                    Ratio::Token => RatioLevel::Token,
                    Ratio::Sequence => RatioLevel::Sequence,
                },
                kl: match self.kl {
                    Kl::K1 => KlEstimator::K1,
                    Kl::K2 => KlEstimator::K2,
                    Kl::K3 => KlEstimator::K3,
                },
                kl_coef: self.kl_coef,
                entropy_coef: self.entropy_coef,
                ..GrpoLossParams::default()
            },
            aggregation: match self.aggregation {
                Aggregate::TokenMean => Aggregation::TokenMean,
                Aggregate::SeqMeanTokenSum => Aggregation::SeqMeanTokenSum,
                Aggregate::SeqMeanTokenMean => Aggregation::SeqMeanTokenMean,
                Aggregate::Constant => Aggregation::Constant,
            },
            constant,
            temperature: in_f32,
        })
    }
}

#[derive(Serialize)]
struct Output {
    loss: f64,
    logprobs: Vec<f32>,
    entropy: Vec<f32>,
    d_hidden: Vec<Vec<f64>>,
    d_lm_head: Vec<Vec<f64>>,
}

/// Rows of equal length as a tensor.
fn matrix(name: &str, rows: &[Vec<f64>], width: usize) -> Result<Tensor, String> {
    let mut values = Vec::with_capacity(rows.len() * width);
    for (index, row) in rows.iter().enumerate() {
        if row.len() != width {
            return Err(format!("row {index} of `{name}` has {} numbers, expected {width}", row.len()));
        }
        for &x in row {
            if !(x as f32).is_finite() {
                return Err(format!("row {index} of `{name}` holds {x}, which is no f32"));
            }
            values.push(x as f32);
        }
    }
    Tensor::from_vec(&[rows.len(), width], values).map_err(|error| error.to_string())
}

fn run(text: &str) -> Result<Output, String> {
    let input: Input =
        serde_json::from_str(text).map_err(|error| format!("the input is no such JSON: {error}"))?;
    let config = input.config.read()?;
    let width = input.lm_head.first().map_or(0, Vec::len);
    if width == 0 {
        return Err("`lm_head` is empty, expected at least one row of at least one number".to_string());
    }
    let hidden = matrix("hidden", &input.hidden, width)?;
    let head = matrix("lm_head", &input.lm_head, width)?;
    let n = hidden.rows();
    for (name, len) in [
        ("targets", input.targets.len()),
        ("old_logprobs", input.old_logprobs.len()),
        ("ref_logprobs", input.ref_logprobs.as_ref().map_or(n, Vec::len)),
        ("advantages", input.advantages.len()),
        ("loss_mask", input.loss_mask.len()),
        ("seq_ids", input.seq_ids.len()),
    ] {
        if len != n {
            return Err(format!("`{name}` has {len} entries, expected {n}, as many as `hidden` has rows"));
        }
    }
    if config.params.kl_coef > 0.0 && input.ref_logprobs.is_none() {
        return Err("`ref_logprobs` is missing, expected a list where `config.kl_coef` > 0".to_string());
    }
    let mask = input.loss_mask.iter().enumerate().map(|(index, mask)| match *mask {
        Mask::Flag(flag) => Ok(flag),
        Mask::Number(x) if x == 0.0 || x == 1.0 => Ok(x == 1.0),
        Mask::Number(x) => Err(format!("entry {index} of `loss_mask` is {x}, expected 0 or 1")),
    });
    let mask: Vec<bool> = mask.collect::<Result<_, _>>()?;
    let targets = Tensor::from_vec(&[n], input.targets).map_err(|error| error.to_string())?;
    let result = token_loss(
        &TokenLossInputs {
            hidden: &hidden,
            head: &head,
            targets: &targets,
            old_logprobs: &input.old_logprobs,
            ref_logprobs: input.ref_logprobs.as_deref().unwrap_or_default(),
            advantages: &input.advantages,
            loss_mask: &mask,
            seq_ids: &input.seq_ids,
        },
        &config,
    )
    .map_err(|error| error.to_string())?;
    let numbers = [result.loss];
    let all = numbers.iter().chain(&result.d_hidden).chain(&result.d_head);
    if all.into_iter().any(|x| !x.is_finite()) {
        return Err("loss or gradient leave the range of numbers: a log-ratio is too large".to_string());
    }
    let rows = |values: &[f64]| values.chunks(width).map(<[f64]>::to_vec).collect();
    Ok(Output {
        loss: result.loss,
        logprobs: result.logprobs,
        entropy: result.entropy,
        d_hidden: rows(&result.d_hidden),
        d_lm_head: rows(&result.d_head),
    })
}

fn main() -> ExitCode {
    let result = std::io::read_to_string(std::io::stdin())
        .map_err(|error| format!("the input cannot be read: {error}"))
        .and_then(|text| run(&text))
        .and_then(|output| serde_json::to_string(&output).map_err(|error| error.to_string()));
    match result {
        Ok(json) => {
            println!("{json}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::from(2)
        }
    }
}
