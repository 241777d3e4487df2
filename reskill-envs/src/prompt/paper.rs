//! The layout of the published system: counters first, so that nothing of a prompt is shared with that of the turn before.

use super::ActionFormat;

/// What a prompt of this layout is made of.
pub(super) struct PaperPrompt<'a> {
    pub(super) goal: &'a str,
    /// The last turns that are shown: what was seen, and what was done.
    pub(super) history: &'a [(String, String)],
    /// Turns before this one, those that are not shown included.
    pub(super) n_turns: usize,
    pub(super) observation: &'a str,
    pub(super) admissible: &'a [String],
    /// Guidance of every turn, then that of this one.
    pub(super) guidance: Vec<&'a str>,
    pub(super) format: ActionFormat,
}

impl PaperPrompt<'_> {
    /// The whole prompt.
    pub(super) fn text(&self) -> String {
        let mut text =
            format!("You play a text game. Steps taken: {} .\nYour goal: {}\n", self.n_turns, self.goal);
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
        text.push_str("You can do:\n");
        // Asking for help helps nobody who reads this list.
        for command in self.admissible.iter().filter(|command| *command != "help") {
            text.push_str(command);
            text.push('\n');
        }
        for guidance in &self.guidance {
            text.push_str(&format!("tip: {guidance}\n"));
        }
        text.push_str(match self.format {
            ActionFormat::Tagged => {
                "Think about the goal in a few words, then give one of the commands above between <action> and </action> ."
            }
            ActionFormat::Compact => "Give one of the commands above.",
        });
        text
    }
}

/// All words of the layout itself, for a vocabulary of words.
#[must_use]
pub fn paper_words() -> Vec<String> {
    let history = [(String::new(), "nothing".to_owned())];
    let numbers: Vec<String> = (0..=200).map(|number| number.to_string()).collect();
    let prompt = |format| PaperPrompt {
        goal: "",
        history: &history,
        n_turns: 1,
        observation: "",
        admissible: &[],
        guidance: vec![""],
        format,
    };
    vec![prompt(ActionFormat::Tagged).text(), prompt(ActionFormat::Compact).text(), numbers.join(" ")]
}
