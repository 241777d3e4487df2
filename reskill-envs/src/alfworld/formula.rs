//! Conditions in disjunctive normal form: what a PDDL formula is turned into when it is read.

use std::collections::HashMap;

use super::facts::MAX_ARITY;
use super::names::Names;
use super::sexpr::{Sexpr, syntax};
use crate::error::EnvError;

/// More alternatives than this in one condition are refused.
const MAX_ALTERNATIVES: usize = 256;

/// More literals than this in one alternative, or variables in one formula, are refused: the search for bindings
/// goes as deep as there are literals and variables.
const MAX_LITERALS: usize = 256;
const MAX_SLOTS: u16 = 64;

/// Numbers of the predicates, types and constants that conditions mention.
#[derive(Debug, Clone, Default)]
pub(super) struct Vocabulary {
    pub(super) predicates: Names,
    pub(super) types: Names,
    pub(super) constants: Names,
    /// The number of arguments of each predicate.
    pub(super) arity: Vec<u8>,
}

impl Vocabulary {
    /// The number of a predicate, which always has as many arguments as where it was seen first.
    pub(super) fn predicate(
        &mut self,
        name: &str,
        n_arguments: usize,
        part: &'static str,
    ) -> Result<u16, EnvError> {
        let number = self.predicates.intern(name)?;
        match self.arity.get(usize::from(number)) {
            Some(&arity) if usize::from(arity) == n_arguments => Ok(number),
            Some(arity) => {
                let reason = format!("`{name}` has {n_arguments} arguments here and {arity} elsewhere");
                Err(syntax(part, reason))
            }
            None if n_arguments <= MAX_ARITY => {
                self.arity.push(n_arguments as u8);
                Ok(number)
            }
            None => Err(syntax(part, format!("`{name}` has over {MAX_ARITY} arguments"))),
        }
    }
}

/// An argument of a literal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Term {
    /// A variable, by its slot in the binding.
    Slot(u16),
    /// A constant, by its number in the vocabulary.
    Constant(u16),
}

/// `predicate(terms)`.
#[derive(Debug, Clone)]
pub(super) struct Atom {
    pub(super) predicate: u16,
    pub(super) terms: Vec<Term>,
}

/// A conjunction with its own existential variables.
#[derive(Debug, Clone, Default)]
pub(super) struct Alternative {
    /// Variables of the enclosing `exists`, with their types.
    pub(super) slots: Vec<(u16, u16)>,
    /// Atoms that must hold.
    pub(super) positive: Vec<Atom>,
    /// Atoms that must not hold.
    pub(super) negative: Vec<Atom>,
    /// Pairs that must be equal (`true`) or different (`false`).
    pub(super) equal: Vec<(Term, Term, bool)>,
    /// Conditions with variables of their own of which no instance may hold.
    pub(super) never: Vec<Condition>,
}

/// A disjunction of alternatives. None at all is false.
pub(super) type Condition = Vec<Alternative>;

/// Reads formulas; knows the variables in scope.
pub(super) struct FormulaReader<'a> {
    pub(super) vocabulary: &'a mut Vocabulary,
    pub(super) part: &'static str,
    scope: HashMap<String, u16>,
    n_slots: u16,
}

impl<'a> FormulaReader<'a> {
    pub(super) fn new(vocabulary: &'a mut Vocabulary, part: &'static str) -> Self {
        Self { vocabulary, part, scope: HashMap::new(), n_slots: 0 }
    }

    /// How many slots the variables read so far need.
    pub(super) fn n_slots(&self) -> u16 {
        self.n_slots
    }

