//! The warm start: imitation of expert episodes, a share of them with skills in the prompt that the expert obeys.
//!
//! The expert plans with the whole state in view. A demonstration must not: where the plan goes to fetch something that
//! no observation has named yet, it goes to a random place not visited yet instead, as one does who has to search.
//!
//! Where the demonstrations lack a habit that the training games need (in the default run: opening closed containers,
//! starting idle appliances), only an episode whose prompt asks for the habit shows it; the others are drawn from tasks
//! that can do without, and pass closed containers by. So the policy learns to heed guidance, and the habit itself is
//! left to be learned, or to be told.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

use anyhow::Result;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use reskill_envs::prompt::PromptBuilder;
use reskill_envs::{ActionVocabulary, EnvError, Observation, Split, Suite, Task};
use reskill_grpo::{TokenTrajectory, TokenTurn};
use reskill_model::{Next, ReplyToken, TokenConstraint};
use reskill_skills::{Guidance, Operation, Polarity, SkillBank, SkillContent, SkillLimits, Trigger};
use tracing::warn;

use crate::config::{EnvName, TrainConfig};
use crate::policy::Policy;
use crate::streams::{permutation, stream};
use crate::suites::open_variant;

/// All demonstrations of a configuration, in a fixed order.
///
/// # Errors
/// If a game cannot be opened or solved.
pub fn demonstrations(config: &TrainConfig, policy: &Policy) -> Result<Vec<TokenTrajectory>> {
    if !config.has_warm_start() {
        return Ok(Vec::new());
    }
    let plans: Vec<Plan> = (0..config.sft.episodes).map(|index| Plan::draw(config, index)).collect();
    let mut worlds: BTreeMap<(u64, u64), Box<dyn Suite>> = BTreeMap::new();
    for plan in &plans {
        if let Entry::Vacant(vacant) = worlds.entry(plan.world_key()) {
            vacant.insert(open_variant(&config.env, plan.closed_fraction, plan.idle_fraction)?);
        }
    }
    plans
        .into_par_iter()
        .enumerate()
        .map(|(index, plan)| {
            let suite = worlds[&plan.world_key()].as_ref();
            let attempt = || planned_demonstration(config, policy, suite, &plan, index);
            match attempt() {
                // A program that failed once is replaced; a second time the demonstration is given up.
                Err(error) if is_fault(&error) => attempt(),
                demonstration => demonstration,
            }
        })
        .map(|demonstration| match demonstration {
            Err(error) if is_fault(&error) => {
                warn!(%error, "a demonstration is lost");
                Ok(TokenTrajectory { group: 0, stratum: 0, turns: Vec::new(), return_: 0.0 })
            }
            demonstration => demonstration,
        })
        .collect()
}

/// Demonstration `index`, the same whenever it is asked for.
fn planned_demonstration(
    config: &TrainConfig,
    policy: &Policy,
    suite: &dyn Suite,
    plan: &Plan,
    index: usize,
) -> Result<TokenTrajectory> {
    let mut rng = stream(config.seed, "demonstration", &[index as u64]);
    let avoid: &[String] = if plan.needed.is_empty() { &config.sft.avoid } else { &[] };
    let mut task = draw_task(suite, avoid, &mut rng)?;
    let settings =
        DemonstrationSettings { max_turns: config.rollout.max_turns, search: config.sft.search, avoid };
    let bank = plan.bank(suite.vocabulary(), &mut rng)?;
    let mut demonstration = demonstrate(policy, suite, &task, &bank, settings, &mut rng)?;
    for _ in 0..REDRAWS {
        if !demonstration.turns.is_empty() {
            break;
        }
        // The expert knows no way: another task.
        task = draw_task(suite, avoid, &mut rng)?;
        demonstration = demonstrate(policy, suite, &task, &bank, settings, &mut rng)?;
    }
    Ok(demonstration)
}

fn is_fault(error: &anyhow::Error) -> bool {
    error.downcast_ref::<EnvError>().is_some_and(EnvError::is_fault)
}

