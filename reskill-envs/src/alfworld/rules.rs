//! The part of a game that many games share: domain and grammar, compiled once per distinct text.

use std::sync::{Arc, Mutex, PoisonError};

use super::formula::Vocabulary;
use super::grammar::{Grammar, split_task};
use super::pddl::Domain;
use super::sexpr::{MAX_TEXT_BYTES, lower_case, syntax};
use crate::action::{ActionTemplate, ActionVocabulary};
use crate::error::EnvError;

/// How many distinct rule sets a cache keeps. Real data has one.
const CAPACITY: usize = 8;

/// Compiled domain and grammar.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) domain: Domain,
    pub(super) grammar: Grammar,
    pub(super) vocabulary: Vocabulary,
    /// The commands as templates.
    pub(super) actions: ActionVocabulary,
}

impl Rules {
    fn compile(domain: &str, grammar: &str) -> Result<Rules, EnvError> {
        if grammar.len() > MAX_TEXT_BYTES {
            let reason = format!("{} bytes of text, at most {MAX_TEXT_BYTES}", grammar.len());
            return Err(syntax("grammar", reason));
        }
        let mut vocabulary = Vocabulary::default();
        let domain = Domain::parse(&lower_case(domain, "domain")?, &mut vocabulary)?;
        let grammar = Grammar::parse(grammar, &domain, &vocabulary)?;
        let template = |action: &super::grammar::ActionGrammar| ActionTemplate {
            name: action.name.clone(),
            template: action.pattern.clone(),
        };
        let actions = ActionVocabulary { templates: grammar.actions.iter().map(template).collect() };
        Ok(Rules { domain, grammar, vocabulary, actions })
    }
}

/// Compiled rules by their texts. Games compiled with one cache share them.
#[derive(Debug, Default)]
pub struct RulesCache {
    entries: Mutex<Vec<Entry>>,
}

#[derive(Debug)]
struct Entry {
    domain: String,
    grammar: String,
    rules: Arc<Rules>,
}

impl RulesCache {
    /// How many distinct rule sets are kept.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The command templates of a domain and a grammar.
    pub(crate) fn action_vocabulary(
        &self,
        domain: &str,
        grammar: &str,
    ) -> Result<ActionVocabulary, EnvError> {
        let (skeleton, _) = split_task(grammar);
        Ok(self.get(domain, &skeleton)?.actions.clone())
    }

    /// The rules of a domain and of a grammar without its task line.
    pub(super) fn get(&self, domain: &str, grammar: &str) -> Result<Arc<Rules>, EnvError> {
        // Comparing 30 KB is quicker than hashing them.
        let find = |entries: &[Entry]| {
            let entry = entries.iter().find(|entry| entry.domain == domain && entry.grammar == grammar);
            entry.map(|entry| Arc::clone(&entry.rules))
        };
        // A panic elsewhere cannot leave the list half written: entries are pushed and removed whole.
        let lock = || self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = find(&lock()) {
            return Ok(known);
        }
        let rules = Arc::new(Rules::compile(domain, grammar)?);
        let mut entries = lock();
        if entries.len() >= CAPACITY {
            entries.remove(0);
        }
        entries.push(Entry {
            domain: domain.to_owned(),
            grammar: grammar.to_owned(),
            rules: Arc::clone(&rules),
        });
        Ok(rules)
    }
}
