//! Prompts, in two layouts: one that only grows, made of the trunk (task, general guidance, one entry a turn) and the
//! branch of one turn; and that of the published system, which is all branch.

mod manner;
mod paper;
mod reply;

use serde::{Deserialize, Serialize};

use crate::action::{ActionVocabulary, kind_of};
use crate::plain_prompt as plain;
use crate::suite::{Observation, Task};

pub use manner::{ActionTag, Manner};
use paper::PaperPrompt;
pub use paper::paper_words;
#[cfg(feature = "sql")]
pub(crate) use reply::fenced_code;
pub use reply::{ParsedReply, parse_reply, tagged_action};

/// The last word of every prompt: the policy answers after it.
pub const ANSWER: &str = "=>";
/// The first word of every history entry.
pub const ENTRY: &str = ">";
/// Words that a compact command leaves out.
const LINKS: [&str; 6] = ["to", "from", "in", "on", "with", "in/on"];

/// How a reply names its action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ActionFormat {
    /// The words of a command, without link words, as far as they are needed to tell it from the other admissible
    /// commands. The tokens are masked to those that continue an admissible command, so a reply is always valid.
    Compact,
    /// Free text with the command between the tags of the environment, `<action>` and `</action>` in a game.
    Tagged,
}

/// The order of a prompt's parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PromptLayout {
    /// What stays comes first and is encoded once an episode; what changes comes last.
    TrunkBranch,
    /// As published: counters, recent history, observation, admissible commands, instruction, all encoded anew every
    /// turn. For comparisons; it costs several times as much.
    Paper,
}

/// How a prompt is worded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum PromptStyle {
    /// As few words as possible, for small policies that know no others.
    Words,
    /// Plain English, for pretrained language models.
    Plain,
}

/// What a prompt shows beyond task, history, observation and skills. Everything here is help that the policy is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(default, deny_unknown_fields)]
pub struct PromptConfig {
    /// The order of the parts. Default `trunk_branch`. Of the fields below, `paper` heeds `action_format` and
    /// `history_turns`; it always lists the admissible commands.
    pub prompt_layout: PromptLayout,
    /// Layout `paper`: how many turns of the history are shown, >= 0. Default 50.
    pub history_turns: usize,
    /// How a reply names its action.
    pub action_format: ActionFormat,
    /// How it is worded. Absent: `plain` for a pretrained model, else `words`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub style: Option<PromptStyle>,
    /// Puts a `*` before every name in the observation whose kind occurs in the goal.
    pub mark_goal: bool,
    /// Lists the places that can be gone to and have not been.
    pub list_unvisited: bool,
    /// Lists all admissible commands; where the environment tells names instead, the templates of its commands and these
    /// names.
    pub list_admissible: bool,
    /// Keeps the observation in the history entry, not only the action.
    pub history_observations: bool,
    /// Keeps the names in the history entry whose kind occurs in the goal, so that the policy remembers where it saw
    /// what it looks for.
    pub history_goal_names: bool,
}

impl Default for PromptConfig {
    fn default() -> Self {
        PromptConfig {
            prompt_layout: PromptLayout::TrunkBranch,
            history_turns: 50,
            action_format: ActionFormat::Compact,
            style: None,
            mark_goal: true,
            list_unvisited: false,
            list_admissible: false,
            history_observations: false,
            history_goal_names: true,
        }
    }
}

/// Builds the segments of an episode's prompts.
#[derive(Debug, Clone)]
pub struct PromptBuilder {
    config: PromptConfig,
    manner: Manner,
    goal_words: Vec<String>,
    visited: Vec<String>,
    paper: PaperHistory,
}

/// What the layout `paper` has to remember.
#[derive(Debug, Clone, Default)]
struct PaperHistory {
    goal: String,
    general_guidance: Vec<String>,
    /// The observation of the present turn.
    observation: String,
    /// Observation and action of the turns before.
    turns: Vec<(String, String)>,
}

