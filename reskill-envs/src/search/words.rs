//! English words that say nothing about what a text is about.

use std::collections::HashSet;
use std::sync::LazyLock;

/// Articles, pronouns, prepositions, conjunctions, auxiliaries and question words.
pub(crate) const STOP_WORDS: &str = "a about after all also am an and any are as at be been before being between both but by \
    can could did do does doing during each for from further had has have having he her here hers him his how i if in into \
    is it its itself just me more most my no nor not of off on once only or other our out over own same she should so some \
    such than that the their them then there these they this those through to too under until up very was we were what \
    when where which while who whom whose why will with would you your";

/// Whether a word, in whatever case, is one of them.
pub(crate) fn is_stop_word(word: &str) -> bool {
    static SET: LazyLock<HashSet<&'static str>> = LazyLock::new(|| STOP_WORDS.split_whitespace().collect());
    SET.contains(word.to_lowercase().as_str())
}
