//! Finds short plans: best-first search with the FF heuristic (Hoffmann and Nebel, 2001).
//!
//! The estimate of a state is the size of a plan for the relaxed task, where nothing that holds ever ceases to hold. "Not
//! holding" is an atom of its own here, so that e.g. a full hand counts. Successors are first limited to the relaxed
//! plan's own first steps; if that finds nothing, the search is repeated with all.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::facts::BitSet;
use super::game::Game;

/// States that the narrow and the full search may look at.
const NARROW_STATES: usize = 3_000;
const FULL_STATES: usize = 60_000;

const UNREACHED: u32 = u32::MAX;

/// Relaxed actions of a game. Literal `2 a` says that atom `a` holds, `2 a + 1` that it does not.
#[derive(Debug)]
pub(super) struct Planner {
    actions: Vec<Relaxed>,
    literals: Vec<u32>,
    /// For each literal, the relaxed actions that need it: `users[starts[l]..starts[l + 1]]`.
    users: Vec<u32>,
    starts: Vec<u32>,
    /// How many literals each relaxed action needs, and the actions that need none.
    n_needs: Vec<u32>,
    free: Vec<u32>,
}

/// A change with its condition: `literals[start..needs]` lead to `literals[needs..end]`.
#[derive(Debug)]
struct Relaxed {
    /// The operator; [`UNREACHED`] for reaching the goal.
    operator: u32,
    start: u32,
    needs: u32,
    end: u32,
}

/// Scratch space of the heuristic.
struct Estimate {
    cost: Vec<u32>,
    achiever: Vec<u32>,
    missing: Vec<u32>,
    sum: Vec<u32>,
    /// Literals to settle, by cost.
    buckets: Vec<Vec<u32>>,
    /// Operators of the last relaxed plan, and those of them that apply at once.
    plan: Vec<u32>,
    helpful: Vec<u32>,
}

impl Planner {
    /// Prepares the relaxed task of a game.
    pub(super) fn new(game: &Game) -> Planner {
        let n_literals = 2 * game.fluents.len() + 1;
        let mut planner = Planner {
            actions: Vec::new(),
            literals: Vec::new(),
            users: Vec::new(),
            starts: Vec::new(),
            n_needs: Vec::new(),
            free: Vec::new(),
        };
        let goal = planner_goal(game);
        for way in game.goal.ways() {
            let [require, forbid] = way.map(|atoms| atoms.iter().map(|&atom| u32::from(atom)));
            let needs = positive(require).chain(negative(forbid)).collect();
            planner.push(UNREACHED, needs, [goal]);
        }
        for operator in 0..game.operators.len() as u32 {
            let instance = game.operators.get(operator);
            let change = instance.change();
            let base: Vec<u32> = positive(change.require()).chain(negative(change.forbid())).collect();
            planner.push(operator, base.clone(), positive(change.add()).chain(negative(change.delete())));
            for extra in instance.conditional() {
                let mut needs = base.clone();
                needs.extend(positive(extra.require()).chain(negative(extra.forbid())));
                planner.push(operator, needs, positive(extra.add()).chain(negative(extra.delete())));
            }
        }
        planner.index(n_literals);
        planner
    }

    fn push(&mut self, operator: u32, mut needs: Vec<u32>, effects: impl IntoIterator<Item = u32>) {
        let start = self.literals.len() as u32;
        needs.sort_unstable();
        needs.dedup();
        self.literals.extend(&needs);
        let needs_end = self.literals.len() as u32;
        self.literals.extend(effects.into_iter().filter(|effect| !needs.contains(effect)));
        let end = self.literals.len() as u32;
        if end > needs_end {
            self.actions.push(Relaxed { operator, start, needs: needs_end, end });
            self.n_needs.push(needs_end - start);
        }
    }