impl PromptBuilder {
    /// A builder for one episode of `task`.
    #[must_use]
    pub fn new(config: &PromptConfig, task: &Task) -> PromptBuilder {
        let goal_words = words(&task.goal).map(str::to_lowercase).collect();
        PromptBuilder {
            config: config.clone(),
            manner: Manner::default(),
            goal_words,
            visited: Vec::new(),
            paper: PaperHistory::default(),
        }
    }

    /// The same in the words of an environment.
    #[must_use]
    pub fn speaking(self, manner: &Manner) -> PromptBuilder {
        PromptBuilder { manner: manner.clone(), ..self }
    }

    /// The first trunk segment: the task and the guidance that holds at every turn. Empty in the layout `paper`.
    #[must_use]
    pub fn opening(&mut self, task: &Task, general_guidance: &[&str]) -> String {
        if self.config.prompt_layout == PromptLayout::Paper {
            self.paper.goal.clone_from(&task.goal);
            self.paper.general_guidance = general_guidance.iter().map(ToString::to_string).collect();
            return String::new();
        }
        if self.is_plain() {
            return plain::opening(task, general_guidance);
        }
        let mut text = format!("task: {}", task.goal);
        for guidance in general_guidance {
            text.push_str(" tip: ");
            text.push_str(guidance);
        }
        text
    }

    /// The trunk segment of a finished turn. Empty in the layout `paper`.
    pub fn entry(&mut self, vocabulary: &ActionVocabulary, action: Option<&str>, feedback: &str) -> String {
        if self.config.prompt_layout == PromptLayout::Paper {
            let action = action.unwrap_or("nothing").to_owned();
            self.paper.turns.push((std::mem::take(&mut self.paper.observation), action));
            return String::new();
        }
        if let Some(place) = action.and_then(|action| destination(vocabulary, action)) {
            self.visited.push(place.to_string());
        }
        if self.is_plain() {
            let seen = self.config.history_observations.then_some(feedback);
            let names: Vec<String> = match self.config.history_goal_names {
                true => self.goal_names(feedback).collect(),
                false => Vec::new(),
            };
            return plain::entry(action, seen, &names);
        }
        let Some(action) = action else { return format!("{ENTRY} nothing") };
        let mut text = format!("{ENTRY} {}", verb_and_first_argument(vocabulary, action));
        if self.config.history_observations {
            text.push_str(": ");
            text.push_str(&self.marked(feedback));
        } else if self.config.history_goal_names {
            let said = text.clone();
            // A visit names its place already.
            for name in self.goal_names(feedback).filter(|name| !said.ends_with(name.as_str())) {
                text.push_str(" * ");
                text.push_str(&name);
            }
        }
        text
    }

    /// The branch segment of a turn; in the layout `paper` the whole prompt.
    #[must_use]
    pub fn branch(&mut self, vocabulary: &ActionVocabulary, now: &Observation, guidance: &[&str]) -> String {
        let Observation { text: observation, admissible, objects } = now;
        let choice = Choice { admissible, vocabulary, objects };
        if self.config.prompt_layout == PromptLayout::Paper {
            observation.clone_into(&mut self.paper.observation);
            let PaperHistory { goal, general_guidance, turns, .. } = &self.paper;
            let guidance =
                general_guidance.iter().map(String::as_str).chain(guidance.iter().copied()).collect();
            let history = &turns[turns.len().saturating_sub(self.config.history_turns)..];
            let (n_turns, format, manner) = (turns.len(), self.config.action_format, &self.manner);
            let prompt =
                PaperPrompt { goal, history, n_turns, observation, choice, guidance, format, manner };
            return prompt.text();
        }
        let places = || admissible.iter().filter_map(|command| destination(vocabulary, command));
        let unvisited = || -> Vec<&str> {
            places().filter(|place| !self.visited.iter().any(|visited| visited == place)).collect()
        };
        if self.is_plain() {
            return plain::branch(&plain::Branch {
                observation,
                unvisited: self.config.list_unvisited.then(unvisited),
                choice: self.config.list_admissible.then_some(choice),
                guidance,
                request: match self.config.action_format {
                    ActionFormat::Compact => "Answer with one admissible action.",
                    ActionFormat::Tagged => &self.manner.request,
                },
            });
        }
        let mut text = self.marked(observation);
        if self.config.list_unvisited {
            text.push_str(" new: ");
            text.push_str(&unvisited().join(" "));
        }
        if self.config.list_admissible {
            for (title, items) in choice.listed() {
                text.push_str(&format!(" {title}: {}", items.join(", ")));
            }
        }
        for guidance in guidance {
            text.push_str(" tip: ");
            text.push_str(guidance);
        }
        text.push(' ');
        text.push_str(ANSWER);
        text
    }

