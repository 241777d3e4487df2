//! The texts of the world: rules and words, with what a configuration changes in them.

use std::collections::{BTreeMap, BTreeSet};

use super::config::{Appliances, HouseholdConfig};
use crate::error::EnvError;

const DOMAIN: &str = include_str!("domain.pddl");
const GRAMMAR: &str = include_str!("grammar.twl2");

/// The verbs of the grammar, those of one word; `go to` has two and keeps them.
const VERBS: [&str; 12] = [
    "open",
    "close",
    "take",
    "put",
    "start",
    "rinse",
    "heat",
    "chill",
    "light",
    "examine",
    "look",
    "inventory",
];

/// Checks other words for verbs.
pub(super) fn check(verbs: &BTreeMap<String, String>) -> Result<(), EnvError> {
    let refuse = |value: String, expected| Err(EnvError::Config { key: "verbs", value, expected });
    if let Some(unknown) = verbs.keys().find(|verb| !VERBS.contains(&verb.as_str())) {
        return refuse(
            unknown.clone(),
            "open, close, take, put, start, rinse, heat, chill, light, examine, look or inventory",
        );
    }
    let is_word = |word: &String| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase());
    if let Some(word) = verbs.values().find(|word| !is_word(word) || word.as_str() == "go") {
        return refuse(format!("{word:?}"), "one word of a-z, other than `go`");
    }
    let words = VERBS.iter().map(|verb| verbs.get(*verb).map_or(*verb, String::as_str));
    let mut seen = BTreeSet::new();
    match words.into_iter().find(|word| !seen.insert(*word)) {
        Some(twice) => refuse(twice.to_string(), "a word of its own for each verb"),
        None => Ok(()),
    }
}

/// The rules.
pub(super) fn domain(appliances: Appliances) -> String {
    let Appliances { rinse, heat, chill } = appliances;
    let of = [
        ("rinsable ?o) (rkind ?r sink", rinse),
        ("heatable ?o) (rkind ?r microwave", heat),
        ("coolable ?o) (rkind ?r fridge", chill),
    ];
    of.iter().fold(DOMAIN.to_string(), |text, (usual, appliance)| {
        let stem = usual.rsplit_once(' ').map_or(*usual, |(stem, _)| stem);
        text.replace(usual, &format!("{stem} {}", appliance.as_str()))
    })
}

/// The words.
pub(super) fn grammar(config: &HouseholdConfig) -> String {
    let line = |line: &str| {
        let changed = config.verbs.iter().find_map(|(verb, word)| {
            let is_action = line.split_whitespace().take(2).eq(["action", verb.as_str()]);
            // The first occurrence is the name of the action, the second begins its template.
            is_action.then(|| line.replacen(&format!("\"{verb}"), &format!("\"{word}"), 1))
        });
        changed.unwrap_or_else(|| line.to_string()) + "\n"
    };
    GRAMMAR.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::household::config::Appliance;

    #[test]
    fn the_usual_texts_are_those_of_the_files() {
        assert_eq!(domain(Appliances::default()), DOMAIN);
        assert_eq!(grammar(&HouseholdConfig::default()), GRAMMAR);
    }

    #[test]
    fn every_verb_of_one_word_can_be_called_otherwise() {
        let verbs: BTreeMap<String, String> =
            VERBS.iter().map(|verb| (verb.to_string(), format!("{verb}x"))).collect();
        check(&verbs).unwrap();
        let text = grammar(&HouseholdConfig { verbs, ..HouseholdConfig::default() });
        for verb in VERBS {
            let templates = [format!("template :: \"{verb}x {{"), format!("template :: \"{verb}x\"")];
            assert!(templates.iter().any(|template| text.contains(template)), "{verb}: {text}");
        }
        assert!(text.contains("template :: \"go to {r}\""), "{text}");
    }

    #[test]
    fn each_appliance_takes_over_the_rules_of_another() {
        let turned =
            Appliances { rinse: Appliance::Microwave, heat: Appliance::Fridge, chill: Appliance::Sink };
        let text = domain(turned);
        for part in [
            "(rinsable ?o) (rkind ?r microwavekind)",
            "(heatable ?o) (rkind ?r fridgekind)",
            "(coolable ?o) (rkind ?r sinkkind)",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn words_that_cannot_be_told_apart_are_refused() {
        let check = |pairs: &[(&str, &str)], expected: &str| {
            let verbs = pairs.iter().map(|(verb, word)| (verb.to_string(), word.to_string())).collect();
            let error = check(&verbs).unwrap_err().to_string();
            assert!(error.contains("verbs") && error.contains(expected), "{error}");
        };
        check(&[("open", "start")], "a word of its own for each verb");
        check(&[("opens", "start")], "open, close, take");
        check(&[("open", "pull up")], "one word of a-z");
        check(&[("open", "go")], "other than `go`");
        assert!(
            super::check(&[("open".into(), "start".into()), ("start".into(), "open".into())].into()).is_ok()
        );
    }
}
