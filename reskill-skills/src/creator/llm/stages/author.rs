//! Author: the text and the trigger of one skill, and why an attempt at it does not do.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::bank::SkillBank;
use crate::creator::artefacts::VerifyReport;
use crate::creator::verify::{VerifyConfig, verify};
use crate::episode::SkillEpisode;
use crate::skill::{Example, SkillContent, SkillId, SkillLimits};
use crate::trigger::Trigger;

/// What the model is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorInput {
    /// What to write, and why.
    pub recommendation: String,
    /// The findings behind it.
    pub insights: String,
    /// The skill to change, as it is.
    pub old_skill: String,
    /// The other skills.
    pub bank: String,
    /// The commands of the environment.
    pub vocabulary: String,
    /// How often each was played.
    pub actions: String,
    /// Limits on the text.
    pub limits: String,
    /// What the trigger must reach.
    pub gate: String,
    /// Words the agent can read, if they are few.
    pub lexicon: String,
    /// The user's remark.
    pub note: String,
    /// Earlier tries, and why they did not do.
    pub rejected: String,
    /// Schema of the answer.
    pub schema: String,
}

/// What the model writes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthoredSkill {
    /// Kebab-case name.
    #[schemars(length(min = 1, max = 200))]
    pub name: String,
    /// The situation.
    #[schemars(length(min = 1, max = 2000))]
    pub when_to_use: String,
    /// The instruction.
    #[schemars(length(min = 1, max = 2000))]
    pub action: String,
    /// At most one example.
    pub example: Option<AuthoredExample>,
    /// When it is shown.
    pub trigger: AuthoredTrigger,
}

/// Good or bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ExampleKind {
    /// Worth copying.
    Do,
    /// To be avoided.
    Dont,
}

/// An example.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthoredExample {
    /// Good or bad.
    pub kind: ExampleKind,
    /// The text.
    #[schemars(length(min = 1, max = 2000))]
    pub text: String,
}

/// Kinds of trigger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TriggerKind {
    /// Every turn.
    General,
    /// The first turn.
    Beginning,
    /// After a command.
    ActionPattern,
}

/// A trigger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthoredTrigger {
    /// The kind.
    pub kind: TriggerKind,
    /// The pattern, for `action_pattern`.
    #[schemars(length(max = 2000))]
    pub pattern: Option<String>,
}

/// Tells which words of a text the agent cannot read.
pub trait Lexicon: Send + Sync {
    /// The unknown words, each once.
    fn unknown_words(&self, text: &str) -> Vec<String>;
}

impl<F: Fn(&str) -> Vec<String> + Send + Sync> Lexicon for F {
    fn unknown_words(&self, text: &str) -> Vec<String> {
        self(text)
    }
}

/// What an attempt is held against.
pub struct Gate<'a> {
    /// The reservoir.
    pub episodes: &'a [SkillEpisode],
    /// The bank.
    pub bank: &'a SkillBank,
    /// Names that other skills of the bundle took.
    pub taken: &'a [String],
    /// The skill that is modified.
    pub replaces: Option<&'a SkillId>,
    /// Thresholds.
    pub verify: &'a VerifyConfig,
    /// Limits on the text.
    pub limits: &'a SkillLimits,
    /// What the agent can read.
    pub lexicon: Option<&'a dyn Lexicon>,
}

impl Gate<'_> {
    /// The skill and what was measured of it. All that is wrong is in the report's problems.
    ///
    /// # Errors
    /// The same, where the attempt is no skill at all: its trigger cannot be built.
    pub fn examine(&self, authored: &AuthoredSkill) -> Result<(SkillContent, VerifyReport), Vec<String>> {
        let content = authored.to_content().map_err(|problem| vec![problem])?;
        let mut report = verify(&content, self.episodes, self.verify, self.limits);
        for (family, rate) in report.families.clone() {
            let share = rate.value().unwrap_or(0.0) * 100.0;
            if !report.problems.is_empty() {
                report
                    .problems
                    .push(format!("in `{family}`: {} of {} episodes ({share:.0}%)", rate.hits, rate.total));
            }
        }
        if let Some(problem) = matches_everything(&content.trigger, self.episodes) {
            report.problems.push(problem);
        }
        let others = self.bank.skills().iter().filter(|skill| Some(&skill.id) != self.replaces);
        if others
            .map(|skill| skill.name())
            .chain(self.taken.iter().map(String::as_str))
            .any(|name| name == content.name)
        {
            report.problems.push(format!("the name `{}` is taken", content.name));
        }
        let said = content.example.as_ref().map_or("", Example::text);
        if let Some(lexicon) = self.lexicon {
            let unknown = lexicon.unknown_words(&format!("{} {said}", content.action));
            if !unknown.is_empty() {
                report
                    .problems
                    .push(format!("the agent cannot read these words of `action`: {}", unknown.join(", ")));
            }
        }
        Ok((content, report))
    }
}

impl AuthoredSkill {
    /// The skill; its trigger is compiled here.
    ///
    /// # Errors
    /// What is wrong with the trigger, in words for the author.
    pub fn to_content(&self) -> Result<SkillContent, String> {
        let pattern = self.trigger.pattern.as_deref().filter(|pattern| !pattern.is_empty());
        let trigger = match (self.trigger.kind, pattern) {
            (TriggerKind::General, _) => Trigger::Always,
            (TriggerKind::Beginning, _) => Trigger::EpisodeStart,
            (TriggerKind::ActionPattern, None) => return Err("`trigger.pattern` is missing".into()),
            (TriggerKind::ActionPattern, Some(pattern)) => Trigger::after_action(pattern)
                .map_err(|error| error.to_string().split_whitespace().collect::<Vec<_>>().join(" "))?,
        };
        let line = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let action = line(&self.action);
        let example = self.example.as_ref().map(|example| {
            let text = example.text.trim().to_owned();
            if example.kind == ExampleKind::Do { Example::Do(text) } else { Example::Dont(text) }
        });
        Ok(SkillContent {
            name: self.name.trim().to_owned(),
            when_to_use: line(&self.when_to_use),
            // An instruction of one verb can be measured turn by turn.
            guidance: action.parse().ok(),
            action,
            example,
            trigger,
        })
    }
}

/// A pattern that finds every command says nothing about when: the author should say `general`, or be narrower.
fn matches_everything(trigger: &Trigger, episodes: &[SkillEpisode]) -> Option<String> {
    let Trigger::AfterAction(pattern) = trigger else { return None };
    let mut distinct: Vec<&str> = episodes.iter().flat_map(|played| played.episode.actions()).collect();
    distinct.sort_unstable();
    distinct.dedup();
    let n = distinct.iter().filter(|action| pattern.is_match(action)).count();
    (distinct.len() > 1 && n == distinct.len()).then(|| {
        format!("the pattern matches all {n} different commands that were played; name the ones it is meant for, or use `general`")
    })
}
