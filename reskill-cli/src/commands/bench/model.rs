//! `reskill-cli bench prefill`, `decode` and `train`: a whole model beside the floor that its weights, its cache and its
//! products set.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use reskill_kernels::ops::{self, Cost, SamplingFilter, TokenSets, sample_logits};
use reskill_kernels::{DType, Tensor};
use reskill_model::generate::PROMPT_ROWS;
use reskill_model::{Decoder, KvCache, PackedBatch, Params, Pretrained, Transformer, Workspace};
use serde_json::{Value, json};

use super::figures::{figure, percent, rate, separated};

use super::kernels::{Bench, Ceilings, CommonArgs, Sizes, Timing};
use super::print_json;
use super::room::Need;
use super::weights::random_model;
use crate::progress::print_data;

/// What all three commands take.
#[derive(Debug, Args)]
pub(super) struct ModelArgs {
    #[command(flatten)]
    common: CommonArgs,
    /// A folder with config.json and safetensors, or a .gguf file; without it random weights of the sizes given
    #[arg(long, value_name = "DIR|FILE")]
    model: Option<PathBuf>,
    /// Widths of the model with random weights
    #[arg(long, value_enum, default_value_t = Sizes::Policy)]
    sizes: Sizes,
    /// Sequences at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    batch: usize,
    /// Tokens of a sequence; in decoding those before it begins
    #[arg(long, value_name = "N", default_value_t = 128)]
    tokens: usize,
}

/// Measures how fast prompts go through the cache.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli bench prefill --sizes smollm2 --tokens 512
  reskill-cli bench prefill --model DIR --batch 4 --json")]
pub(super) struct PrefillArgs {
    #[command(flatten)]
    model: ModelArgs,
}

/// Measures how fast tokens are drawn, one a step for all sequences.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli bench decode --sizes policy --batch 32
  reskill-cli bench decode --model DIR --steps 64 --json")]
pub(super) struct DecodeArgs {
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens drawn for each sequence in one measurement
    #[arg(long, value_name = "N", default_value_t = 16)]
    steps: usize,
}

/// Measures forward and backward passes over packed sequences, all weights trained, without the optimizer.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  reskill-cli bench train --sizes policy --batch 8
  reskill-cli bench train --device cuda --dtype bf16 --sizes qwen3-0.6b --tokens 2048 --json")]
pub(super) struct TrainArgs {
    #[command(flatten)]
    model: ModelArgs,
}

/// A model in its place.
struct Ready<'a> {
    /// The measurement.
    what: &'static str,
    args: &'a ModelArgs,
    bench: Bench,
    ceilings: Ceilings,
    model: Transformer,
}

