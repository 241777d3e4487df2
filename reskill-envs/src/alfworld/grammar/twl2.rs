//! The outer syntax of a grammar file: blocks of rules, and the texts of each action.

use std::collections::HashMap;

use serde::Deserialize;

use crate::alfworld::sexpr::syntax_at;
use crate::error::{EnvError, Position};

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
        let mut cursor = Cursor { whole: text, rest: text };
        let mut action: Option<ActionText> = None;
        loop {
            match (cursor.word(), &mut action) {
                ("", Some(done)) if cursor.eat("}") => {
                    file.actions.push(std::mem::take(done));
                    action = None;
                }
                ("", None) if cursor.rest.is_empty() => return Ok(file),
                ("grammar", None) => {
                    let (json, at) = cursor.value()?;
                    file.add_rules(json, at)?;
                }
                ("grammar", Some(_)) => {
                    let (json, at) = cursor.value()?;
                    // Only here, lines that begin with `#` are comments. They stay as empty lines, for positions.
                    let is_comment = |line: &&str| line.trim_start().starts_with('#');
                    let lines = json.split('\n').map(|line| if is_comment(&line) { "" } else { line });
                    file.add_rules(&lines.collect::<Vec<_>>().join("\n"), at)?;
                }
                ("action", None) => {
                    let name = cursor.word().to_owned();
                    cursor.expect("{")?;
                    action = Some(ActionText { name, ..ActionText::default() });
                }
                ("template", Some(action)) => action.template = cursor.value()?.0.to_owned(),
                ("feedback", Some(action)) => action.feedback = cursor.value()?.0.to_owned(),
                ("pddl", Some(_)) => drop(cursor.value()?),
                (word, _) => {
                    let reason = format!("unexpected `{word}` before {}", cursor.excerpt());
                    return Err(cursor.wrong(reason));
                }
            }
        }
    }

    /// Adds a block of rules that begins at a place of the file.
    fn add_rules(&mut self, json: &str, at: Position) -> Result<(), EnvError> {
        let rules: HashMap<String, Vec<RuleText>> = serde_json::from_str(json).map_err(|error| {
            // The error's own place is that within the block.
            let line = error.line().max(1) as u32;
            let column = error.column() as u32 + if line == 1 { at.column - 1 } else { 0 };
            let message = error.to_string();
            let message = message.split(" at line ").next().unwrap_or_default();
            let place = Position { line: at.line + line - 1, column };
            syntax_at("grammar", place, format!("a `grammar` block is no JSON rule set: {message}"))
        })?;
        self.symbols.extend(rules);
        Ok(())
    }
}

struct Cursor<'a> {
    whole: &'a str,
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
        Err(self.wrong(format!("expected `{literal}` before {}", self.excerpt())))
    }

    /// `:: "text";` or `:: """text""";`, and where the text begins.
    fn value(&mut self) -> Result<(&'a str, Position), EnvError> {
        self.expect("::")?;
        let quotes = if self.eat("\"\"\"") {
            "\"\"\""
        } else {
            self.expect("\"")?;
            "\""
        };
        let at = self.place();
        let Some((text, rest)) = self.rest.split_once(quotes) else {
            return Err(self.wrong(format!("no closing {quotes} after {}", self.excerpt())));
        };
        self.rest = rest;
        self.expect(";")?;
        Ok((text, at))
    }

    fn place(&self) -> Position {
        Position::of(self.whole, self.whole.len() - self.rest.len())
    }

    fn wrong(&self, reason: String) -> EnvError {
        syntax_at("grammar", self.place(), reason)
    }

    fn excerpt(&self) -> String {
        if self.rest.is_empty() { "the end".into() } else { format!("{:?}", head(self.rest)) }
    }
}

/// The first characters of a text, for messages.
pub(super) fn head(text: &str) -> String {
    text.chars().take(40).collect()
}