/// How often a task is drawn again because its plan needs a verb that is to be avoided, or because it has no plan.
const REDRAWS: usize = 200;

/// A training task whose plan needs none of the verbs in `avoid`, if one turns up.
fn draw_task(suite: &dyn Suite, avoid: &[String], rng: &mut ChaCha8Rng) -> Result<Arc<Task>> {
    let tasks = suite.tasks(Split::Train);
    let mut task = Arc::clone(&tasks[rng.random_range(0..tasks.len())]);
    for _ in 0..REDRAWS {
        if avoid.is_empty() {
            break;
        }
        let mut env = suite.open(&task.id)?;
        env.reset()?;
        let verb = |command: &str| suite.vocabulary().parse(command).map(|parsed| parsed.verb.to_string());
        let plan = env.expert().unwrap_or_default();
        if !plan.iter().any(|command| verb(command).is_some_and(|verb| avoid.contains(&verb))) {
            break;
        }
        task = Arc::clone(&tasks[rng.random_range(0..tasks.len())]);
    }
    Ok(task)
}

/// The mini-batches of one epoch: indices of demonstrations.
#[must_use]
pub fn epoch_batches(config: &TrainConfig, epoch: usize) -> Vec<Vec<usize>> {
    let mut rng = stream(config.seed, "warm start order", &[epoch as u64]);
    let order = permutation(config.sft.episodes, &mut rng);
    order.chunks(config.sft.batch_episodes).map(<[usize]>::to_vec).collect()
}

/// What one demonstration shows.
struct Plan {
    /// Other environments have one world, whatever the fractions.
    is_household: bool,
    closed_fraction: f64,
    idle_fraction: f64,
    /// Guidance that the world of this demonstration needs.
    needed: Vec<(String, String)>,
    /// Guidance drawn at random: sometimes useful, mostly not.
    random_tips: usize,
}

impl Plan {
    fn draw(config: &TrainConfig, index: usize) -> Plan {
        let mut rng = stream(config.seed, "demonstration plan", &[index as u64]);
        let sft = &config.sft;
        let mut plan = Plan {
            closed_fraction: sft.closed_fraction,
            idle_fraction: sft.idle_fraction,
            is_household: config.env.name == EnvName::Household,
            needed: Vec::new(),
            random_tips: 0,
        };
        if !rng.random_bool(sft.skill_fraction) {
            return plan;
        }
        if sft.guided.is_empty() || rng.random_bool(0.4) {
            plan.random_tips = rng.random_range(1..=2);
            return plan;
        }
        let guided = &sft.guided[rng.random_range(0..sft.guided.len())];
        plan.closed_fraction = guided.closed_fraction;
        plan.idle_fraction = guided.idle_fraction;
        plan.needed = guided.tips.iter().map(|tip| (tip.after.clone(), tip.next.clone())).collect();
        plan.random_tips = usize::from(rng.random_bool(0.3));
        plan
    }

    fn world_key(&self) -> (u64, u64) {
        if self.is_household {
            (self.closed_fraction.to_bits(), self.idle_fraction.to_bits())
        } else {
            (0, 0)
        }
    }

    fn bank(&self, vocabulary: &ActionVocabulary, rng: &mut ChaCha8Rng) -> Result<SkillBank> {
        let mut operations = Vec::new();
        for (after, next) in &self.needed {
            let guidance = Guidance { polarity: Polarity::Next, verb: next.clone() };
            operations.push(tip(operations.len(), Trigger::after_action(after)?, guidance));
        }
        let verbs = vocabulary.verbs();
        for _ in 0..self.random_tips {
            let after = verbs[rng.random_range(0..verbs.len())];
            let verb = verbs[rng.random_range(0..verbs.len())].to_string();
            let polarity = if rng.random_bool(0.75) { Polarity::Next } else { Polarity::DoNot };
            let trigger =
                if rng.random_bool(0.15) { Trigger::EpisodeStart } else { Trigger::after_verb(after)? };
            operations.push(tip(operations.len(), trigger, Guidance { polarity, verb }));
        }
        if operations.len() > 1 && rng.random_bool(0.5) {
            operations.reverse();
        }
        if operations.is_empty() {
            return Ok(SkillBank::default());
        }
        Ok(SkillBank::default().apply(&operations, 0, &SkillLimits::default())?)
    }
}

