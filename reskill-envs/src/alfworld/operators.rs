//! Every instance of every action that a game can ever allow, and when each applies.
//!
//! A game has thousands of operators, so they are stored like the rows of a table. Operators of one action with equally
//! many atoms in each list have one [`Shape`]: the command, the parameters and the atoms are its columns, and columns that
//! are the same in every row, or equal to another column, are kept once.

use super::facts::{BitSet, FactTable, Object, State};
use super::ground::{Arena, Raw, Reachable};
use super::sexpr::syntax;
use crate::error::EnvError;

/// A game with more operators than this is refused: they are numbered in 16 bits. ALFWorld's largest has 6,500.
const MAX_OPERATORS: usize = u16::MAX as usize;

/// What the rows of some operators of an action have in common.
#[derive(Debug)]
struct Shape {
    action: u16,
    n_parameters: u16,
    /// Its first operator.
    first: u32,
    /// Where its rows begin, and how long each is.
    data: u32,
    stride: u32,
    /// The command, the parameters, then the lists of each change.
    columns: Box<[Column]>,
    /// For each change, where its lists begin and end: required, forbidden, added, deleted. The first is unconditional.
    changes: Box<[[u16; 5]]>,
}

#[derive(Debug, Clone, Copy)]
enum Column {
    Constant(u16),
    Stored(u16),
}

/// One action instance.
#[derive(Debug, Clone, Copy)]
pub(super) struct Operator<'a> {
    shape: &'a Shape,
    row: &'a [u16],
}

/// Atoms that must and must not hold, and atoms that hold and do not hold afterwards, by rank.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    operator: Operator<'a>,
    bounds: [u16; 5],
}

/// The operators of a game, indexed by an atom that each needs.
#[derive(Debug, Default)]
pub(super) struct Operators {
    len: u32,
    shapes: Box<[Shape]>,
    data: Box<[u16]>,
    /// `by_pivot[pivot_starts[a]..pivot_starts[a + 1]]`: the operators that are tried when atom `a` holds.
    by_pivot: Box<[u16]>,
    pivot_starts: Box<[u16]>,
    /// Operators that need no atom.
    unconditional: Box<[u16]>,
}

impl<'a> Operator<'a> {
    fn column(self, column: u16) -> u16 {
        match self.shape.columns[usize::from(column)] {
            Column::Constant(value) => value,
            Column::Stored(at) => self.row[usize::from(at)],
        }
    }

    /// Index of the action in the rules.
    pub(super) fn action(self) -> u16 {
        self.shape.action
    }

    /// Rank of its command among the game's commands.
    pub(super) fn command(self) -> u16 {
        self.column(0)
    }

    /// The objects bound to the action's parameters.
    pub(super) fn binding(self) -> impl Iterator<Item = Object> + 'a {
        (1..=self.shape.n_parameters).map(move |column| self.column(column))
    }

    /// The condition of the operator, with its unconditional changes.
    pub(super) fn change(self) -> Change<'a> {
        Change { operator: self, bounds: self.shape.changes[0] }
    }

    /// Its conditional changes.
    pub(super) fn conditional(self) -> impl Iterator<Item = Change<'a>> {
        self.shape.changes[1..].iter().map(move |&bounds| Change { operator: self, bounds })
    }
}

impl<'a> Change<'a> {
    fn list(self, index: usize) -> impl Iterator<Item = u32> + 'a {
        (self.bounds[index]..self.bounds[index + 1]).map(move |column| self.operator.column(column).into())
    }

    pub(super) fn require(self) -> impl Iterator<Item = u32> + 'a {
        self.list(0)
    }

    pub(super) fn forbid(self) -> impl Iterator<Item = u32> + 'a {
        self.list(1)
    }

    pub(super) fn add(self) -> impl Iterator<Item = u32> + 'a {
        self.list(2)
    }

    pub(super) fn delete(self) -> impl Iterator<Item = u32> + 'a {
        self.list(3)
    }

    fn applies(self, state: &State) -> bool {
        self.require().all(|atom| state.holds.contains(atom))
            && !self.forbid().any(|atom| state.holds.contains(atom))
    }

    fn carry_out(self, state: &mut State) {
        for atom in self.delete() {
            state.holds.remove(atom);
            state.denied.insert(atom);
        }
        for atom in self.add() {
            state.holds.insert(atom);
            state.denied.remove(atom);
        }
    }
}