impl<'a> Ready<'a> {
    /// Places the model, if it and what it does find room, for sequences of at most `longest` tokens.
    fn new(what: &'static str, args: &'a ModelArgs, longest: usize) -> Result<Ready<'a>> {
        if args.batch == 0 || args.tokens == 0 {
            bail!("--batch and --tokens must be at least 1");
        }
        let bench = Bench::new(&args.common)?;
        let pretrained = args.model.as_deref().map(Pretrained::open).transpose()?;
        let random = args.sizes.network(longest);
        let config = pretrained.as_ref().map_or(&random, Pretrained::config);
        if config.max_position_embeddings < longest {
            bail!("the model has {} positions, fewer than {longest}", config.max_position_embeddings);
        }
        let (learns, sequences) = (what == "train", args.batch);
        Need { what, model: config, learns, sequences, tokens: longest }.check(&bench.device)?;
        // Before the model is placed: the probes are large.
        let ceilings = Ceilings::measure(&bench)?;
        let model = match &pretrained {
            Some(pretrained) => pretrained.model_on(&bench.device)?,
            None => random_model(&random, &bench.device, bench.seed)?,
        };
        Ok(Ready { what, args, bench, ceilings, model })
    }

    /// Token ids from the seed.
    fn ids(&self, n: usize) -> Vec<u32> {
        let mut state = self.bench.seed as u32 | 1;
        let vocab = self.model.config().vocab_size as u32;
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % vocab
        };
        (0..n).map(|_| next()).collect()
    }

    fn element(&self) -> usize {
        if self.bench.device.is_cpu() { DType::F32.size() } else { self.bench.dtype.size() }
    }

    /// Bytes of all weights.
    fn weight_bytes(&self) -> usize {
        self.model.params().count() * self.element()
    }

    /// Bytes of keys and values of one token.
    fn cache_bytes(&self) -> usize {
        let config = self.model.config();
        2 * config.num_hidden_layers * config.num_key_value_heads * config.head_dim * self.element()
    }

    /// Operations of the products of one token: two a weight, the table of embeddings aside if it is not the head too.
    fn flops_per_token(&self) -> usize {
        let config = self.model.config();
        let table = config.vocab_size * config.hidden_size;
        let unused = if config.tie_word_embeddings { 0 } else { table };
        2 * (self.model.params().count() - unused)
    }

    /// Operations of attention over `pairs` of a row and one that it sees, forward.
    fn attention_flops(&self, pairs: usize) -> usize {
        let config = self.model.config();
        4 * config.num_hidden_layers * config.num_attention_heads * config.head_dim * pairs
    }

    /// Seconds of `rounds` measurements, after one that does not count.
    fn rounds(&self, mut one: impl FnMut() -> Result<f64>) -> Result<Timing> {
        one()?;
        let seconds = (0..self.bench.rounds).map(|_| one()).collect::<Result<Vec<f64>>>()?;
        Ok(Timing::new(&seconds))
    }

    fn print(&self, tokens: usize, cost: Cost, timing: Timing, details: Value) -> Result<u8> {
        let (name, ceilings) = (self.what, &self.ceilings);
        let floor = cost.floor(ceilings.bytes_per_second(), ceilings.flops_per_second);
        let tokens_per_second = tokens as f64 / timing.median;
        let machine = self.bench.machine();
        if self.bench.json {
            print_json(&json!({
                "bench": name, "parameters": self.model.params().count(), "batch": self.args.batch,
                "tokens": self.args.tokens, "details": details, "dtype": self.bench.dtype.to_string(),
                "bytes": cost.bytes, "flops": cost.flops, "floor_seconds": floor, "seconds": timing,
                "fraction_of_floor": floor / timing.median, "time_over_floor": timing.median / floor,
                "tokens_per_second": tokens_per_second,
                "tflops": cost.flops as f64 / timing.median / 1e12, "ceilings": ceilings, "machine": machine,
            }));
        } else {
            let text = format!(
                "{}, {}, seed {}\n{machine}\n{name}: {} parameters, {} sequences of {} tokens\n\
                 {} tokens/s, {}FLOP/s; {} ms (p10 {}, p90 {}), floor {} ms, time/floor {}x, noise {}\n",
                self.bench.device.describe(),
                self.bench.dtype,
                self.bench.seed,
                separated(self.model.params().count()),
                separated(self.args.batch),
                separated(self.args.tokens),
                figure(tokens_per_second),
                rate(cost.flops as f64 / timing.median),
                figure(timing.median * 1e3),
                figure(timing.p10 * 1e3),
                figure(timing.p90 * 1e3),
                figure(floor * 1e3),
                figure(timing.median / floor),
                percent(timing.noise),
            );
            print_data(text.as_bytes())?;
        }
        self.bench.print_choices()?;
        Ok(0)
    }

    /// Runs the prompts of all slots, in passes of as many tokens as in generation; the hidden states of their last tokens.
    fn run_prompts(&self, cache: &mut KvCache, ids: &[u32]) -> Result<Tensor> {
        let (batch, tokens) = (self.args.batch, self.args.tokens);
        let at_once = (PROMPT_ROWS / tokens).max(1);
        let (device, dtype) = (&self.bench.device, self.bench.device.precision());
        let mut all = Tensor::zeros_as(&[batch, self.model.config().hidden_size], device, dtype)?;
        for first in (0..batch).step_by(at_once) {
            let n = at_once.min(batch - first);
            let spans: Vec<(usize, usize)> = (first..first + n).map(|slot| (slot, tokens)).collect();
            let ids = &ids[first * tokens..(first + n) * tokens];
            all.copy_rows_from(first, &self.model.forward_cached(cache, ids, &spans)?, 0, n)?;
        }
        Ok(all)
    }

    /// Passes over the weights that the prompts take.
    fn passes(&self) -> usize {
        self.args.batch.div_ceil((PROMPT_ROWS / self.args.tokens).max(1))
    }
}

/// Runs `bench prefill`; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub(super) fn prefill(args: &PrefillArgs) -> Result<u8> {
    let args = &args.model;
    let ready = Ready::new("prefill", args, args.tokens)?;
    let Ready { bench, model, .. } = &ready;
    let mut cache = KvCache::on(&bench.device, model.config(), args.batch, args.tokens)?;
    let ids = ready.ids(args.batch * args.tokens);
    let timing = ready.rounds(|| {
        (0..args.batch).for_each(|slot| cache.truncate(slot, 0));
        bench.device.seconds(|| -> Result<()> {
            ready.run_prompts(&mut cache, &ids)?;
            Ok(())
        })
    })?;
    let n = args.batch * args.tokens;
    let pairs = args.batch * args.tokens * (args.tokens + 1) / 2;
    let config = model.config();
    // The head runs on the last token of a sequence at most, and not in here.
    let head = 2 * config.vocab_size * config.hidden_size;
    let cost = Cost {
        bytes: (ready.passes() * ready.weight_bytes() + n * ready.cache_bytes()) as u64,
        flops: (n * (ready.flops_per_token() - head) + ready.attention_flops(pairs)) as u64,
    };
    ready.print(n, cost, timing, json!({ "passes": ready.passes() }))
}

