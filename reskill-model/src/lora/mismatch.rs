//! Why the factors of a file are not those of an adapter: the cause in a few words, before the names.

use std::collections::BTreeSet;

use safetensors::tensor::Dtype;

use super::files::short;
use super::{LoraConfig, Target};
use crate::config::ModelConfig;
use crate::weights::source::TensorSource;

/// Names that are listed in full.
const LISTED: usize = 4;

/// What distinguishes the factors of `file` from those of an adapter of `model`; `None` if nothing does. Takes no memory for
/// factors, so that a damaged configuration cannot ask for more than the file holds.
///
/// - `configuration`: what `lora` was read from, for people
pub(super) fn mismatch(
    model: &ModelConfig,
    lora: &LoraConfig,
    file: &dyn TensorSource,
    configuration: &str,
) -> Option<String> {
    let factors = lora.factors(model);
    let mut problems: Vec<String> = factors
        .iter()
        .filter_map(|(name, wanted)| match file.describe(name) {
            None => Some(format!("`{name}` is missing")),
            Some(found) if found.readable && found.shape == wanted => None,
            Some(found) => {
                let (dtype, shape, expected) = (found.dtype, found.shape, Dtype::F32);
                Some(format!("`{name}` is {dtype} {shape:?}, expected {expected:?} {wanted:?}"))
            }
        })
        .collect();
    let known: BTreeSet<&str> = factors.iter().map(|(name, _)| name.as_str()).collect();
    let extra = file.names().into_iter().filter(|name| !known.contains(name.as_str()));
    problems.extend(extra.map(|name| format!("`{name}` is not expected")));
    if problems.is_empty() {
        return None;
    }
    let more = problems.len().saturating_sub(LISTED);
    problems.truncate(LISTED);
    let mut reasons = causes(model, lora, &Found::in_file(file), configuration);
    reasons.extend(problems);
    let list = reasons.join("; ");
    Some(if more == 0 { list } else { format!("{list}; and {more} more like these") })
}

/// What the factors of a file say of the adapter that they were saved from.
struct Found {
    blocks: usize,
    modules: BTreeSet<String>,
    ranks: BTreeSet<usize>,
    /// Module and inputs of each first factor.
    inputs: BTreeSet<(String, usize)>,
}

impl Found {
    fn in_file(file: &dyn TensorSource) -> Found {
        let mut found =
            Found { blocks: 0, modules: BTreeSet::new(), ranks: BTreeSet::new(), inputs: BTreeSet::new() };
        for name in file.names() {
            let Some((block, module)) = place(&name) else { continue };
            found.blocks = found.blocks.max(block.saturating_add(1));
            found.modules.insert(module.to_string());
            let shape = file.describe(&name).map(|tensor| tensor.shape).unwrap_or_default();
            if let (true, &[rank, inputs]) = (name.contains("lora_A"), shape.as_slice()) {
                found.ranks.insert(rank);
                found.inputs.insert((module.to_string(), inputs));
            }
        }
        found
    }
}

/// Block and module of a factor's name, as in `base_model.model.model.layers.3.self_attn.q_proj.lora_A.weight`.
fn place(name: &str) -> Option<(usize, &str)> {
    let (block, rest) = name.split_once(".layers.")?.1.split_once('.')?;
    let (module, _) = rest.split_once(".lora_")?;
    Some((block.parse().ok()?, module.rsplit('.').next()?))
}

fn causes(model: &ModelConfig, lora: &LoraConfig, found: &Found, configuration: &str) -> Vec<String> {
    let mut causes = Vec::new();
    if found.modules.is_empty() {
        causes.push("holds no factors of LoRA".to_string());
        return causes;
    }
    let r = lora.r;
    if let (1, Some(rank)) = (found.ranks.len(), found.ranks.iter().find(|&&rank| rank != r)) {
        causes.push(format!("`r` = {r} in {configuration}, but the factors have rank {rank}"));
    }
    let wanted: BTreeSet<String> =
        lora.target_modules.iter().map(|&target| short(target).to_string()).collect();
    let list = |names: Vec<&String>| names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    let without: Vec<&String> = wanted.difference(&found.modules).collect();
    if !without.is_empty() {
        let without = list(without);
        causes.push(format!("`target_modules` in {configuration} names {without} without factors"));
    }
    let unnamed: Vec<&String> = found.modules.difference(&wanted).collect();
    if !unnamed.is_empty() {
        let unnamed = list(unnamed);
        causes.push(format!(
            "`target_modules` in {configuration} does not name {unnamed}, whose factors are there"
        ));
    }
    let blocks = model.num_hidden_layers;
    if found.blocks != blocks {
        causes.push(format!("it was made for a model of {} blocks, this one has {blocks}", found.blocks));
    }
    let other =
        lora.target_modules.iter().find_map(|&target| other_inputs(found, target, target.place(model).0));
    if let Some((target, own, theirs)) = other {
        causes.push(format!(
            "it was made for a model whose {target} has {theirs} inputs, that of this one has {own}"
        ));
    }
    causes
}

/// A module whose inputs the file has otherwise than the model: its name, the model's inputs, the file's.
fn other_inputs(found: &Found, target: Target, own: usize) -> Option<(&'static str, usize, usize)> {
    let name = short(target);
    let (_, theirs) = found.inputs.iter().find(|(module, inputs)| module == name && *inputs != own)?;
    Some((name, own, *theirs))
}
