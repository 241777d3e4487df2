//! Rollouts: many episodes side by side, their replies generated in one batch a turn.

use std::collections::HashMap;
use std::ops::AddAssign;
use std::sync::Arc;

use anyhow::{Context, Result};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use reskill_envs::prompt::{ParsedReply, PromptBuilder};
use reskill_envs::{EnvError, Episode, Observation, Outcome, Suite, Task, TextEnv, Turn};
use reskill_grpo::{Anchor, StepOutcome, TokenTrajectory, TokenTurn};
use reskill_model::{Generator, Request, SamplingParams};
use reskill_skills::{Arm, SkillBank, SkillEpisode, SkillId};
use tracing::warn;

use crate::config::{Reward, RolloutConfig};
use crate::policy::{Policy, ReplyConstraint};

/// One episode, as text and as tokens: both halves of what is known of it.
#[derive(Debug, Clone)]
pub struct Trajectory {
    /// The text, the arm and the skills that fired.
    pub record: SkillEpisode,
    /// The tokens.
    pub tokens: TokenTrajectory,
}

impl Trajectory {
    /// What each turn met and brought: the observation with its admissible commands as anchor, the return at the end.
    #[must_use]
    pub fn step_outcomes(&self) -> Vec<StepOutcome> {
        let turns = &self.record.episode.turns;
        let outcome = |(index, turn): (usize, &Turn)| {
            let anchor = format!("{}\n{}", turn.observation, turn.admissible.join("\n"));
            let reward = if index + 1 == turns.len() { self.tokens.return_ } else { 0.0 };
            StepOutcome { anchor: Anchor(anchor), reward }
        };
        turns.iter().enumerate().map(outcome).collect()
    }
}

/// One episode to play.
pub struct Assignment<'a> {
    /// The task.
    pub task: Arc<Task>,
    /// GRPO group, unique over the run.
    pub group: u64,
    /// The version of the bank it plays.
    pub arm: Arm,
    /// That bank.
    pub bank: &'a SkillBank,
    /// Its own stream of draws.
    pub rng: ChaCha8Rng,
}

/// Settings of a rollout.
#[derive(Debug, Clone, Copy)]
pub struct RolloutSettings {
    /// Longest episode in turns.
    pub max_turns: usize,
    /// Return of a success, or of a full score.
    pub success_reward: f32,
    /// What the return is made of.
    pub reward: Reward,
    /// How tokens are drawn.
    pub sampling: SamplingParams,
    /// Training step, for the records.
    pub step: u64,
}

impl RolloutSettings {
    /// As a configuration has it, for this policy.
    #[must_use]
    pub fn new(config: &RolloutConfig, policy: &Policy, step: u64, temperature: f32) -> RolloutSettings {
        RolloutSettings {
            max_turns: config.max_turns,
            success_reward: config.success_reward,
            reward: config.reward,
            sampling: SamplingParams {
                temperature,
                max_new_tokens: config.max_new_tokens,
                end_token: policy.tokenizer.end_token(),
            },
            step,
        }
    }
}

/// What a rollout cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RolloutCost {
    /// Tokens that went through the network.
    pub tokens_run: usize,
    /// Tokens that would have, had every turn encoded its whole prompt again.
    pub tokens_without_reuse: usize,
    /// Tokens of replies.
    pub tokens_generated: usize,
    /// Turns played.
    pub turns: usize,
    /// Episodes that ended because their context was full.
    pub overflowed: usize,
}

impl AddAssign for RolloutCost {
    fn add_assign(&mut self, other: RolloutCost) {
        self.tokens_run += other.tokens_run;
        self.tokens_without_reuse += other.tokens_without_reuse;
        self.tokens_generated += other.tokens_generated;
        self.turns += other.turns;
        self.overflowed += other.overflowed;
    }
}

/// The episodes of a rollout, before one of its turns.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Flight {
    /// The turn, from 0.
    pub turn_idx: usize,
    /// Every episode, in the order of the assignments: its group, and how far it is.
    pub episodes: Vec<(u64, EpisodeState)>,
}

