//! From the text of a grammar to tokens with resolved names.

use std::cell::Cell;
use std::collections::HashMap;

use super::rhs::{ExpressionText, Operand as OperandText, Piece, pieces};
use super::twl2::{ActionText, GrammarFile, RuleText};
use super::{
    ActionGrammar, Attribute, Expression, Grammar, Operand, Query, QueryAtom, Rule, SymbolId, Text, Token,
};
use crate::alfworld::formula::Vocabulary;
use crate::alfworld::names::Names;
use crate::alfworld::pddl::{Action, Domain};
use crate::alfworld::sexpr::syntax;
use crate::error::EnvError;

/// More visits than this to symbols are taken for texts without an end.
const MAX_SYMBOL_VISITS: usize = 100_000;

/// Symbols that refer to each other deeper than this are taken for a cycle.
const MAX_SYMBOL_DEPTH: usize = 32;

impl Grammar {
    /// Compiles what the actions of the domain and the intro can reach; the rest of the file may be anything.
    pub(in crate::alfworld) fn parse(
        text: &str,
        domain: &Domain,
        vocabulary: &Vocabulary,
    ) -> Result<Grammar, EnvError> {
        let file = GrammarFile::parse(text)?;
        let mut compiler = Compiler {
            file: &file,
            vocabulary,
            variables: Names::default(),
            symbols: Vec::new(),
            ids: HashMap::new(),
            prints_ids: false,
        };
        let intro = compiler.text("#intro#")?;
        let actions =
            domain.actions.iter().map(|action| compiler.action(action)).collect::<Result<Vec<_>, _>>()?;
        let mut optional =
            |name: &str| file.symbols.contains_key(name).then(|| compiler.symbol(name)).transpose();
        let list_empty = optional("list_empty")?;
        let list_separator = optional("list_separator")?;
        let list_last_separator = optional("list_last_separator")?;
        let mut grammar = Grammar {
            n_variables: compiler.variables.len(),
            symbols: Vec::new(),
            intro,
            actions,
            list_empty,
            list_separator,
            list_last_separator,
            prints_ids: compiler.prints_ids,
            reads: Vec::new(),
            reads_denied: Vec::new(),
        };
        for rules in compiler.symbols {
            grammar.symbols.push(rules.unwrap_or_default());
        }
        grammar.check(&compiler.variables)?;
        grammar.check_commands(domain, vocabulary)?;
        grammar.collect_reads();
        Ok(grammar)
    }

    /// Every variable is bound where it is printed, and no symbol contains itself.
    fn check(&self, variables: &Names) -> Result<(), EnvError> {
        let check = Check { grammar: self, variables, visits: Cell::new(0) };
        check.text(&self.intro, &mut Vec::new(), 0)?;
        for action in &self.actions {
            check.text(&action.template, &mut action.parameters.clone(), 0)?;
            check.text(&action.feedback, &mut action.parameters.clone(), 0)?;
        }
        Ok(())
    }

    /// Commands are printed once, so they may not ask for what an effect changes.
    fn check_commands(&self, domain: &Domain, vocabulary: &Vocabulary) -> Result<(), EnvError> {
        let mut changed = vec![false; vocabulary.arity.len()];
        for action in &domain.actions {
            action.visit_changed(&mut |predicate| changed[usize::from(predicate)] = true);
        }
        for action in &self.actions {
            let mut asked = Vec::new();
            self.predicates_of(&action.template, &mut vec![false; self.symbols.len()], &mut asked);
            if let Some(predicate) = asked.into_iter().find(|&predicate| changed[usize::from(predicate)]) {
                let name = vocabulary.predicates.name(predicate);
                let reason = format!(
                    "the template of action `{}` asks for `{name}`, which changes in the game; a command must not",
                    action.name
                );
                return Err(syntax("grammar", reason));
            }
        }
        Ok(())
    }