    fn is_plain(&self) -> bool {
        self.config.style == Some(PromptStyle::Plain)
    }

    /// The numbered names in `text` whose kind occurs in the goal.
    fn goal_names(&self, text: &str) -> impl Iterator<Item = String> {
        let clean = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_string();
        let words: Vec<String> = text.split_whitespace().map(clean).collect();
        let mut found = Vec::new();
        for pair in words.windows(2) {
            let numbered = pair[1].starts_with(|c: char| c.is_ascii_digit());
            if numbered && self.goal_words.contains(&pair[0]) {
                found.push(format!("{} {}", pair[0], pair[1]));
            }
        }
        found.into_iter()
    }

    /// `text` with a `*` before every numbered name whose kind occurs in the goal.
    fn marked(&self, text: &str) -> String {
        if !self.config.mark_goal {
            return text.to_string();
        }
        let mut marked = String::with_capacity(text.len() + 8);
        let pieces: Vec<&str> = text.split(' ').collect();
        for (index, piece) in pieces.iter().enumerate() {
            let numbered =
                pieces.get(index + 1).is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit()));
            if numbered && self.goal_words.iter().any(|word| word == piece) {
                marked.push_str("* ");
            }
            marked.push_str(piece);
            if index + 1 < pieces.len() {
                marked.push(' ');
            }
        }
        marked
    }
}

/// What can be done on a turn.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice<'a> {
    admissible: &'a [String],
    vocabulary: &'a ActionVocabulary,
    /// Names that commands can be about, where no commands are listed.
    objects: &'a [String],
}

impl Choice<'_> {
    /// The admissible commands; where none are listed, the kinds of commands and the names they can be about.
    pub(crate) fn listed(&self) -> Vec<(&'static str, Vec<&str>)> {
        if !self.admissible.is_empty() {
            return vec![("commands", self.admissible.iter().map(String::as_str).collect())];
        }
        let templates = self.vocabulary.templates.iter().map(|template| template.template.as_str());
        let objects = self.objects.iter().map(String::as_str);
        let all = [("kinds of commands", templates.collect()), ("things", objects.collect::<Vec<_>>())];
        all.into_iter().filter(|(_, items)| !items.is_empty()).collect()
    }
}

/// A command in the words of [`ActionFormat::Compact`]: all its words but the links.
#[must_use]
pub fn compact_command(command: &str) -> String {
    let kept: Vec<&str> = command.split_whitespace().filter(|word| !LINKS.contains(word)).collect();
    kept.join(" ")
}

/// Where a command goes, if its only argument is a place to go to.
fn destination<'a>(vocabulary: &'a ActionVocabulary, command: &'a str) -> Option<&'a str> {
    let parsed = vocabulary.parse(command)?;
    (parsed.verb == "go to").then(|| parsed.args.first().copied()).flatten()
}

/// A title as the beginning of a line.
pub(crate) fn capitalised(title: &str) -> String {
    let first = title.chars().next().map(char::to_uppercase).into_iter().flatten();
    first.chain(title.chars().skip(1)).collect()
}

fn verb_and_first_argument(vocabulary: &ActionVocabulary, command: &str) -> String {
    let Some(parsed) = vocabulary.parse(command) else { return compact_command(command) };
    let verb = compact_command(parsed.verb);
    match parsed.args.first() {
        Some(argument) => format!("{verb} {argument}"),
        None => verb,
    }
}

