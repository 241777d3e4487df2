//! From labels to tasks, and which split each belongs to.

use std::collections::{BTreeMap, BTreeSet};

use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::catalogue::{Catalogue, Label};
use super::config::{OptionSet, WandsConfig};
use crate::suite::Split;

/// One in so many further queries of a training class is `valid_seen`.
const SEEN_EVERY: u32 = 3;

/// A query and what is chosen from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WandsTask {
    pub(super) id: String,
    pub(super) query: u64,
    pub(super) options: OptionSet,
    /// Ids of the products, in the order of the options.
    pub(super) products: Vec<u64>,
    /// The option that is right, from 0; the number of products stands for `neither`.
    pub(super) gold: usize,
}

/// The split of each query that has labels.
///
/// Classes are drawn for `valid_unseen`, as many as `unseen_share` says (rounded, at least one if it is above 0 and there are
/// two). Of each other class the first query trains, and of those after it about every third is `valid_seen`. A query
/// without class is a class of its own.
pub(super) fn splits(catalogue: &Catalogue, config: &WandsConfig) -> BTreeMap<u64, Split> {
    let mut classes: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for id in catalogue.labels.keys() {
        let query = &catalogue.queries[id];
        let class = if query.class.is_empty() { format!("\u{0}{id}") } else { query.class.clone() };
        classes.entry(class).or_default().push(*id);
    }
    let mut rng = stream(config.seed, u64::MAX);
    let mut names: Vec<&String> = classes.keys().collect();
    names.shuffle(&mut rng);
    let wanted = (names.len() as f64 * config.unseen_share).round() as usize;
    let least = usize::from(config.unseen_share > 0.0 && names.len() > 1);
    let unseen: BTreeSet<&String> = names.iter().take(wanted.max(least)).copied().collect();
    let mut splits = BTreeMap::new();
    for (name, ids) in &classes {
        for (index, &id) in ids.iter().enumerate() {
            let is_seen = index > 0 && rng.random_ratio(1, SEEN_EVERY);
            let split = match (unseen.contains(name), is_seen) {
                (true, _) => Split::ValidUnseen,
                (false, true) => Split::ValidSeen,
                (false, false) => Split::Train,
            };
            splits.insert(id, split);
        }
    }
    splits
}

/// The tasks of a query: for each kind `tasks_per_query` different ones, fewer if its labels do not give as many.
pub(super) fn of_query(catalogue: &Catalogue, query: u64, config: &WandsConfig) -> Vec<WandsTask> {
    let mut rng = stream(config.seed, query);
    let mut levels: BTreeMap<Label, Vec<u64>> = BTreeMap::new();
    let mut labelled: BTreeSet<u64> = BTreeSet::new();
    for &(product, label) in catalogue.labels.get(&query).into_iter().flatten() {
        // The first label of a product counts.
        if labelled.insert(product) {
            levels.entry(label).or_default().push(product);
        }
    }
    let levels: Vec<Vec<u64>> = levels.into_values().collect();
    let mut tasks = Vec::new();
    for &options in &config.options {
        let mut known: BTreeSet<Vec<u64>> = BTreeSet::new();
        // A draw may repeat one before it, or find too few products.
        for _ in 0..config.tasks_per_query * 4 {
            if known.len() == config.tasks_per_query {
                break;
            }
            let Some((products, gold)) = draw(&levels, options, &mut rng) else { continue };
            let mut set = products.clone();
            set.sort_unstable();
            if known.insert(set) {
                let id = format!("{}/{query}/{}", options.family(), known.len() - 1);
                tasks.push(WandsTask { id, query, options, products, gold });
            }
        }
    }
    tasks
}

/// Products and the right option. `levels` holds the products by label, from worst to best.
fn draw(levels: &[Vec<u64>], options: OptionSet, rng: &mut ChaCha8Rng) -> Option<(Vec<u64>, usize)> {
    if options == OptionSet::TwoOrNeither && rng.random_ratio(1, 3) {
        let level = levels.choose(rng)?;
        let pair: Vec<u64> = level.sample(rng, 2).copied().collect();
        return (pair.len() == 2).then_some((pair, 2));
    }
    if levels.len() < 2 {
        return None;
    }
    let top = rng.random_range(1..levels.len());
    let best = *levels[top].choose(rng)?;
    let below: Vec<u64> = if options == OptionSet::Three {
        levels[..top].iter().flatten().copied().collect()
    } else {
        // Either label is as likely, however many products have it.
        levels[rng.random_range(0..top)].clone()
    };
    let mut products: Vec<u64> = below.sample(rng, options.n_products() - 1).copied().collect();
    if products.len() + 1 < options.n_products() {
        return None;
    }
    let gold = rng.random_range(0..=products.len());
    products.insert(gold, best);
    Some((products, gold))
}

/// A stream of draws of its own for every query, so that one query's labels change no other query's tasks.
fn stream(seed: u64, query: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(query);
    rng
}