/// How far an episode is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EpisodeState {
    /// On its way.
    Running,
    /// Ended with success.
    Won,
    /// Ended without.
    Ended,
}

impl Flight {
    fn of(turn_idx: usize, episodes: &[Running<'_>]) -> Flight {
        let state = |one: &Running<'_>| match (one.done, one.won) {
            (false, _) => EpisodeState::Running,
            (true, true) => EpisodeState::Won,
            (true, false) => EpisodeState::Ended,
        };
        Flight { turn_idx, episodes: episodes.iter().map(|one| (one.assignment.group, state(one))).collect() }
    }

    /// How many are on their way.
    #[must_use]
    pub fn n_running(&self) -> usize {
        self.episodes.iter().filter(|(_, state)| *state == EpisodeState::Running).count()
    }
}

/// An episode on its way.
struct Running<'a> {
    assignment: Assignment<'a>,
    slot: usize,
    /// Absent if it could not be opened.
    env: Option<Box<dyn TextEnv>>,
    prompt: PromptBuilder,
    now: Observation,
    turns: Vec<Turn>,
    triggered: Vec<Vec<SkillId>>,
    token_turns: Vec<TokenTurn>,
    /// Trunk tokens that are not in the cache yet.
    new_trunk: Vec<u32>,
    /// Length of the whole trunk.
    trunk_len: usize,
    score: f32,
    won: bool,
    done: bool,
    /// Why the environment lost this episode.
    fault: Option<String>,
}

/// One turn that waits for its reply.
struct Pending {
    tokens: Vec<u32>,
    branch: Vec<u32>,
    constraint: ReplyConstraint,
    skills: Vec<SkillId>,
}

/// Plays all assignments to their end; results come in their order.
///
/// No more episodes run at once than the environment can have. Each turn runs only what is new: the trunk stays in the cache, the branch is dropped after the reply, and episodes
/// that open with the same trunk share its computation. `progress` is called before each turn.
///
/// An episode that its environment loses ends there, marked as lost; the others go on.
///
/// # Errors
/// If a game cannot be opened for another reason, or a prompt outgrows the context.
pub fn collect(
    policy: &Policy,
    suite: &dyn Suite,
    assignments: Vec<Assignment<'_>>,
    settings: &RolloutSettings,
    progress: &mut dyn FnMut(Flight),
) -> Result<(Vec<Trajectory>, RolloutCost)> {
    let mut waiting = assignments.into_iter();
    let mut all = (Vec::new(), RolloutCost::default());
    loop {
        let batch: Vec<Assignment<'_>> = waiting.by_ref().take(suite.max_running().max(1)).collect();
        if batch.is_empty() {
            return Ok(all);
        }
        let (trajectories, cost) = collect_at_once(policy, suite, batch, settings, progress)?;
        all.0.extend(trajectories);
        all.1 += cost;
    }
}

