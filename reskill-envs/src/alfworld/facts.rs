//! Ground atoms as numbers, and tables of them that answer patterns in sorted order.

use std::hash::{Hash, Hasher};

use super::sexpr::syntax;
use crate::error::EnvError;

/// An object of a game: its rank among the sorted ids.
pub(super) type Object = u16;

/// Stands for "not bound" in bindings.
pub(super) const UNBOUND: Object = Object::MAX;

/// Most arguments that a predicate may have.
pub(super) const MAX_ARITY: usize = 7;

/// A table with more atoms than this is refused: ranks are kept in 16 bits. ALFWorld's games have up to 5,000.
pub(super) const MAX_ATOMS: usize = u16::MAX as usize;

/// A ground atom: the predicate, then each argument, then zeros. Atoms are in order by predicate and arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroundAtom([u16; 1 + MAX_ARITY]);

impl GroundAtom {
    /// `arguments` has at most [`MAX_ARITY`] items; more are left out.
    pub(super) fn new(predicate: u16, arguments: impl IntoIterator<Item = Object>) -> Self {
        let mut packed = [0; 1 + MAX_ARITY];
        packed[0] = predicate;
        for (place, argument) in packed[1..].iter_mut().zip(arguments) {
            *place = argument;
        }
        Self(packed)
    }

    pub(super) fn predicate(self) -> u16 {
        self.0[0]
    }

    pub(super) fn argument(self, position: usize) -> Object {
        self.0[1 + position]
    }
}

impl Hash for GroundAtom {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for half in self.0.as_chunks::<4>().0 {
            state.write_u64(half.iter().fold(0, |word, &part| word << 16 | u64::from(part)));
        }
    }
}

/// Atoms sorted by predicate and arguments. The index of an atom is its rank.
#[derive(Debug, Default)]
pub(super) struct FactTable {
    len: u32,
    predicates: Box<[PredicateIndex]>,
    /// The arguments of each atom.
    arguments: Box<[Object]>,
    /// For each predicate and each argument after the first: its atoms, counted from its first, by that argument.
    orders: Box<[u16]>,
}

#[derive(Debug, Clone, Copy, Default)]
struct PredicateIndex {
    /// Rank of the first atom, and how many there are.
    start: u32,
    count: u32,
    arity: u32,
    /// Where its part of `arguments` and of `orders` begins.
    arguments: u32,
    orders: u32,
}

