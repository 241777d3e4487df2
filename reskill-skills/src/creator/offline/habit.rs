//! A habit: in this situation, this verb separates success from failure.

use std::collections::{BTreeMap, BTreeSet};

use crate::bank::{Operation, SkillBank};
use crate::creator::artefacts::{Evidence, Insight};
use crate::creator::offline::association::{Association, Row, associate};
use crate::creator::offline::config::OfflineConfig;
use crate::creator::offline::mine::{Chances, Context, Mined, Visits};
use crate::creator::offline::text::kebab;
use crate::episode::Rate;
use crate::error::SkillError;
use crate::guidance::{Guidance, Polarity};
use crate::skill::{SkillContent, SkillStatus};
use crate::trigger::Trigger;

/// A kind whose own score is below this is left out of a trigger: there the verb seems to harm.
const HARMFUL_Z: f64 = -1.5;
/// Fewest visits for a kind to count as seen.
const MIN_VISITS: u64 = 3;
/// Most kinds named in a trigger.
const MAX_KINDS: usize = 16;
/// A verb played in more than this share of successful episodes is never advised against.
const ESSENTIAL: f64 = 0.5;

/// A candidate skill with its evidence.
#[derive(Debug, Clone, PartialEq)]
pub struct Habit {
    /// Verb of the previous command; `None` is the first turn.
    pub after: Option<String>,
    /// Kinds of the previous command's last argument the trigger is narrowed to; `None` is any.
    pub kinds: Option<Vec<String>>,
    /// The numbers.
    pub evidence: Evidence,
    /// gain x z^2 / (4 + z^2): what it may bring, times how sure that is (a z of 2 counts half).
    pub rank: f64,
    /// Episode, and share of its chances on which the verb was played, whatever the kind.
    pub(crate) shares: Vec<(usize, f64)>,
    failing: Vec<String>,
    succeeding: Vec<String>,
}

/// All habits with a positive rank, the strongest first; ties by name.
#[must_use]
pub fn rank(mined: &Mined<'_>, config: &OfflineConfig) -> Vec<Habit> {
    let mut habits = all(mined, config);
    habits.retain(|habit| habit.rank > 0.0);
    habits.sort_by(|a, b| b.rank.total_cmp(&a.rank).then_with(|| a.name().cmp(&b.name())));
    habits
}

/// All habits, whatever the outcomes say about them.
pub(crate) fn all(mined: &Mined<'_>, config: &OfflineConfig) -> Vec<Habit> {
    let mut habits: Vec<Habit> = Vec::new();
    for ((context, verb), chances) in &mined.towards {
        if *context != Context::After(verb) {
            habits.extend(towards(mined, *context, verb, chances, config));
        }
    }
    if config.negative {
        for ((context, verb), chances) in &mined.against {
            habits.extend(against(mined, *context, verb, chances));
        }
    }
    habits
}

/// Kinds after which `verb` is often admissible, and those of them after which it does not seem to harm.
fn helpful_kinds<'a>(
    mined: &Mined<'a>,
    visits: &BTreeMap<&'a str, Visits<'a>>,
    chances: &Chances<'a>,
    config: &OfflineConfig,
) -> (Vec<&'a str>, Vec<&'a str>) {
    let kinds: Vec<(&str, u64)> = visits
        .iter()
        .filter_map(|(kind, visited)| {
            let total: u64 = chances
                .by_episode
                .values()
                .filter_map(|by_kind| by_kind.get(kind))
                .map(|tally| u64::from(tally.chances))
                .sum();
            #[expect(clippy::cast_precision_loss, reason = "counts of turns are small")]
            let share = total as f64 / visited.n as f64;
            (total > 0 && share >= config.min_admissible).then_some((*kind, total))
        })
        .collect();
    let first = |mut kinds: Vec<(&'a str, u64)>| {
        kinds.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(b.0)));
        kinds.truncate(MAX_KINDS);
        let mut kinds: Vec<&str> = kinds.into_iter().map(|(kind, _)| kind).collect();
        kinds.sort_unstable();
        kinds
    };
    let harmless = |kind: &str| associate(&rows(mined, chances, Some(&[kind]))).z >= HARMFUL_Z;
    let helpful = kinds.iter().copied().filter(|(kind, _)| harmless(kind)).collect();
    (first(kinds), first(helpful))
}