    /// Reads `?a - type ?b ?c - type`, brings the variables into scope and returns their slots, types and names.
    pub(super) fn declare(&mut self, list: &[Sexpr<'_>]) -> Result<Vec<(u16, u16, String)>, EnvError> {
        let mut declared = Vec::new();
        for (name, type_) in typed_list(list, self.part)? {
            let slot = self.n_slots;
            if slot >= MAX_SLOTS {
                return Err(syntax(self.part, format!("more than {MAX_SLOTS} variables in one formula")));
            }
            self.n_slots = slot + 1;
            self.scope.insert(name.to_owned(), slot);
            declared.push((slot, self.vocabulary.types.intern(type_)?, name.to_owned()));
        }
        Ok(declared)
    }

    /// Reads a condition; an empty list is true.
    pub(super) fn condition(&mut self, formula: &Sexpr<'_>) -> Result<Condition, EnvError> {
        self.read(formula, true)
    }

    /// Reads `(predicate term ...)`.
    pub(super) fn atom(&mut self, predicate: &str, terms: &[Sexpr<'_>]) -> Result<Atom, EnvError> {
        let terms = terms.iter().map(|term| self.term(term)).collect::<Result<Vec<_>, _>>()?;
        Ok(Atom { predicate: self.vocabulary.predicate(predicate, terms.len(), self.part)?, terms })
    }

    fn read(&mut self, formula: &Sexpr<'_>, positive: bool) -> Result<Condition, EnvError> {
        self.read_here(formula, positive).map_err(|error| formula.locate(error))
    }

    fn read_here(&mut self, formula: &Sexpr<'_>, positive: bool) -> Result<Condition, EnvError> {
        if formula.list().is_some_and(<[Sexpr]>::is_empty) {
            return Ok(if positive { vec![Alternative::default()] } else { Vec::new() });
        }
        let (head, rest) = formula
            .headed()
            .ok_or_else(|| syntax(self.part, format!("`{}` is no condition", formula.excerpt())))?;
        match (head, rest) {
            ("and" | "or", parts) => {
                let parts =
                    parts.iter().map(|part| self.read(part, positive)).collect::<Result<Vec<_>, _>>()?;
                if (head == "and") == positive {
                    return self.all_of(parts);
                }
                let alternatives = parts.concat();
                if alternatives.len() > MAX_ALTERNATIVES {
                    let reason = format!("a condition has over {MAX_ALTERNATIVES} alternatives");
                    return Err(syntax(self.part, reason));
                }
                Ok(alternatives)
            }
            ("not", [inner]) => self.read(inner, !positive),
            ("exists", [variables, body]) => self.exists(variables, body, positive),
            ("=", [left, right]) => {
                let equal = vec![(self.term(left)?, self.term(right)?, positive)];
                Ok(vec![Alternative { equal, ..Alternative::default() }])
            }
            ("not" | "exists" | "=" | "forall" | "imply" | "when", _) => {
                Err(syntax(self.part, format!("`{head}` with {} arguments is not supported", rest.len())))
            }
            (predicate, terms) => {
                let atom = vec![self.atom(predicate, terms)?];
                let alternative = Alternative::default();
                Ok(vec![match positive {
                    true => Alternative { positive: atom, ..alternative },
                    false => Alternative { negative: atom, ..alternative },
                }])
            }
        }
    }

    /// The variables of an `exists` join those of the conjunction around it; under `not` they stay apart.
    fn exists(
        &mut self,
        variables: &Sexpr<'_>,
        body: &Sexpr<'_>,
        positive: bool,
    ) -> Result<Condition, EnvError> {
        let variables =
            variables.list().ok_or_else(|| syntax(self.part, "`exists` needs a list of variables"))?;
        let outer = self.scope.clone();
        let declared = self.declare(variables)?;
        let mut condition = self.read(body, true)?;
        self.scope = outer;
        for alternative in &mut condition {
            alternative.slots.extend(declared.iter().map(|(slot, type_, _)| (*slot, *type_)));
        }
        if positive {
            return Ok(condition);
        }
        Ok(vec![Alternative { never: vec![condition], ..Alternative::default() }])
    }

    /// The conjunction of conditions: every way to choose one alternative of each.
    fn all_of(&self, parts: Vec<Condition>) -> Result<Condition, EnvError> {
        let mut product = vec![Alternative::default()];
        for part in parts {
            if product.len() * part.len() > MAX_ALTERNATIVES {
                return Err(syntax(
                    self.part,
                    format!("a condition has over {MAX_ALTERNATIVES} alternatives"),
                ));
            }
            let longest = |ways: &Condition| ways.iter().map(Alternative::n_literals).max().unwrap_or(0);
            if longest(&product) + longest(&part) > MAX_LITERALS {
                return Err(syntax(self.part, format!("a condition has over {MAX_LITERALS} literals")));
            }
            product = product.iter().flat_map(|left| part.iter().map(|right| left.joined(right))).collect();
        }
        Ok(product)
    }

    fn term(&mut self, term: &Sexpr<'_>) -> Result<Term, EnvError> {
        match term.word() {
            Some(name) if name.starts_with('?') => match self.scope.get(name) {
                Some(&slot) => Ok(Term::Slot(slot)),
                None => Err(syntax(self.part, format!("variable `{name}` is not declared"))),
            },
            Some(name) => Ok(Term::Constant(self.vocabulary.constants.intern(name)?)),
            None => Err(syntax(self.part, format!("`{}` is no argument", term.excerpt()))),
        }
    }
}

impl Alternative {
    fn joined(&self, other: &Alternative) -> Alternative {
        Alternative {
            slots: [self.slots.as_slice(), &other.slots].concat(),
            positive: [self.positive.as_slice(), &other.positive].concat(),
            negative: [self.negative.as_slice(), &other.negative].concat(),
            equal: [self.equal.as_slice(), &other.equal].concat(),
            never: [self.never.as_slice(), &other.never].concat(),
        }
    }

    fn n_literals(&self) -> usize {
        self.positive.len() + self.negative.len() + self.equal.len() + self.never.len()
    }

    /// Calls `visit` with every predicate that is read.
    pub(super) fn visit_predicates(&self, visit: &mut dyn FnMut(u16)) {
        self.positive.iter().chain(&self.negative).for_each(|atom| visit(atom.predicate));
        self.never.iter().flatten().for_each(|inner| inner.visit_predicates(visit));
    }
}

/// Reads `a b - type c`: names with their types. A name without a type is of type `object`.
pub(super) fn typed_list<'a>(
    list: &[Sexpr<'a>],
    part: &'static str,
) -> Result<Vec<(&'a str, &'a str)>, EnvError> {
    let mut typed = Vec::with_capacity(list.len() / 2);
    let mut waiting: Vec<&str> = Vec::new();
    let mut items = list.iter();
    while let Some(item) = items.next() {
        match item.word() {
            Some("-") => {
                let type_ = items.next().and_then(Sexpr::word);
                let no_type = || item.locate(syntax(part, "a `-` without a type after it"));
                let type_ = type_.ok_or_else(no_type)?;
                typed.extend(waiting.drain(..).map(|name| (name, type_)));
            }
            Some(name) => waiting.push(name),
            None => {
                let reason = format!("`{}` in a list of names", item.excerpt());
                return Err(item.locate(syntax(part, reason)));
            }
        }
    }
    typed.extend(waiting.into_iter().map(|name| (name, "object")));
    Ok(typed)
}