/// The kinds of things a goal names are its words.
fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty()).map(kind_of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::ActionTemplate;
    use crate::suite::{Split, TaskId};

    fn task() -> Task {
        Task {
            id: TaskId("t".into()),
            split: Split::Train,
            family: "f".into(),
            goal: "put clean mug on shelf".into(),
        }
    }

    #[test]
    fn marks_stand_before_names_of_the_goal_only() {
        let mut builder = PromptBuilder::new(&PromptConfig::default(), &task());
        let now = Observation::new("drawer 1 is open: mug 2, cup 1", Vec::new());
        let text = builder.branch(&ActionVocabulary::default(), &now, &["next open"]);
        assert_eq!(text, "drawer 1 is open: * mug 2, cup 1 tip: next open =>");
    }

    #[test]
    fn compact_commands_leave_link_words_out() {
        assert_eq!(compact_command("take mug 1 from drawer 2"), "take mug 1 drawer 2");
    }

    #[test]
    fn the_paper_layout_is_all_branch_and_keeps_the_last_turns() {
        let config = PromptConfig {
            prompt_layout: PromptLayout::Paper,
            history_turns: 2,
            action_format: ActionFormat::Tagged,
            ..PromptConfig::default()
        };
        let mut builder = PromptBuilder::new(&config, &task());
        let vocabulary = ActionVocabulary::default();
        assert_eq!(builder.opening(&task(), &["be quick"]), "");
        for turn in 0..3 {
            let _ = builder.branch(&vocabulary, &Observation::new(format!("sight {turn}"), Vec::new()), &[]);
            let action = format!("act {turn}");
            assert_eq!(
                builder.entry(&vocabulary, Some(&action).filter(|_| turn != 1).map(|a| a.as_str()), "x"),
                ""
            );
        }
        let admissible = ["help", "look"].map(String::from).to_vec();
        let text = builder.branch(&vocabulary, &Observation::new("sight 3", admissible), &["next open"]);
        assert_eq!(
            text,
            "You play a text game. Steps taken: 3 .\nYour goal: put clean mug on shelf\nThe last 2 steps:\n\
             Step 2 : you saw: sight 1\nStep 2 : you did: nothing\nStep 3 : you saw: sight 2\nStep 3 : you did: act 2\n\
             Step 4 : you see: sight 3\nYou can do:\nlook\ntip: be quick\ntip: next open\n\
             Think about the goal in a few words, then give one of the commands above between <action> and </action> ."
        );
    }

    #[test]
    fn where_no_commands_are_listed_prompts_show_their_kinds_and_the_names_in_sight() {
        let template = |template: &str| ActionTemplate { name: template.into(), template: template.into() };
        let vocabulary = ActionVocabulary { templates: vec![template("open {o}"), template("look")] };
        let now =
            Observation { text: "a hall".into(), objects: vec!["door".into()], ..Observation::default() };
        let manner = Manner { paper_request: "Act.".into(), request: "Act now.".into(), ..Manner::default() };
        let check = |layout: PromptLayout, style: PromptStyle, expected: &str| {
            let config = PromptConfig {
                prompt_layout: layout,
                style: Some(style),
                action_format: ActionFormat::Tagged,
                list_admissible: true,
                ..PromptConfig::default()
            };
            let mut builder = PromptBuilder::new(&config, &task()).speaking(&manner);
            let _ = builder.opening(&task(), &[]);
            assert_eq!(builder.branch(&vocabulary, &now, &[]), expected);
        };
        check(
            PromptLayout::Paper,
            PromptStyle::Words,
            "You play a text game. Steps taken: 0 .\nYour goal: put clean mug on shelf\nStep 1 : you see: a hall\n\
             Kinds of commands: open {o}, look\nThings: door\nAct.",
        );
        check(
            PromptLayout::TrunkBranch,
            PromptStyle::Plain,
            "\nNow: a hall\nKinds of commands: open {o}, look.\nThings: door.\nAct now.",
        );
        let words = "a hall kinds of commands: open {o}, look things: door =>";
        check(PromptLayout::TrunkBranch, PromptStyle::Words, words);
    }
}