/// A shape that is being built, with all its columns.
struct Rows {
    action: u16,
    n_parameters: u16,
    changes: Vec<[u16; 5]>,
    n_columns: usize,
    values: Vec<u16>,
}

impl Operators {
    /// Ranks the atoms of the reachable operators. `commands[i]` is the command of operator `i`.
    ///
    /// # Errors
    /// [`EnvError::Syntax`] if there are too many.
    pub(super) fn new(
        arena: &Arena,
        raws: &[Raw],
        commands: &[u16],
        reachable: &Reachable,
        initial: &State,
    ) -> Result<Self, EnvError> {
        if raws.len() > MAX_OPERATORS {
            let reason =
                format!("{} instances of the actions can apply, at most {MAX_OPERATORS}", raws.len());
            return Err(syntax("problem", reason));
        }
        let mut shapes: Vec<Rows> = Vec::new();
        let mut current = 0;
        let (mut row, mut changes) = (Vec::new(), Vec::new());
        for (raw, &command) in raws.iter().zip(commands) {
            let parameters = &arena.objects[raw.binding.range()];
            row.clear();
            changes.clear();
            row.push(command);
            row.extend_from_slice(parameters);
            for (index, change) in raw.changes().enumerate() {
                // A change that waits for what can never hold does not happen.
                if index > 0 && !reachable.all(arena, change.spans[0]) {
                    continue;
                }
                let mut bounds = [row.len(); 5];
                for (span, bound) in change.spans.into_iter().zip(&mut bounds[1..]) {
                    // Atoms that can never hold are left out: their absence is no condition.
                    row.extend(reachable.ranks(arena, span));
                    *bound = row.len();
                }
                if row.len() > usize::from(u16::MAX) {
                    return Err(syntax("domain", format!("an action has over {} atoms", u16::MAX)));
                }
                changes.push(bounds.map(|bound| bound as u16));
            }
            let fits = |rows: &Rows| rows.action == raw.action && rows.changes == changes;
            if !shapes.get(current).is_some_and(fits) {
                current = shapes.iter().position(fits).unwrap_or_else(|| {
                    shapes.push(Rows {
                        action: raw.action,
                        n_parameters: parameters.len() as u16,
                        changes: changes.clone(),
                        n_columns: row.len(),
                        values: Vec::new(),
                    });
                    shapes.len() - 1
                });
            }
            shapes[current].values.extend_from_slice(&row);
        }
        shapes.sort_by(|left, right| (left.action, &left.changes).cmp(&(right.action, &right.changes)));
        let mut operators = Operators { len: raws.len() as u32, ..Operators::default() };
        operators.store(&shapes);
        operators.index(&reachable.fluents, initial);
        Ok(operators)
    }

    /// Keeps of each shape the columns that differ from row to row and from each other.
    fn store(&mut self, shapes: &[Rows]) {
        let mut data = Vec::new();
        let mut first = 0;
        let mut stored_shapes = Vec::with_capacity(shapes.len());
        for rows in shapes {
            let value = |row: &[u16], column: usize| row[column];
            let all = || rows.values.chunks_exact(rows.n_columns);
            let mut columns: Vec<Column> = Vec::with_capacity(rows.n_columns);
            let mut stored: Vec<usize> = Vec::new();
            for column in 0..rows.n_columns {
                let at_first = rows.values[column];
                columns.push(if all().all(|row| value(row, column) == at_first) {
                    Column::Constant(at_first)
                } else {
                    let equal = |&other: &usize| all().all(|row| value(row, column) == value(row, other));
                    let at = stored.iter().position(equal).unwrap_or_else(|| {
                        stored.push(column);
                        stored.len() - 1
                    });
                    Column::Stored(at as u16)
                });
            }
            stored_shapes.push(Shape {
                action: rows.action,
                n_parameters: rows.n_parameters,
                first,
                data: data.len() as u32,
                stride: stored.len() as u32,
                columns: columns.into(),
                changes: rows.changes.clone().into(),
            });
            data.extend(all().flat_map(|row| stored.iter().map(|&column| row[column])));
            first += (rows.values.len() / rows.n_columns) as u32;
        }
        self.shapes = stored_shapes.into();
        self.data = data.into();
    }

