//! Finds the bindings under which a condition can ever hold, given the facts that never change.

use std::cell::Cell;

use super::facts::{BitSet, FactTable, GroundAtom, Object, UNBOUND};
use super::formula::{Alternative, Atom, Term};
use super::sexpr::syntax;
use crate::error::EnvError;

/// A game with more partial bindings than this is refused; the largest ALFWorld games need some 20,000.
const MAX_BINDINGS: usize = 4_000_000;

/// More ways than this to satisfy the `not exists` parts of one binding are refused.
const MAX_CLAUSES: usize = 64;

/// What is fixed during a game.
pub(super) struct Join<'a> {
    /// Facts of the predicates that no effect changes.
    statics: &'a FactTable,
    /// For each predicate, whether some effect changes it.
    fluent: &'a [bool],
    /// The objects of each type.
    members: &'a [BitSet],
    /// The objects that the constants name; `None` if the problem has no such object.
    constants: &'a [Option<Object>],
    spent: Cell<usize>,
}

/// Receives each binding, with the changing atoms that must and must not hold.
type Visit<'v> = &'v mut dyn FnMut(&[Object], &[GroundAtom], &[GroundAtom]) -> Result<(), EnvError>;

enum Step<'a> {
    /// Bind the open arguments of a fact that never changes.
    Scan(&'a Atom),
    /// Go on only if no such fact exists.
    Absent(&'a Atom),
    /// Go on only if the terms are equal, or different.
    Compare(Term, Term, bool),
    /// Bind a slot to each object of its type.
    Members(u16),
}

impl<'a> Join<'a> {
    pub(super) fn new(
        statics: &'a FactTable,
        fluent: &'a [bool],
        members: &'a [BitSet],
        constants: &'a [Option<Object>],
    ) -> Self {
        Self { statics, fluent, members, constants, spent: Cell::new(0) }
    }

    /// Visits every way to extend `binding` to the given slots and those of the alternative.
    pub(super) fn solve(
        &self,
        alternative: &Alternative,
        slots: &[(u16, u16)],
        binding: &[Object],
        visit: Visit<'_>,
    ) -> Result<(), EnvError> {
        let mut types = vec![None; binding.len()];
        for &(slot, type_) in slots.iter().chain(&alternative.slots) {
            types[usize::from(slot)] = Some(type_);
        }
        let steps = self.plan(alternative, &types, binding);
        let binding = binding.to_vec();
        let literals = Default::default();
        let mut search = Search { join: self, alternative, types, steps, binding, literals, visit };
        search.run(0)
    }

    /// The atom with its terms bound; `None` if it names a constant that does not exist.
    pub(super) fn ground(&self, atom: &Atom, binding: &[Object]) -> Option<GroundAtom> {
        let mut arguments = [0; super::facts::MAX_ARITY];
        for (argument, &term) in arguments.iter_mut().zip(&atom.terms) {
            *argument = self.value(term, binding)?;
        }
        Some(GroundAtom::new(atom.predicate, arguments))
    }

    fn value(&self, term: Term, binding: &[Object]) -> Option<Object> {
        match term {
            Term::Slot(slot) => binding.get(usize::from(slot)).copied(),
            Term::Constant(constant) => self.constants.get(usize::from(constant)).copied().flatten(),
        }
    }

    fn is_fluent(&self, atom: &Atom) -> bool {
        self.fluent.get(usize::from(atom.predicate)).copied().unwrap_or(false)
    }

    /// Orders the work: checks as soon as they can be made, then the scan that promises the fewest facts.
    fn plan<'b>(
        &self,
        alternative: &'b Alternative,
        types: &[Option<u16>],
        binding: &[Object],
    ) -> Vec<Step<'b>> {
        let mut bound: Vec<bool> = binding.iter().map(|&object| object != UNBOUND).collect();
        let is_bound = |bound: &[bool], term: Term| match term {
            Term::Slot(slot) => bound[usize::from(slot)],
            Term::Constant(_) => true,
        };
        let mut scans: Vec<&Atom> =
            alternative.positive.iter().filter(|atom| !self.is_fluent(atom)).collect();
        let mut absents: Vec<&Atom> =
            alternative.negative.iter().filter(|atom| !self.is_fluent(atom)).collect();
        let mut compares = alternative.equal.clone();
        let mut steps = Vec::new();
        loop {
            absents.retain(|atom| {
                let ready = atom.terms.iter().all(|&term| is_bound(&bound, term));
                if ready {
                    steps.push(Step::Absent(atom));
                }
                !ready
            });
            compares.retain(|&(left, right, equal)| {
                let ready = is_bound(&bound, left) && is_bound(&bound, right);
                if ready {
                    steps.push(Step::Compare(left, right, equal));
                }
                !ready
            });
            let cost = |atom: &Atom| {
                let n_bound = atom.terms.iter().filter(|&&term| is_bound(&bound, term)).count();
                if n_bound == atom.terms.len() {
                    return 0;
                }
                1 + (self.statics.count(atom.predicate) >> (3 * n_bound))
            };
            let best = (0..scans.len()).min_by_key(|&index| cost(scans[index]));
            if let Some(best) = best {
                let atom = scans.swap_remove(best);
                for &term in &atom.terms {
                    if let Term::Slot(slot) = term {
                        bound[usize::from(slot)] = true;
                    }
                }
                steps.push(Step::Scan(atom));
            } else {
                let open = (0..bound.len()).find(|&slot| !bound[slot] && types[slot].is_some());
                let Some(slot) = open else { return steps };
                bound[slot] = true;
                steps.push(Step::Members(slot as u16));
            }
        }
    }
}