fn towards(
    mined: &Mined<'_>,
    context: Context<'_>,
    verb: &str,
    chances: &Chances<'_>,
    config: &OfflineConfig,
) -> Option<Habit> {
    let visits = mined.visits.get(&context)?;
    let (admissible, kinds) = helpful_kinds(mined, visits, chances, config);
    if kinds.is_empty() {
        return None;
    }
    let seen = visits.iter().filter(|(_, visits)| visits.n >= MIN_VISITS).map(|(kind, _)| *kind);
    let all = seen.collect::<BTreeSet<_>>().iter().all(|kind| kinds.contains(kind));
    let rows = rows(mined, chances, Some(&kinds));
    let named = (!all && !kinds.contains(&"")).then(|| kinds.iter().map(|kind| (*kind).to_owned()).collect());
    let guidance = Guidance { polarity: Polarity::Next, verb: verb.to_owned() };
    let mut habit = build(mined, context, named, guidance, &rows, chances, Some(&kinds))?;
    // Which kinds are left out depends on the outcomes; what is tested for chance must not.
    habit.shares = shares(chances, Some(&admissible));
    Some(habit)
}

/// Per episode with a chance, the share of its chances on which the verb was played.
fn shares(chances: &Chances<'_>, kinds: Option<&[&str]>) -> Vec<(usize, f64)> {
    chances
        .by_episode
        .iter()
        .map(|(index, by_kind)| (*index, sums(by_kind, kinds)))
        .filter(|(_, (n, _))| *n > 0)
        .map(|(index, (n, played))| (index, f64::from(played) / f64::from(n)))
        .collect()
}

fn against(mined: &Mined<'_>, context: Context<'_>, verb: &str, chances: &Chances<'_>) -> Option<Habit> {
    let used = mined.used_in_success.get(verb).copied().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "counts of episodes are small")]
    if mined.n_success == 0 || used as f64 > ESSENTIAL * mined.n_success as f64 {
        return None;
    }
    let guidance = Guidance { polarity: Polarity::DoNot, verb: verb.to_owned() };
    build(mined, context, None, guidance, &rows(mined, chances, None), chances, None)
}

/// One row per episode with a chance, over some kinds or all.
fn rows<'m>(mined: &Mined<'m>, chances: &Chances<'m>, kinds: Option<&[&str]>) -> Vec<Row<'m>> {
    chances
        .by_episode
        .iter()
        .filter_map(|(index, by_kind)| {
            let (n, played) = sums(by_kind, kinds);
            let episode = &mined.episodes[*index].episode;
            (n > 0).then(|| Row {
                task: &episode.task.id.0,
                family: &episode.task.family,
                success: episode.is_success(),
                share: f64::from(played) / f64::from(n),
            })
        })
        .collect()
}

fn sums(
    by_kind: &BTreeMap<&str, crate::creator::offline::mine::Tally>,
    kinds: Option<&[&str]>,
) -> (u32, u32) {
    by_kind
        .iter()
        .filter(|(kind, _)| kinds.is_none_or(|kinds| kinds.contains(kind)))
        .fold((0, 0), |(n, played), (_, tally)| (n + tally.chances, played + tally.played))
}

