//! One game, compiled: everything that its episodes share.

use std::collections::hash_map::Entry;
use std::sync::{Arc, OnceLock};

use super::facts::{BitSet, FactTable, GroundAtom, Object, State, UNBOUND};
use super::game_file::{GameFile, goal_of};
use super::goal::Goal;
use super::grammar::{Renderer, printed_task, split_task};
use super::ground::{Arena, AtomMap, Raw, ground_actions, keep_reachable};
use super::join::Join;
use super::names::display_names;
use super::operators::Operators;
use super::pddl::Problem;
use super::planner::Planner;
use super::rules::{Rules, RulesCache};
use super::sexpr::{lower_case, syntax, syntax_at};
use super::texts::{Commands, Texts};
use crate::action::ActionVocabulary;
use crate::error::EnvError;
use crate::suite::TaskId;

/// A compiled game. Share it behind an [`Arc`]: an environment holds only the state.
#[derive(Debug)]
pub struct Game {
    pub(super) rules: Arc<Rules>,
    /// The task line as the file has it, and as it is printed.
    task: String,
    printed_task: Option<String>,
    walkthrough: Box<[String]>,
    objects: Objects,
    statics: FactTable,
    pub(super) fluents: FactTable,
    /// For each predicate, whether an effect changes it.
    fluent: Vec<bool>,
    pub(super) operators: Operators,
    /// All commands of the game, sorted.
    pub(super) commands: Commands,
    pub(super) goal: Goal,
    initial: State,
    planner: OnceLock<Planner>,
}

#[derive(Debug)]
struct Objects {
    ids: Texts,
    names: Texts,
    types: Box<[u16]>,
}

impl Game {
    /// Compiles a game; the rules come from the cache if they are known.
    ///
    /// # Errors
    /// [`EnvError::Syntax`] if a part of the file cannot be interpreted.
    pub fn compile(file: &GameFile, cache: &RulesCache) -> Result<Game, EnvError> {
        let (skeleton, task) = split_task(&file.grammar);
        let rules = cache.get(&file.pddl_domain, &skeleton)?;
        Game::with_rules(rules, task.unwrap_or_default(), &file.pddl_problem, file.walkthrough.clone())
    }

