//! What an agent does: it searches, or it answers.

use std::sync::LazyLock;

use regex::Regex;

/// A complete pair of tags with what stands between.
#[expect(clippy::expect_used, reason = "a constant pattern, compiled by every test")]
static BLOCK: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?is)<search>(?<query>.*?)</search>|<answer>(?<answer>.*?)</answer>")
        .expect("the pattern is valid")
});

/// One action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SearchAction {
    /// Look for passages.
    Search(String),
    /// Give an answer, which ends the episode.
    Answer(String),
}

impl SearchAction {
    /// Reads an action: a reply with `<search>query</search>` or `<answer>answer</answer>`, or a command `search query` or
    /// `answer answer`. `None` if it is neither, or a search for nothing.
    ///
    /// Of several pairs of tags the first counts if it is a search, since what follows was said without seeing its
    /// result; otherwise the last answer counts. Tags in any case; blanks are collapsed.
    #[must_use]
    pub fn parse(text: &str) -> Option<SearchAction> {
        let blocks: Vec<_> = BLOCK.captures_iter(text).collect();
        let Some(first) = blocks.first() else { return SearchAction::from_command(text) };
        if let Some(query) = first.name("query") {
            return SearchAction::search(query.as_str());
        }
        let last = blocks.iter().rev().find_map(|block| block.name("answer"));
        last.map(|answer| SearchAction::Answer(collapsed(answer.as_str())))
    }

    fn from_command(text: &str) -> Option<SearchAction> {
        let (verb, rest) = text.trim().split_once(char::is_whitespace)?;
        match verb.to_ascii_lowercase().as_str() {
            "search" => SearchAction::search(rest),
            "answer" => Some(SearchAction::Answer(collapsed(rest))),
            _ => None,
        }
    }

    fn search(query: &str) -> Option<SearchAction> {
        let query = collapsed(query);
        (!query.is_empty()).then_some(SearchAction::Search(query))
    }
}

fn collapsed(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<SearchAction>) {
        assert_eq!(SearchAction::parse(text), expected, "{text}");
    }

    #[test]
    fn tags_and_commands_say_the_same() {
        let search = || Some(SearchAction::Search("capital of France".into()));
        check("<search> capital of\nFrance </search>", search());
        check("I do not know. <SEARCH>capital of France</SEARCH> and then", search());
        check("search capital  of France", search());
        let answer = || Some(SearchAction::Answer("Paris".into()));
        check("<answer>Paris</answer>", answer());
        check(" Answer Paris ", answer());
    }

    #[test]
    fn the_last_answer_counts_unless_a_search_came_first() {
        check("<answer>a</answer> no, <answer>b</answer>", Some(SearchAction::Answer("b".into())));
        check("<search>q</search> <answer>b</answer>", Some(SearchAction::Search("q".into())));
        check("<answer>a</answer> <search>q</search>", Some(SearchAction::Answer("a".into())));
    }

    #[test]
    fn what_is_no_action_is_none() {
        for text in ["", "search", "search  ", "<search> </search>", "<search>open", "look", "<answer>x"] {
            check(text, None);
        }
        check("<answer></answer>", Some(SearchAction::Answer(String::new())));
    }
}
