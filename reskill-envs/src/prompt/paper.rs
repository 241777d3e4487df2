//! The layout of the published system: counters first, so that nothing of a prompt is shared with that of the turn before.

use super::{ActionFormat, Choice, Manner, capitalised};
use crate::action::ActionVocabulary;

/// What a prompt of this layout is made of.
pub(super) struct PaperPrompt<'a> {
    pub(super) goal: &'a str,
    /// The last turns that are shown: what was seen, and what was done.
    pub(super) history: &'a [(String, String)],
    /// Turns before this one, those that are not shown included.
    pub(super) n_turns: usize,
    pub(super) observation: &'a str,
    pub(super) choice: Choice<'a>,
    /// Guidance of every turn, then that of this one.
    pub(super) guidance: Vec<&'a str>,
    pub(super) format: ActionFormat,
    pub(super) manner: &'a Manner,
}

impl PaperPrompt<'_> {
    /// The whole prompt.
    pub(super) fn text(&self) -> String {
        let introduction = &self.manner.paper_introduction;
        let mut text = format!("{introduction} Steps taken: {} .\nYour goal: {}\n", self.n_turns, self.goal);
        if !self.history.is_empty() {
            text.push_str(&format!("The last {} steps:\n", self.history.len()));
            let first = self.n_turns - self.history.len() + 1;
            for ((observation, action), number) in self.history.iter().zip(first..) {
                text.push_str(&format!(
                    "Step {number} : you saw: {observation}\nStep {number} : you did: {action}\n"
                ));
            }
        }
        text.push_str(&format!("Step {} : you see: {}\n", self.n_turns + 1, self.observation));
        match self.choice.admissible {
            [] => {
                for (title, items) in self.choice.listed() {
                    text.push_str(&format!("{}: {}\n", capitalised(title), items.join(", ")));
                }
            }
            commands => {
                text.push_str("You can do:\n");
                // Asking for help helps nobody who reads this list.
                for command in commands.iter().filter(|command| *command != "help") {
                    text.push_str(command);
                    text.push('\n');
                }
            }
        }
        for guidance in &self.guidance {
            text.push_str(&format!("tip: {guidance}\n"));
        }
        text.push_str(match self.format {
            ActionFormat::Tagged => &self.manner.paper_request,
            ActionFormat::Compact => "Give one of the commands above.",
        });
        text
    }
}

/// All words of the layout itself, for a vocabulary of words.
#[must_use]
pub fn paper_words(manner: &Manner) -> Vec<String> {
    let (nothing, vocabulary) = (["nothing".to_owned()], ActionVocabulary::default());
    let history = [(String::new(), "nothing".to_owned())];
    let numbers: Vec<String> = (0..=200).map(|number| number.to_string()).collect();
    let prompt = |format| PaperPrompt {
        goal: "",
        history: &history,
        n_turns: 1,
        observation: "",
        choice: Choice { admissible: &nothing, vocabulary: &vocabulary, objects: &[] },
        guidance: vec![""],
        format,
        manner,
    };
    vec![prompt(ActionFormat::Tagged).text(), prompt(ActionFormat::Compact).text(), numbers.join(" ")]
}
