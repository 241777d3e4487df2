//! Exact match and F1 of an answer, as the question-answering benchmarks define them.

use std::collections::HashMap;
use std::sync::LazyLock;

use regex::{Captures, Regex};

/// Runs of letters and numbers: what `\b` of Python's `re` stands around, once the ASCII punctuation is gone.
#[expect(clippy::expect_used, reason = "a constant pattern, compiled by every test")]
static WORD: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"[\p{L}\p{N}]+").expect("the pattern is valid"));

/// Answers whose F1 is 1 or 0: sharing a word with one of them means nothing.
const CLOSED: [&str; 3] = ["yes", "no", "noanswer"];

/// How well an answer fits the gold answers.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct AnswerScores {
    /// Whether the answer equals a gold answer after normalisation.
    pub exact_match: bool,
    /// The best F1 over the gold answers, in 0..=1.
    pub f1: f64,
}

/// An answer as it is compared: lower-cased, without ASCII punctuation, without the words `a`, `an` and `the`, blanks
/// collapsed, in this order.
///
/// Only ASCII punctuation goes (Python's `string.punctuation`): `“x”` and `x` differ, `"x"` and `x` do not.
///
/// Source: the evaluation script of SQuAD (arXiv:1606.05250), as Search-R1 (arXiv:2503.09516) applies it.
#[must_use]
pub fn normalise_answer(answer: &str) -> String {
    let lower = answer.to_lowercase();
    let bare: String = lower.chars().filter(|c| !c.is_ascii_punctuation()).collect();
    let without_articles = WORD.replace_all(&bare, |word: &Captures<'_>| match &word[0] {
        "a" | "an" | "the" => " ".to_owned(),
        other => other.to_owned(),
    });
    without_articles.split(is_blank).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

/// Exact match and F1 of `answer`, the best over `gold`; both 0 without gold answers.
///
/// `F1 = 2 n / (|answer| + |gold|)` over the words of the normalised texts as multisets, `n` being the size of their
/// intersection; 0 if that is empty, and 0 where one of both is yes, no or noanswer and the other is not.
///
/// Source: the evaluation script of HotpotQA (arXiv:1809.09600).
#[must_use]
pub fn score_answer(answer: &str, gold: &[String]) -> AnswerScores {
    let answer = normalise_answer(answer);
    gold.iter().map(|gold| normalise_answer(gold)).fold(AnswerScores::default(), |best, gold| AnswerScores {
        exact_match: best.exact_match || answer == gold,
        f1: best.f1.max(f1(&answer, &gold)),
    })
}

/// F1 of two normalised texts.
fn f1(answer: &str, gold: &str) -> f64 {
    if answer != gold && (CLOSED.contains(&answer) || CLOSED.contains(&gold)) {
        return 0.0;
    }
    let mut counts: HashMap<&str, usize> = HashMap::new();
    let (mut n_answer, mut n_gold, mut n_common) = (0_usize, 0_usize, 0_usize);
    for word in gold.split_whitespace() {
        *counts.entry(word).or_default() += 1;
        n_gold += 1;
    }
    for word in answer.split_whitespace() {
        n_answer += 1;
        if let Some(left) = counts.get_mut(word).filter(|left| **left > 0) {
            *left -= 1;
            n_common += 1;
        }
    }
    if n_common == 0 {
        return 0.0;
    }
    let (precision, recall) = (n_common as f64 / n_answer as f64, n_common as f64 / n_gold as f64);
    2.0 * precision * recall / (precision + recall)
}

/// What Python's `str.split` splits at: Unicode's white space and the four ASCII separators.
fn is_blank(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, gold: &[&str], exact_match: bool, f1: f64) {
        let gold: Vec<String> = gold.iter().map(ToString::to_string).collect();
        let scores = score_answer(answer, &gold);
        assert_eq!(scores.exact_match, exact_match, "{answer} / {gold:?}");
        assert!((scores.f1 - f1).abs() < 1e-12, "{answer} / {gold:?}: {}", scores.f1);
    }

    #[test]
    fn answers_match_beyond_case_articles_and_punctuation() {
        check("The  Beatles!", &["beatles"], true, 1.0);
        check("a theatre", &["theatre", "an opera"], true, 1.0);
        check("U.S.", &["us"], true, 1.0);
    }

    #[test]
    fn f1_counts_shared_words_once_each() {
        // 1 of 2 words in 1 of 3: 2 * (1/2 * 1/3) / (1/2 + 1/3) = 2/5.
        check("Paris France", &["Paris in Texas"], false, 0.4);
        check("new new york", &["new york"], false, 2.0 * (2.0 / 3.0) / (2.0 / 3.0 + 1.0));
    }

    #[test]
    fn closed_answers_share_nothing_with_others() {
        check("yes it is", &["yes"], false, 0.0);
        check("no", &["yes"], false, 0.0);
        check("Yes.", &["yes"], true, 1.0);
    }

    #[test]
    fn nothing_matches_nothing_exactly_but_shares_no_word() {
        check("the", &["a"], true, 0.0);
        check("x", &[], false, 0.0);
    }
}
