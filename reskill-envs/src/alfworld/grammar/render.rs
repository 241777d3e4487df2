//! Prints texts in a state of a game.

use super::{Attribute, Expression, Grammar, Operand, Query, SymbolId, Text, Token};
use crate::alfworld::facts::{FactTable, MAX_ARITY, Object, State, UNBOUND};
use crate::alfworld::sexpr::syntax;
use crate::alfworld::texts::Texts;
use crate::error::EnvError;

/// What texts are printed from.
#[derive(Clone, Copy)]
pub(in crate::alfworld) struct Renderer<'a> {
    pub(in crate::alfworld) grammar: &'a Grammar,
    pub(in crate::alfworld) task: &'a str,
    /// Ids, names and types of the objects.
    pub(in crate::alfworld) ids: &'a Texts,
    pub(in crate::alfworld) names: &'a Texts,
    pub(in crate::alfworld) types: &'a [u16],
    /// Facts that never change, and facts that may, with which predicates are of the second sort.
    pub(in crate::alfworld) statics: &'a FactTable,
    pub(in crate::alfworld) fluents: &'a FactTable,
    pub(in crate::alfworld) fluent: &'a [bool],
    pub(in crate::alfworld) state: &'a State,
}

/// A text that takes more matches and pieces than this, or gets longer than this in bytes, ends there. ALFWorld's take some
/// hundred.
const MAX_WORK: usize = 1_000_000;
const MAX_BYTES: usize = 1 << 20;

/// The object of each variable, or [`UNBOUND`], and the work done so far.
struct Bindings {
    objects: Vec<Object>,
    work: usize,
}

impl std::ops::Deref for Bindings {
    type Target = [Object];

    fn deref(&self) -> &[Object] {
        &self.objects
    }
}

impl std::ops::DerefMut for Bindings {
    fn deref_mut(&mut self) -> &mut [Object] {
        &mut self.objects
    }
}

impl Bindings {
    /// Counts one more piece of work; `false` when a text has had enough.
    fn goes_on(&mut self, out: &str) -> bool {
        self.work += 1;
        self.work <= MAX_WORK && out.len() <= MAX_BYTES
    }
}