    /// Collects the predicates that a text, or a symbol in it, asks for.
    fn predicates_of(&self, text: &Text, visited: &mut [bool], asked: &mut Vec<u16>) {
        for token in text {
            let symbol = match token {
                Token::Literal(_) | Token::Task => None,
                Token::Symbol(id) => Some(*id),
                Token::Each { expression, given, .. } => {
                    asked.extend(given.iter().flatten().filter_map(|atom| atom.predicate));
                    match expression {
                        Expression::Symbol(id) => Some(*id),
                        Expression::Choice(_) => None,
                    }
                }
            };
            let Some(id) = symbol.filter(|&id| !std::mem::replace(&mut visited[id], true)) else { continue };
            for rule in &self.symbols[id] {
                asked.extend(rule.condition.iter().flatten().filter_map(|atom| atom.predicate));
                self.predicates_of(&rule.text, visited, asked);
            }
        }
    }

    fn collect_reads(&mut self) {
        let rules = self.symbols.iter().flatten();
        let texts = rules.clone().map(|rule| &rule.text);
        let texts = texts.chain([&self.intro]);
        let texts = texts.chain(self.actions.iter().flat_map(|action| [&action.template, &action.feedback]));
        let given = texts.flatten().filter_map(|token| match token {
            Token::Each { given, .. } => given.as_ref(),
            _ => None,
        });
        let queries = rules.filter_map(|rule| rule.condition.as_ref()).chain(given);
        let (denied, plain): (Vec<&QueryAtom>, Vec<&QueryAtom>) =
            queries.flatten().partition(|atom| atom.denied);
        let numbers = |atoms: Vec<&QueryAtom>| atoms.into_iter().filter_map(|atom| atom.predicate).collect();
        (self.reads_denied, self.reads) = (numbers(denied), numbers(plain));
    }
}

struct Compiler<'a> {
    file: &'a GrammarFile,
    vocabulary: &'a Vocabulary,
    variables: Names,
    /// `None` while the symbol is being compiled.
    symbols: Vec<Option<Vec<Rule>>>,
    ids: HashMap<String, SymbolId>,
    /// Some text prints an id, not a name.
    prints_ids: bool,
}