/// Runs `bench decode`; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub(super) fn decode(args: &DecodeArgs) -> Result<u8> {
    let (steps, args) = (args.steps, &args.model);
    if steps == 0 {
        bail!("--steps must be at least 1");
    }
    let ready = Ready::new("decode", args, args.tokens + steps)?;
    let Ready { bench, model, .. } = &ready;
    let batch = args.batch;
    let mut cache = KvCache::on(&bench.device, model.config(), batch, args.tokens + steps)?;
    let ids = ready.ids(batch * args.tokens);
    let filters = vec![SamplingFilter::default(); batch];
    let spans: Vec<(usize, usize)> = (0..batch).map(|slot| (slot, 1)).collect();
    // The prompts are run once: each round goes on behind them.
    let behind_prompts = ready.run_prompts(&mut cache, &ids)?;
    let timing = ready.rounds(|| {
        (0..batch).for_each(|slot| cache.truncate(slot, args.tokens));
        let mut hidden = behind_prompts.try_clone()?;
        bench.device.seconds(|| -> Result<()> {
            for step in 0..steps {
                let uniforms: Vec<f32> =
                    (0..batch).map(|slot| ((step * batch + slot) as f32 * 0.618) % 1.0).collect();
                let drawn = sample_logits(&model.logits(&hidden)?, &filters, &uniforms)?;
                let next: Vec<u32> = drawn.iter().map(|token| token.token).collect();
                hidden = model.forward_cached(&mut cache, &next, &spans)?;
            }
            Ok(())
        })
    })?;
    let positions: usize = (0..steps).map(|step| args.tokens + step + 1).sum();
    let cost = Cost {
        bytes: (steps * ready.weight_bytes() + batch * positions * ready.cache_bytes()) as u64,
        flops: (steps * batch * ready.flops_per_token() + ready.attention_flops(batch * positions)) as u64,
    };
    ready.print(batch * steps, cost, timing, json!({ "steps": steps }))
}

/// Causal sequences one after the other.
fn packed(args: &ModelArgs, ids: &[u32]) -> Result<PackedBatch> {
    let mut batch = PackedBatch::new()?;
    for sequence in ids.chunks(args.tokens) {
        batch.push_trunk(sequence)?;
    }
    Ok(batch)
}

/// Runs `bench train`; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub(super) fn train(args: &TrainArgs) -> Result<u8> {
    let args = &args.model;
    let ready = Ready::new("train", args, args.tokens)?;
    let Ready { bench, model, .. } = &ready;
    let n = args.batch * args.tokens;
    let ids = ready.ids(n);
    let batch = packed(args, &ids)?.to_device(&bench.device)?;
    let config = model.config();
    let mut workspace = Workspace::on(&bench.device, config)?;
    let mut grads = Params::zeros_on(config, &bench.device, DType::F32)?;
    let targets = Tensor::from_slice(&[n], &ready.ids(n), &bench.device, DType::U32)?;
    let mut allowed = TokenSets::new();
    (0..n).for_each(|_| allowed.push(&[]));
    let column = || Tensor::<f32>::zeros(&[n], &bench.device);
    let (mut logprobs, mut entropy, mut lse) = (column()?, column()?, column()?);
    let (mut d_logprobs, d_entropy) = (column()?, column()?);
    d_logprobs.fill(-1.0 / n as f32)?;
    let mut d_hidden = Tensor::zeros_as(&[n, config.hidden_size], &bench.device, bench.dtype)?;
    let timing = ready.rounds(|| {
        bench.device.seconds(|| -> Result<()> {
            grads.clear()?;
            let hidden = model.forward(&mut workspace, &batch)?;
            let head = model.params().head();
            let (logprobs, entropy, lse) = (&mut logprobs, &mut entropy, &mut lse);
            ops::linear_logprob_forward(logprobs, entropy, lse, hidden, head, &targets, &allowed, 1.0)?;
            ops::linear_logprob_backward(
                &mut d_hidden,
                grads.head_mut(),
                &d_logprobs,
                &d_entropy,
                entropy,
                lse,
                hidden,
                head,
                &targets,
                &allowed,
                1.0,
            )?;
            model.backward(&mut grads, &mut workspace, &batch, &d_hidden)?;
            Ok(())
        })
    })?;
    // Twice as much backward as forward; attention's backward pass takes two and a half times its forward pass.
    let attention = ready.attention_flops(args.batch * args.tokens * (args.tokens + 1) / 2);
    let cost = Cost {
        bytes: (3 * ready.weight_bytes()) as u64,
        flops: (3 * n * ready.flops_per_token() + attention * 7 / 2) as u64,
    };
    ready.print(n, cost, timing, json!({ "what": "forward and backward" }))
}
