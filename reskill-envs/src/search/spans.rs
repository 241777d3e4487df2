//! Names, numbers and dates in a text: what queries and short answers are made of.

use super::words::is_stop_word;

/// Small words that may stand inside a name.
const LINKS: [&str; 12] = ["of", "the", "de", "la", "le", "von", "van", "der", "du", "del", "da", "al"];
/// Words of the longest span.
const MAX_WORDS: usize = 8;

/// The spans of a text, each once, in the order of their first words: runs of words that begin with a capital letter or a
/// digit, with links between them; at least a letter or digit long. Stop words at the beginning of a span (`The`, `In`)
/// are left out. A comma ends a span, but for one between a day and a year.
pub(crate) fn spans(text: &str) -> Vec<String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut found: Vec<String> = Vec::new();
    let mut start = 0;
    while start < words.len() {
        let len = span_length(&words[start..]);
        if len == 0 {
            start += 1;
            continue;
        }
        let span = words[start..start + len].join(" ");
        let span = trimmed(&span);
        if !span.is_empty() && !found.iter().any(|known| known == span) {
            found.push(span.to_owned());
        }
        start += len;
    }
    found
}

/// How many words the span that begins with the first word has; 0 if none does.
fn span_length(words: &[&str]) -> usize {
    let Some(first) = words.first() else { return 0 };
    if !is_name(first) || is_stop_word(trimmed(first)) {
        return 0;
    }
    let (mut len, mut end) = (1, 1);
    while len < words.len().min(MAX_WORDS) {
        if ends_span(words[len - 1], words.get(len).copied()) {
            break;
        }
        let next = words[len];
        if is_name(next) && !(is_stop_word(trimmed(next)) && next.len() > 1) {
            len += 1;
            end = len;
        } else if LINKS.contains(&next) {
            len += 1;
        } else {
            break;
        }
    }
    end
}

fn is_name(word: &str) -> bool {
    let first = word.chars().find(|c| c.is_alphanumeric());
    // An opening bracket or quote begins something new, which `trimmed` takes off.
    first.is_some_and(|c| c.is_uppercase() || c.is_numeric())
}

/// Whether a span cannot go on after this word.
fn ends_span(word: &str, next: Option<&str>) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if let Some(day) = word.strip_suffix(',') {
        let year = next.map(trimmed).unwrap_or_default();
        return !(digits(day) && day.len() <= 2 && digits(year) && year.len() == 4);
    }
    let last = word.chars().next_back();
    let is_initial = word.ends_with('.') && word.chars().filter(|c| c.is_alphanumeric()).count() <= 2;
    let opens = next.is_some_and(|next| next.starts_with(['(', '[', '"', '“', '«']));
    opens || (!is_initial && last.is_some_and(|c| ".;:!?)]\"”»".contains(c)))
}

/// Without punctuation around; the point of initials stays inside only.
fn trimmed(text: &str) -> &str {
    text.trim_matches(|c: char| !c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[&str]) {
        assert_eq!(spans(text), expected, "{text}");
    }

    #[test]
    fn names_numbers_and_dates_are_found() {
        check(
            "Ada Lovelace (born December 10, 1815, in London) met the University of Cambridge's Babbage in 1833.",
            &["Ada Lovelace", "December 10, 1815", "London", "University of Cambridge's Babbage", "1833"],
        );
        check("He was in Paris, Texas. The End", &["Paris", "Texas", "End"]);
        check("George W. Bush and J. R. R. Tolkien", &["George W. Bush", "J. R. R. Tolkien"]);
    }

    #[test]
    fn links_end_no_span() {
        check("Bank of the west", &["Bank"]);
        check("nothing here", &[]);
        check("Rome Rome", &["Rome Rome"]);
    }

    #[test]
    fn repeated_spans_are_listed_once() {
        check("Rome, then Rome", &["Rome"]);
    }
}
