//! Instantiates the actions of a domain for one problem.

use super::facts::{FactTable, GroundAtom, Object, UNBOUND};
use super::formula::Atom;
use super::join::Join;
use super::pddl::{Action, Domain, Effect};
use crate::error::EnvError;

/// A range of a list in an [`Arena`].
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Span {
    start: u32,
    end: u32,
}

impl Span {
    pub(super) fn range(self) -> std::ops::Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Storage for the lists of many operators.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pub(super) objects: Vec<Object>,
    atoms: Vec<GroundAtom>,
}

impl Arena {
    pub(super) fn atoms(&self, span: Span) -> &[GroundAtom] {
        &self.atoms[span.range()]
    }

    fn push_atoms(&mut self, atoms: impl IntoIterator<Item = GroundAtom>) -> Span {
        let start = self.atoms.len() as u32;
        self.atoms.extend(atoms);
        Span { start, end: self.atoms.len() as u32 }
    }
}

/// Atoms required, forbidden, added and deleted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RawChange {
    pub(super) spans: [Span; 4],
}

/// An operator before its atoms are numbered.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) action: u16,
    pub(super) binding: Span,
    pub(super) change: RawChange,
    pub(super) conditional: Vec<RawChange>,
}

impl Raw {
    /// The unconditional change and the others.
    fn changes(&self) -> impl Iterator<Item = RawChange> {
        std::iter::once(self.change).chain(self.conditional.iter().copied())
    }
}

/// Instantiates every action. `tracked` says which predicates some condition or text reads; effects on others are
/// left out, once it is known that they make an instance worth keeping.
pub(super) fn ground_actions(
    domain: &Domain,
    join: &Join<'_>,
    tracked: &[bool],
) -> Result<(Arena, Vec<Raw>), EnvError> {
    let mut arena = Arena::default();
    let mut raws = Vec::new();
    for (action, number) in domain.actions.iter().zip(0u16..) {
        let slots: Vec<(u16, u16)> = (0u16..).zip(action.types.iter().copied()).collect();
        let binding = vec![UNBOUND; usize::from(action.n_slots)];
        for alternative in &action.precondition {
            join.solve(alternative, &slots, &binding, &mut |binding, require, forbid| {
                let grounding = Grounding { join, tracked, binding };
                raws.extend(grounding.operator(&mut arena, action, number, require, forbid)?);
                Ok(())
            })?;
        }
    }
    Ok((arena, raws))
}

struct Grounding<'a> {
    join: &'a Join<'a>,
    tracked: &'a [bool],
    binding: &'a [Object],
}

impl Grounding<'_> {
    /// The operator of one binding, or `None` if it changes nothing: all that it adds is required, and all that it
    /// deletes is forbidden. Such instances are no moves, e.g. going to where one is.
    fn operator(
        &self,
        arena: &mut Arena,
        action: &Action,
        number: u16,
        require: &[GroundAtom],
        forbid: &[GroundAtom],
    ) -> Result<Option<Raw>, EnvError> {
        let (add, delete) = self.effect(&action.effect);
        let changes = add.iter().any(|atom| !require.contains(atom))
            || delete.iter().any(|atom| !forbid.contains(atom));
        if !changes && action.conditional.is_empty() {
            return Ok(None);
        }
        let change = self.store(arena, require, forbid, &add, &delete);
        let mut conditional = Vec::new();
        for (condition, effect) in &action.conditional {
            let (add, delete) = self.effect(effect);
            for alternative in condition {
                self.join.solve(alternative, &[], self.binding, &mut |_, require, forbid| {
                    conditional.push(self.store(arena, require, forbid, &add, &delete));
                    Ok(())
                })?;
            }
        }
        let start = arena.objects.len() as u32;
        arena.objects.extend_from_slice(&self.binding[..action.types.len()]);
        let binding = Span { start, end: arena.objects.len() as u32 };
        Ok(Some(Raw { action: number, binding, change, conditional }))
    }

    /// Added and deleted atoms; what is both is added.
    fn effect(&self, effect: &Effect) -> (Vec<GroundAtom>, Vec<GroundAtom>) {
        let ground = |atoms: &[Atom]| -> Vec<GroundAtom> {
            atoms.iter().filter_map(|atom| self.join.ground(atom, self.binding)).collect()
        };
        let add = ground(&effect.add);
        let mut delete = ground(&effect.delete);
        delete.retain(|atom| !add.contains(atom));
        (add, delete)
    }

    fn store(
        &self,
        arena: &mut Arena,
        require: &[GroundAtom],
        forbid: &[GroundAtom],
        add: &[GroundAtom],
        delete: &[GroundAtom],
    ) -> RawChange {
        let spans = [require, forbid, add, delete].map(|atoms| {
            let tracked = |atom: &&GroundAtom| self.tracked[usize::from(atom.predicate())];
            arena.push_atoms(atoms.iter().filter(tracked).copied())
        });
        RawChange { spans }
    }
}

/// Drops the operators that no sequence of others can make applicable, and returns the atoms that can ever hold,
/// with those that may be denied of the predicates marked in `deniable`. Forbidden atoms are ignored, so some of what
/// is kept may still be out of reach.
pub(super) fn keep_reachable(
    arena: &Arena,
    raws: &mut Vec<Raw>,
    initial: &[GroundAtom],
    arity: &[u8],
    deniable: &[bool],
) -> FactTable {
    let added = raws.iter().flat_map(Raw::changes).flat_map(|change| arena.atoms(change.spans[2]));
    let candidates = FactTable::new(added.chain(initial).copied().collect(), &vec![0; arity.len()]);
    // Operators wait for the atoms they require.
    let mut waiting: Vec<(u32, u32)> = Vec::new();
    let mut missing = vec![0u32; raws.len()];
    for (raw, index) in raws.iter().zip(0u32..) {
        for &atom in arena.atoms(raw.change.spans[0]) {
            missing[index as usize] += 1;
            if let Some(rank) = candidates.rank(atom) {
                waiting.push((rank, index));
            }
        }
    }
    waiting.sort_unstable();
    let mut reached = vec![false; candidates.len()];
    let mut queue: Vec<u32> = initial.iter().filter_map(|&atom| candidates.rank(atom)).collect();
    let mut ready: Vec<u32> = (0..raws.len() as u32).filter(|&index| missing[index as usize] == 0).collect();
    loop {
        while let Some(index) = ready.pop() {
            for change in raws[index as usize].changes() {
                queue.extend(arena.atoms(change.spans[2]).iter().filter_map(|&atom| candidates.rank(atom)));
            }
        }
        let Some(rank) = queue.pop() else { break };
        if std::mem::replace(&mut reached[rank as usize], true) {
            continue;
        }
        let from = waiting.partition_point(|(atom, _)| *atom < rank);
        for &(_, index) in waiting[from..].iter().take_while(|(atom, _)| *atom == rank) {
            missing[index as usize] -= 1;
            if missing[index as usize] == 0 {
                ready.push(index);
            }
        }
    }
    let mut missing = missing.into_iter();
    raws.retain(|_| missing.next() == Some(0));
    let mut atoms: Vec<GroundAtom> = (0u32..)
        .zip(&reached)
        .filter(|(_, reached)| **reached)
        .map(|(rank, _)| candidates.atom(rank))
        .collect();
    let deleted = raws.iter().flat_map(Raw::changes).flat_map(|change| arena.atoms(change.spans[3]));
    atoms.extend(deleted.filter(|atom| deniable[usize::from(atom.predicate())]));
    FactTable::new(atoms, arity)
}
