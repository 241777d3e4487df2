//! Commands to choose from, for policies that cannot write: declared help.
//!
//! They are made of the question and of the passages retrieved so far. The gold answer is not looked at.

use super::env::State;
use super::questions::Question;
use super::scores::normalise_answer;
use super::spans::spans;

/// The commands at this state: searches for the question, for names in it, for titles and names in the latest passages, as
/// far as they were not searched for yet; then, after a search, answers: yes and no, names in the question, titles, names,
/// numbers and dates in the passages, the latest first. At most `limit`, a third of them searches.
pub(super) fn candidates(question: &Question, state: &State, limit: usize) -> Vec<String> {
    let question_spans = spans(&question.text);
    let latest = state.retrieved.last().map_or(&[][..], Vec::as_slice);
    let titles = latest.iter().map(|passage| passage.title.clone());
    let mut queries = Distinct::new(limit / 3);
    queries.extend(state.queries.iter().cloned());
    let n_asked = queries.kept.len();
    queries.limit += n_asked;
    queries.extend([question.text.clone()]);
    queries.extend(question_spans.iter().cloned());
    queries.extend(titles);
    queries.extend(latest.iter().flat_map(|passage| spans(&passage.text)));
    let mut commands: Vec<String> =
        queries.kept.drain(n_asked..).map(|query| format!("search {query}")).collect();
    if state.retrieved.is_empty() {
        return commands;
    }
    let mut answers = Distinct::new(limit.saturating_sub(commands.len()));
    answers.extend(["yes".to_owned(), "no".to_owned()]);
    answers.extend(question_spans);
    for passage in state.retrieved.iter().rev().flatten() {
        answers.extend([passage.title.clone()]);
        answers.extend(spans(&passage.text));
    }
    commands.extend(answers.kept.into_iter().map(|answer| format!("answer {answer}")));
    commands
}

/// Texts that differ after normalisation, up to a limit.
struct Distinct {
    limit: usize,
    kept: Vec<String>,
    seen: std::collections::HashSet<String>,
}

impl Distinct {
    fn new(limit: usize) -> Distinct {
        Distinct { limit, kept: Vec::new(), seen: std::collections::HashSet::new() }
    }

    fn extend(&mut self, texts: impl IntoIterator<Item = String>) {
        for text in texts {
            if self.kept.len() >= self.limit {
                return;
            }
            let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
            let key = normalise_answer(&text);
            if !key.is_empty() && self.seen.insert(key) {
                self.kept.push(text);
            }
        }
    }
}
