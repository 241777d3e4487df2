//! The sentence forms of authored guidance: lower-case words a tiny vocabulary holds.

use crate::guidance::{Guidance, Polarity};

/// The words of authored guidance that are not verbs of the environment.
#[must_use]
pub fn guidance_words() -> &'static [&'static str] {
    &["next", "do", "not"]
}

/// Guidance towards a verb: `next open`.
#[must_use]
pub fn guidance(verb: &str) -> String {
    Guidance { polarity: Polarity::Next, verb: verb.to_owned() }.to_string()
}

/// Guidance against a verb: `do not look`.
#[must_use]
pub fn guidance_not(verb: &str) -> String {
    Guidance { polarity: Polarity::DoNot, verb: verb.to_owned() }.to_string()
}

/// A verb as part of a skill's name: `go-to`.
pub(crate) fn kebab(text: &str) -> String {
    let mut out = String::new();
    for c in text.to_lowercase().chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    out.trim_end_matches('-').chars().take(24).collect::<String>().trim_end_matches('-').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_made_of_guidance_words_and_verbs() {
        assert_eq!(guidance("go to"), "next go to");
        assert_eq!(guidance_not("look"), "do not look");
        for text in [guidance("open"), guidance_not("open")] {
            assert!(text.split(' ').all(|word| word == "open" || guidance_words().contains(&word)));
        }
        assert_eq!(kebab(" Go to_X "), "go-to-x");
    }
}
