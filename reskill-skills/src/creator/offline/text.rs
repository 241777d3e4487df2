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

/// A verb as part of a skill's name: `go-to`. Words of other scripts become a number that depends on them alone.
pub(crate) fn kebab(text: &str) -> String {
    let mut out = String::new();
    for c in text.to_lowercase().chars() {
        if c.is_ascii_lowercase() || c.is_ascii_digit() {
            out.push(c);
        } else if !out.is_empty() && !out.ends_with('-') {
            out.push('-');
        }
    }
    let out: String = out.trim_end_matches('-').chars().take(24).collect();
    let out = out.trim_end_matches('-');
    let foreign = text.chars().any(|c| c.is_alphabetic() && !c.is_ascii());
    if out.is_empty() || foreign {
        // FNV-1a, 32 bits.
        let hash =
            text.bytes().fold(0x811c_9dc5_u32, |hash, b| (hash ^ u32::from(b)).wrapping_mul(0x0100_0193));
        return format!("{}-{hash:08x}", if out.is_empty() { "x" } else { &out[..out.len().min(14)] })
            .replace("--", "-");
    }
    out.to_owned()
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
        assert_ne!(kebab("открыть"), kebab("закрыть"));
        assert_ne!(kebab("öffne"), kebab("ffne"));
    }
}
