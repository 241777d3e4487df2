//! Which skills may go, or should fire less.

use crate::bank::{Operation, SkillBank};
use crate::creator::CreatorContext;
use crate::creator::artefacts::{Change, Recommendation};
use crate::creator::offline::association::{Row, associate};
use crate::creator::offline::config::OfflineConfig;
use crate::creator::offline::habit::rank;
use crate::creator::offline::mine::mine;
use crate::creator::offline::{rejections, rests};
use crate::creator::verify::fires_in;
use crate::episode::{Rate, SkillEpisode, heeded};
use crate::guidance::Polarity;
use crate::skill::{Skill, SkillId, SkillStatus};

/// A narrower trigger must spare at least this share of a skill's turns.
const MIN_SPARED: f64 = 0.3;

/// A skill that earns its place no more.
#[derive(Debug, Clone, PartialEq)]
pub struct Weak {
    /// The skill.
    pub id: SkillId,
    /// Why.
    pub why: String,
    /// The lower, the weaker.
    pub score: f64,
}

impl Weak {
    /// The advice to delete it.
    #[must_use]
    pub fn recommendation(&self) -> Recommendation {
        Recommendation {
            change: Change::Delete,
            skill: Some(self.id.clone()),
            what: format!("delete {}", self.id),
            why: self.why.clone(),
        }
    }
}

/// Skills old enough that hardly fire, or whose heeding no longer goes with success within tasks; the weakest first.
#[must_use]
pub fn candidates(context: &CreatorContext<'_>, config: &OfflineConfig) -> Vec<Weak> {
    let mut weak: Vec<Weak> = context
        .bank
        .skills()
        .iter()
        .filter(|skill| skill.status == SkillStatus::Active)
        .filter(|skill| context.step.saturating_sub(skill.born_step) >= config.prune_age)
        .filter(|skill| !cooling_down(&skill.id, context, config))
        .filter_map(|skill| weakness(skill, context, config))
        .collect();
    weak.sort_by(|a, b| a.score.total_cmp(&b.score).then_with(|| a.id.cmp(&b.id)));
    weak
}

fn weakness(skill: &Skill, context: &CreatorContext<'_>, config: &OfflineConfig) -> Option<Weak> {
    let mut fired = Rate::default();
    for played in context.episodes {
        fired.add(fires_in(&skill.content.trigger, played));
    }
    if fired.value()? < config.prune_fire_rate {
        let why = format!("`{}` fires in {} of {} episodes", skill.name(), fired.hits, fired.total);
        return Some(Weak { id: skill.id.clone(), why, score: f64::MIN });
    }
    let rows: Vec<Row<'_>> =
        context.episodes.iter().filter_map(|played| row(skill, played, context)).collect();
    let association = associate(&rows);
    if rows.len() < config.min_episodes || association.z >= 0.0 {
        return None;
    }
    let why = format!(
        "heeding `{}` no longer goes with success: z {:.2} over {} episodes",
        skill.name(),
        association.z,
        rows.len()
    );
    Some(Weak { id: skill.id.clone(), why, score: association.z })
}

/// Share of turns on which the guidance was heeded.
fn row<'a>(skill: &Skill, played: &'a SkillEpisode, context: &CreatorContext<'_>) -> Option<Row<'a>> {
    let mut rate = Rate::default();
    for (turn_idx, previous, turn) in played.turns() {
        if let Some(followed) = heeded(skill, turn_idx, previous, turn, context.vocabulary) {
            rate.add(followed);
        }
    }
    let task = &played.episode.task;
    Some(Row {
        task: &task.id.0,
        family: &task.family,
        success: played.episode.is_success(),
        share: rate.value()?,
    })
}

fn cooling_down(id: &SkillId, context: &CreatorContext<'_>, config: &OfflineConfig) -> bool {
    let rejected = rejections(context.history, |record| {
        record
            .operations
            .iter()
            .any(|operation| matches!(operation, Operation::Delete { id: other } if other == id))
    });
    rests(rejected, context.step, config)
}

/// The first active `next` skill of this creator's making that often fires after kinds where its verb cannot be played or
/// seems to harm, with a trigger that leaves them out.
#[must_use]
pub fn narrowed(context: &CreatorContext<'_>, config: &OfflineConfig) -> Option<(Operation, Recommendation)> {
    let mined = mine(context.episodes, &SkillBank::default(), context.vocabulary);
    let habits = rank(&mined, config);
    for skill in context.bank.skills().iter().filter(|skill| skill.status == SkillStatus::Active) {
        let Some(guidance) = skill.content.guidance.as_ref().filter(|g| g.polarity == Polarity::Next) else {
            continue;
        };
        let Some(habit) =
            habits.iter().find(|h| h.name() == skill.name() && h.evidence.guidance == *guidance)
        else {
            continue;
        };
        let new = &habit.evidence.trigger;
        let fired = |sample: &str| skill.content.trigger.fires(1, Some(sample));
        let (mut all, mut spared) = (0u64, 0u64);
        for visits in mined.visits.values().flat_map(|by_kind| by_kind.values()).filter(|v| fired(v.sample)) {
            all += visits.n;
            spared += if new.fires(1, Some(visits.sample)) { 0 } else { visits.n };
        }
        #[expect(clippy::cast_precision_loss, reason = "counts of turns are small")]
        if all > 0 && spared as f64 >= MIN_SPARED * all as f64 && habit.evidence.z >= config.min_z {
            let why = format!("`{}` fires without use on {spared} of {all} turns", skill.name());
            let recommendation = Recommendation {
                change: Change::Modify,
                skill: Some(skill.id.clone()),
                what: new.to_string(),
                why,
            };
            return Some((
                Operation::Modify { id: skill.id.clone(), content: habit.content() },
                recommendation,
            ));
        }
    }
    None
}