fn build(
    mined: &Mined<'_>,
    context: Context<'_>,
    kinds: Option<Vec<String>>,
    guidance: Guidance,
    rows: &[Row<'_>],
    chances: &Chances<'_>,
    counted: Option<&[&str]>,
) -> Option<Habit> {
    if rows.is_empty() {
        return None;
    }
    let association: Association = associate(rows);
    let sign = if guidance.polarity == Polarity::Next { 1.0 } else { -1.0 };
    #[expect(clippy::cast_precision_loss, reason = "counts of episodes are small")]
    let (coverage, share) = (
        rows.len() as f64 / mined.episodes.len() as f64,
        rows.iter().map(|row| row.share).sum::<f64>() / rows.len() as f64,
    );
    // A difference is not extrapolated beyond what was seen: two standard deviations of the share.
    let seen = 2.0 * spread(rows, share);
    let room = if guidance.polarity == Polarity::Next { 1.0 - share } else { share }.min(seen);
    let z = sign * association.z;
    let difference = sign * association.difference;
    let gain = coverage * room * difference;
    let n_args = match context {
        Context::Start => 0,
        Context::After(_) => mined.visits.get(&context)?.values().map(|visits| visits.n_args).max()?,
    };
    let after = match context {
        Context::Start => None,
        Context::After(verb) => Some(verb.to_owned()),
    };
    let totals = chances.by_episode.values().map(|by_kind| sums(by_kind, counted));
    let (total, played) = totals.fold((0u64, 0u64), |(a, b), (n, m)| (a + u64::from(n), b + u64::from(m)));
    let words = |pair: Option<(&str, &str)>| {
        pair.map_or_else(Vec::new, |(before, action)| {
            [before, action].iter().filter(|text| !text.is_empty()).map(|text| (*text).to_owned()).collect()
        })
    };
    Some(Habit {
        evidence: Evidence {
            trigger: trigger(after.as_deref(), kinds.as_deref(), n_args).ok()?,
            guidance,
            played: Rate { hits: played, total },
            episodes: rows.len(),
            coverage,
            mixed_tasks: association.mixed_tasks,
            share_success: association.share_success,
            share_failure: association.share_failure,
            difference,
            log_odds: sign * association.log_odds,
            z,
            gain,
        },
        after,
        kinds,
        rank: if z > 0.0 { gain * certainty(z) } else { 0.0 },
        shares: shares(chances, counted),
        failing: words(chances.not_played_failing),
        succeeding: words(chances.played_succeeding),
    })
}

/// Standard deviation of the shares.
#[expect(clippy::cast_precision_loss, reason = "counts of episodes are small")]
fn spread(rows: &[Row<'_>], mean: f64) -> f64 {
    (rows.iter().map(|row| (row.share - mean).powi(2)).sum::<f64>() / rows.len() as f64).sqrt()
}

fn certainty(z: f64) -> f64 {
    z * z / (4.0 + z * z)
}

/// The pattern of commands with a verb: `^go to\b`.
pub(crate) fn verb_pattern(verb: &str) -> String {
    let is_word = verb.chars().next_back().is_some_and(|c| c.is_alphanumeric() || c == '_');
    format!("^{}{}", regex::escape(verb), if is_word { r"\b" } else { "" })
}

fn trigger(after: Option<&str>, kinds: Option<&[String]>, n_args: usize) -> Result<Trigger, SkillError> {
    let Some(verb) = after else { return Ok(Trigger::EpisodeStart) };
    let Some(kinds) = kinds else { return Trigger::after_action(&verb_pattern(verb)) };
    let kinds = kinds.iter().map(|kind| regex::escape(kind)).collect::<Vec<_>>().join("|");
    let between = if n_args > 1 { r" .*\b" } else { " " };
    Trigger::after_action(&format!(r"^{}{between}({kinds})\b", regex::escape(verb)))
}

impl Habit {
    /// `open-after-go-to`, `no-look-at-start`.
    #[must_use]
    pub fn name(&self) -> String {
        let guidance = &self.evidence.guidance;
        let prefix = if guidance.polarity == Polarity::DoNot { "no-" } else { "" };
        let place =
            self.after.as_deref().map_or_else(|| "at-start".into(), |verb| format!("after-{}", kebab(verb)));
        format!("{prefix}{}-{place}", kebab(&guidance.verb))
    }

    /// Whether the evidence suffices for a proposal.
    #[must_use]
    pub fn clears(&self, config: &OfflineConfig) -> bool {
        let evidence = &self.evidence;
        evidence.z >= config.min_z
            && evidence.gain >= config.min_gain
            && evidence.episodes >= config.min_episodes
            && (evidence.guidance.polarity == Polarity::DoNot || evidence.share_failure <= config.max_share)
    }

    /// Two habits for one situation would contradict each other.
    #[must_use]
    pub fn conflicts_with(&self, other: &Habit) -> bool {
        self.after == other.after
    }

    /// The finding in words.
    #[must_use]
    pub fn finding(&self) -> String {
        let e = &self.evidence;
        format!(
            "{}: `{}` played on {} of {} chances; share {:.2} in successes, {:.2} in failures; z {:.2} over {} mixed \
             tasks, {} episodes",
            e.trigger,
            e.guidance.verb,
            e.played.hits,
            e.played.total,
            e.share_success,
            e.share_failure,
            e.z,
            e.mixed_tasks,
            e.episodes
        )
    }

    /// The habit as an insight.
    #[must_use]
    pub fn insight(&self) -> Insight {
        let verb = &self.evidence.guidance.verb;
        let failure_mode = match self.evidence.guidance.polarity {
            Polarity::Next => format!("`{verb}` is left out"),
            Polarity::DoNot => format!("`{verb}` wastes turns"),
        };
        Insight {
            finding: self.finding(),
            failure_mode: Some(failure_mode),
            failing_actions: self.failing.clone(),
            succeeding_actions: self.succeeding.clone(),
            confidence: certainty(self.evidence.z),
            evidence: Some(self.evidence.clone()),
        }
    }

    /// The skill's text.
    #[must_use]
    pub fn content(&self) -> SkillContent {
        let when_to_use = match (&self.after, &self.kinds) {
            (None, _) => "On the first turn.".to_owned(),
            (Some(verb), Some(kinds)) if kinds.len() <= 4 => {
                format!("Right after a `{verb}` command with {}.", kinds.join(" or "))
            }
            (Some(verb), Some(_)) => format!("Right after a `{verb}` command with some kinds."),
            (Some(verb), None) => format!("Right after a `{verb}` command."),
        };
        SkillContent {
            name: self.name(),
            when_to_use,
            action: self.evidence.guidance.to_string().trim_end_matches(['[', '(', ':', ' ']).to_owned(),
            example: None,
            trigger: self.evidence.trigger.clone(),
            guidance: Some(self.evidence.guidance.clone()),
        }
    }

    /// The operation that brings the habit into the bank. Chances that a skill covers already were not counted, so if
    /// one with this name and guidance is active, its trigger is widened; otherwise a skill is added.
    ///
    /// # Errors
    /// [`SkillError::BadPattern`] if the widened pattern is too large.
    pub fn operation(&self, bank: &SkillBank) -> Result<Operation, SkillError> {
        let mut content = self.content();
        let Some(old) = bank.skills().iter().find(|skill| skill.name() == content.name) else {
            return Ok(Operation::Add(content));
        };
        let same = old.status == SkillStatus::Active && old.content.guidance == content.guidance;
        if let (true, Some(before), Some(added)) =
            (same, old.content.trigger.pattern(), content.trigger.pattern())
        {
            content.trigger = Trigger::after_action(&format!("{before}|{added}"))?;
            content.when_to_use =
                format!("Right after a `{}` command.", self.after.as_deref().unwrap_or_default());
            return Ok(Operation::Modify { id: old.id.clone(), content });
        }
        content.name.push_str("-too");
        Ok(Operation::Add(content))
    }
}
