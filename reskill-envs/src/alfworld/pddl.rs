//! Domains and problems: the rules of a game and its initial state, as the PDDL files state them.

use std::collections::HashMap;

use super::formula::{Atom, Condition, FormulaReader, Vocabulary, typed_list};
use super::sexpr::{Sexpr, syntax};
use crate::error::EnvError;

/// The rules of a game.
#[derive(Debug)]
pub(super) struct Domain {
    pub(super) actions: Vec<Action>,
    /// Objects that every problem has, with their types.
    pub(super) constants: Vec<(String, String)>,
    /// The type above each declared type.
    pub(super) parents: HashMap<String, String>,
}

/// One kind of action.
#[derive(Debug)]
pub(super) struct Action {
    /// Lower-case name.
    pub(super) name: String,
    /// Names of the parameters without `?`; parameter `i` is slot `i`.
    pub(super) parameters: Vec<String>,
    /// Types of the parameters.
    pub(super) types: Vec<u16>,
    pub(super) n_slots: u16,
    pub(super) precondition: Condition,
    pub(super) effect: Effect,
    pub(super) conditional: Vec<(Condition, Effect)>,
}

/// What an action changes. An atom both added and deleted is added.
#[derive(Debug, Default)]
pub(super) struct Effect {
    pub(super) add: Vec<Atom>,
    pub(super) delete: Vec<Atom>,
}

/// One game's objects, first facts and goal.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) objects: Vec<(String, String)>,
    /// Predicates and arguments of the facts that hold at the start.
    pub(super) facts: Vec<(u16, Vec<String>)>,
    pub(super) goal: Condition,
    pub(super) n_goal_slots: u16,
}

impl Domain {
    /// Reads `(define (domain ...) ...)`.
    pub(super) fn parse(text: &str, vocabulary: &mut Vocabulary) -> Result<Domain, EnvError> {
        let mut domain = Domain { actions: Vec::new(), constants: Vec::new(), parents: HashMap::new() };
        // The type above all others need not be declared.
        vocabulary.types.intern("object")?;
        for section in definition(text, "domain")? {
            match section.headed() {
                Some((":types", list)) => {
                    for (type_, parent) in typed_list(list, "domain")? {
                        // Texts may name a type that no action mentions.
                        vocabulary.types.intern(&type_)?;
                        domain.parents.insert(type_, parent);
                    }
                }
                Some((":constants", list)) => domain.constants = typed_list(list, "domain")?,
                Some((":action", body)) => domain.actions.push(Action::parse(body, vocabulary)?),
                Some((":derived", _)) => return Err(syntax("domain", "`:derived` is not supported")),
                Some(_) => {}
                None => return Err(syntax("domain", format!("`{}` is no section", section.excerpt()))),
            }
        }
        Ok(domain)
    }
}

impl Action {
    fn parse(body: &[Sexpr], vocabulary: &mut Vocabulary) -> Result<Action, EnvError> {
        let (name, fields) =
            body.split_first().ok_or_else(|| syntax("domain", "an action without a name"))?;
        let name = name.word().ok_or_else(|| syntax("domain", "an action without a name"))?.to_owned();
        let field =
            |key: &str| fields.chunks_exact(2).find(|pair| pair[0].word() == Some(key)).map(|pair| &pair[1]);
        let nothing = Sexpr::List(Vec::new());
        let mut reader = FormulaReader::new(vocabulary, "domain");
        let parameters = field(":parameters").unwrap_or(&nothing).list();
        let parameters = parameters
            .ok_or_else(|| syntax("domain", format!("action `{name}`: `:parameters` is no list")))?;
        let declared = reader.declare(parameters)?;
        let precondition = reader.condition(field(":precondition").unwrap_or(&nothing))?;
        let mut effect = Effect::default();
        let mut conditional = Vec::new();
        read_effect(&mut reader, field(":effect").unwrap_or(&nothing), &mut effect, Some(&mut conditional))?;
        Ok(Action {
            name,
            n_slots: reader.n_slots(),
            types: declared.iter().map(|(_, type_, _)| *type_).collect(),
            parameters: declared
                .into_iter()
                .map(|(_, _, name)| name.trim_start_matches('?').into())
                .collect(),
            precondition,
            effect,
            conditional,
        })
    }

    /// Calls `visit` with every predicate that the action's conditions read.
    pub(super) fn visit_read(&self, visit: &mut dyn FnMut(u16)) {
        self.precondition.iter().for_each(|alternative| alternative.visit_predicates(visit));
        self.conditional.iter().flat_map(|(when, _)| when).for_each(|when| when.visit_predicates(visit));
    }