impl Renderer<'_> {
    /// The first text of the game.
    pub(in crate::alfworld) fn intro(&self) -> String {
        self.print(&self.grammar.intro, &[], []).0
    }

    /// The first text of the game, if it has an end.
    pub(in crate::alfworld) fn checked_intro(&self) -> Result<String, EnvError> {
        self.print(&self.grammar.intro, &[], []).checked()
    }

    /// The command of an action.
    pub(in crate::alfworld) fn command(&self, action: u16, arguments: &[Object]) -> Result<String, EnvError> {
        let action = &self.grammar.actions[usize::from(action)];
        self.print(&action.template, &action.parameters, arguments.iter().copied()).checked()
    }

    /// What the player reads after an action. A text without an end is cut.
    pub(in crate::alfworld) fn feedback(
        &self,
        action: u16,
        arguments: impl IntoIterator<Item = Object>,
    ) -> String {
        let action = &self.grammar.actions[usize::from(action)];
        self.print(&action.feedback, &action.parameters, arguments).0
    }

    fn print(&self, text: &Text, parameters: &[u16], arguments: impl IntoIterator<Item = Object>) -> Printed {
        let mut bindings = Bindings { objects: vec![UNBOUND; self.grammar.n_variables], work: 0 };
        for (&parameter, argument) in parameters.iter().zip(arguments) {
            bindings[usize::from(parameter)] = argument;
        }
        let mut out = String::with_capacity(64);
        self.text(text, &mut bindings, &mut out);
        let complete = bindings.goes_on(&out);
        Printed(out, complete)
    }

    fn text(&self, text: &Text, bindings: &mut Bindings, out: &mut String) {
        for token in text {
            if !bindings.goes_on(out) {
                return;
            }
            match token {
                Token::Literal(literal) => out.push_str(literal),
                Token::Task => out.push_str(self.task),
                Token::Symbol(id) => self.symbol(*id, bindings, out),
                Token::Each { expression, given: None, .. } => self.expression(expression, bindings, out),
                Token::Each { expression, given: Some(given), list } => {
                    self.each(expression, given, *list, bindings, out);
                }
            }
        }
    }

    fn symbol(&self, id: SymbolId, bindings: &mut Bindings, out: &mut String) {
        let applies = |query: &Query, bindings: &mut Bindings| {
            let mut found = false;
            self.matches(query, bindings, &mut |_| {
                found = true;
                false
            });
            found
        };
        let rules = &self.grammar.symbols[id];
        let rule = rules
            .iter()
            .find(|rule| rule.condition.as_ref().is_none_or(|condition| applies(condition, bindings)));
        if let Some(rule) = rule {
            self.text(&rule.text, bindings, out);
        }
    }

    /// The expression for every match, one after the other, or as a list `a, b, and c`.
    fn each(
        &self,
        expression: &Expression,
        given: &Query,
        list: bool,
        bindings: &mut Bindings,
        out: &mut String,
    ) {
        // Where the previous item starts: the last separator is known only when the last item is.
        let mut starts: Vec<usize> = Vec::new();
        let from = out.len();
        self.matches(given, bindings, &mut |bindings| {
            starts.push(out.len());
            self.expression(expression, bindings, out);
            true
        });
        if !list {
            return;
        }
        if starts.is_empty() {
            return self.optional(self.grammar.list_empty, bindings, out);
        }
        let items = out.split_off(from);
        let ends = starts.iter().skip(1).copied().chain([from + items.len()]);
        for ((index, start), end) in starts.iter().enumerate().zip(ends) {
            if index > 0 && index + 1 == starts.len() {
                self.optional(self.grammar.list_last_separator, bindings, out);
            } else if index > 0 {
                self.optional(self.grammar.list_separator, bindings, out);
            }
            out.push_str(&items[start - from..end - from]);
        }
    }

    fn optional(&self, symbol: Option<SymbolId>, bindings: &mut Bindings, out: &mut String) {
        if let Some(symbol) = symbol {
            self.symbol(symbol, bindings, out);
        }
    }

    fn expression(&self, expression: &Expression, bindings: &mut Bindings, out: &mut String) {
        let sums = match expression {
            Expression::Symbol(id) => return self.symbol(*id, bindings, out),
            Expression::Choice(sums) => sums,
        };
        for sum in sums {
            let from = out.len();
            for operand in sum {
                out.push_str(match operand {
                    Operand::Text(text) => text,
                    Operand::Attribute(variable, attribute) => {
                        let object = usize::from(bindings[usize::from(*variable)]);
                        match attribute {
                            Attribute::Name => self.names.get(object),
                            Attribute::Id => self.ids.get(object),
                            Attribute::Indefinite => "a",
                            Attribute::Definite => "the",
                        }
                    }
                });
            }
            if out.len() > from {
                return;
            }
        }
    }

    /// Calls `visit` under every binding that satisfies the query, until it returns `false`. The bindings are
    /// afterwards as they were.
    fn matches(
        &self,
        query: &[super::QueryAtom],
        bindings: &mut Bindings,
        visit: &mut dyn FnMut(&mut Bindings) -> bool,
    ) -> bool {
        let Some((atom, rest)) = query.split_first() else { return visit(bindings) };
        let Some(predicate) = atom.predicate else { return true };
        let mut pattern = [UNBOUND; MAX_ARITY];
        for (wanted, (variable, type_)) in pattern.iter_mut().zip(&atom.arguments) {
            *wanted = bindings[usize::from(*variable)];
            if *wanted != UNBOUND && self.types.get(usize::from(*wanted)).copied() != *type_ {
                return true;
            }
        }
        let fluent = self.fluent[usize::from(predicate)];
        let table = if fluent { self.fluents } else { self.statics };
        let pattern = &pattern[..atom.arguments.len()];
        table.scan(predicate, pattern, &mut |rank, fact| {
            if !bindings.goes_on("") {
                return false;
            }
            let holds = match (fluent, atom.denied) {
                (true, false) => self.state.holds.contains(rank),
                (true, true) => self.state.denied.contains(rank),
                (false, denied) => !denied,
            };
            if !holds {
                return true;
            }
            let mut fits = true;
            for (&object, (variable, type_)) in fact.iter().zip(&atom.arguments) {
                let slot = usize::from(*variable);
                if bindings[slot] == UNBOUND {
                    // Two variables never stand for one object.
                    fits &=
                        !bindings.contains(&object) && self.types.get(usize::from(object)).copied() == *type_;
                    bindings[slot] = object;
                }
                fits &= bindings[slot] == object;
            }
            let go_on = !fits || self.matches(rest, bindings, visit);
            for ((variable, _), &before) in atom.arguments.iter().zip(pattern) {
                bindings[usize::from(*variable)] = before;
            }
            go_on
        })
    }
}

/// A text, and whether it is complete.
struct Printed(String, bool);

impl Printed {
    fn checked(self) -> Result<String, EnvError> {
        if self.1 {
            return Ok(self.0);
        }
        let reason = format!("a text takes over {MAX_WORK} matches or {MAX_BYTES} bytes");
        Err(syntax("grammar", reason))
    }
}
