//! Prompts in plain English, for pretrained language models: the same segments as in [`crate::prompt`], in sentences.

use crate::prompt::{ActionFormat, Choice, Manner, capitalised};
use crate::suite::Task;

/// What a pretrained model is told before anything else: the system message of its chat template.
#[must_use]
pub fn system(format: ActionFormat, manner: &Manner) -> &str {
    match format {
        ActionFormat::Compact => {
            "You play a text game. Each turn you read what you see and answer with one admissible action, word for \
             word, and nothing else."
        }
        ActionFormat::Tagged => &manner.system,
    }
}

/// The first trunk segment: the task and the advice that holds at every turn.
pub(crate) fn opening(task: &Task, general_guidance: &[&str]) -> String {
    let mut text = format!("Your task: {}\n", task.goal);
    advice(&mut text, "Advice", general_guidance);
    text.push_str("\nWhat happened so far:\n");
    text
}

/// The trunk segment of a finished turn: the action, and what is remembered of its result.
pub(crate) fn entry(action: Option<&str>, seen: Option<&str>, names: &[String]) -> String {
    let Some(action) = action else { return "- Your answer held no action.\n".to_string() };
    let mut text = format!("- You did: {action}.");
    if let Some(seen) = seen {
        text.push_str(" Then: ");
        text.push_str(&seen.split_whitespace().collect::<Vec<_>>().join(" "));
    } else if !names.is_empty() {
        text.push_str(" You noticed: ");
        text.push_str(&names.join(", "));
        text.push('.');
    }
    text.push('\n');
    text
}

/// What the branch segment of a turn shows.
pub(crate) struct Branch<'a> {
    pub(crate) observation: &'a str,
    /// Places that were not gone to, if they are listed.
    pub(crate) unvisited: Option<Vec<&'a str>>,
    /// What can be done, if it is listed.
    pub(crate) choice: Option<Choice<'a>>,
    pub(crate) guidance: &'a [&'a str],
    /// What is asked for at the end.
    pub(crate) request: &'a str,
}

/// The branch segment of a turn: what is seen, what can be done, the advice of the skills that fired, what to answer.
pub(crate) fn branch(branch: &Branch<'_>) -> String {
    let mut text = format!("\nNow: {}\n", branch.observation.trim());
    if let Some(unvisited) = &branch.unvisited {
        text.push_str(&format!("Not visited yet: {}.\n", unvisited.join(", ")));
    }
    for (title, items) in branch.choice.iter().flat_map(Choice::listed) {
        let title = if title == "commands" { "Admissible actions".to_owned() } else { capitalised(title) };
        text.push_str(&format!("{title}: {}.\n", items.join(", ")));
    }
    advice(&mut text, "Advice for this turn", branch.guidance);
    text.push_str(branch.request);
    text
}

fn advice(text: &mut String, title: &str, guidance: &[&str]) {
    for guidance in guidance {
        text.push_str(&format!("{title}: {}\n", guidance.trim()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::action::ActionVocabulary;
    use crate::prompt::{PromptBuilder, PromptConfig, PromptStyle};
    use crate::suite::{Observation, Split, TaskId};

    #[test]
    fn plain_prompts_hold_task_history_observation_commands_and_skills() {
        let task = Task {
            id: TaskId("t".into()),
            split: Split::Train,
            family: "f".into(),
            goal: "put a clean mug on the shelf.".into(),
        };
        let config = PromptConfig {
            action_format: ActionFormat::Tagged,
            style: Some(PromptStyle::Plain),
            list_admissible: true,
            ..PromptConfig::default()
        };
        let mut builder = PromptBuilder::new(&config, &task);
        assert_eq!(
            builder.opening(&task, &["look first"]),
            "Your task: put a clean mug on the shelf.\nAdvice: look first\n\nWhat happened so far:\n"
        );
        let vocabulary = ActionVocabulary::default();
        let entry = builder.entry(&vocabulary, Some("open drawer 1"), "In it you see a mug 2, and a cup 1.");
        assert_eq!(entry, "- You did: open drawer 1. You noticed: mug 2.\n");
        assert_eq!(builder.entry(&vocabulary, None, "?"), "- Your answer held no action.\n");
        let commands = ["look".to_string(), "go to shelf 1".to_string()].to_vec();
        assert_eq!(
            builder.branch(&vocabulary, &Observation::new("A mug 2 is here.", commands), &["next take"]),
            "\nNow: A mug 2 is here.\nAdmissible actions: look, go to shelf 1.\nAdvice for this turn: next take\n\
             Answer with one short sentence and then <action>command</action>."
        );
        let said = Manner::default().demonstration("go to shelf 1");
        assert_eq!(crate::prompt::tagged_action(&said).as_deref(), Some("go to shelf 1"));
    }
}
