//! Instantiates the actions of a domain for one problem.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

use super::facts::{FactTable, GroundAtom, Object, UNBOUND};
use super::formula::Atom;
use super::join::Join;
use super::pddl::{Action, Domain, Effect};
use super::sexpr::syntax;
use crate::error::EnvError;

/// A game with more action instances than this before reachability is known is refused; ALFWorld's largest has some
/// 20,000.
const MAX_INSTANCES: usize = 1_000_000;

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

/// A map by atoms.
pub(super) type AtomMap<V> = HashMap<GroundAtom, V, BuildHasherDefault<AtomHasher>>;

/// Storage for the lists of many operators. Atoms are numbered in the order they turn up.
#[derive(Debug, Default)]
pub(super) struct Arena {
    pub(super) objects: Vec<Object>,
    lists: Vec<u32>,
    atoms: Vec<GroundAtom>,
    numbers: AtomMap<u32>,
}

impl Arena {
    /// The numbers of the atoms in a list.
    pub(super) fn list(&self, span: Span) -> &[u32] {
        &self.lists[span.range()]
    }

    fn number(&mut self, atom: GroundAtom) -> u32 {
        *self.numbers.entry(atom).or_insert_with(|| {
            self.atoms.push(atom);
            self.atoms.len() as u32 - 1
        })
    }
}

/// Mixes the words of an atom; the keys are no secret and nobody else's choice can make them collide for long.
#[derive(Debug, Default)]
pub(super) struct AtomHasher(u64);

impl Hasher for AtomHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(byte.into());
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    }
}

/// Atoms required, forbidden, added and deleted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct RawChange {
    pub(super) spans: [Span; 4],
}

/// An operator before its atoms are ranked.
#[derive(Debug)]
pub(super) struct Raw {
    pub(super) action: u16,
    pub(super) binding: Span,
    pub(super) change: RawChange,
    pub(super) conditional: Vec<RawChange>,
}