    fn index(&mut self, n_literals: usize) {
        let mut uses: Vec<(u32, u32)> = Vec::new();
        for (action, index) in self.actions.iter().zip(0u32..) {
            let needs = &self.literals[action.start as usize..action.needs as usize];
            uses.extend(needs.iter().map(|&literal| (literal, index)));
            if needs.is_empty() {
                self.free.push(index);
            }
        }
        uses.sort_unstable();
        self.starts = (0..=n_literals as u32)
            .map(|at| uses.partition_point(|(literal, _)| *literal < at) as u32)
            .collect();
        self.users = uses.into_iter().map(|(_, action)| action).collect();
    }

    /// Operators that lead from a state to the goal, or how many states were searched in vain.
    pub(super) fn plan(&self, game: &Game, from: &BitSet) -> Result<Vec<u32>, usize> {
        let mut estimate = Estimate::new(self, 2 * game.fluents.len() + 1);
        let narrow = self.search(game, from, &mut estimate, true);
        narrow.or_else(|tried| self.search(game, from, &mut estimate, false).map_err(|states| states + tried))
    }

    fn search(
        &self,
        game: &Game,
        from: &BitSet,
        estimate: &mut Estimate,
        narrow: bool,
    ) -> Result<Vec<u32>, usize> {
        let limit = if narrow { NARROW_STATES } else { FULL_STATES };
        let mut nodes: Vec<Node> = Vec::new();
        let mut best: HashMap<BitSet, u32> = HashMap::new();
        // Smallest cost so far plus estimate first; then smallest estimate; then the newest.
        let mut open: BinaryHeap<Reverse<(u32, u32, Reverse<usize>)>> = BinaryHeap::new();
        let first = Node { holds: from.clone(), parent: None, depth: 0, next: Vec::new() };
        let mut arrived = vec![first];
        loop {
            for mut node in arrived.drain(..) {
                if best.get(&node.holds).is_some_and(|&depth| depth <= node.depth) {
                    continue;
                }
                best.insert(node.holds.clone(), node.depth);
                let Some(left) = self.estimate(game, &node.holds, estimate) else { continue };
                if narrow {
                    node.next.clone_from(&estimate.helpful);
                }
                open.push(Reverse((node.depth + left, left, Reverse(nodes.len()))));
                nodes.push(node);
            }
            let Some(Reverse((_, left, Reverse(index)))) = open.pop() else { return Err(nodes.len()) };
            if left == 0 && game.is_goal(&nodes[index].holds) {
                return Ok(plan_to(&nodes, index));
            }
            if nodes.len() > limit {
                return Err(nodes.len());
            }
            let node = &nodes[index];
            let mut expand = |operator: u32| {
                let holds = game.operators.apply_to(operator, &node.holds);
                if holds != node.holds {
                    let parent = Some((index, operator));
                    arrived.push(Node { holds, parent, depth: node.depth + 1, next: Vec::new() });
                }
            };
            if narrow {
                node.next.iter().copied().for_each(&mut expand);
            } else {
                let state = super::facts::State { holds: node.holds.clone(), denied: node.holds.clone() };
                game.operators.for_each_applicable(&state, |operator, _| expand(operator));
            }
        }
    }

    /// The length of a relaxed plan, left in `estimate`; `None` if there is none.
    fn estimate(&self, game: &Game, holds: &BitSet, estimate: &mut Estimate) -> Option<u32> {
        let goal = planner_goal(game);
        estimate.clear(self);
        for atom in 0..game.fluents.len() as u32 {
            let literal = 2 * atom + u32::from(!holds.contains(atom));
            if self.starts[literal as usize] < self.starts[literal as usize + 1] {
                estimate.cost[literal as usize] = 0;
                estimate.buckets[0].push(literal);
            } else {
                estimate.cost[literal as usize] = 0;
            }
        }
        for &action in &self.free {
            self.fire(action, estimate);
        }
        let mut cost = 0;
        while estimate.cost[goal as usize] > cost as u32 {
            while let Some(literal) = estimate.buckets[cost].pop() {
                if estimate.cost[literal as usize] < cost as u32 {
                    continue;
                }
                let range =
                    self.starts[literal as usize] as usize..self.starts[literal as usize + 1] as usize;
                for &action in &self.users[range] {
                    estimate.missing[action as usize] -= 1;
                    estimate.sum[action as usize] += cost as u32;
                    if estimate.missing[action as usize] == 0 {
                        self.fire(action, estimate);
                    }
                }
            }
            cost += 1;
            if cost >= estimate.buckets.len() {
                break;
            }
        }
        (estimate.cost[goal as usize] != UNREACHED).then(|| self.extract(goal, estimate))
    }

