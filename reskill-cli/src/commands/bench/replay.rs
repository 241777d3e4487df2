//! One GRPO step over a trace, in one of the ways of the ladder: rollout, then update.

use std::time::Instant;

use anyhow::Result;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reskill_grpo::{
    Learner, LearnerConfig, LossConfig, OldLogprobs, Optimizer, OptimizerConfig, TokenTrajectory, TokenTurn,
};
use reskill_model::{Generator, Next, ReplyToken, Request, SamplingParams, TokenConstraint, Transformer};

use super::trace::Episode;

/// What a variant leaves out of the work.
#[derive(Debug, Clone, Copy)]
pub(super) struct Variant {
    pub(super) name: &'static str,
    pub(super) what: &'static str,
    /// Finished episodes generate no more, and a group runs its common opening once a turn.
    pub(super) drops_finished: bool,
    /// The sampler's log-probabilities are kept, and the head runs on replies alone.
    pub(super) keeps_logprobs: bool,
    /// The trunk stays in the cache from turn to turn.
    pub(super) reuses_trunk: bool,
    /// An episode is trained as one trunk with its branches.
    pub(super) trains_branches: bool,
}

/// What a step took.
#[derive(Debug, Clone, Copy, Default, serde::Serialize)]
pub(super) struct Cost {
    /// Tokens that a tokenizer would have to encode.
    pub(super) encoded: usize,
    /// Tokens of prompts that went through the network.
    pub(super) prefilled: usize,
    /// Tokens of prompts that were in the cache already.
    pub(super) reused: usize,
    /// Tokens of replies.
    pub(super) decoded: usize,
    /// Packed tokens that were run once more for their log-probabilities.
    pub(super) recomputed: usize,
    /// Packed tokens that were trained on.
    pub(super) trained: usize,
    /// Seconds of the rollout.
    pub(super) rollout_seconds: f64,
    /// Seconds of the update.
    pub(super) update_seconds: f64,
}

impl Cost {
    pub(super) fn seconds(&self) -> f64 {
        self.rollout_seconds + self.update_seconds
    }
}

/// A reply of exactly so many tokens.
struct FixedLength(usize);

impl TokenConstraint for FixedLength {
    fn next(&self, generated: &[u32]) -> Next {
        if generated.len() < self.0 { Next::Any } else { Next::Done }
    }
}

/// Plays and trains one step.
pub(super) fn step(policy: &Transformer, episodes: &[Episode], variant: Variant) -> Result<Cost> {
    let mut cost = Cost::default();
    let start = Instant::now();
    let replies = rollout(policy, episodes, variant, &mut cost)?;
    cost.rollout_seconds = start.elapsed().as_secs_f64();
    let start = Instant::now();
    update(policy, episodes, &replies, variant, &mut cost)?;
    cost.update_seconds = start.elapsed().as_secs_f64();
    Ok(cost)
}

/// The replies by episode and turn.
fn rollout(
    policy: &Transformer,
    episodes: &[Episode],
    variant: Variant,
    cost: &mut Cost,
) -> Result<Vec<Vec<Vec<ReplyToken>>>> {
    let context = policy.config().max_position_embeddings;
    let mut generator = Generator::on(&policy.device(), policy.config(), episodes.len(), context)?;
    let mut rngs: Vec<ChaCha8Rng> = (0..episodes.len() as u64).map(ChaCha8Rng::seed_from_u64).collect();
    let mut replies: Vec<Vec<Vec<ReplyToken>>> = episodes.iter().map(|_| Vec::new()).collect();
    let last_turn = episodes.iter().map(|episode| episode.turns.len()).max().unwrap_or(0);
    let longest = episodes.iter().flat_map(|it| &it.turns).map(|turn| turn.reply_len).max().unwrap_or(0);
    let sampling = SamplingParams { temperature: 1.0, max_new_tokens: longest, end_token: u32::MAX };
    for turn_idx in 0..last_turn {
        // An episode that is over plays its last turn again where it is not dropped.
        let playing: Vec<(usize, usize)> = (0..episodes.len())
            .filter(|&slot| !variant.drops_finished || turn_idx < episodes[slot].turns.len())
            .map(|slot| (slot, turn_idx.min(episodes[slot].turns.len() - 1)))
            .collect();
        let prompts: Vec<Vec<u32>> = playing
            .iter()
            .map(|&(slot, turn)| {
                let episode = &episodes[slot];
                let history = episode.turns[..=turn].iter().flat_map(|turn| &turn.entry);
                let branch = &episode.turns[turn].branch;
                episode.opening.iter().chain(history).chain(branch).copied().collect()
            })
            .collect();
        if !variant.reuses_trunk {
            playing.iter().for_each(|&(slot, _)| generator.cache_mut().truncate(slot, 0));
        }
        if variant.drops_finished && (turn_idx == 0 || !variant.reuses_trunk) {
            cost.prefilled += share_openings(policy, &mut generator, episodes, &playing)?;
        }
        let held: Vec<usize> = playing.iter().map(|&(slot, _)| generator.cache().len(slot)).collect();
        let constraints: Vec<FixedLength> =
            playing.iter().map(|&(slot, turn)| FixedLength(episodes[slot].turns[turn].reply_len)).collect();
        let mut streams: Vec<&mut ChaCha8Rng> = rngs
            .iter_mut()
            .enumerate()
            .filter(|(slot, _)| playing.iter().any(|(playing, _)| playing == slot))
            .map(|(_, rng)| rng)
            .collect();
        let mut requests: Vec<Request<'_, &mut ChaCha8Rng>> = playing
            .iter()
            .zip(streams.drain(..))
            .enumerate()
            .map(|(index, (&(slot, _), rng))| Request {
                slot,
                tokens: &prompts[index][held[index]..],
                constraint: &constraints[index],
                rng,
            })
            .collect();
        let (drawn, _) = generator.generate(policy, &mut requests, &sampling)?;
        for (index, (&(slot, turn), reply)) in playing.iter().zip(drawn).enumerate() {
            let prompt = prompts[index].len();
            let branch = episodes[slot].turns[turn].branch.len();
            let entry = episodes[slot].turns[turn].entry.len();
            let opening = if turn_idx == 0 { episodes[slot].opening.len() } else { 0 };
            cost.encoded += if variant.reuses_trunk { opening + entry + branch } else { prompt };
            cost.prefilled += prompt - held[index];
            cost.reused += held[index];
            cost.decoded += reply.tokens.len();
            generator.cache_mut().truncate(slot, prompt - branch);
            if turn_idx < episodes[slot].turns.len() {
                replies[slot].push(reply.tokens);
            }
        }
    }
    Ok(replies)
}

