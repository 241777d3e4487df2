//! Ground atoms as numbers, and tables of them that answer patterns in sorted order.

/// An object of a game: its rank among the sorted ids.
pub(super) type Object = u16;

/// Stands for "not bound" in bindings.
pub(super) const UNBOUND: Object = Object::MAX;

/// Most arguments that a predicate may have.
pub(super) const MAX_ARITY: usize = 7;

/// A ground atom in one number: the predicate in the highest 16 bits, then each argument. The order of the numbers
/// is the order of the atoms by predicate and arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct GroundAtom(u128);

impl GroundAtom {
    /// `arguments` has at most [`MAX_ARITY`] items.
    pub(super) fn new(predicate: u16, arguments: impl IntoIterator<Item = Object>) -> Self {
        let mut packed = u128::from(predicate) << 112;
        for (position, argument) in arguments.into_iter().take(MAX_ARITY).enumerate() {
            packed |= u128::from(argument) << Self::shift(position);
        }
        Self(packed)
    }

    pub(super) fn predicate(self) -> u16 {
        (self.0 >> 112) as u16
    }

    pub(super) fn argument(self, position: usize) -> Object {
        (self.0 >> Self::shift(position)) as u16
    }

    fn shift(position: usize) -> u32 {
        96 - 16 * position as u32
    }
}

/// Atoms sorted by predicate and arguments. The index of an atom is its rank.
#[derive(Debug, Default)]
pub(super) struct FactTable {
    atoms: Vec<GroundAtom>,
    /// For each predicate, the range of its atoms; for each argument after the first, the atoms by that argument.
    predicates: Vec<PredicateIndex>,
}

#[derive(Debug, Clone, Default)]
struct PredicateIndex {
    start: u32,
    end: u32,
    /// `by_argument[p - 1]`: the atoms sorted by argument `p`, then by rank.
    by_argument: Vec<Box<[u32]>>,
}

impl FactTable {
    /// Builds the table; `arity[p]` is the number of arguments of predicate `p`.
    pub(super) fn new(mut atoms: Vec<GroundAtom>, arity: &[u8]) -> Self {
        atoms.sort_unstable();
        atoms.dedup();
        let mut predicates = vec![PredicateIndex::default(); arity.len()];
        let mut start = 0;
        for group in atoms.chunk_by(|left, right| left.predicate() == right.predicate()) {
            let predicate = usize::from(group[0].predicate());
            let end = start + group.len() as u32;
            if let (Some(index), Some(&arity)) = (predicates.get_mut(predicate), arity.get(predicate)) {
                let by = |position: usize| {
                    let mut ranks: Box<[u32]> = (start..end).collect();
                    ranks.sort_by_key(|&rank| atoms[rank as usize].argument(position));
                    ranks
                };
                *index =
                    PredicateIndex { start, end, by_argument: (1..usize::from(arity)).map(by).collect() };
            }
            start = end;
        }
        Self { atoms, predicates }
    }

    pub(super) fn len(&self) -> usize {
        self.atoms.len()
    }

    /// How many predicates there are, with and without atoms.
    pub(super) fn n_predicates(&self) -> usize {
        self.predicates.len()
    }

    /// How many atoms a predicate has.
    pub(super) fn count(&self, predicate: u16) -> usize {
        self.predicates.get(usize::from(predicate)).map_or(0, |index| (index.end - index.start) as usize)
    }

    pub(super) fn atom(&self, rank: u32) -> GroundAtom {
        self.atoms[rank as usize]
    }

    pub(super) fn rank(&self, atom: GroundAtom) -> Option<u32> {
        self.atoms.binary_search(&atom).ok().map(|rank| rank as u32)
    }

    pub(super) fn contains(&self, atom: GroundAtom) -> bool {
        self.atoms.binary_search(&atom).is_ok()
    }

    /// Calls `visit` with the rank of every atom that agrees with the pattern, in order, until it returns `false`.
    /// [`UNBOUND`] agrees with everything. Returns whether all were visited.
    pub(super) fn scan(
        &self,
        predicate: u16,
        pattern: &[Object],
        visit: &mut dyn FnMut(u32, GroundAtom) -> bool,
    ) -> bool {
        let Some(index) = self.predicates.get(usize::from(predicate)) else { return true };
        let agrees = |atom: GroundAtom| {
            pattern
                .iter()
                .enumerate()
                .all(|(position, &wanted)| wanted == UNBOUND || atom.argument(position) == wanted)
        };
        let range = index.start as usize..index.end as usize;
        let first_bound = pattern.iter().position(|&wanted| wanted != UNBOUND);
        match first_bound {
            Some(0) => {
                let atoms = &self.atoms[range.clone()];
                let from = range.start + atoms.partition_point(|atom| atom.argument(0) < pattern[0]);
                self.atoms[from..range.end]
                    .iter()
                    .zip(from as u32..)
                    .take_while(|(atom, _)| atom.argument(0) == pattern[0])
                    .all(|(&atom, rank)| !agrees(atom) || visit(rank, atom))
            }
            Some(position) => {
                let Some(ranks) = index.by_argument.get(position - 1) else { return true };
                let argument = |rank: &u32| self.atoms[*rank as usize].argument(position);
                let from = ranks.partition_point(|rank| argument(rank) < pattern[position]);
                ranks[from..].iter().take_while(|rank| argument(rank) == pattern[position]).all(|&rank| {
                    let atom = self.atoms[rank as usize];
                    !agrees(atom) || visit(rank, atom)
                })
            }
            None => {
                let from = range.start as u32;
                self.atoms[range].iter().zip(from..).all(|(&atom, rank)| visit(rank, atom))
            }
        }
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
        let table = FactTable::new(atoms.map(|(p, args)| GroundAtom::new(p, args)).into(), &[2, 2]);
        assert_eq!(ranks(&table, 1, &[UNBOUND, UNBOUND]), [1, 2, 3]);
        assert_eq!(ranks(&table, 1, &[1, UNBOUND]), [1, 2]);
        assert_eq!(ranks(&table, 1, &[UNBOUND, 9]), [2, 3]);
        assert!(ranks(&table, 1, &[2, 7]).is_empty());
    }

    #[test]
    fn bits_come_back_in_order() {
        let mut set = BitSet::new(200);
        [130, 3, 64].into_iter().for_each(|item| set.insert(item));
        set.remove(64);
        assert_eq!(set.iter().collect::<Vec<_>>(), [3, 130]);
    }
}