    /// Compiles a game of known rules.
    pub(super) fn with_rules(
        rules: Arc<Rules>,
        task: String,
        problem: &str,
        walkthrough: Vec<String>,
    ) -> Result<Game, EnvError> {
        let mut vocabulary = rules.vocabulary.clone();
        let problem = lower_case(problem, "problem")?;
        let problem = Problem::parse(&problem, &mut vocabulary)?;
        let arity = &vocabulary.arity;

        let mut types = vocabulary.types.clone();
        let mut declared = problem.objects.clone();
        let constants = &rules.domain.constants;
        declared.extend(constants.iter().map(|(name, type_)| (name.as_str(), type_.as_str())));
        declared.sort_unstable();
        declared.dedup_by(|later, earlier| later.0 == earlier.0);
        if declared.len() >= usize::from(UNBOUND) {
            return Err(syntax("problem", format!("{} objects, at most {UNBOUND}", declared.len())));
        }
        let type_numbers =
            declared.iter().map(|(_, type_)| types.intern(type_)).collect::<Result<Vec<_>, _>>()?;
        let number = |name: &str| declared.binary_search_by(|(id, _)| (*id).cmp(name)).ok();
        let number = |name: &str| number(name).map(|index| index as Object);
        let members = members(&rules, &types, &declared);
        let constants: Vec<Option<Object>> = vocabulary.constants.iter().map(number).collect();

        let mut facts = Vec::with_capacity(problem.facts.len());
        let mut present = vec![false; declared.len()];
        let mut arguments = problem.arguments.iter();
        for fact in &problem.facts {
            let n_arguments = usize::from(fact.n_arguments);
            let mut objects = [0; super::facts::MAX_ARITY];
            for (object, name) in objects.iter_mut().zip(arguments.by_ref().take(n_arguments)) {
                *object = number(name).ok_or_else(|| {
                    let reason = format!("`{name}` in `:init` is not among `:objects`");
                    syntax_at("problem", fact.at, reason)
                })?;
                present[usize::from(*object)] = true;
            }
            facts.push(GroundAtom::new(fact.predicate, objects.into_iter().take(n_arguments)));
        }

        let marks = Marks::new(&rules, &problem, arity.len());
        let (changing, fixed): (Vec<GroundAtom>, Vec<GroundAtom>) =
            facts.into_iter().partition(|atom| marks.fluent[usize::from(atom.predicate())]);
        let changing: Vec<GroundAtom> =
            changing.into_iter().filter(|atom| marks.tracked[usize::from(atom.predicate())]).collect();
        let statics = FactTable::new(fixed, arity)?;
        let join = Join::new(&statics, &marks.fluent, &members, &constants);
        let (mut arena, mut raws) = ground_actions(&rules.domain, &join, &marks.tracked)?;
        let reachable = keep_reachable(&mut arena, &mut raws, &changing, arity, &marks.deniable)?;
        let goal = Goal::ground(&problem, &join, &reachable.fluents)?;

        let n_fluents = reachable.fluents.len();
        let mut initial = State { holds: BitSet::new(n_fluents), denied: BitSet::new(n_fluents) };
        let ranks = changing.iter().filter_map(|&atom| reachable.fluents.rank(atom));
        ranks.for_each(|rank| initial.holds.insert(rank));
        let ids: Vec<&str> = declared.into_iter().map(|(id, _)| id).collect();
        let names = display_names(&ids, &present);
        let objects = Objects {
            names: names.iter().map(String::as_str).collect(),
            ids: ids.into_iter().filter(|_| rules.grammar.prints_ids).collect(),
            types: type_numbers.into(),
        };
        let mut game = Game {
            rules,
            printed_task: Some(printed_task(&task)).filter(|printed| *printed != task),
            task,
            walkthrough: walkthrough.into(),
            objects,
            statics,
            fluents: FactTable::default(),
            fluent: marks.fluent,
            operators: Operators::default(),
            commands: Commands::default(),
            goal,
            initial,
            planner: OnceLock::new(),
        };
        let (commands, ranks) = game.name_commands(&arena, &raws)?;
        game.commands = commands;
        game.operators = Operators::new(&arena, &raws, &ranks, &reachable, &game.initial)?;
        game.fluents = reachable.fluents;
        game.renderer(&game.initial).checked_intro()?;
        Ok(game)
    }

    /// The game with the expert's plan as its walkthrough.
    pub(crate) fn with_expert_walkthrough(mut self, id: &TaskId) -> Result<Game, EnvError> {
        self.walkthrough = self.plan_from(&self.initial.holds, id)?.into();
        Ok(self)
    }

    /// Commands that lead from a state to the goal.
    pub(super) fn plan_from(&self, holds: &BitSet, id: &TaskId) -> Result<Vec<String>, EnvError> {
        let planner = self.planner.get_or_init(|| Planner::new(self));
        let plan =
            planner.plan(self, holds).map_err(|states| EnvError::NoPlan { id: id.to_string(), states })?;
        let command = |&operator: &u32| self.commands.text(self.operators.get(operator).command());
        Ok(plan.iter().map(command).collect())
    }

    /// Prints the command of each operator; returns the distinct ones with each operator's rank among them.
    fn name_commands(&self, arena: &Arena, raws: &[Raw]) -> Result<(Commands, Vec<u16>), EnvError> {
        // Commands depend on nothing that changes.
        let renderer = self.renderer(&self.initial);
        let mut known: AtomMap<u32> = AtomMap::default();
        let mut texts: Vec<String> = Vec::new();
        let mut numbers = Vec::with_capacity(raws.len());
        for raw in raws {
            let binding = &arena.objects[raw.binding.range()];
            let used = &self.rules.grammar.actions[usize::from(raw.action)].template_parameters;
            let print = || renderer.command(raw.action, binding);
            if used.len() > super::facts::MAX_ARITY {
                texts.push(print()?);
                numbers.push(texts.len() as u32 - 1);
                continue;
            }
            let key = GroundAtom::new(raw.action, used.iter().map(|&parameter| binding[parameter]));
            numbers.push(match known.entry(key) {
                Entry::Occupied(known) => *known.get(),
                Entry::Vacant(vacant) => {
                    texts.push(print()?);
                    *vacant.insert(texts.len() as u32 - 1)
                }
            });
        }
        let (commands, ranks) = Commands::new(&texts)?;
        Ok((commands, numbers.into_iter().map(|number| ranks[number as usize]).collect()))
    }