struct Search<'a, 'b, 'v> {
    join: &'b Join<'a>,
    alternative: &'b Alternative,
    types: Vec<Option<u16>>,
    steps: Vec<Step<'b>>,
    binding: Vec<Object>,
    /// Scratch space for the atoms of one binding.
    literals: (Vec<GroundAtom>, Vec<GroundAtom>),
    visit: Visit<'v>,
}

impl Search<'_, '_, '_> {
    fn run(&mut self, depth: usize) -> Result<(), EnvError> {
        let join = self.join;
        let spent = join.spent.get() + 1;
        join.spent.set(spent);
        if spent > MAX_BINDINGS {
            return Err(syntax(
                "problem",
                format!("more than {MAX_BINDINGS} bindings of the actions' variables"),
            ));
        }
        let Some(step) = self.steps.get(depth) else { return self.leaf() };
        match *step {
            Step::Absent(atom) => match join.ground(atom, &self.binding) {
                Some(atom) if join.statics.contains(atom) => Ok(()),
                _ => self.run(depth + 1),
            },
            Step::Compare(left, right, equal) => {
                let values = (join.value(left, &self.binding), join.value(right, &self.binding));
                let same = matches!(values, (Some(left), Some(right)) if left == right);
                if same == equal { self.run(depth + 1) } else { Ok(()) }
            }
            Step::Members(slot) => {
                let type_ = self.types[usize::from(slot)].map_or(usize::MAX, usize::from);
                let Some(members) = join.members.get(type_) else { return Ok(()) };
                for object in members.iter() {
                    self.binding[usize::from(slot)] = object as Object;
                    self.run(depth + 1)?;
                }
                self.binding[usize::from(slot)] = UNBOUND;
                Ok(())
            }
            Step::Scan(atom) => self.scan(atom, depth),
        }
    }

    fn scan(&mut self, atom: &Atom, depth: usize) -> Result<(), EnvError> {
        let join = self.join;
        let mut pattern = [UNBOUND; super::facts::MAX_ARITY];
        for (place, &term) in pattern.iter_mut().zip(&atom.terms) {
            let Some(value) = join.value(term, &self.binding) else { return Ok(()) };
            *place = value;
        }
        let mut outcome = Ok(());
        join.statics.scan(atom.predicate, &pattern[..atom.terms.len()], &mut |_, fact| {
            let mut fits = true;
            let mut newly = [UNBOUND; super::facts::MAX_ARITY];
            for (position, (&term, &object)) in atom.terms.iter().zip(fact).enumerate() {
                let Term::Slot(slot) = term else { continue };
                let place = &mut self.binding[usize::from(slot)];
                if *place == UNBOUND {
                    let type_ = self.types[usize::from(slot)].map_or(usize::MAX, usize::from);
                    fits &= join.members.get(type_).is_some_and(|members| members.contains(object.into()));
                    *place = object;
                    newly[position] = slot;
                }
                // The same variable twice in one atom.
                fits &= *place == object;
            }
            if fits {
                outcome = self.run(depth + 1);
            }
            for slot in newly.into_iter().filter(|&slot| slot != UNBOUND) {
                self.binding[usize::from(slot)] = UNBOUND;
            }
            outcome.is_ok()
        });
        outcome
    }

    /// All slots are bound: collects the atoms that change, and hands them over.
    fn leaf(&mut self) -> Result<(), EnvError> {
        let join = self.join;
        let (mut positive, mut negative) = std::mem::take(&mut self.literals);
        positive.clear();
        negative.clear();
        for atom in self.alternative.positive.iter().filter(|atom| join.is_fluent(atom)) {
            match join.ground(atom, &self.binding) {
                Some(atom) => positive.push(atom),
                None => return Ok(()),
            }
        }
        let absent = self.alternative.negative.iter().filter(|atom| join.is_fluent(atom));
        negative.extend(absent.filter_map(|atom| join.ground(atom, &self.binding)));
        if self.alternative.never.is_empty() {
            (self.visit)(&self.binding, &positive, &negative)?;
            self.literals = (positive, negative);
            return Ok(());
        }
        let mut ways = vec![(positive, negative)];
        for inner in self.alternative.never.iter().flatten() {
            join.solve(inner, &[], &self.binding, &mut |_, holding, lacking| {
                // Of what would make the inner condition true, something has to be otherwise.
                let mut next = Vec::new();
                for (positive, negative) in &ways {
                    for &atom in holding {
                        next.push((positive.clone(), [negative.as_slice(), &[atom]].concat()));
                    }
                    for &atom in lacking {
                        next.push(([positive.as_slice(), &[atom]].concat(), negative.clone()));
                    }
                }
                if next.len() > MAX_CLAUSES {
                    return Err(syntax(
                        "domain",
                        format!("a `not exists` has over {MAX_CLAUSES} alternatives"),
                    ));
                }
                ways = next;
                Ok(())
            })?;
        }
        for (positive, negative) in ways {
            (self.visit)(&self.binding, &positive, &negative)?;
        }
        Ok(())
    }
}