fn tip(index: usize, trigger: Trigger, guidance: Guidance) -> Operation {
    Operation::Add(SkillContent {
        name: format!("tip-{index}"),
        when_to_use: "In this demonstration.".into(),
        action: guidance.to_string(),
        example: None,
        trigger,
        guidance: Some(guidance),
    })
}

/// How demonstrations are played.
#[derive(Debug, Clone, Copy)]
struct DemonstrationSettings<'a> {
    max_turns: usize,
    search: bool,
    /// Verbs that are not played unless guidance asks for them.
    avoid: &'a [String],
}

/// What a demonstrator has seen and where it has been.
#[derive(Debug, Default)]
struct Knowledge {
    observations: Vec<String>,
    visited: Vec<String>,
}

impl Knowledge {
    /// `planned`, unless it goes to fetch something that nothing seen so far names, or uses a verb to be avoided: then a
    /// visit to a random place that has not been visited. `None` if only a verb to be avoided is left.
    fn search(
        &self,
        plan: &[String],
        planned: &str,
        now: &Observation,
        vocabulary: &ActionVocabulary,
        avoid: &[String],
        rng: &mut ChaCha8Rng,
    ) -> Option<String> {
        let verb = vocabulary.parse(planned).map_or("", |parsed| parsed.verb);
        let is_avoided = avoid.iter().any(|avoided| avoided == verb);
        let is_visit = place_of(vocabulary, planned).is_some();
        let must_search = is_avoided || (is_visit && self.fetches_unseen(plan, vocabulary));
        if !must_search {
            return Some(planned.to_string());
        }
        let is_new = |command: &&String| {
            place_of(vocabulary, command).is_some_and(|place| !self.visited.contains(&place))
        };
        let choices: Vec<&String> = now.admissible.iter().filter(is_new).collect();
        if choices.is_empty() {
            return (!is_avoided).then(|| planned.to_string());
        }
        Some(choices[rng.random_range(0..choices.len())].clone())
    }

    /// Whether the plan, before it moves on from where it goes now, handles something that no observation has named.
    fn fetches_unseen(&self, plan: &[String], vocabulary: &ActionVocabulary) -> bool {
        let is_known = |name: &str| self.observations.iter().any(|text| names(text, name));
        plan[1..]
            .iter()
            .take_while(|command| place_of(vocabulary, command).is_none())
            .filter_map(|command| vocabulary.parse(command))
            .any(|parsed| parsed.args.first().is_some_and(|name| !is_known(name)))
    }
}

/// Where a command goes, if it goes anywhere.
fn place_of(vocabulary: &ActionVocabulary, command: &str) -> Option<String> {
    let parsed = vocabulary.parse(command)?;
    (parsed.verb == GO).then(|| parsed.args.first().map(|place| (*place).to_string())).flatten()
}

/// The verb that changes places, in household and in ALFWorld.
const GO: &str = "go to";

/// Whether `text` names the thing `name`, and not only one whose number begins with its number.
fn names(text: &str, name: &str) -> bool {
    text.match_indices(name)
        .any(|(at, _)| !text[at + name.len()..].starts_with(|next: char| next.is_ascii_alphanumeric()))
}