/// Runs the opening of each group once and copies it to the group's slots; returns the tokens run.
fn share_openings(
    policy: &Transformer,
    generator: &mut Generator,
    episodes: &[Episode],
    playing: &[(usize, usize)],
) -> Result<usize> {
    let mut leaders: Vec<usize> = Vec::new();
    for &(slot, _) in playing {
        if !leaders.iter().any(|&leader| episodes[leader].group == episodes[slot].group) {
            leaders.push(slot);
        }
    }
    let openings: Vec<(usize, &[u32])> =
        leaders.iter().map(|&slot| (slot, episodes[slot].opening.as_slice())).collect();
    let n_run = generator.extend(policy, &openings)?;
    for &(slot, _) in playing {
        let leader = leaders.iter().find(|&&leader| episodes[leader].group == episodes[slot].group);
        if let Some(&leader) = leader.filter(|&&leader| leader != slot) {
            generator.cache_mut().copy_prefix(leader, slot, episodes[slot].opening.len());
        }
    }
    Ok(n_run)
}

fn update(
    policy: &Transformer,
    episodes: &[Episode],
    replies: &[Vec<Vec<ReplyToken>>],
    variant: Variant,
    cost: &mut Cost,
) -> Result<()> {
    let trajectories: Vec<TokenTrajectory> = episodes
        .iter()
        .zip(replies)
        .flat_map(|(episode, replies)| trajectories_of(episode, replies, variant))
        .collect();
    let advantages: Vec<Vec<f32>> = trajectories
        .iter()
        .enumerate()
        .map(|(index, it)| vec![if index % 2 == 0 { 0.5 } else { -0.5 }; it.turns.len()])
        .collect();
    let old_logprobs = if variant.keeps_logprobs { OldLogprobs::Sampler } else { OldLogprobs::Recompute };
    let loss = LossConfig { old_logprobs, ..LossConfig::default() };
    let mut trained = policy.clone();
    let mut learner = Learner::for_model(&trained, &LearnerConfig::default())?;
    let mut optimizer = Optimizer::for_model(&trained, &OptimizerConfig::default())?;
    let metrics = learner.update(
        &mut trained,
        &mut optimizer,
        policy,
        &trajectories,
        &advantages,
        &loss,
        1.0,
        &mut ChaCha8Rng::seed_from_u64(0),
    )?;
    let packed = metrics.packed_tokens as usize;
    let passes = if variant.keeps_logprobs { 1 } else { 2 };
    cost.trained = packed / passes;
    cost.recomputed = packed - cost.trained;
    Ok(())
}

/// An episode as it is trained on: whole, or each turn a sample of its own. Where the head runs on all tokens the prompt
/// is handed over as a part of the reply: the work is the same, whatever the loss of these tokens means.
fn trajectories_of(episode: &Episode, replies: &[Vec<ReplyToken>], variant: Variant) -> Vec<TokenTrajectory> {
    let of_turns = |turns| TokenTrajectory { group: episode.group as u64, stratum: 0, turns, return_: 0.0 };
    let mut trunk = episode.opening.clone();
    let mut turns = Vec::new();
    for (index, (turn, reply)) in episode.turns.iter().zip(replies).enumerate() {
        trunk.extend(&turn.entry);
        let (mut branch, mut reply) = (turn.branch.clone(), reply.clone());
        let mut joins = if index == 0 { trunk.clone() } else { turn.entry.clone() };
        if !variant.trains_branches {
            branch = trunk.iter().chain(&branch).copied().collect();
            joins = Vec::new();
        }
        if !variant.keeps_logprobs {
            let read = |&token: &u32| ReplyToken { token, logprob: -1.0, allowed: Vec::new() };
            reply = branch[1..].iter().map(read).chain(reply).collect();
            branch.truncate(1);
        }
        turns.push(TokenTurn { trunk: joins, branch, reply, invalid: false });
    }
    if variant.trains_branches {
        return vec![of_turns(turns)];
    }
    turns.into_iter().map(|turn| of_turns(vec![turn])).collect()
}
