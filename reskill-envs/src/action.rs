//! The commands of an environment, as templates: `take {o} from {r}`.

use serde::{Deserialize, Serialize};

/// One kind of command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionTemplate {
    /// Name of the action in the game's rules, e.g. `PickupObject`.
    pub name: String,
    /// The command with slots, e.g. `take {o} from {r}`.
    pub template: String,
}

impl ActionTemplate {
    /// The words before the first slot, e.g. `go to`: the verb of the command.
    #[must_use]
    pub fn verb(&self) -> &str {
        self.template.split('{').next().unwrap_or_default().trim()
    }
}

/// A command split into its verb and its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParsedAction<'a> {
    /// The template's verb, e.g. `take`.
    pub verb: &'a str,
    /// The arguments as written, e.g. `["apple 1", "drawer 2"]`.
    pub args: Vec<&'a str>,
}

impl ParsedAction<'_> {
    /// The kind of argument `index`: the name without its trailing number, `drawer` for `drawer 2`.
    #[must_use]
    pub fn kind(&self, index: usize) -> Option<&str> {
        self.args.get(index).map(|arg| kind_of(arg))
    }
}

/// A name without its trailing number: `drawer` for `drawer 2`.
#[must_use]
pub fn kind_of(name: &str) -> &str {
    let trimmed = name.trim();
    match trimmed.rsplit_once(' ') {
        Some((kind, number)) if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) => kind,
        _ => trimmed,
    }
}

/// All commands of an environment.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActionVocabulary {
    /// The templates in the order of the rules.
    pub templates: Vec<ActionTemplate>,
}

impl ActionVocabulary {
    /// The distinct verbs, in template order.
    #[must_use]
    pub fn verbs(&self) -> Vec<&str> {
        let mut verbs: Vec<&str> = Vec::new();
        for template in &self.templates {
            if !verbs.contains(&template.verb()) {
                verbs.push(template.verb());
            }
        }
        verbs
    }

    /// Splits a command by the template that fits it; the longest verb wins. `None` if no template fits.
    #[must_use]
    pub fn parse<'a>(&'a self, action: &'a str) -> Option<ParsedAction<'a>> {
        self.templates
            .iter()
            .filter_map(|template| {
                Some(ParsedAction {
                    verb: template.verb(),
                    args: match_template(&template.template, action)?,
                })
            })
            .max_by_key(|parsed| parsed.verb.len())
    }
}

/// The slot values of `action` under `template`, or `None` if it does not fit.
fn match_template<'a>(template: &str, action: &'a str) -> Option<Vec<&'a str>> {
    let mut args = Vec::new();
    let mut rest_of_action = action.trim();
    let mut pieces = template.split('{');
    rest_of_action = rest_of_action.strip_prefix(pieces.next().unwrap_or_default())?;
    for piece in pieces {
        let literal = piece.split_once('}').map_or("", |(_, after)| after);
        let end = if literal.is_empty() { rest_of_action.len() } else { rest_of_action.find(literal)? };
        let (arg, after) = rest_of_action.split_at(end);
        if arg.is_empty() {
            return None;
        }
        args.push(arg);
        rest_of_action = &after[literal.len()..];
    }
    rest_of_action.is_empty().then_some(args)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary() -> ActionVocabulary {
        let template =
            |name: &str, template: &str| ActionTemplate { name: name.into(), template: template.into() };
        ActionVocabulary {
            templates: vec![
                template("Goto", "go to {r}"),
                template("Take", "take {o} from {r}"),
                template("Look", "look"),
            ],
        }
    }

    #[test]
    fn parse_splits_verb_and_arguments() {
        let vocabulary = vocabulary();
        let parsed = vocabulary.parse("take apple 1 from drawer 12").unwrap();
        assert_eq!((parsed.verb, parsed.args.as_slice()), ("take", ["apple 1", "drawer 12"].as_slice()));
        assert_eq!(parsed.kind(1), Some("drawer"));
        assert_eq!(vocabulary.parse("look").unwrap().args.len(), 0);
    }

    #[test]
    fn parse_refuses_what_fits_no_template() {
        let vocabulary = vocabulary();
        assert!(vocabulary.parse("looks").is_none());
        assert!(vocabulary.parse("take apple 1").is_none());
        assert!(vocabulary.parse("go to ").is_none());
    }

    #[test]
    fn kind_keeps_names_without_a_number() {
        assert_eq!(kind_of("side table"), "side table");
        assert_eq!(kind_of("side table 3"), "side table");
    }
}
