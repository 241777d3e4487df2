//! `reskill-cli bench grpo`: one GRPO step over a trace of lengths, in five ways that leave out more and more work.

use std::path::PathBuf;

use anyhow::{Result, bail};
use clap::Args;
use reskill_model::ModelConfig;
use serde_json::json;

use super::kernels::Sizes;
use super::options::{DeviceOptions, choice_json, choices_table};
use super::print_json;
use super::replay::{Variant, step};
use super::report::Machine;
use super::trace::Trace;
use super::weights::random_model;
use crate::progress::print_line;

/// Replays a GRPO step (rollouts and update): what reuse of prefixes and training of trunks with branches save.
///
/// Prints one JSON line a variant on stdout, a table on stderr.
#[derive(Debug, Args)]
#[command(after_help = "Variants, each with the savings of those before it:
  R1  packed without padding; every turn encodes and runs its whole prompt, and is a sample of its own
  R2  finished episodes are dropped; a group runs its common opening once a turn
  R3  log-probabilities of the sampler are kept; the head runs on replies alone
  R4  prompts grow at the end, so that the cache keeps their history from turn to turn
  R5  an episode is trained as one trunk with its branches

Examples:
  reskill-cli bench grpo --quick
  reskill-cli bench grpo --trace trace.json --scale 0.05")]
pub struct GrpoArgs {
    /// A trace of lengths (JSON). Without it 16 tasks x 8 rollouts of at most 50 turns, as on ALFWorld
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Factor on all lengths of the trace, in (0, 1]
    #[arg(long, value_name = "X", default_value_t = 0.1)]
    scale: f64,
    /// Two tasks of four rollouts and at most ten turns
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    on: DeviceOptions,
    /// Widths of the policy. Without it two blocks of width 64
    #[arg(long, value_enum)]
    sizes: Option<Sizes>,
}

/// Of the weights: the same policy every time.
const SEED: u64 = 0;

const VARIANTS: [Variant; 5] = {
    let r1 = Variant {
        name: "R1",
        what: "no padding",
        drops_finished: false,
        keeps_logprobs: false,
        reuses_trunk: false,
        trains_branches: false,
    };
    let r2 = Variant { name: "R2", what: "finished episodes dropped", drops_finished: true, ..r1 };
    let r3 = Variant { name: "R3", what: "sampler's log-probabilities", keeps_logprobs: true, ..r2 };
    let r4 = Variant { name: "R4", what: "prefixes reused in rollout", reuses_trunk: true, ..r3 };
    let r5 = Variant { name: "R5", what: "trunk and branches trained", trains_branches: true, ..r4 };
    [r1, r2, r3, r4, r5]
};

/// The policy of the replay where no sizes are asked for: two blocks of width 64, 126 thousand parameters, the head a quarter of them.
fn small() -> ModelConfig {
    ModelConfig {
        vocab_size: 512,
        hidden_size: 64,
        intermediate_size: 176,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        ..ModelConfig::tiny()
    }
}

/// Runs the command; the result is the exit code.
///
/// # Errors
/// One line for the person who typed the command.
pub fn run(args: &GrpoArgs) -> Result<u8> {
    if !(args.scale > 0.0 && args.scale <= 1.0) {
        bail!("--scale {}: expected a number in (0, 1]", args.scale);
    }
    let mut trace = Trace::load(args.trace.as_deref())?;
    if args.quick {
        trace.cut(2, 4, 10);
    }
    let mut config = args.sizes.map_or_else(small, |sizes| sizes.network(1));
    let episodes = trace.episodes(args.scale, config.vocab_size as u32);
    let context = episodes.iter().map(|episode| {
        let turns: usize =
            episode.turns.iter().map(|turn| turn.entry.len() + turn.branch.len() + turn.reply_len).sum();
        episode.opening.len() + turns
    });
    config.max_position_embeddings = context.max().unwrap_or(1);
    let device = args.on.open()?;
    let machine = serde_json::to_value(Machine::here(SEED).on(&device, args.on.gemm, args.quick))?;
    let policy = random_model(&config, &device, SEED)?;
    let turns: usize = episodes.iter().map(|episode| episode.turns.len()).sum();
    print_line(&format!(
        "{} tasks, {} episodes, {turns} turns, lengths times {}; {} parameters",
        trace.groups.len(),
        episodes.len(),
        args.scale,
        policy.params().count()
    ));
    print_line(
        "      encoded  prefilled     reused    decoded recomputed    trained  rollout   update    total  vs R1",
    );
    let mut first = None;
    for variant in VARIANTS {
        let cost = step(&policy, &episodes, variant)?;
        let seconds = cost.seconds();
        let speedup = *first.get_or_insert(seconds) / seconds;
        print_line(&format!(
            "{}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>9}  {:>5.1} s  {:>5.1} s  {:>5.1} s  {:>4.1}x  {}",
            variant.name,
            cost.encoded,
            cost.prefilled,
            cost.reused,
            cost.decoded,
            cost.recomputed,
            cost.trained,
            cost.rollout_seconds,
            cost.update_seconds,
            seconds,
            speedup,
            variant.what,
        ));
        print_json(&json!({
            "bench": "grpo", "variant": variant.name, "scale": args.scale, "quick": args.quick, "cost": cost,
            "device": device.describe(), "machine": machine,
            "seconds": seconds, "times_faster_than_r1": speedup,
        }));
    }
    let choices = device.gemm_choices();
    choices.iter().for_each(|choice| print_json(&choice_json(choice)));
    choices_table(&choices).lines().for_each(print_line);
    Ok(0)
}
