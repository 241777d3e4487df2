//! `reskill-cli bench cpu`: prefill, decoding and training of a pretrained model on the CPU, beside other programs.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use reskill_kernels::ops::{self, SamplingFilter, TokenSets, WeightStorage, sample_logits};
use reskill_kernels::{Device, Tensor};
use reskill_model::{Decoder, KvCache, PackedBatch, Params, Pretrained, Transformer, Workspace};
use serde::{Deserialize, Serialize};

use super::print_json;
use crate::model_source;
use crate::progress::print_line;

/// Tokens of the prefill and training cases.
const LONG: usize = 512;
/// Tokens before decoding begins, and tokens decoded.
const DECODE: (usize, usize) = (32, 32);

/// Measures prefill, decoding and training of a pretrained model on the CPU.
///
/// Prints one JSON line a case on stdout, a table on stderr: the best of the rounds, in tokens per second.
#[derive(Debug, Args)]
#[command(after_help = "Cases:
  prefill  512 tokens of one sequence through the cache, the head on all of them
  decode   one token a step after 32, for 1, 8 and 32 sequences, drawn from the whole vocabulary
  train    forward and backward over 512 tokens of one sequence, all weights, without optimizer

Examples:
  reskill-cli bench cpu --model SmolLM2-135M-Instruct.Q4_1.gguf
  reskill-cli bench cpu --model DIR --cases decode --weights bf16 --threads 1
  reskill-cli bench cpu --model DIR --peers scripts/bench-cpu-peers --peer-hf DIR --peer-gguf F16.gguf
  reskill-cli bench cpu --model DIR --cases decode --peers scripts/bench-cpu-peers --peer-gguf F16.gguf \
      --peer-llama-bench llama/bin/llama-batched-bench")]
pub struct CpuArgs {
    /// A folder with config.json and safetensors, a .gguf file, or org/name[@revision] on the Hugging Face hub
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: PathBuf,
    /// Threads, ours and the peers'
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Measured repetitions of each case; the best counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// What is measured
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Case::Prefill, Case::Decode, Case::Train])]
    cases: Vec<Case>,
    /// Weights in decoding: f32, bf16 or both
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Weights::F32, Weights::Bf16])]
    weights: Vec<Weights>,
    /// The script that measures other programs in the same run
    #[arg(long, value_name = "FILE")]
    peers: Option<PathBuf>,
    /// Python to run it with
    #[arg(long, value_name = "FILE", default_value = "python3", requires = "peers")]
    python: PathBuf,
    /// The model as a folder for transformers
    #[arg(long, value_name = "DIR", requires = "peers")]
    peer_hf: Option<PathBuf>,
    /// The model as an F16 file for llama.cpp
    #[arg(long, value_name = "FILE", requires = "peers")]
    peer_gguf: Option<PathBuf>,
    /// llama.cpp's llama-batched-bench, which decodes instead of its Python package
    #[arg(long, value_name = "FILE", requires = "peer_gguf")]
    peer_llama_bench: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Case {
    Prefill,
    Decode,
    Train,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Weights {
    F32,
    Bf16,
}

impl Case {
    fn name(self) -> &'static str {
        match self {
            Case::Prefill => "prefill",
            Case::Decode => "decode",
            Case::Train => "train",
        }
    }
}