/// Plays all assignments side by side.
fn collect_at_once(
    policy: &Policy,
    suite: &dyn Suite,
    assignments: Vec<Assignment<'_>>,
    settings: &RolloutSettings,
    progress: &mut dyn FnMut(Flight),
) -> Result<(Vec<Trajectory>, RolloutCost)> {
    let total = assignments.len();
    let capacity = policy.context;
    let mut generator = Generator::on(&policy.model.device(), policy.model.config(), total, capacity)?;
    let mut cost = RolloutCost::default();
    let mut running: Vec<Running<'_>> = assignments
        .into_par_iter()
        .enumerate()
        .map(|(slot, assignment)| Running::start(policy, suite, assignment, slot))
        .collect::<Result<_>>()?;
    share_openings(policy, &mut generator, &running, &mut cost)?;
    for turn_idx in 0..settings.max_turns {
        let flight = Flight::of(turn_idx, &running);
        if flight.n_running() == 0 {
            break;
        }
        progress(flight);
        let mut active: Vec<&mut Running<'_>> = running.iter_mut().filter(|one| !one.done).collect();
        let asked: Vec<Pending> =
            active.par_iter_mut().map(|one| one.ask(policy, suite, turn_idx)).collect::<Result<_>>()?;
        // An episode whose context is full ends here, as one that ran out of turns.
        let (mut still, mut pending) = (Vec::new(), Vec::new());
        for (one, ask) in active.into_iter().zip(asked) {
            if one.trunk_len + ask.branch.len() + settings.sampling.max_new_tokens > capacity {
                one.done = true;
                cost.overflowed += 1;
            } else {
                still.push(one);
                pending.push(ask);
            }
        }
        let mut active: Vec<&mut Running<'_>> = still;
        if active.is_empty() {
            continue;
        }
        let mut requests: Vec<Request<'_, &mut ChaCha8Rng>> = active
            .iter_mut()
            .zip(&pending)
            .map(|(one, pending)| Request {
                slot: one.slot,
                tokens: &pending.tokens,
                constraint: &pending.constraint,
                rng: &mut one.assignment.rng,
            })
            .collect();
        let (replies, n_run) = generator
            .generate(&policy.model, &mut requests, &settings.sampling)
            .with_context(|| format!("raise {} or lower rollout.max_turns", policy.context_key()))?;
        cost.tokens_run += n_run;
        for (one, (reply, pending)) in active.iter().zip(replies.iter().zip(&pending)) {
            cost.tokens_generated += reply.tokens.len();
            cost.tokens_without_reuse += one.trunk_len + pending.branch.len() + reply.tokens.len();
            cost.turns += 1;
            generator.cache_mut().truncate(one.slot, one.trunk_len);
        }
        active
            .into_par_iter()
            .zip(replies)
            .zip(pending)
            .try_for_each(|((one, reply), pending)| one.answer(policy, suite, reply, pending))?;
    }
    let finished = running.into_iter().map(|one| one.finish(settings)).collect();
    Ok((finished, cost))
}

