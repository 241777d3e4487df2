//! The texts of a game: an interpreter for the grammar language of `game.tw-pddl` files.
//!
//! A symbol has rules; the first rule whose condition has a match gives the text. A condition asks for facts:
//! `in(o:object, r:receptacle) & not_open(r:receptacle)`. Its atoms are joined from left to right over the sorted facts, two
//! different variables never stand for the same object, and `not_p` matches only what an effect has deleted.

mod compile;
mod rhs;
mod render;
mod twl2;

use std::borrow::Cow;

pub(super) use render::Renderer;

/// Index of a symbol.
pub(super) type SymbolId = usize;

/// A compiled grammar.
#[derive(Debug)]
pub(super) struct Grammar {
    symbols: Vec<Vec<Rule>>,
    /// How many variables the whole grammar has; each has one slot.
    n_variables: usize,
    pub(super) intro: Text,
    /// For each action of the domain, in its order.
    pub(super) actions: Vec<ActionGrammar>,
    /// Symbols that lists are built with.
    list_empty: Option<SymbolId>,
    list_separator: Option<SymbolId>,
    list_last_separator: Option<SymbolId>,
    /// Some text prints an id, not a name.
    pub(super) prints_ids: bool,
    /// Predicates that some condition asks for, and those asked for with `not_`.
    pub(super) reads: Vec<u16>,
    pub(super) reads_denied: Vec<u16>,
}

/// The compiled texts of one action.
#[derive(Debug)]
pub(super) struct ActionGrammar {
    /// The name as the grammar writes it.
    pub(super) name: String,
    /// The command.
    pub(super) template: Text,
    /// The command with slots, `take {o} from {r}`.
    pub(super) pattern: String,
    pub(super) feedback: Text,
    /// The variable of each parameter.
    pub(super) parameters: Vec<u16>,
    /// Indices of the parameters that the template depends on.
    pub(super) template_parameters: Vec<usize>,
}

#[derive(Debug)]
struct Rule {
    condition: Option<Query>,
    text: Text,
}

/// A right-hand side.
pub(super) type Text = Vec<Token>;

#[derive(Debug)]
pub(super) enum Token {
    Literal(String),
    /// The task line, which differs between games that share a grammar.
    Task,
    Symbol(SymbolId),
    Each {
        expression: Expression,
        given: Option<Query>,
        list: bool,
    },
}

#[derive(Debug)]
pub(super) enum Expression {
    Symbol(SymbolId),
    /// The first sum that is not empty.
    Choice(Vec<Vec<Operand>>),
}

#[derive(Debug)]
pub(super) enum Operand {
    Text(String),
    Attribute(u16, Attribute),
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Attribute {
    Name,
    Id,
    Indefinite,
    Definite,
}

/// A conjunction of fact patterns.
pub(super) type Query = Vec<QueryAtom>;

#[derive(Debug)]
pub(super) struct QueryAtom {
    /// `None` if the domain has no such predicate: then nothing matches.
    predicate: Option<u16>,
    denied: bool,
    /// Variables and the exact types they must have.
    arguments: Vec<(u16, Option<u16>)>,
}

/// The task line as it is printed.
pub(super) fn printed_task(line: &str) -> String {
    rhs::plain(line).unwrap_or_default()
}

/// Takes the task line out of a grammar, so that games with the same rules share the rest. Returns the grammar with an
/// empty line in its place, and the line; `None` if there is no rule for `task`.
pub(super) fn split_task(grammar: &str) -> (Cow<'_, str>, Option<String>) {
    let Some(literal) = task_literal(grammar) else { return (Cow::Borrowed(grammar), None) };
    // A line with symbols in it stays where it is.
    let task = serde_json::from_str::<String>(&grammar[literal.clone()]).ok();
    let Some(task) = task.filter(|task| rhs::plain(task).is_some()) else {
        return (Cow::Borrowed(grammar), None);
    };
    let skeleton = [&grammar[..literal.start], "\"\"", &grammar[literal.end..]].concat();
    (Cow::Owned(skeleton), Some(task))
}

/// The grammar with another task line, given as a JSON literal; `None` if there is no rule for `task`.
pub(crate) fn put_task(grammar: &str, literal: &str) -> Option<String> {
    let place = task_literal(grammar)?;
    Some([&grammar[..place.start], literal, &grammar[place.end..]].concat())
}

/// Where the first right-hand side of `"task"` stands, quotes included.
fn task_literal(grammar: &str) -> Option<std::ops::Range<usize>> {
    let after_key = |from: usize, key: &str| {
        let start = from + grammar[from..].find(key)? + key.len();
        let rest = grammar[start..].trim_start().strip_prefix(':')?.trim_start();
        Some(grammar.len() - rest.len())
    };
    let rules = after_key(0, "\"task\"")?;
    let start = after_key(rules, "\"rhs\"")?;
    let bytes = grammar.as_bytes();
    if bytes.get(start) != Some(&b'"') {
        return None;
    }
    let mut end = start + 1;
    while *bytes.get(end)? != b'"' {
        end += if bytes[end] == b'\\' { 2 } else { 1 };
    }
    Some(start..end + 1)
}