impl Compiler<'_> {
    fn action(&mut self, action: &Action) -> Result<ActionGrammar, EnvError> {
        let missing = || syntax("grammar", format!("no texts for action `{}`", action.name));
        let texts: &ActionText = self
            .file
            .actions
            .iter()
            .rev()
            .find(|texts| texts.name.to_lowercase() == action.name)
            .ok_or_else(missing)?;
        let located = |error, part: &str| about(error, &format!("{part} of action `{}`", texts.name));
        let template = self.text(&texts.template).map_err(|error| located(error, "template"))?;
        let feedback = self.text(&texts.feedback).map_err(|error| located(error, "feedback"))?;
        let parameters = action.parameters.iter().map(|name| self.variables.intern(name));
        let parameters = parameters.collect::<Result<Vec<u16>, _>>()?;
        let template_parameters = self.template_parameters(&template, &parameters);
        let pattern = self.pattern(&template);
        Ok(ActionGrammar {
            name: texts.name.clone(),
            template,
            pattern,
            feedback,
            parameters,
            template_parameters,
        })
    }

    /// The parameters that the command mentions; all of them if it asks for facts about other variables, because
    /// those must differ from every parameter.
    fn template_parameters(&self, template: &Text, parameters: &[u16]) -> Vec<usize> {
        let mut used = Vec::new();
        let mut closed = true;
        for token in template {
            match token {
                Token::Each { expression: Expression::Choice(sums), given, .. } => {
                    used.extend(sums.iter().flatten().filter_map(|operand| match operand {
                        Operand::Attribute(variable, _) => Some(*variable),
                        Operand::Text(_) => None,
                    }));
                    used.extend(
                        given
                            .iter()
                            .flatten()
                            .flat_map(|atom| &atom.arguments)
                            .map(|(variable, _)| *variable),
                    );
                }
                Token::Literal(_) | Token::Task => {}
                Token::Symbol(_) | Token::Each { .. } => closed = false,
            }
        }
        closed &= used.iter().all(|variable| parameters.contains(variable));
        (0..parameters.len()).filter(|&index| !closed || used.contains(&parameters[index])).collect()
    }

    /// `take {o} from {r}`: each expression becomes its first variable.
    fn pattern(&self, template: &Text) -> String {
        let piece = |token: &Token| match token {
            Token::Literal(text) => text.clone(),
            Token::Each { expression: Expression::Choice(sums), .. } => {
                let variable = sums.iter().flatten().find_map(|operand| match operand {
                    Operand::Attribute(variable, _) => Some(*variable),
                    Operand::Text(_) => None,
                });
                format!("{{{}}}", variable.map_or("x", |variable| self.variables.name(variable)))
            }
            Token::Task | Token::Symbol(_) | Token::Each { .. } => "{x}".into(),
        };
        template.iter().map(piece).collect()
    }

    fn symbol(&mut self, name: &str) -> Result<SymbolId, EnvError> {
        if let Some(&known) = self.ids.get(name) {
            return Ok(known);
        }
        let rules: &[RuleText] = match self.file.symbols.get(name) {
            Some(rules) if !rules.is_empty() => rules,
            _ => return Err(syntax("grammar", format!("no rules for symbol `#{name}#`"))),
        };
        let id = self.symbols.len();
        self.symbols.push(None);
        self.ids.insert(name.to_owned(), id);
        let compile = |(index, rule): (usize, &RuleText)| {
            let located = |error| about(error, &format!("symbol `{name}`, rule {}", index + 1));
            // The task line was taken out.
            let is_task = name == "task" && rule.rhs.is_empty();
            self.rule(rule, is_task).map_err(located)
        };
        let compiled = rules.iter().enumerate().map(compile);
        self.symbols[id] = Some(compiled.collect::<Result<_, EnvError>>()?);
        Ok(id)
    }

    fn rule(&mut self, rule: &RuleText, is_task: bool) -> Result<Rule, EnvError> {
        let condition = match rule.condition.trim() {
            "" => None,
            condition => Some(self.query(condition)?),
        };
        let text = if is_task { vec![Token::Task] } else { self.text(&rule.rhs)? };
        Ok(Rule { condition, text })
    }

    fn text(&mut self, rhs: &str) -> Result<Text, EnvError> {
        let compile = |piece: Piece<'_>| match piece {
            Piece::Literal(text) => Ok(Token::Literal(text.to_owned())),
            Piece::Symbol(name) => Ok(Token::Symbol(self.symbol(name)?)),
            Piece::Each { expression, given, list } => {
                let expression = self.expression(expression)?;
                let given = given.map(|given| self.query(given)).transpose()?;
                Ok(Token::Each { expression, given, list })
            }
        };
        pieces(rhs)?.into_iter().map(compile).collect()
    }

    fn expression(&mut self, expression: ExpressionText<'_>) -> Result<Expression, EnvError> {
        let sums = match expression {
            ExpressionText::Symbol(name) => return Ok(Expression::Symbol(self.symbol(name)?)),
            ExpressionText::Choice(sums) => sums,
        };
        let mut operand = |operand: OperandText<'_>| match operand {
            OperandText::Text(text) => Ok(Operand::Text(text.to_owned())),
            OperandText::Attribute(variable, attribute) => {
                let attribute = match attribute {
                    None | Some("name") => Attribute::Name,
                    Some("id") => Attribute::Id,
                    Some("indefinite") => Attribute::Indefinite,
                    Some("definite") => Attribute::Definite,
                    Some(other) => {
                        return Err(syntax("grammar", format!("unknown attribute `{variable}.{other}`")));
                    }
                };
                Ok(Operand::Attribute(self.variables.intern(variable)?, attribute))
            }
        };
        let mut choice = Vec::new();
        for sum in sums {
            let sum = sum.into_iter().map(&mut operand).collect::<Result<Vec<Operand>, _>>()?;
            // A name is never empty, so what follows `r.name or` is never printed.
            let is_printed = sum.iter().any(|operand| match operand {
                Operand::Text(text) => !text.is_empty(),
                Operand::Attribute(..) => true,
            });
            choice.push(sum);
            if is_printed {
                break;
            }
        }
        self.prints_ids |=
            choice.iter().flatten().any(|operand| matches!(operand, Operand::Attribute(_, Attribute::Id)));
        Ok(Expression::Choice(choice))
    }

    /// `p(x:type, y:type) & not_q(x:type)`
    fn query(&mut self, condition: &str) -> Result<Query, EnvError> {
        condition.split('&').map(|atom| self.query_atom(atom.trim())).collect()
    }

    fn query_atom(&mut self, atom: &str) -> Result<QueryAtom, EnvError> {
        let wrong = || syntax("grammar", format!("`{atom}` is no condition of the form p(x:type)"));
        let (name, arguments) =
            atom.strip_suffix(')').and_then(|atom| atom.split_once('(')).ok_or_else(wrong)?;
        let name = name.trim().to_lowercase();
        let predicates = &self.vocabulary.predicates;
        let (predicate, denied) = match (predicates.get(&name), name.strip_prefix("not_")) {
            (None, Some(name)) => (predicates.get(name), true),
            (predicate, _) => (predicate, false),
        };
        let mut parsed = Vec::new();
        for argument in arguments.split(',').map(str::trim).filter(|argument| !argument.is_empty()) {
            let (variable, type_) = argument.split_once(':').ok_or_else(wrong)?;
            let type_ = self.vocabulary.types.get(&type_.trim().to_lowercase());
            parsed.push((self.variables.intern(variable.trim())?, type_));
        }
        let arity = predicate.and_then(|predicate| self.vocabulary.arity.get(usize::from(predicate)));
        if arity.is_some_and(|&arity| usize::from(arity) != parsed.len()) {
            return Err(syntax(
                "grammar",
                format!("`{atom}` has {} arguments, the domain disagrees", parsed.len()),
            ));
        }
        Ok(QueryAtom { predicate, denied, arguments: parsed })
    }
}