/// Runs each distinct opening once and copies it to the other slots that begin with it.
fn share_openings(
    policy: &Policy,
    generator: &mut Generator,
    running: &[Running<'_>],
    cost: &mut RolloutCost,
) -> Result<()> {
    let mut leaders: HashMap<Vec<u32>, usize> = HashMap::new();
    let mut followers = Vec::new();
    for one in running.iter().filter(|one| !one.done) {
        match leaders.get(&one.new_trunk) {
            Some(&leader) => followers.push((leader, one.slot, one.trunk_len)),
            None => {
                leaders.insert(one.new_trunk.clone(), one.slot);
            }
        }
    }
    let mut openings: Vec<(usize, &[u32])> =
        leaders.iter().map(|(tokens, &slot)| (slot, tokens.as_slice())).collect();
    // A layout without trunk has nothing to share.
    openings.retain(|(_, tokens)| !tokens.is_empty());
    openings.sort_unstable_by_key(|&(slot, _)| slot);
    cost.tokens_run += generator.extend(&policy.model, &openings)?;
    for (leader, slot, len) in followers {
        generator.cache_mut().copy_prefix(leader, slot, len);
    }
    Ok(())
}

impl<'a> Running<'a> {
    fn start(
        policy: &Policy,
        suite: &dyn Suite,
        assignment: Assignment<'a>,
        slot: usize,
    ) -> Result<Running<'a>> {
        let begun = suite.open(&assignment.task.id).and_then(|mut env| Ok((env.reset()?, env)));
        let (now, env, fault) = match begun {
            Ok((now, env)) => (now, Some(env), None),
            Err(error) => (Observation::default(), None, Some(lost(error, &assignment.task)?)),
        };
        let mut prompt = PromptBuilder::new(&policy.prompt, &assignment.task).speaking(&policy.manner);
        let general: Vec<&str> =
            assignment.bank.general().iter().map(|skill| skill.content.action.as_str()).collect();
        let opening = prompt.opening(&assignment.task, &general);
        let new_trunk = policy.opening_ids(&opening)?;
        Ok(Running {
            slot,
            env,
            prompt,
            now,
            turns: Vec::new(),
            triggered: Vec::new(),
            token_turns: Vec::new(),
            trunk_len: new_trunk.len(),
            new_trunk,
            score: 0.0,
            won: false,
            done: fault.is_some(),
            fault,
            assignment,
        })
    }

    /// The prompt of the next turn.
    fn ask(&mut self, policy: &Policy, suite: &dyn Suite, turn_idx: usize) -> Result<Pending> {
        let previous = self.turns.last().and_then(|turn| turn.action.as_deref());
        let skills = self.assignment.bank.triggered(turn_idx, previous);
        let guidance: Vec<&str> = skills.iter().map(|skill| skill.content.action.as_str()).collect();
        let text = self.prompt.branch(suite.vocabulary(), &self.now, &guidance);
        let branch = policy.branch_ids(&text)?;
        let cached = if turn_idx == 0 { &[] } else { self.new_trunk.as_slice() };
        let tokens = cached.iter().chain(&branch).copied().collect();
        Ok(Pending {
            tokens,
            branch,
            constraint: policy.constraint(&self.now.admissible)?,
            skills: skills.iter().map(|skill| skill.id.clone()).collect(),
        })
    }

    /// Plays the reply.
    fn answer(
        &mut self,
        policy: &Policy,
        suite: &dyn Suite,
        reply: reskill_model::Reply,
        pending: Pending,
    ) -> Result<()> {
        let (text, ParsedReply { action, valid }) =
            policy.read_reply(&pending.constraint, &self.now.admissible, &reply)?;
        let played = match (action.as_deref(), &mut self.env) {
            (Some(action), Some(env)) => env.step(action).map(Some),
            _ => Ok(None),
        };
        let next = match played {
            Ok(next) => next,
            Err(error) => {
                self.fault = Some(lost(error, &self.assignment.task)?);
                self.done = true;
                None
            }
        };
        let now = next.as_ref().map_or_else(|| self.now.clone(), |step| step.observation.clone());
        let entry = self.prompt.entry(suite.vocabulary(), action.as_deref(), &now.text);
        let before = std::mem::replace(&mut self.now, now);
        self.turns.push(Turn {
            observation: before.text,
            admissible: before.admissible,
            reply: text,
            action,
            valid,
        });
        self.triggered.push(pending.skills);
        self.token_turns.push(TokenTurn {
            trunk: std::mem::take(&mut self.new_trunk),
            branch: pending.branch,
            reply: reply.tokens,
            invalid: !valid,
        });
        self.new_trunk = policy.tokenizer.encode(&entry)?.to_vec();
        self.trunk_len += self.new_trunk.len();
        if let Some(step) = next {
            self.score = step.score;
            self.won = step.won;
            self.done = step.done;
        }
        Ok(())
    }

    fn finish(self, settings: &RolloutSettings) -> Trajectory {
        let is_won = self.won && self.fault.is_none();
        let share = match settings.reward {
            Reward::Success => f32::from(u8::from(is_won)),
            Reward::Score => self.score,
        };
        let return_ = if self.fault.is_none() { settings.success_reward * share } else { 0.0 };
        let Assignment { task, group, arm, .. } = self.assignment;
        let stratum = match arm {
            Arm::Incumbent => 0,
            Arm::Candidate(index) => 1 + u32::from(index),
        };
        Trajectory {
            record: SkillEpisode {
                episode: Episode {
                    task,
                    turns: self.turns,
                    final_observation: self.now.text,
                    outcome: if is_won { Outcome::Success } else { Outcome::Failure },
                    return_,
                    score: self.score,
                    fault: self.fault,
                },
                arm,
                group,
                step: settings.step,
                triggered: self.triggered,
            },
            tokens: TokenTrajectory { group, stratum, turns: self.token_turns, return_ },
        }
    }
}

/// What an episode is marked with when its environment lost it; any other error ends the run.
fn lost(error: EnvError, task: &Task) -> Result<String> {
    if !error.is_fault() {
        return Err(error).with_context(|| format!("task {}", task.id));
    }
    let fault = error.to_string();
    warn!(task = %task.id, fault, "an episode is lost");
    Ok(fault)
}
