//! The outer syntax of a grammar file: blocks of rules, and the texts of each action.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::Deserialize;

use crate::alfworld::sexpr::syntax;
use crate::error::EnvError;

/// A grammar file, read but not compiled.
#[derive(Debug, Default)]
pub(super) struct GrammarFile {
    /// The rules of each symbol, in the order of the file.
    pub(super) symbols: HashMap<String, Vec<RuleText>>,
    pub(super) actions: Vec<ActionText>,
}

/// One rule of a symbol.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct RuleText {
    pub(super) rhs: String,
    #[serde(default)]
    pub(super) condition: String,
}

/// The texts of one action.
#[derive(Debug, Clone, Default)]
pub(super) struct ActionText {
    pub(super) name: String,
    pub(super) template: String,
    pub(super) feedback: String,
}

impl GrammarFile {
    /// Reads `grammar :: """json""";` and `action NAME { template :: "..."; feedback :: "..."; grammar :: ... }`.
    /// Where a symbol has rules in several places, the last place counts.
    pub(super) fn parse(text: &str) -> Result<GrammarFile, EnvError> {
        let mut file = GrammarFile::default();
        let mut cursor = Cursor { rest: text };
        let mut action: Option<ActionText> = None;
        loop {
            match (cursor.word(), &mut action) {
                ("", Some(done)) if cursor.eat("}") => {
                    file.actions.push(std::mem::take(done));
                    action = None;
                }
                ("", None) if cursor.rest.is_empty() => return Ok(file),
                ("grammar", _) => file.add_rules(&cursor.value()?)?,
                ("action", None) => {
                    let name = cursor.word().to_owned();
                    cursor.expect("{")?;
                    action = Some(ActionText { name, ..ActionText::default() });
                }
                ("template", Some(action)) => action.template = cursor.value()?.into_owned(),
                ("feedback", Some(action)) => action.feedback = cursor.value()?.into_owned(),
                ("pddl", Some(_)) => drop(cursor.value()?),
                (word, _) => {
                    return Err(syntax(
                        "grammar",
                        format!("unexpected `{word}` before {}", cursor.excerpt()),
                    ));
                }
            }
        }
    }

    fn add_rules(&mut self, json: &str) -> Result<(), EnvError> {
        let rules: HashMap<String, Vec<RuleText>> = serde_json::from_str(json)
            .map_err(|error| syntax("grammar", format!("a `grammar` block is no JSON rule set: {error}")))?;
        self.symbols.extend(rules);
        Ok(())
    }
}

struct Cursor<'a> {
    rest: &'a str,
}

impl<'a> Cursor<'a> {
    /// Skips blanks and `#` comments.
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
        while self.rest.starts_with('#') {
            self.rest = self.rest.split_once('\n').map_or("", |(_, rest)| rest).trim_start();
        }
    }

    /// The next name; empty if something else comes next.
    fn word(&mut self) -> &'a str {
        self.skip();
        let is_name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '/' | '-');
        let end = self.rest.find(|c| !is_name(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word
    }

    fn eat(&mut self, literal: &str) -> bool {
        self.skip();
        match self.rest.strip_prefix(literal) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, literal: &str) -> Result<(), EnvError> {
        if self.eat(literal) {
            return Ok(());
        }
        Err(syntax("grammar", format!("expected `{literal}` before {}", self.excerpt())))
    }

    /// `:: "text";` or `:: """text""";`
    fn value(&mut self) -> Result<Cow<'a, str>, EnvError> {
        self.expect("::")?;
        let quotes = if self.eat("\"\"\"") {
            "\"\"\""
        } else {
            self.expect("\"")?;
            "\""
        };
        let Some((text, rest)) = self.rest.split_once(quotes) else {
            return Err(syntax("grammar", format!("no closing {quotes} after {}", self.excerpt())));
        };
        self.rest = rest;
        self.expect(";")?;
        Ok(Cow::Borrowed(text))
    }

    fn excerpt(&self) -> String {
        if self.rest.is_empty() { "the end".into() } else { format!("{:?}", head(self.rest)) }
    }
}

/// The first characters of a text, for messages.
pub(super) fn head(text: &str) -> String {
    text.chars().take(40).collect()
}
