//! Commands that answer a question rightly, found with the gold answers and the supporting titles in view.

use super::env::SearchEnv;
use super::scores::{normalise_answer, score_answer};
use super::spans::spans;
use crate::error::EnvError;

/// Searches of the longest plan.
const MAX_SEARCHES: usize = 4;
/// Queries that are tried beyond the question and the supporting titles.
const MAX_GUESSES: usize = 6;

/// A plan from the present state: nothing if the question is answered rightly, else searches until the evidence is there,
/// then the answer.
///
/// Evidence is a gold answer in a retrieved passage; for yes and no, and for answers that no passage has word for word,
/// every supporting title having been retrieved. Queries are the supporting titles, the question and names in both; with
/// candidates listed, only what is listed is played.
///
/// # Errors
/// [`EnvError::NoPlan`] if no such search is found; those of the retriever.
pub(super) fn plan(env: &SearchEnv) -> Result<Vec<String>, EnvError> {
    if env.scores().exact_match {
        return Ok(Vec::new());
    }
    let mut env = env.clone();
    let mut plan = Vec::new();
    loop {
        if let Some(answer) = answer(&env) {
            plan.push(answer);
            return Ok(plan);
        }
        let query = if plan.len() < MAX_SEARCHES { next_search(&env)? } else { None };
        let Some(query) = query else {
            let states = env.state.queries.len();
            return Err(EnvError::NoPlan { id: env.id.to_string(), states });
        };
        env.play(&query)?;
        plan.push(query);
    }
}

/// The command that answers rightly, if the evidence is there and, where commands are listed, it is among them.
fn answer(env: &SearchEnv) -> Option<String> {
    if !has_evidence(env) {
        return None;
    }
    let gold = &env.question.answers;
    if !env.shared.config.candidates {
        // The gold answer that was seen reads best.
        let seen = gold.iter().find(|answer| is_seen(env, answer));
        return seen.or(gold.first()).map(|answer| format!("answer {answer}"));
    }
    let is_right = |command: &String| {
        command.strip_prefix("answer ").is_some_and(|answer| score_answer(answer, gold).exact_match)
    };
    env.admissible().into_iter().find(is_right)
}

fn has_evidence(env: &SearchEnv) -> bool {
    let is_closed = |answer: &String| matches!(normalise_answer(answer).as_str(), "yes" | "no");
    let gold = &env.question.answers;
    if !gold.iter().any(is_closed) && gold.iter().any(|answer| is_seen(env, answer)) {
        return true;
    }
    let titles = &env.question.supporting_titles;
    !titles.is_empty() && titles.iter().all(|title| is_retrieved(env, title))
}

/// Whether a passage so far has the words of an answer.
fn is_seen(env: &SearchEnv, answer: &str) -> bool {
    let answer = normalise_answer(answer);
    let holds = |text: &str| format!(" {} ", normalise_answer(text)).contains(&format!(" {answer} "));
    !answer.is_empty()
        && env.state.retrieved.iter().flatten().any(|passage| holds(&passage.text) || holds(&passage.title))
}

fn is_retrieved(env: &SearchEnv, title: &str) -> bool {
    let title = normalise_answer(title);
    env.state.retrieved.iter().flatten().any(|passage| normalise_answer(&passage.title) == title)
}

/// The search that comes next: the first one that brings the evidence, else the first one that brings a supporting title
/// that is missing, else the first one at all.
fn next_search(env: &SearchEnv) -> Result<Option<String>, EnvError> {
    let wanted = queries(env);
    let missing = |env: &SearchEnv| {
        env.question.supporting_titles.iter().filter(|title| !is_retrieved(env, title)).count()
    };
    let n_missing = missing(env);
    let mut helpful = None;
    for command in &wanted {
        let mut after = env.clone();
        after.play(command)?;
        if answer(&after).is_some() {
            return Ok(Some(command.clone()));
        }
        if helpful.is_none() && missing(&after) < n_missing {
            helpful = Some(command.clone());
        }
    }
    Ok(helpful.or_else(|| wanted.into_iter().next()))
}

/// Searches that were not made yet, the most promising first.
fn queries(env: &SearchEnv) -> Vec<String> {
    let question = &env.question;
    let mut texts: Vec<String> =
        question.supporting_titles.iter().filter(|title| !is_retrieved(env, title)).cloned().collect();
    texts.push(question.text.clone());
    let latest = env.state.retrieved.last().into_iter().flatten();
    let guesses = spans(&question.text).into_iter().chain(latest.map(|passage| passage.title.clone()));
    texts.extend(guesses.take(MAX_GUESSES));
    let listed = env.admissible();
    let mut seen: Vec<String> = env.state.queries.iter().map(|query| normalise_answer(query)).collect();
    let mut commands = Vec::new();
    for text in texts {
        let key = normalise_answer(&text);
        if key.is_empty() || seen.contains(&key) {
            continue;
        }
        // A listed command may be spelled a little differently.
        let command = if env.shared.config.candidates {
            let is_same = |command: &&String| {
                command.strip_prefix("search ").is_some_and(|query| normalise_answer(query) == key)
            };
            listed.iter().find(is_same).cloned()
        } else {
            Some(format!("search {text}"))
        };
        seen.push(key);
        commands.extend(command);
    }
    commands
}
