//! A house with open shelves and closed containers, and a policy that often forgets to open what is closed.

use std::sync::Arc;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_envs::{ActionTemplate, ActionVocabulary, Episode, Outcome, Split, Task, TaskId, Turn};
use reskill_skills::{Arm, Guidance, Polarity, SkillBank, SkillEpisode};

pub(crate) const PLACES: [&str; 8] =
    ["drawer 1", "drawer 2", "cabinet 1", "cabinet 2", "cabinet 3", "shelf 1", "shelf 2", "table 1"];

pub(crate) fn vocabulary() -> ActionVocabulary {
    let template = |text: &str| ActionTemplate { name: text.into(), template: text.into() };
    let texts = [
        "go to {r}",
        "open {r}",
        "close {r}",
        "take {o} from {r}",
        "put {o} in {r}",
        "look",
        "inventory",
        "examine {r}",
    ];
    ActionVocabulary { templates: texts.into_iter().map(template).collect() }
}

pub(crate) fn task(index: u64) -> Arc<Task> {
    Arc::new(Task {
        id: TaskId(format!("train/pick-{index:04}")),
        split: Split::Train,
        family: "pick".into(),
        goal: "put a apple in table".into(),
    })
}

/// How the policy behaves.
#[derive(Clone, Copy)]
pub(crate) struct Policy {
    /// Opens a closed container it stands at, without being told.
    pub(crate) opens: f64,
    /// Heeds guidance that it is shown.
    pub(crate) heeds: f64,
    /// Plays `look` or `inventory` for no reason.
    pub(crate) idles: f64,
}

pub(crate) const FORGETFUL: Policy = Policy { opens: 0.35, heeds: 0.95, idles: 0.15 };

/// Plays one episode of at most 14 turns.
pub(crate) fn play(
    task_index: u64,
    policy: Policy,
    bank: &SkillBank,
    arm: Arm,
    group: u64,
    seed: u64,
) -> SkillEpisode {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let home = PLACES[(task_index % 7) as usize];
    let closed = |place: &str| !place.starts_with("shelf") && !place.starts_with("table");
    let mut opened: Vec<&str> = Vec::new();
    let (mut at, mut holding) = ("", false);
    let mut turns: Vec<Turn> = Vec::new();
    let mut triggered = Vec::new();
    let mut success = false;
    while turns.len() < 14 && !success {
        let can_open = !at.is_empty() && closed(at) && !opened.contains(&at);
        let sees = at == home && !holding && !can_open;
        let mut admissible: Vec<String> =
            PLACES.iter().filter(|place| **place != at).map(|place| format!("go to {place}")).collect();
        admissible.extend(["look".to_owned(), "inventory".to_owned()]);
        if !at.is_empty() {
            admissible.push(format!("examine {at}"));
            if can_open {
                admissible.push(format!("open {at}"));
            } else if closed(at) {
                admissible.push(format!("close {at}"));
            }
            if sees {
                admissible.push(format!("take apple 1 from {at}"));
            }
            if holding && !can_open {
                admissible.push(format!("put apple 1 in {at}"));
            }
        }
        let previous = turns.last().and_then(|turn| turn.action.clone());
        let shown = bank.triggered(turns.len(), previous.as_deref());
        triggered.push(shown.iter().map(|skill| skill.id.clone()).collect());
        let told: Option<Guidance> = shown.iter().find_map(|skill| skill.content.guidance.clone());
        let mut action = if holding && at.starts_with("table") {
            format!("put apple 1 in {at}")
        } else if sees && rng.random_bool(0.95) {
            format!("take apple 1 from {at}")
        } else if can_open && rng.random_bool(policy.opens) {
            format!("open {at}")
        } else if rng.random_bool(policy.idles) {
            if rng.random_bool(0.5) { "look".into() } else { "inventory".into() }
        } else if holding && rng.random_bool(0.8) {
            "go to table 1".into()
        } else {
            admissible[rng.random_range(0..7)].clone()
        };
        if let Some(told) = told.filter(|told| told.polarity == Polarity::Next)
            && rng.random_bool(policy.heeds)
            && let Some(command) = admissible.iter().find(|command| command.starts_with(&told.verb))
        {
            action = command.clone();
        }
        if let Some(place) = action.strip_prefix("go to ") {
            at = PLACES.iter().find(|known| **known == place).unwrap();
        } else if action.starts_with("open") {
            opened.push(at);
        } else if action.starts_with("close") {
            opened.retain(|place| *place != at);
        } else if action.starts_with("take") {
            holding = true;
        } else if action.starts_with("put") {
            holding = false;
            success = at.starts_with("table");
        }
        turns.push(Turn {
            observation: at.into(),
            admissible,
            reply: action.clone(),
            action: Some(action),
            valid: true,
        });
    }
    SkillEpisode { episode: episode(task_index, turns, success), arm, group, step: 0, triggered }
}

pub(crate) fn episode(task_index: u64, turns: Vec<Turn>, success: bool) -> Episode {
    Episode {
        task: task(task_index),
        turns,
        final_observation: String::new(),
        outcome: if success { Outcome::Success } else { Outcome::Failure },
        return_: f32::from(u8::from(success)),
        score: f32::from(u8::from(success)),
        fault: None,
    }
}

/// A batch in which the outcome is a coin, whatever was done: the coin's bias belongs to the task.
pub(crate) fn null_batch(n_tasks: u64, per_task: u64, seed: u64) -> Vec<SkillEpisode> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut batch = Vec::new();
    for index in 0..n_tasks {
        let ease: f64 = rng.random_range(0.1..0.9);
        for _ in 0..per_task {
            let mut played =
                play(index, FORGETFUL, &SkillBank::default(), Arm::Incumbent, index, rng.random());
            played.episode.turns.truncate(8);
            played.episode.outcome = if rng.random_bool(ease) { Outcome::Success } else { Outcome::Failure };
            batch.push(played);
        }
    }
    batch
}

/// One training step: groups of rollouts, arms as given by the caller.
pub(crate) fn batch(step: u64, n_tasks: u64, per_task: u64, policy: Policy, seed: u64) -> Vec<SkillEpisode> {
    (0..n_tasks)
        .flat_map(|index| {
            (0..per_task).map(move |rollout| {
                let group = step * n_tasks + index;
                let seed = seed.wrapping_mul(1_000_003) ^ (group * 97 + rollout);
                play(group, policy, &SkillBank::default(), Arm::Incumbent, group, seed)
            })
        })
        .collect()
}