    /// Files each operator under the required atom whose predicate has the fewest atoms at a time.
    fn index(&mut self, fluents: &FactTable, initial: &State) {
        let predicates: Vec<usize> = (0..fluents.len() as u32).map(|atom| fluents.predicate(atom)).collect();
        let mut holding = vec![0usize; fluents.n_predicates()];
        initial.holds.iter().for_each(|atom| holding[predicates[atom as usize]] += 1);
        let rarity = |&atom: &u32| {
            let predicate = predicates[atom as usize];
            (holding[predicate], usize::MAX - fluents.count(predicate as u16))
        };
        let mut filed: Vec<(u16, u16)> = Vec::with_capacity(self.len());
        let mut unconditional = Vec::new();
        for index in 0..self.len {
            match self.get(index).change().require().min_by_key(rarity) {
                Some(pivot) => filed.push((pivot as u16, index as u16)),
                None => unconditional.push(index as u16),
            }
        }
        filed.sort_unstable();
        let mut starts = vec![0u16; fluents.len() + 1];
        for (pivot, _) in &filed {
            starts[usize::from(*pivot) + 1] += 1;
        }
        for atom in 0..fluents.len() {
            starts[atom + 1] += starts[atom];
        }
        self.pivot_starts = starts.into();
        self.by_pivot = filed.into_iter().map(|(_, index)| index).collect();
        self.unconditional = unconditional.into();
    }

    pub(super) fn len(&self) -> usize {
        self.len as usize
    }

    pub(super) fn get(&self, index: u32) -> Operator<'_> {
        let shape = self.shapes.partition_point(|shape| shape.first <= index) - 1;
        self.row(&self.shapes[shape], index)
    }

    fn row<'a>(&'a self, shape: &'a Shape, index: u32) -> Operator<'a> {
        let from = (shape.data + (index - shape.first) * shape.stride) as usize;
        Operator { shape, row: &self.data[from..from + shape.stride as usize] }
    }

    /// Calls `visit` with every operator that applies.
    pub(super) fn for_each_applicable(&self, state: &State, mut visit: impl FnMut(u32, Operator<'_>)) {
        let mut try_all = |candidates: &[u16]| {
            // Candidates are in order, so their shapes are.
            let mut shape = match candidates.first() {
                Some(&first) => self.shapes.partition_point(|shape| shape.first <= u32::from(first)) - 1,
                None => return,
            };
            for &candidate in candidates {
                let index = u32::from(candidate);
                while self.shapes.get(shape + 1).is_some_and(|next| next.first <= index) {
                    shape += 1;
                }
                let operator = self.row(&self.shapes[shape], index);
                if operator.change().applies(state) {
                    visit(index, operator);
                }
            }
        };
        try_all(&self.unconditional);
        for atom in state.holds.iter() {
            let [start, end] = [0, 1].map(|next| usize::from(self.pivot_starts[atom as usize + next]));
            try_all(&self.by_pivot[start..end]);
        }
    }

    /// Carries an operator out. Conditions of conditional changes are read before anything changes.
    pub(super) fn apply(&self, index: u32, state: &mut State) {
        let operator = self.get(index);
        let fires: Vec<bool> = operator.conditional().map(|change| change.applies(state)).collect();
        operator.change().carry_out(state);
        for (change, _) in operator.conditional().zip(fires).filter(|(_, fires)| *fires) {
            change.carry_out(state);
        }
    }

    /// Like [`Operators::apply`], for a search that reads no denied atoms.
    pub(super) fn apply_to(&self, index: u32, holds: &BitSet) -> BitSet {
        let mut state = State { holds: holds.clone(), denied: holds.clone() };
        self.apply(index, &mut state);
        state.holds
    }
}