impl FactTable {
    /// Builds the table; `arity[p]` is the number of arguments of predicate `p`.
    ///
    /// # Errors
    /// [`EnvError::Syntax`] if there are over [`MAX_ATOMS`].
    pub(super) fn new(mut atoms: Vec<GroundAtom>, arity: &[u8]) -> Result<Self, EnvError> {
        atoms.sort_unstable();
        atoms.dedup();
        if atoms.len() > MAX_ATOMS {
            return Err(syntax(
                "problem",
                format!("{} facts are possible, at most {MAX_ATOMS}", atoms.len()),
            ));
        }
        let mut predicates = vec![PredicateIndex::default(); arity.len()];
        let (mut arguments, mut orders) = (Vec::new(), Vec::new());
        let mut start = 0;
        for group in atoms.chunk_by(|left, right| left.predicate() == right.predicate()) {
            let predicate = usize::from(group[0].predicate());
            let count = group.len() as u32;
            if let (Some(index), Some(&arity)) = (predicates.get_mut(predicate), arity.get(predicate)) {
                let arity = u32::from(arity);
                let places = (arguments.len() as u32, orders.len() as u32);
                *index = PredicateIndex { start, count, arity, arguments: places.0, orders: places.1 };
                for atom in group {
                    arguments.extend((0..arity as usize).map(|position| atom.argument(position)));
                }
                for position in 1..arity as usize {
                    let from = orders.len();
                    orders.extend(0..count as u16);
                    orders[from..].sort_by_key(|&local| group[usize::from(local)].argument(position));
                }
            }
            start += count;
        }
        Ok(Self {
            len: start,
            predicates: predicates.into(),
            arguments: arguments.into(),
            orders: orders.into(),
        })
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    /// How many predicates there are, with and without atoms.
    pub(super) fn n_predicates(&self) -> usize {
        self.predicates.len()
    }

    /// How many atoms a predicate has.
    pub(super) fn count(&self, predicate: u16) -> usize {
        self.predicates.get(usize::from(predicate)).map_or(0, |index| index.count as usize)
    }

    /// The predicate of the atom with this rank.
    pub(super) fn predicate(&self, rank: u32) -> usize {
        let holds = |index: &PredicateIndex| (index.start..index.start + index.count).contains(&rank);
        self.predicates.iter().position(holds).unwrap_or(0)
    }

    pub(super) fn rank(&self, atom: GroundAtom) -> Option<u32> {
        let index = self.predicates.get(usize::from(atom.predicate()))?;
        let arity = index.arity as usize;
        let wanted: [Object; MAX_ARITY] = std::array::from_fn(|position| atom.argument(position));
        let (mut low, mut high) = (0, index.count);
        while low < high {
            let middle = low.midpoint(high);
            match self.arguments(index, middle).cmp(&wanted[..arity]) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(index.start + middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    pub(super) fn contains(&self, atom: GroundAtom) -> bool {
        self.rank(atom).is_some()
    }

    fn arguments(&self, index: &PredicateIndex, local: u32) -> &[Object] {
        let from = (index.arguments + local * index.arity) as usize;
        &self.arguments[from..from + index.arity as usize]
    }

    /// Calls `visit` with the rank and the arguments of every atom that agrees with the pattern, in order, until it
    /// returns `false`. [`UNBOUND`] agrees with everything. Returns whether all were visited.
    pub(super) fn scan(
        &self,
        predicate: u16,
        pattern: &[Object],
        visit: &mut dyn FnMut(u32, &[Object]) -> bool,
    ) -> bool {
        let Some(index) = self.predicates.get(usize::from(predicate)) else { return true };
        if index.count == 0 || index.arity as usize != pattern.len() {
            return true;
        }
        let mut agreeing = |local: u32| {
            let arguments = self.arguments(index, local);
            let mut pairs = arguments.iter().zip(pattern);
            !pairs.all(|(argument, &wanted)| wanted == UNBOUND || *argument == wanted)
                || visit(index.start + local, arguments)
        };
        let Some(position) = pattern.iter().position(|&wanted| wanted != UNBOUND) else {
            return (0..index.count).all(agreeing);
        };
        let wanted = pattern[position];
        if position == 0 {
            let (mut low, mut high) = (0, index.count);
            while low < high {
                let middle = low.midpoint(high);
                if self.arguments(index, middle)[0] < wanted { low = middle + 1 } else { high = middle }
            }
            return (low..index.count)
                .take_while(|&local| self.arguments(index, local)[0] == wanted)
                .all(agreeing);
        }
        let from = index.orders as usize + (position - 1) * index.count as usize;
        let order = &self.orders[from..from + index.count as usize];
        let argument = |local: &u16| self.arguments(index, u32::from(*local))[position];
        let first = order.partition_point(|local| argument(local) < wanted);
        order[first..]
            .iter()
            .take_while(|local| argument(local) == wanted)
            .all(|&local| agreeing(u32::from(local)))
    }
}

/// A set of small numbers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct BitSet(Box<[u64]>);

impl BitSet {
    pub(super) fn new(capacity: usize) -> Self {
        Self(vec![0; capacity.div_ceil(64)].into_boxed_slice())
    }

    pub(super) fn contains(&self, item: u32) -> bool {
        self.0[item as usize / 64] >> (item % 64) & 1 == 1
    }

    pub(super) fn insert(&mut self, item: u32) {
        self.0[item as usize / 64] |= 1 << (item % 64);
    }

    pub(super) fn remove(&mut self, item: u32) {
        self.0[item as usize / 64] &= !(1 << (item % 64));
    }

    /// Becomes equal to a set of the same capacity.
    pub(super) fn copy_from(&mut self, other: &BitSet) {
        self.0.copy_from_slice(&other.0);
    }

    /// The items in ascending order.
    pub(super) fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().zip(0u32..).flat_map(|(&word, index)| {
            let mut left = word;
            std::iter::from_fn(move || {
                (left != 0).then(|| {
                    let item = index * 64 + left.trailing_zeros();
                    left &= left - 1;
                    item
                })
            })
        })
    }
}

/// What changes during a game.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// The changing atoms that hold.
    pub(super) holds: BitSet,
    /// The atoms that some effect has deleted and none has added since: `not_p` in the grammar.
    pub(super) denied: BitSet,
}

impl State {
    /// Becomes equal to another state of the same game.
    pub(super) fn copy_from(&mut self, other: &State) {
        self.holds.copy_from(&other.holds);
        self.denied.copy_from(&other.denied);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranks(table: &FactTable, predicate: u16, pattern: &[Object]) -> Vec<u32> {
        let mut ranks = Vec::new();
        table.scan(predicate, pattern, &mut |rank, _| {
            ranks.push(rank);
            true
        });
        ranks
    }

    #[test]
    fn scan_answers_patterns_in_order() {
        let atoms = [(0, [1, 5]), (1, [2, 9]), (1, [1, 9]), (1, [1, 7])];
        let table = FactTable::new(atoms.map(|(p, args)| GroundAtom::new(p, args)).into(), &[2, 2]).unwrap();
        assert_eq!(ranks(&table, 1, &[UNBOUND, UNBOUND]), [1, 2, 3]);
        assert_eq!(ranks(&table, 1, &[1, UNBOUND]), [1, 2]);
        assert_eq!(ranks(&table, 1, &[UNBOUND, 9]), [2, 3]);
        assert!(ranks(&table, 1, &[2, 7]).is_empty());
        assert_eq!(table.rank(GroundAtom::new(1, [1, 9])), Some(2));
        assert_eq!(table.rank(GroundAtom::new(1, [2, 7])), None);
        assert_eq!([0, 1, 3].map(|rank| table.predicate(rank)), [0, 1, 1]);
    }

    #[test]
    fn more_atoms_than_ranks_are_refused() {
        let atoms =
            (0..=MAX_ATOMS).map(|n| GroundAtom::new(0, [(n >> 8) as u16, (n & 255) as u16])).collect();
        let error = FactTable::new(atoms, &[2]).unwrap_err().to_string();
        assert_eq!(error, "problem: 65536 facts are possible, at most 65535");
    }

    #[test]
    fn bits_come_back_in_order() {
        let mut set = BitSet::new(200);
        [130, 3, 64].into_iter().for_each(|item| set.insert(item));
        set.remove(64);
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 130]);
    }
}