    /// All needs of an action are settled: offers its effects at its cost.
    fn fire(&self, index: u32, estimate: &mut Estimate) {
        let action = &self.actions[index as usize];
        let cost = estimate.sum[index as usize] + u32::from(action.operator != UNREACHED);
        for &literal in &self.literals[action.needs as usize..action.end as usize] {
            if cost < estimate.cost[literal as usize] {
                estimate.cost[literal as usize] = cost;
                estimate.achiever[literal as usize] = index;
                if estimate.buckets.len() <= cost as usize {
                    estimate.buckets.resize_with(cost as usize + 1, Vec::new);
                }
                estimate.buckets[cost as usize].push(literal);
            }
        }
    }

    fn extract(&self, goal: u32, estimate: &mut Estimate) -> u32 {
        let mut todo = vec![goal];
        while let Some(literal) = todo.pop() {
            let index = estimate.achiever[literal as usize];
            if estimate.cost[literal as usize] == 0 && literal != goal || index == UNREACHED {
                continue;
            }
            // Each literal is explained once.
            estimate.achiever[literal as usize] = UNREACHED;
            let action = &self.actions[index as usize];
            let needs = &self.literals[action.start as usize..action.needs as usize];
            todo.extend(needs);
            if action.operator != UNREACHED && !estimate.plan.contains(&action.operator) {
                estimate.plan.push(action.operator);
                if needs.iter().all(|&need| estimate.cost[need as usize] == 0) {
                    estimate.helpful.push(action.operator);
                }
            }
        }
        estimate.plan.len() as u32
    }
}

impl Estimate {
    fn new(planner: &Planner, n_literals: usize) -> Estimate {
        Estimate {
            cost: vec![UNREACHED; n_literals],
            achiever: vec![UNREACHED; n_literals],
            missing: planner.n_needs.clone(),
            sum: vec![0; planner.actions.len()],
            buckets: vec![Vec::new()],
            plan: Vec::new(),
            helpful: Vec::new(),
        }
    }

    fn clear(&mut self, planner: &Planner) {
        self.cost.fill(UNREACHED);
        self.achiever.fill(UNREACHED);
        self.missing.copy_from_slice(&planner.n_needs);
        self.sum.fill(0);
        self.buckets.iter_mut().for_each(Vec::clear);
        self.plan.clear();
        self.helpful.clear();
    }
}

struct Node {
    holds: BitSet,
    /// The node before, and the operator in between.
    parent: Option<(usize, u32)>,
    depth: u32,
    /// The relaxed plan's operators that apply here.
    next: Vec<u32>,
}

fn plan_to(nodes: &[Node], index: usize) -> Vec<u32> {
    let mut plan = Vec::new();
    let mut at = index;
    while let Some((before, operator)) = nodes[at].parent {
        plan.push(operator);
        at = before;
    }
    plan.reverse();
    plan
}

fn planner_goal(game: &Game) -> u32 {
    2 * game.fluents.len() as u32
}

fn positive(atoms: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
    atoms.map(|atom| 2 * atom)
}

fn negative(atoms: impl Iterator<Item = u32>) -> impl Iterator<Item = u32> {
    atoms.map(|atom| 2 * atom + 1)
}