    /// The task line, e.g. `Your task is to: put a mug in desk.`
    #[must_use]
    pub fn task_line(&self) -> &str {
        &self.task
    }

    /// The goal in words: the task line without its introduction.
    #[must_use]
    pub fn goal_text(&self) -> &str {
        goal_of(&self.task)
    }

    /// The commands that the file gives as a solution.
    #[must_use]
    pub fn walkthrough(&self) -> &[String] {
        &self.walkthrough
    }

    /// The command templates of the rules.
    #[must_use]
    pub fn vocabulary(&self) -> &ActionVocabulary {
        &self.rules.actions
    }

    /// Every command that can ever be admissible, sorted by code point.
    pub fn commands(&self) -> impl Iterator<Item = String> {
        (0..self.commands.len() as u16).map(|rank| self.commands.text(rank))
    }

    /// How many action instances the game has.
    #[must_use]
    pub fn n_operators(&self) -> usize {
        self.operators.len()
    }

    pub(super) fn initial(&self) -> &State {
        &self.initial
    }

    pub(super) fn is_goal(&self, holds: &BitSet) -> bool {
        self.goal.is_reached(holds)
    }

    pub(super) fn renderer<'a>(&'a self, state: &'a State) -> Renderer<'a> {
        Renderer {
            grammar: &self.rules.grammar,
            task: self.printed_task.as_ref().unwrap_or(&self.task),
            ids: &self.objects.ids,
            names: &self.objects.names,
            types: &self.objects.types,
            statics: &self.statics,
            fluents: &self.fluents,
            fluent: &self.fluent,
            state,
        }
    }
}

/// The objects of each type, those of the types below included. Every object is an `object`. A type that nothing
/// declares, such as one with a stray comma, has no objects.
fn members(rules: &Rules, types: &super::names::Names, declared: &[(&str, &str)]) -> Vec<BitSet> {
    let mut members = vec![BitSet::new(declared.len()); types.len()];
    for ((_, type_), object) in declared.iter().zip(0u32..) {
        let mut above = Some(*type_);
        // A chain longer than the number of types is a circle.
        for _ in 0..=rules.domain.parents.len() {
            let Some(name) = above else { break };
            if let Some(number) = types.get(name) {
                members[usize::from(number)].insert(object);
            }
            above = rules.domain.parents.get(name).map(String::as_str).filter(|parent| *parent != name);
        }
        if let Some(number) = types.get("object") {
            members[usize::from(number)].insert(object);
        }
    }
    members
}

/// What is known about each predicate.
struct Marks {
    /// Some effect changes it.
    fluent: Vec<bool>,
    /// Some condition or text reads it.
    tracked: Vec<bool>,
    /// Some text asks for its denial.
    deniable: Vec<bool>,
}

impl Marks {
    fn new(rules: &Rules, problem: &Problem<'_>, n_predicates: usize) -> Marks {
        let none = vec![false; n_predicates];
        let mut marks = Marks { fluent: none.clone(), tracked: none.clone(), deniable: none };
        for action in &rules.domain.actions {
            action.visit_changed(&mut |predicate| marks.fluent[usize::from(predicate)] = true);
            action.visit_read(&mut |predicate| marks.tracked[usize::from(predicate)] = true);
        }
        for way in &problem.goal {
            way.visit_predicates(&mut |predicate| marks.tracked[usize::from(predicate)] = true);
        }
        for &predicate in &rules.grammar.reads {
            marks.tracked[usize::from(predicate)] = true;
        }
        for &predicate in &rules.grammar.reads_denied {
            marks.tracked[usize::from(predicate)] = true;
            marks.deniable[usize::from(predicate)] = true;
        }
        marks
    }
}