struct Check<'a> {
    grammar: &'a Grammar,
    variables: &'a Names,
    visits: Cell<usize>,
}

impl Check<'_> {
    fn text(&self, text: &Text, bound: &mut Vec<u16>, depth: usize) -> Result<(), EnvError> {
        for token in text {
            match token {
                Token::Literal(_) | Token::Task => {}
                Token::Symbol(id) => self.symbol(*id, bound, depth + 1)?,
                Token::Each { expression, given, .. } => {
                    let n_bound = bound.len();
                    bound.extend(
                        given
                            .iter()
                            .flatten()
                            .flat_map(|atom| &atom.arguments)
                            .map(|(variable, _)| *variable),
                    );
                    match expression {
                        Expression::Symbol(id) => self.symbol(*id, bound, depth + 1)?,
                        Expression::Choice(sums) => {
                            sums.iter().flatten().try_for_each(|operand| match operand {
                                Operand::Attribute(variable, _) if !bound.contains(variable) => {
                                    let name = self.variables.name(*variable);
                                    Err(syntax(
                                        "grammar",
                                        format!("variable `{name}` is printed where it is not bound"),
                                    ))
                                }
                                _ => Ok(()),
                            })?
                        }
                    }
                    bound.truncate(n_bound);
                }
            }
        }
        Ok(())
    }

    fn symbol(&self, id: SymbolId, bound: &mut Vec<u16>, depth: usize) -> Result<(), EnvError> {
        self.visits.set(self.visits.get() + 1);
        if depth > MAX_SYMBOL_DEPTH || self.visits.get() > MAX_SYMBOL_VISITS {
            return Err(syntax(
                "grammar",
                format!("symbols nested deeper than {MAX_SYMBOL_DEPTH}, or in a circle"),
            ));
        }
        self.grammar.symbols[id].iter().try_for_each(|rule| self.text(&rule.text, bound, depth))
    }
}

/// Names what an error is about, unless it names a place already.
fn about(error: EnvError, what: &str) -> EnvError {
    match error {
        EnvError::Syntax { part, at: None, reason } if !reason.starts_with("symbol `") => {
            syntax(part, format!("{what}: {reason}"))
        }
        other => other,
    }
}