/// One measurement, ours or a peer's.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Measurement {
    peer: String,
    case: String,
    batch: usize,
    tokens: usize,
    seconds_best: f64,
    tokens_per_second: f64,
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// If the model cannot be read or the peers' script fails.
pub fn run(args: &CpuArgs) -> Result<u8> {
    if args.threads == 0 || args.rounds == 0 {
        bail!("--threads and --rounds must be at least 1");
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(args.threads)
        .build()
        .context("the threads cannot be started")?;
    let pretrained = Pretrained::open(&model_source::locate_argument(&args.model)?)?;
    let mut model = pretrained.model()?;
    if model.config().max_position_embeddings < LONG {
        bail!("{}: has fewer than {LONG} positions", args.model.display());
    }
    print_line(&format!(
        "{}: {} parameters, {} threads, best of {} rounds",
        args.model.display(),
        model.params().count(),
        args.threads,
        args.rounds
    ));
    let ours = pool.install(|| measure(args, &mut model))?;
    drop(model);
    let peers = match &args.peers {
        Some(script) => run_peers(args, script)?,
        None => Vec::new(),
    };
    print_line(&format!("{:<22} {:>7} {:>6} {:>10} {:>12}", "", "case", "batch", "tokens/s", "seconds"));
    for one in ours.iter().chain(&peers) {
        print_line(&format!(
            "{:<22} {:>7} {:>6} {:>10.1} {:>12.4}",
            one.peer, one.case, one.batch, one.tokens_per_second, one.seconds_best
        ));
        print_json(&serde_json::to_value(one).context("a measurement cannot be written as JSON")?);
    }
    for peer in &peers {
        for own in ours.iter().filter(|own| own.case == peer.case && own.batch == peer.batch) {
            let ratio = own.tokens_per_second / peer.tokens_per_second;
            print_line(&format!(
                "{} of {}: {ratio:.2} times {}",
                own.case,
                if own.batch == 1 {
                    own.peer.clone()
                } else {
                    format!("{} at batch {}", own.peer, own.batch)
                },
                peer.peer
            ));
        }
    }
    Ok(0)
}

fn measure(args: &CpuArgs, model: &mut Transformer) -> Result<Vec<Measurement>> {
    let mut all = Vec::new();
    let mut note = |peer: &str, case: Case, batch: usize, tokens: usize, seconds: f64| {
        all.push(Measurement {
            peer: peer.to_string(),
            case: case.name().to_string(),
            batch,
            tokens,
            seconds_best: seconds,
            tokens_per_second: tokens as f64 / seconds,
        });
    };
    if args.cases.contains(&Case::Train) {
        note("reskill f32", Case::Train, 1, LONG, train(model, args.rounds)?);
    }
    for weights in &args.weights {
        let (name, storage) = match weights {
            Weights::F32 => ("reskill f32", WeightStorage::F32),
            Weights::Bf16 => ("reskill bf16 weights", WeightStorage::Bf16),
        };
        model.pack(storage);
        if args.cases.contains(&Case::Prefill) {
            note(name, Case::Prefill, 1, LONG, prefill(model, args.rounds)?);
        }
        if args.cases.contains(&Case::Decode) {
            for batch in [1, 8, 32] {
                let seconds = decode(model, batch, args.rounds)?;
                note(name, Case::Decode, batch, batch * DECODE.1, seconds);
            }
        }
    }
    Ok(all)
}

/// Tokens that are all over the vocabulary.
fn tokens(n: usize, vocab: usize) -> Vec<u32> {
    (0..n).map(|index| (index * 7919 % vocab) as u32).collect()
}

/// Seconds of the quickest of `rounds` runs, after one that is not counted.
fn best_of(rounds: usize, mut work: impl FnMut() -> Result<f64>) -> Result<f64> {
    work()?;
    let seconds = (0..rounds).map(|_| work()).collect::<Result<Vec<f64>>>()?;
    Ok(seconds.into_iter().fold(f64::INFINITY, f64::min))
}

fn prefill(model: &Transformer, rounds: usize) -> Result<f64> {
    let ids = tokens(LONG, model.config().vocab_size);
    let mut cache = KvCache::new(model.config(), 1, LONG)?;
    // Passes over a cache give the last hidden state alone; the head is measured on as many rows as there are tokens.
    let hidden = Tensor::zeros(&[LONG, model.config().hidden_size], &Device::Cpu)?;
    best_of(rounds, || {
        cache.truncate(0, 0);
        let start = Instant::now();
        model.forward_cached(&mut cache, &ids, &[(0, LONG)])?;
        model.logits(&hidden)?;
        Ok(start.elapsed().as_secs_f64())
    })
}

fn decode(model: &Transformer, batch: usize, rounds: usize) -> Result<f64> {
    let (prompt, steps) = DECODE;
    let mut cache = KvCache::new(model.config(), batch, prompt + steps)?;
    let ids = tokens(prompt * batch, model.config().vocab_size);
    let filters = vec![SamplingFilter::default(); batch];
    best_of(rounds, || {
        (0..batch).for_each(|slot| cache.truncate(slot, 0));
        let spans: Vec<(usize, usize)> = (0..batch).map(|slot| (slot, prompt)).collect();
        let mut hidden = model.forward_cached(&mut cache, &ids, &spans)?;
        let spans: Vec<(usize, usize)> = (0..batch).map(|slot| (slot, 1)).collect();
        let start = Instant::now();
        for step in 0..steps {
            let uniforms: Vec<f32> =
                (0..batch).map(|slot| ((step * batch + slot) as f32 * 0.618) % 1.0).collect();
            let drawn = sample_logits(&model.logits(&hidden)?, &filters, &uniforms)?;
            let next: Vec<u32> = drawn.iter().map(|token| token.token).collect();
            hidden = model.forward_cached(&mut cache, &next, &spans)?;
        }
        Ok(start.elapsed().as_secs_f64())
    })
}

fn train(model: &Transformer, rounds: usize) -> Result<f64> {
    let config = model.config();
    let ids = tokens(LONG, config.vocab_size);
    let batch = PackedBatch::causal(&ids)?;
    let mut workspace = Workspace::new(config)?;
    let mut grads = Params::zeros(config)?;
    let mut targets = ids[1..].to_vec();
    targets.push(ids[0]);
    let targets = Tensor::from_vec(&[LONG], targets)?;
    let mut allowed = TokenSets::new();
    (0..LONG).for_each(|_| allowed.push(&[]));
    let column = || Tensor::<f32>::zeros(&[LONG], &Device::Cpu);
    let (mut logprobs, mut entropy, mut lse) = (column()?, column()?, column()?);
    let (mut d_logprobs, d_entropy) = (column()?, column()?);
    d_logprobs.fill(-1.0 / LONG as f32)?;
    let mut d_hidden = Tensor::zeros(&[LONG, config.hidden_size], &Device::Cpu)?;
    best_of(rounds, || {
        let start = Instant::now();
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
        Ok(start.elapsed().as_secs_f64())
    })
}

/// Measurements of other programs, by the script; what it leaves out is named on stderr.
fn run_peers(args: &CpuArgs, script: &std::path::Path) -> Result<Vec<Measurement>> {
    let mut command = Command::new(&args.python);
    command.arg(script).arg("--threads").arg(args.threads.to_string()).arg("--rounds");
    command.arg(args.rounds.to_string()).arg("--cases");
    command.arg(args.cases.iter().map(|case| case.name()).collect::<Vec<_>>().join(","));
    command.arg("--hf").arg(args.peer_hf.as_ref().unwrap_or(&args.model));
    if let Some(gguf) = &args.peer_gguf {
        command.arg("--gguf").arg(gguf);
    }
    if let Some(program) = &args.peer_llama_bench {
        command.arg("--llama-bench").arg(program);
    }
    command.stderr(std::process::Stdio::null());
    let output = command.output().with_context(|| format!("{}: cannot be started", args.python.display()))?;
    if !output.status.success() {
        bail!("{}: failed; run it by hand to see why", script.display());
    }
    let mut found = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match serde_json::from_str(line) {
            Ok(measurement) => found.push(measurement),
            Err(_) => print_line(&format!("peer left out: {line}")),
        }
    }
    Ok(found)
}
