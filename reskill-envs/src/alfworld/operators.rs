//! Every instance of every action that a game can ever allow, and when each applies.

use super::facts::{BitSet, FactTable, Object, State};
use super::ground::{Arena, Raw, RawChange, Span};

/// One action instance.
#[derive(Debug)]
pub(super) struct Operator {
    /// Index of the action in the rules.
    pub(super) action: u16,
    /// Rank of its command among the game's commands.
    pub(super) command: u32,
    binding: Span,
    change: Change,
    /// Changes that have conditions of their own.
    conditional: Box<[Change]>,
}

/// Atoms that must and must not hold, and atoms that hold and do not hold afterwards.
#[derive(Debug, Clone, Copy, Default)]
struct Change {
    start: u32,
    ends: [u32; 4],
}

/// What a [`Change`] means, as ranks of changing atoms.
pub(super) struct ChangeView<'a> {
    pub(super) require: &'a [u32],
    pub(super) forbid: &'a [u32],
    pub(super) add: &'a [u32],
    pub(super) delete: &'a [u32],
}

impl ChangeView<'_> {
    fn applies(&self, state: &State) -> bool {
        self.require.iter().all(|&atom| state.holds.contains(atom))
            && !self.forbid.iter().any(|&atom| state.holds.contains(atom))
    }
}

/// The operators of a game, indexed by an atom that each needs.
#[derive(Debug, Default)]
pub(super) struct Operators {
    list: Vec<Operator>,
    ranks: Vec<u32>,
    objects: Vec<Object>,
    /// `by_pivot[pivot_starts[a]..pivot_starts[a + 1]]`: the operators that are tried when atom `a` holds.
    by_pivot: Vec<u32>,
    pivot_starts: Vec<u32>,
    /// Operators that need no atom.
    unconditional: Vec<u32>,
}

impl Operators {
    /// Numbers the atoms of the reachable operators. `commands[i]` is the command of operator `i`.
    pub(super) fn new(
        mut arena: Arena,
        raws: &[Raw],
        commands: &[u32],
        fluents: &FactTable,
        initial: &State,
    ) -> Self {
        let mut operators = Operators { objects: std::mem::take(&mut arena.objects), ..Operators::default() };
        for (raw, &command) in raws.iter().zip(commands) {
            let change = operators.push(&arena, &raw.change.spans, fluents);
            // A change that waits for what can never hold does not happen.
            let can_fire = |change: &&RawChange| {
                arena.atoms(change.spans[0]).iter().all(|&atom| fluents.rank(atom).is_some())
            };
            let conditional = raw.conditional.iter().filter(can_fire);
            let conditional =
                conditional.map(|change| operators.push(&arena, &change.spans, fluents)).collect();
            let binding = raw.binding;
            operators.list.push(Operator { action: raw.action, command, binding, change, conditional });
        }
        operators.index(fluents, initial);
        operators
    }

    /// Atoms that can never hold are left out: nothing requires them, and their absence is no condition.
    fn push(&mut self, arena: &Arena, spans: &[Span; 4], fluents: &FactTable) -> Change {
        let start = self.ranks.len() as u32;
        let ends = spans.map(|span| {
            self.ranks.extend(arena.atoms(span).iter().filter_map(|&atom| fluents.rank(atom)));
            self.ranks.len() as u32
        });
        Change { start, ends }
    }

    /// Files each operator under the required atom whose predicate has the fewest atoms at a time.
    fn index(&mut self, fluents: &FactTable, initial: &State) {
        let n_predicates = fluents.n_predicates();
        let mut holding = vec![0usize; n_predicates];
        let predicate = |atom: u32| usize::from(fluents.atom(atom).predicate());
        initial.holds.iter().for_each(|atom| holding[predicate(atom)] += 1);
        let rarity = |&atom: &u32| {
            let predicate = predicate(atom);
            (holding[predicate], usize::MAX - fluents.count(predicate as u16))
        };
        let mut filed: Vec<(u32, u32)> = Vec::with_capacity(self.list.len());
        for index in 0..self.list.len() as u32 {
            match self.change(index).require.iter().copied().min_by_key(rarity) {
                Some(pivot) => filed.push((pivot, index)),
                None => self.unconditional.push(index),
            }
        }
        filed.sort_unstable();
        self.pivot_starts = (0..=fluents.len() as u32)
            .map(|atom| filed.partition_point(|(pivot, _)| *pivot < atom) as u32)
            .collect();
        self.by_pivot = filed.into_iter().map(|(_, index)| index).collect();
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn get(&self, index: u32) -> &Operator {
        &self.list[index as usize]
    }

    /// The objects bound to the action's parameters.
    pub(super) fn binding(&self, index: u32) -> &[Object] {
        &self.objects[self.list[index as usize].binding.range()]
    }

    /// The condition of an operator and its unconditional changes.
    pub(super) fn change(&self, index: u32) -> ChangeView<'_> {
        self.view(self.list[index as usize].change)
    }

    /// The conditional changes of an operator.
    pub(super) fn conditional(&self, index: u32) -> impl Iterator<Item = ChangeView<'_>> {
        self.list[index as usize].conditional.iter().map(|&change| self.view(change))
    }

    fn view(&self, change: Change) -> ChangeView<'_> {
        let [require, forbid, add, delete] = change.ends.map(|end| end as usize);
        ChangeView {
            require: &self.ranks[change.start as usize..require],
            forbid: &self.ranks[require..forbid],
            add: &self.ranks[forbid..add],
            delete: &self.ranks[add..delete],
        }
    }

    /// Calls `visit` with every operator that applies.
    pub(super) fn for_each_applicable(&self, state: &State, mut visit: impl FnMut(u32)) {
        let mut try_all = |candidates: &[u32]| {
            for &index in candidates {
                if self.change(index).applies(state) {
                    visit(index);
                }
            }
        };
        try_all(&self.unconditional);
        for atom in state.holds.iter() {
            let [start, end] = [0, 1].map(|next| self.pivot_starts[atom as usize + next] as usize);
            try_all(&self.by_pivot[start..end]);
        }
    }

    /// Carries an operator out. Conditions of conditional changes are read before anything changes.
    pub(super) fn apply(&self, index: u32, state: &mut State) {
        let operator = &self.list[index as usize];
        if operator.conditional.is_empty() {
            return change_state(&self.view(operator.change), state);
        }
        let fires: Vec<bool> = self.conditional(index).map(|change| change.applies(state)).collect();
        change_state(&self.view(operator.change), state);
        for (change, _) in self.conditional(index).zip(fires).filter(|(_, fires)| *fires) {
            change_state(&change, state);
        }
    }

    /// Like [`Operators::apply`], for a search that reads no denied atoms.
    pub(super) fn apply_to(&self, index: u32, holds: &BitSet) -> BitSet {
        let mut state = State { holds: holds.clone(), denied: holds.clone() };
        self.apply(index, &mut state);
        state.holds
    }
}

fn change_state(change: &ChangeView<'_>, state: &mut State) {
    for &atom in change.delete {
        state.holds.remove(atom);
        state.denied.insert(atom);
    }
    for &atom in change.add {
        state.holds.insert(atom);
        state.denied.remove(atom);
    }
}
