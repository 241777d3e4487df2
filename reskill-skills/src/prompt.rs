//! The section of a prompt that shows skills, within a budget.
//!
//! Policy: skills that fire on this turn only stand before general ones, since they are about this very moment; among
//! equals the one born first stands first. That order decides who gets into the budget, too: a skill that does not fit is
//! left out whole and the next ones are still tried. What is left out is reported with the reason, never dropped silently.

use serde::{Deserialize, Serialize};

use crate::bank::SkillBank;
use crate::skill::{Example, Skill, SkillId};

/// Counts tokens of a text. Closures are counters: `&|text: &str| text.split_whitespace().count()`.
pub trait TokenCounter {
    /// Number of tokens.
    fn count(&self, text: &str) -> usize;
}

impl<F: Fn(&str) -> usize> TokenCounter for F {
    fn count(&self, text: &str) -> usize {
        self(text)
    }
}

/// A rough counter for when there is no tokenizer at hand: one token for each started four bytes of UTF-8.
#[derive(Debug, Clone, Copy, Default)]
pub struct BytesPerFour;

impl TokenCounter for BytesPerFour {
    fn count(&self, text: &str) -> usize {
        text.len().div_ceil(4)
    }
}

/// How large the section may be; `None` is no limit. The whole section counts, heading included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SectionBudget {
    /// Most characters.
    pub max_chars: Option<usize>,
    /// Most tokens, as the counter counts them.
    pub max_tokens: Option<usize>,
}

/// Why a skill is not shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOut {
    /// The section would have this many characters.
    Chars(usize),
    /// The section would have this many tokens.
    Tokens(usize),
}

/// The section for one turn.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PromptSection {
    /// The text; empty if nothing is shown.
    pub text: String,
    /// The skills in it, in order.
    pub shown: Vec<SkillId>,
    /// The skills that would have been shown but for the budget, and why they are not.
    pub left_out: Vec<(SkillId, LeftOut)>,
}

const HEADING: &str = "Skills that apply now:\n";

impl SkillBank {
    /// Renders the skills that fire on turn `turn_idx` (0-based) after `previous_action`.
    ///
    /// ```
    /// use reskill_skills::prompt::{BytesPerFour, SectionBudget};
    /// use reskill_skills::{Operation, SkillBank, SkillContent, SkillLimits, Trigger};
    ///
    /// let skill = SkillContent {
    ///     name: "check-first".into(),
    ///     when_to_use: "Before an answer is given.".into(),
    ///     action: "Check the units.".into(),
    ///     example: None,
    ///     trigger: Trigger::Always,
    ///     guidance: None,
    /// };
    /// let bank = SkillBank::default().apply(&[Operation::Add(skill)], 0, &SkillLimits::default())?;
    /// let budget = SectionBudget { max_tokens: Some(100), ..SectionBudget::default() };
    /// let section = bank.prompt_section(0, None, &budget, &BytesPerFour);
    /// assert_eq!(section.text, "Skills that apply now:\n- check-first: Before an answer is given. Check the units.\n");
    /// # Ok::<(), reskill_skills::SkillError>(())
    /// ```
    #[must_use]
    pub fn prompt_section(
        &self,
        turn_idx: usize,
        previous_action: Option<&str>,
        budget: &SectionBudget,
        counter: &dyn TokenCounter,
    ) -> PromptSection {
        let mut skills = self.triggered(turn_idx, previous_action);
        skills.extend(self.general());
        render(&skills, budget, counter)
    }
}

/// Renders skills in the order given, as far as the budget goes.
#[must_use]
pub fn render(skills: &[&Skill], budget: &SectionBudget, counter: &dyn TokenCounter) -> PromptSection {
    let mut section = PromptSection::default();
    for skill in skills {
        let start = if section.text.is_empty() { HEADING } else { &section.text };
        let text = format!("{start}{}", entry(skill));
        match excess(&text, budget, counter) {
            Some(why) => section.left_out.push((skill.id.clone(), why)),
            None => {
                section.text = text;
                section.shown.push(skill.id.clone());
            }
        }
    }
    section
}

fn excess(text: &str, budget: &SectionBudget, counter: &dyn TokenCounter) -> Option<LeftOut> {
    let chars = text.chars().count();
    if budget.max_chars.is_some_and(|max| chars > max) {
        return Some(LeftOut::Chars(chars));
    }
    let max = budget.max_tokens?;
    let tokens = counter.count(text);
    (tokens > max).then_some(LeftOut::Tokens(tokens))
}

/// One skill: a list item; further lines are indented so that they stay inside it.
fn entry(skill: &Skill) -> String {
    let content = &skill.content;
    let example = match &content.example {
        Some(Example::Do(text)) => format!("\nDo: {text}"),
        Some(Example::Dont(text)) => format!("\nDon't: {text}"),
        None => String::new(),
    };
    let text = format!("{}: {} {}{example}", content.name, content.when_to_use, content.action);
    format!("- {}\n", text.trim_end().replace('\n', "\n  "))
}