    /// Calls `visit` with every predicate that the action may change.
    pub(super) fn visit_changed(&self, visit: &mut dyn FnMut(u16)) {
        for effect in std::iter::once(&self.effect).chain(self.conditional.iter().map(|(_, effect)| effect)) {
            effect.add.iter().chain(&effect.delete).for_each(|atom| visit(atom.predicate));
        }
    }
}

/// Adds what `formula` changes to `effect`, and its `when` parts to `conditional`, which is absent inside of one.
fn read_effect(
    reader: &mut FormulaReader<'_>,
    formula: &Sexpr,
    effect: &mut Effect,
    mut conditional: Option<&mut Vec<(Condition, Effect)>>,
) -> Result<(), EnvError> {
    if formula.list().is_some_and(<[Sexpr]>::is_empty) {
        return Ok(());
    }
    let Some((head, rest)) = formula.headed() else {
        return Err(syntax("domain", format!("`{}` is no effect", formula.excerpt())));
    };
    match (head, rest) {
        ("and", parts) => {
            for part in parts {
                read_effect(reader, part, effect, conditional.as_deref_mut())?;
            }
        }
        // Costs do not matter to a player.
        ("increase", _) => {}
        ("not", [inner]) => match inner.headed() {
            Some((predicate, terms)) => effect.delete.push(reader.atom(predicate, terms)?),
            None => return Err(syntax("domain", format!("`{}` is no effect", inner.excerpt()))),
        },
        ("when", [condition, inner]) => {
            let Some(conditional) = conditional else {
                return Err(syntax("domain", "a `when` inside of a `when`"));
            };
            let condition = reader.condition(condition)?;
            let mut inner_effect = Effect::default();
            read_effect(reader, inner, &mut inner_effect, None)?;
            conditional.push((condition, inner_effect));
        }
        ("not" | "when" | "forall" | "assign" | "decrease", _) => {
            return Err(syntax("domain", format!("effect `{head}` with {} arguments", rest.len())));
        }
        (predicate, terms) => effect.add.push(reader.atom(predicate, terms)?),
    }
    Ok(())
}

impl Problem {
    /// Reads `(define (problem ...) ...)`.
    pub(super) fn parse(text: &str, vocabulary: &mut Vocabulary) -> Result<Problem, EnvError> {
        let (mut objects, mut facts, mut goal) = (None, None, None);
        for section in definition(text, "problem")? {
            match section.headed() {
                Some((":objects", list)) => objects = Some(typed_list(list, "problem")?),
                Some((":init", list)) => facts = Some(read_facts(list, vocabulary)?),
                Some((":goal", [formula])) => {
                    let mut reader = FormulaReader::new(vocabulary, "goal");
                    let condition = reader.condition(formula)?;
                    goal = Some((condition, reader.n_slots()));
                }
                Some((":goal", _)) => return Err(syntax("goal", "expected one condition")),
                Some(_) => {}
                None => return Err(syntax("problem", format!("`{}` is no section", section.excerpt()))),
            }
        }
        let (goal, n_goal_slots) = goal.ok_or_else(|| syntax("problem", "no `:goal`"))?;
        Ok(Problem {
            objects: objects.ok_or_else(|| syntax("problem", "no `:objects`"))?,
            facts: facts.ok_or_else(|| syntax("problem", "no `:init`"))?,
            goal,
            n_goal_slots,
        })
    }
}

fn read_facts(list: &[Sexpr], vocabulary: &mut Vocabulary) -> Result<Vec<(u16, Vec<String>)>, EnvError> {
    let mut facts = Vec::with_capacity(list.len());
    for fact in list {
        let Some((predicate, terms)) = fact.headed() else {
            return Err(syntax("problem", format!("`{}` is no fact", fact.excerpt())));
        };
        // `(= (total-cost) 0)` and distances: costs do not matter to a player.
        if predicate == "=" {
            continue;
        }
        let words = terms.iter().map(|term| term.word().map(str::to_owned)).collect::<Option<Vec<_>>>();
        let words = words.ok_or_else(|| syntax("problem", format!("a list inside of fact `{predicate}`")))?;
        facts.push((vocabulary.predicate(predicate, words.len(), "problem")?, words));
    }
    Ok(facts)
}

/// The sections of `(define (kind name) section ...)`.
fn definition(text: &str, part: &'static str) -> Result<Vec<Sexpr>, EnvError> {
    let mut whole = Sexpr::parse_all(text, part)?.into_iter();
    match (whole.next(), whole.next()) {
        (Some(Sexpr::List(mut items)), None)
            if items.len() >= 2
                && items[0].word() == Some("define")
                && items[1].headed().is_some_and(|(kind, _)| kind == part) =>
        {
            Ok(items.split_off(2))
        }
        _ => Err(syntax(part, format!("expected one `(define ({part} name) ...)`"))),
    }
}
