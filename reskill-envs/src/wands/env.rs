//! One running episode: look up, then choose.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::catalogue::{Catalogue, Product};
use super::config::{OptionSet, WandsConfig};
use super::tasks::WandsTask;
use crate::error::EnvError;
use crate::suite::{Observation, Step, TextEnv};

/// What can be looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Attribute {
    /// The name.
    Name,
    /// The class, and where the product stands in the shop.
    Class,
    /// The description.
    Description,
    /// The features.
    Features,
}

impl Attribute {
    /// All attributes.
    pub const ALL: [Attribute; 4] =
        [Attribute::Name, Attribute::Class, Attribute::Description, Attribute::Features];

    /// The word for it in commands.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Attribute::Name => "name",
            Attribute::Class => "class",
            Attribute::Description => "description",
            Attribute::Features => "features",
        }
    }
}

/// A running episode.
#[derive(Debug, Clone)]
pub struct WandsEnv {
    catalogue: Arc<Catalogue>,
    config: Arc<WandsConfig>,
    task: Arc<WandsTask>,
    /// What was looked up.
    known: BTreeSet<(usize, Attribute)>,
    /// The option that was chosen.
    choice: Option<usize>,
}

impl WandsEnv {
    pub(super) fn new(catalogue: Arc<Catalogue>, config: Arc<WandsConfig>, task: Arc<WandsTask>) -> WandsEnv {
        WandsEnv { catalogue, config, task, known: BTreeSet::new(), choice: None }
    }

    /// The names of the options: `option 1`, `option 2`, ..., and `neither` where it is one.
    fn options(&self) -> Vec<String> {
        let mut names: Vec<String> =
            (1..=self.task.products.len()).map(|number| format!("option {number}")).collect();
        if self.task.options == OptionSet::TwoOrNeither {
            names.push("neither".to_owned());
        }
        names
    }

    /// All commands of the task, in a fixed order.
    fn commands(&self) -> Vec<String> {
        let options = self.options();
        let mut commands = Vec::new();
        for option in options.iter().take(self.task.products.len()) {
            commands.extend(Attribute::ALL.map(|attribute| look_up(attribute, option)));
        }
        commands.extend(options.iter().map(|option| format!("choose {option}")));
        commands
    }

    /// What a look-up shows.
    fn show(&self, option: usize, attribute: Attribute) -> String {
        let Some(product) = self.catalogue.products.get(&self.task.products[option]) else {
            return String::new();
        };
        let value = match attribute {
            Attribute::Name => product.name.clone(),
            Attribute::Class => class(product),
            Attribute::Description => cut(&product.description, self.config.shown_chars),
            Attribute::Features => features(&product.features, self.config.shown_features),
        };
        let value = if value.is_empty() { "nothing is known".to_owned() } else { self.marked(value) };
        format!("{} of option {}: {value}", attribute.as_str(), option + 1)
    }

    /// The words of the query.
    fn query(&self) -> &str {
        self.catalogue.queries.get(&self.task.query).map_or("", |query| query.text.as_str())
    }

    /// The text with a `*` before each word of the query, if that is wanted.
    fn marked(&self, text: String) -> String {
        if !self.config.mark_query_words {
            return text;
        }
        let is_border = |c: char| !c.is_alphanumeric();
        let wanted: BTreeSet<String> = self.query().split(is_border).map(str::to_lowercase).collect();
        let mut marked = String::with_capacity(text.len() + 16);
        for piece in text.split_inclusive(is_border) {
            let word = piece.trim_end_matches(is_border);
            if !word.is_empty() && wanted.contains(&word.to_lowercase()) {
                marked.push_str("* ");
            }
            marked.push_str(piece);
        }
        marked
    }

    fn observation(&self, text: String) -> Observation {
        let admissible = if self.choice.is_none() { self.commands() } else { Vec::new() };
        Observation::new(text, admissible)
    }

    fn outcome(&self, text: String) -> Step {
        let won = self.choice == Some(self.task.gold);
        Step {
            observation: self.observation(text),
            score: if won { 1.0 } else { 0.0 },
            done: self.choice.is_some(),
            won,
        }
    }
}

impl TextEnv for WandsEnv {
    fn reset(&mut self) -> Result<Observation, EnvError> {
        (self.known, self.choice) = (BTreeSet::new(), None);
        let query = self.query();
        Ok(self.observation(format!("query: {query}\noptions: {}", self.options().join(", "))))
    }

    fn step(&mut self, action: &str) -> Result<Step, EnvError> {
        if self.choice.is_some() {
            return Ok(self.outcome("The choice is made.".to_owned()));
        }
        let action = action.trim();
        let options = self.options();
        let place = |name: &str| options.iter().position(|option| option == name);
        if let Some(choice) = action.strip_prefix("choose ").and_then(place) {
            self.choice = Some(choice);
            let is_right = choice == self.task.gold;
            return Ok(self.outcome(
                if is_right { "That is the best one." } else { "That is not the best one." }.to_owned(),
            ));
        }
        for (option, name) in options.iter().enumerate().take(self.task.products.len()) {
            if let Some(attribute) =
                Attribute::ALL.into_iter().find(|&attribute| look_up(attribute, name) == action)
            {
                self.known.insert((option, attribute));
                return Ok(self.outcome(self.show(option, attribute)));
            }
        }
        Ok(self.outcome("There is no such action.".to_owned()))
    }

    /// Looks up name and features of each option, as far as that was not done, then chooses the right one.
    fn expert(&mut self) -> Result<Vec<String>, EnvError> {
        if self.choice.is_some() {
            return Err(EnvError::NoPlan { id: self.task.id.clone(), states: 0 });
        }
        let options = self.options();
        let mut plan = Vec::new();
        for attribute in [Attribute::Name, Attribute::Features] {
            let unknown =
                (0..self.task.products.len()).filter(|&option| !self.known.contains(&(option, attribute)));
            plan.extend(unknown.map(|option| look_up(attribute, &options[option])));
        }
        plan.push(format!("choose {}", options[self.task.gold]));
        Ok(plan)
    }

    fn boxed_clone(&self) -> Result<Box<dyn TextEnv>, EnvError> {
        Ok(Box::new(self.clone()))
    }
}

fn look_up(attribute: Attribute, option: &str) -> String {
    format!("look up {} of {option}", attribute.as_str())
}

fn class(product: &Product) -> String {
    let class = product.class.replace('|', ", ");
    match (class.is_empty(), product.category.is_empty()) {
        (_, true) => class,
        (true, false) => format!("in {}", product.category),
        (false, false) => format!("{class}; in {}", product.category),
    }
}

fn cut(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        Some((end, _)) if limit > 0 => format!("{}...", text[..end].trim_end()),
        _ => text.to_owned(),
    }
}

/// `color : red|width : 40` as `color: red; width: 40`.
fn features(text: &str, limit: usize) -> String {
    let pairs = text.split('|').map(str::trim).filter(|pair| !pair.is_empty());
    let pair = |pair: &str| match pair.split_once(':') {
        Some((key, value)) => format!("{}: {}", key.trim(), value.trim()),
        None => pair.to_owned(),
    };
    let limit = if limit == 0 { usize::MAX } else { limit };
    pairs.take(limit).map(pair).collect::<Vec<_>>().join("; ")
}
