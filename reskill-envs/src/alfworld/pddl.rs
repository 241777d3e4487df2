//! Domains and problems: the rules of a game and its initial state, as the PDDL files state them.

use std::collections::HashMap;

use super::facts::MAX_ARITY;
use super::formula::{Atom, Condition, FormulaReader, Vocabulary, typed_list};
use super::sexpr::{Sexpr, syntax, syntax_at};
use crate::error::{EnvError, Position};

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
pub(super) struct Problem<'a> {
    pub(super) objects: Vec<(&'a str, &'a str)>,
    /// The facts that hold at the start.
    pub(super) facts: Vec<Fact>,
    /// The arguments of all facts, one fact after the other.
    pub(super) arguments: Vec<&'a str>,
    pub(super) goal: Condition,
    pub(super) n_goal_slots: u16,
}

/// A fact of a problem.
#[derive(Debug)]
pub(super) struct Fact {
    pub(super) predicate: u16,
    pub(super) n_arguments: u8,
    pub(super) at: Position,
}

impl Domain {
    /// Reads `(define (domain ...) ...)`, in lower case.
    pub(super) fn parse(text: &str, vocabulary: &mut Vocabulary) -> Result<Domain, EnvError> {
        let mut domain = Domain { actions: Vec::new(), constants: Vec::new(), parents: HashMap::new() };
        // The type above all others need not be declared.
        vocabulary.types.intern("object")?;
        for section in definition(text, "domain")? {
            let located = |error| section.locate(error);
            match section.headed() {
                Some((":types", list)) => {
                    for (type_, parent) in typed_list(list, "domain")? {
                        // Texts may name a type that no action mentions.
                        vocabulary.types.intern(type_)?;
                        domain.parents.insert(type_.to_owned(), parent.to_owned());
                    }
                }
                Some((":predicates", list)) => {
                    // Texts may ask for a predicate that no action mentions. One with too many arguments is of no use.
                    for declared in list {
                        let Some((name, arguments)) = declared.headed() else { continue };
                        let n_arguments = typed_list(arguments, "domain")?.len();
                        if n_arguments <= MAX_ARITY {
                            let number = vocabulary.predicate(name, n_arguments, "domain");
                            number.map_err(|error| declared.locate(error))?;
                        }
                    }
                }
                Some((":constants", list)) => {
                    let owned = |(name, type_): (&str, &str)| (name.to_owned(), type_.to_owned());
                    domain.constants = typed_list(list, "domain")?.into_iter().map(owned).collect();
                }
                Some((":action", body)) => {
                    domain.actions.push(Action::parse(body, vocabulary).map_err(located)?);
                }
                Some((":derived", _)) => {
                    return Err(located(syntax("domain", "`:derived` is not supported")));
                }
                Some(_) => {}
                None => {
                    return Err(located(syntax("domain", format!("`{}` is no section", section.excerpt()))));
                }
            }
        }
        Ok(domain)
    }
}

impl Action {
    fn parse(body: &[Sexpr<'_>], vocabulary: &mut Vocabulary) -> Result<Action, EnvError> {
        let (name, fields) =
            body.split_first().ok_or_else(|| syntax("domain", "an action without a name"))?;
        let name = name.word().ok_or_else(|| syntax("domain", "an action without a name"))?.to_owned();
        let field =
            |key: &str| fields.chunks_exact(2).find(|pair| pair[0].word() == Some(key)).map(|pair| &pair[1]);
        let nothing = Sexpr::nothing();
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
    formula: &Sexpr<'_>,
    effect: &mut Effect,
    conditional: Option<&mut Vec<(Condition, Effect)>>,
) -> Result<(), EnvError> {
    read_effect_here(reader, formula, effect, conditional).map_err(|error| formula.locate(error))
}

fn read_effect_here(
    reader: &mut FormulaReader<'_>,
    formula: &Sexpr<'_>,
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

impl<'a> Problem<'a> {
    /// Reads `(define (problem ...) ...)`, in lower case.
    pub(super) fn parse(text: &'a str, vocabulary: &mut Vocabulary) -> Result<Problem<'a>, EnvError> {
        let (mut objects, mut facts, mut goal) = (None, None, None);
        let mut arguments = Vec::new();
        for section in definition(text, "problem")? {
            match section.headed() {
                Some((":objects", list)) => objects = Some(typed_list(list, "problem")?),
                Some((":init", list)) => {
                    arguments.clear();
                    facts = Some(read_facts(list, vocabulary, &mut arguments)?);
                }
                Some((":goal", [formula])) => {
                    let mut reader = FormulaReader::new(vocabulary, "goal");
                    let condition = reader.condition(formula)?;
                    goal = Some((condition, reader.n_slots()));
                }
                Some((":goal", _)) => {
                    return Err(section.locate(syntax("goal", "expected one condition")));
                }
                Some(_) => {}
                None => {
                    let reason = format!("`{}` is no section", section.excerpt());
                    return Err(section.locate(syntax("problem", reason)));
                }
            }
        }
        let (goal, n_goal_slots) = goal.ok_or_else(|| syntax("problem", "no `:goal`"))?;
        Ok(Problem {
            objects: objects.ok_or_else(|| syntax("problem", "no `:objects`"))?,
            facts: facts.ok_or_else(|| syntax("problem", "no `:init`"))?,
            arguments,
            goal,
            n_goal_slots,
        })
    }
}

fn read_facts<'a>(
    list: &[Sexpr<'a>],
    vocabulary: &mut Vocabulary,
    arguments: &mut Vec<&'a str>,
) -> Result<Vec<Fact>, EnvError> {
    let mut facts = Vec::with_capacity(list.len());
    for fact in list {
        let Some((predicate, terms)) = fact.headed() else {
            return Err(fact.locate(syntax("problem", format!("`{}` is no fact", fact.excerpt()))));
        };
        // `(= (total-cost) 0)` and distances: costs do not matter to a player.
        if predicate == "=" {
            continue;
        }
        let number = vocabulary.predicate(predicate, terms.len(), "problem");
        for term in terms {
            let inner_list = || syntax_at("problem", term.at, format!("a list inside of fact `{predicate}`"));
            arguments.push(term.word().ok_or_else(inner_list)?);
        }
        // A predicate has few arguments, else it has no number.
        let predicate = number.map_err(|error| fact.locate(error))?;
        facts.push(Fact { predicate, n_arguments: terms.len() as u8, at: fact.at });
    }
    Ok(facts)
}

/// The sections of `(define (kind name) section ...)`.
fn definition<'a>(text: &'a str, part: &'static str) -> Result<Vec<Sexpr<'a>>, EnvError> {
    let mut whole = Sexpr::parse_all(text, part)?;
    let items = if whole.len() == 1 { whole.pop().and_then(Sexpr::into_list) } else { None };
    match items {
        Some(mut items)
            if items.len() >= 2
                && items[0].word() == Some("define")
                && items[1].headed().is_some_and(|(kind, _)| kind == part) =>
        {
            Ok(items.split_off(2))
        }
        _ => Err(syntax(part, format!("expected one `(define ({part} name) ...)`"))),
    }
}