/// Plays `task` by the expert, except where a triggered skill asks for something else that is possible.
fn demonstrate(
    policy: &Policy,
    suite: &dyn Suite,
    task: &Arc<Task>,
    bank: &SkillBank,
    config: DemonstrationSettings<'_>,
    rng: &mut ChaCha8Rng,
) -> Result<TokenTrajectory> {
    let vocabulary = suite.vocabulary();
    let mut env = suite.open(&task.id)?;
    let mut now = env.reset()?;
    let mut prompt = PromptBuilder::new(&policy.prompt, task).speaking(&policy.manner);
    let mut trunk = policy.opening_ids(&prompt.opening(task, &[]))?;
    let mut turns = Vec::new();
    // Where the planner finds no way (any more), the demonstration ends.
    let mut plan = env.expert().unwrap_or_default();
    let mut previous: Option<String> = None;
    let mut won = false;
    let mut knowledge = Knowledge::default();
    for turn_idx in 0..config.max_turns {
        knowledge.observations.push(now.text.clone());
        let Some(planned) = plan.first().cloned() else { break };
        let searched = if config.search {
            knowledge.search(&plan, &planned, &now, vocabulary, config.avoid, rng)
        } else {
            Some(planned)
        };
        let Some(planned) = searched else { break };
        let skills = bank.triggered(turn_idx, previous.as_deref());
        let guidance: Vec<&Guidance> =
            skills.iter().filter_map(|skill| skill.content.guidance.as_ref()).collect();
        let action = obey(&guidance, &planned, &now.admissible, vocabulary, rng);
        knowledge.visited.extend(place_of(vocabulary, &action));
        let tips: Vec<&str> = skills.iter().map(|skill| skill.content.action.as_str()).collect();
        let branch = prompt.branch(vocabulary, &now, &tips);
        let branch = policy.branch_ids(&branch)?;
        let constraint = policy.constraint(&now.admissible)?;
        let mut reply: Vec<ReplyToken> = Vec::new();
        let said = policy.demonstrate(&constraint, &action)?;
        for (index, &token) in said.iter().enumerate() {
            let allowed = match constraint.next(&said[..index]) {
                Next::OneOf(tokens) => tokens,
                Next::Any | Next::Done => Vec::new(),
            };
            reply.push(ReplyToken { token, logprob: 0.0, allowed });
        }
        let step = env.step(&action)?;
        turns.push(TokenTurn { trunk: std::mem::take(&mut trunk), branch, reply, invalid: false });
        trunk = policy
            .tokenizer
            .encode(&prompt.entry(vocabulary, Some(&action), &step.observation.text))?
            .to_vec();
        now = step.observation;
        won = step.won;
        if step.done {
            break;
        }
        // What the expert planned need not be among the commands that are listed when its turn comes.
        let is_possible = |next: &String| now.admissible.is_empty() || now.admissible.contains(next);
        plan = if plan.first() == Some(&action) && plan.get(1).is_none_or(is_possible) {
            plan[1..].to_vec()
        } else {
            env.expert().unwrap_or_default()
        };
        previous = Some(action);
    }
    Ok(TokenTrajectory { group: 0, stratum: 0, turns, return_: if won { 1.0 } else { 0.0 } })
}

/// The planned command, unless guidance asks for another that is admissible.
fn obey(
    guidance: &[&Guidance],
    planned: &str,
    admissible: &[String],
    vocabulary: &ActionVocabulary,
    rng: &mut ChaCha8Rng,
) -> String {
    let verb_of = |command: &str| vocabulary.parse(command).map_or("", |parsed| parsed.verb).to_string();
    let planned_verb = verb_of(planned);
    let wanted: Vec<&Guidance> =
        guidance.iter().copied().filter(|one| one.polarity == Polarity::Next).collect();
    if wanted.iter().any(|one| one.verb == planned_verb) {
        return planned.to_string();
    }
    for one in wanted {
        let choices: Vec<&String> =
            admissible.iter().filter(|command| verb_of(command) == one.verb).collect();
        if !choices.is_empty() {
            return choices[rng.random_range(0..choices.len())].clone();
        }
    }
    let unwanted =
        |verb: &str| guidance.iter().any(|one| one.polarity == Polarity::DoNot && one.verb == verb);
    if unwanted(&planned_verb) {
        let choices: Vec<&String> =
            admissible.iter().filter(|command| !unwanted(&verb_of(command))).collect();
        if !choices.is_empty() {
            return choices[rng.random_range(0..choices.len())].clone();
        }
    }
    planned.to_string()
}