impl Raw {
    /// The unconditional change and the others.
    pub(super) fn changes(&self) -> impl Iterator<Item = RawChange> {
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
    arena.numbers.reserve(4096);
    let mut raws = Vec::new();
    let (mut add, mut delete) = (Vec::new(), Vec::new());
    for (action, number) in domain.actions.iter().zip(0u16..) {
        let slots: Vec<(u16, u16)> = (0u16..).zip(action.types.iter().copied()).collect();
        let binding = vec![UNBOUND; usize::from(action.n_slots)];
        for alternative in &action.precondition {
            join.solve(alternative, &slots, &binding, &mut |binding, require, forbid| {
                let mut grounding = Grounding { join, tracked, binding, add: &mut add, delete: &mut delete };
                raws.extend(grounding.operator(&mut arena, action, number, require, forbid)?);
                if raws.len() > MAX_INSTANCES {
                    let reason = format!("more than {MAX_INSTANCES} instances of the actions");
                    return Err(syntax("problem", reason));
                }
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
    /// Scratch space.
    add: &'a mut Vec<GroundAtom>,
    delete: &'a mut Vec<GroundAtom>,
}

impl Grounding<'_> {
    /// The operator of one binding, or `None` if it changes nothing: all that it adds is required, and all that it
    /// deletes is forbidden. Such instances are no moves, e.g. going to where one is.
    fn operator(
        &mut self,
        arena: &mut Arena,
        action: &Action,
        number: u16,
        require: &[GroundAtom],
        forbid: &[GroundAtom],
    ) -> Result<Option<Raw>, EnvError> {
        self.effect(&action.effect);
        let changes = self.add.iter().any(|atom| !require.contains(atom))
            || self.delete.iter().any(|atom| !forbid.contains(atom));
        if !changes && action.conditional.is_empty() {
            return Ok(None);
        }
        let change = store(arena, self.tracked, [require, forbid, self.add, self.delete]);
        let mut conditional = Vec::new();
        for (condition, effect) in &action.conditional {
            self.effect(effect);
            for alternative in condition {
                self.join.solve(alternative, &[], self.binding, &mut |_, require, forbid| {
                    conditional.push(store(arena, self.tracked, [require, forbid, self.add, self.delete]));
                    Ok(())
                })?;
            }
        }
        let start = arena.objects.len() as u32;
        arena.objects.extend_from_slice(&self.binding[..action.types.len()]);
        let binding = Span { start, end: arena.objects.len() as u32 };
        Ok(Some(Raw { action: number, binding, change, conditional }))
    }

    /// Collects added and deleted atoms; what is both is added.
    fn effect(&mut self, effect: &Effect) {
        let ground = |atom: &Atom| self.join.ground(atom, self.binding);
        self.add.clear();
        self.add.extend(effect.add.iter().filter_map(ground));
        self.delete.clear();
        self.delete.extend(effect.delete.iter().filter_map(ground));
        self.delete.retain(|atom| !self.add.contains(atom));
    }
}

fn store(arena: &mut Arena, tracked: &[bool], lists: [&[GroundAtom]; 4]) -> RawChange {
    let spans = lists.map(|atoms| {
        let start = arena.lists.len() as u32;
        for &atom in atoms.iter().filter(|atom| tracked[usize::from(atom.predicate())]) {
            let number = arena.number(atom);
            arena.lists.push(number);
        }
        Span { start, end: arena.lists.len() as u32 }
    });
    RawChange { spans }
}

/// The atoms that can ever hold, and where those of an [`Arena`] stand among them.
#[derive(Debug)]
pub(super) struct Reachable {
    pub(super) fluents: FactTable,
    /// For each atom of the arena, its rank.
    ranks: Vec<Option<u16>>,
}

impl Reachable {
    /// The ranks of the atoms in a list; those that can never hold are left out.
    pub(super) fn ranks<'a>(&'a self, arena: &'a Arena, span: Span) -> impl Iterator<Item = u16> + 'a {
        arena.list(span).iter().filter_map(|&number| self.ranks[number as usize])
    }

    /// Whether all atoms of a list can hold.
    pub(super) fn all(&self, arena: &Arena, span: Span) -> bool {
        arena.list(span).iter().all(|&number| self.ranks[number as usize].is_some())
    }
}

/// Drops the operators that no sequence of others can make applicable, and returns the atoms that can ever hold,
/// with those that may be denied of the predicates marked in `deniable`. Forbidden atoms are ignored, so some of what
/// is kept may still be out of reach.
pub(super) fn keep_reachable(
    arena: &mut Arena,
    raws: &mut Vec<Raw>,
    initial: &[GroundAtom],
    arity: &[u8],
    deniable: &[bool],
) -> Result<Reachable, EnvError> {
    let mut queue: Vec<u32> = initial.iter().map(|&atom| arena.number(atom)).collect();
    // Operators wait for the atoms they require: `waiting[starts[a]..starts[a + 1]]`.
    let n_atoms = arena.atoms.len();
    let mut starts = vec![0u32; n_atoms + 1];
    let mut missing = vec![0u32; raws.len()];
    for raw in raws.iter() {
        for &atom in arena.list(raw.change.spans[0]) {
            starts[atom as usize + 1] += 1;
        }
    }
    for atom in 0..n_atoms {
        starts[atom + 1] += starts[atom];
    }
    let mut next = starts.clone();
    let mut waiting = vec![0u32; starts[n_atoms] as usize];
    for (raw, index) in raws.iter().zip(0u32..) {
        for &atom in arena.list(raw.change.spans[0]) {
            missing[index as usize] += 1;
            waiting[next[atom as usize] as usize] = index;
            next[atom as usize] += 1;
        }
    }
    let mut reached = vec![false; n_atoms];
    let mut ready: Vec<u32> = (0..raws.len() as u32).filter(|&index| missing[index as usize] == 0).collect();
    loop {
        while let Some(index) = ready.pop() {
            for change in raws[index as usize].changes() {
                queue.extend(arena.list(change.spans[2]));
            }
        }
        let Some(atom) = queue.pop() else { break };
        let atom = atom as usize;
        if std::mem::replace(&mut reached[atom], true) {
            continue;
        }
        for &index in &waiting[starts[atom] as usize..starts[atom + 1] as usize] {
            missing[index as usize] -= 1;
            if missing[index as usize] == 0 {
                ready.push(index);
            }
        }
    }
    let mut missing = missing.into_iter();
    raws.retain(|_| missing.next() == Some(0));
    for change in raws.iter().flat_map(Raw::changes) {
        for &atom in arena.list(change.spans[3]) {
            reached[atom as usize] |= deniable[usize::from(arena.atoms[atom as usize].predicate())];
        }
    }
    let possible = arena.atoms.iter().zip(&reached).filter(|(_, reached)| **reached);
    let fluents = FactTable::new(possible.map(|(&atom, _)| atom).collect(), arity)?;
    // A table has no more atoms than 16 bits can number.
    let ranks = arena.atoms.iter().map(|&atom| fluents.rank(atom).map(|rank| rank as u16)).collect();
    Ok(Reachable { fluents, ranks })
}
