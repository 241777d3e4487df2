//! Runs that differ in the seed alone, put together and named after what their configurations differ in.

use std::collections::{BTreeMap, BTreeSet};

use crate::config::TrainConfig;
use crate::report::compare::NamedArm;
use crate::report::data::RunData;

/// Settings that make no other arm: the seed, and what does not change a result.
const IGNORED: [&str; 4] = ["seed", "threads", "log", "checkpoint"];
/// So many arms have a colour of their own.
const COLOURS: usize = 8;
/// So many settings are named in the name of an arm.
const NAMED: usize = 3;

/// The runs of one arm.
#[derive(Debug)]
pub(super) struct ArmRuns {
    /// What sets it apart.
    pub(super) name: String,
    /// The class of its colour.
    pub(super) class: String,
    /// What it is, if a study says so.
    pub(super) note: String,
    /// Whether no version can be better in it.
    pub(super) is_control: bool,
    /// Settings by key, as TOML.
    pub(super) settings: BTreeMap<String, String>,
    /// Its runs.
    pub(super) runs: Vec<RunData>,
}

impl ArmRuns {
    /// A number of every run that has it.
    pub(super) fn values(&self, value: impl Fn(&RunData) -> Option<f64>) -> Vec<f64> {
        self.runs.iter().filter_map(value).filter(|value| value.is_finite()).collect()
    }
}

/// The class of an arm's colour. The baseline, which the others are shown beside, shares its colour with nobody.
fn class(index: usize) -> String {
    format!("a{}", if index == 0 { 0 } else { 1 + (index - 1) % (COLOURS - 1) })
}

/// Gives runs whose folders have the same name a number each.
pub(super) fn tell_apart(runs: &mut [RunData]) {
    for index in 1..runs.len() {
        let taken: BTreeSet<String> = runs[..index].iter().map(|run| run.name.clone()).collect();
        if taken.contains(&runs[index].name) {
            let numbered = (2..).map(|n| format!("{} ({n})", runs[index].name));
            let free = numbered.into_iter().find(|name| !taken.contains(name));
            runs[index].name = free.unwrap_or_default();
        }
    }
}

/// The arms in the order of their first runs.
pub(super) fn group(runs: Vec<RunData>) -> Vec<ArmRuns> {
    let mut arms: Vec<ArmRuns> = Vec::new();
    for run in runs {
        let settings = settings(run.config_text.as_deref().unwrap_or_default());
        match arms.iter_mut().find(|arm| arm.settings == settings) {
            Some(arm) => arm.runs.push(run),
            None => {
                let class = class(arms.len());
                arms.push(ArmRuns {
                    name: String::new(),
                    class,
                    note: String::new(),
                    is_control: false,
                    settings,
                    runs: vec![run],
                });
            }
        }
    }
    let differing = differing(&arms);
    for arm in &mut arms {
        arm.name = name(arm, &differing);
    }
    arms
}

/// Arms that have names already.
pub(super) fn named(arms: Vec<(&NamedArm, Vec<RunData>)>) -> Vec<ArmRuns> {
    let arm = |(index, (arm, runs)): (usize, (&NamedArm, Vec<RunData>))| ArmRuns {
        name: arm.name.clone(),
        class: class(index),
        note: arm.note.clone(),
        is_control: arm.is_control,
        settings: settings(&arm.settings),
        runs,
    };
    arms.into_iter().enumerate().map(arm).collect()
}

/// The keys whose values are not the same in all arms.
pub(super) fn differing(arms: &[ArmRuns]) -> Vec<String> {
    let keys: BTreeSet<&String> = arms.iter().flat_map(|arm| arm.settings.keys()).collect();
    let differs = |key: &&&String| {
        let values: BTreeSet<Option<&String>> = arms.iter().map(|arm| arm.settings.get(**key)).collect();
        values.len() > 1
    };
    keys.iter().filter(differs).map(|key| (*key).clone()).collect()
}

fn name(arm: &ArmRuns, differing: &[String]) -> String {
    if differing.is_empty() {
        return arm.runs.first().map_or(String::new(), |run| run.name.clone());
    }
    let said = differing.iter().take(NAMED).map(|key| {
        let value = arm.settings.get(key).map_or("absent", String::as_str);
        format!("{key} = {value}")
    });
    let more = if differing.len() > NAMED { ", \u{2026}" } else { "" };
    said.collect::<Vec<_>>().join(", ") + more
}

/// A configuration as dotted keys with values in TOML, without what makes no other arm.
fn settings(toml: &str) -> BTreeMap<String, String> {
    let mut flat = BTreeMap::new();
    // Runs of another version may lack settings or have other ones: what is known is filled up with defaults, else the
    // text counts as it is. `RunData` has read it as TOML before.
    let filled = toml::from_str::<TrainConfig>(toml).ok().and_then(|config| config.to_toml().ok());
    let table = filled.as_deref().unwrap_or(toml).parse::<toml::Table>().unwrap_or_default();
    for (key, value) in table {
        if !IGNORED.contains(&key.as_str()) {
            flatten(&key, &value, &mut flat);
        }
    }
    flat
}

fn flatten(key: &str, value: &toml::Value, flat: &mut BTreeMap<String, String>) {
    match value {
        toml::Value::Table(table) => {
            table.iter().for_each(|(inner, value)| flatten(&format!("{key}.{inner}"), value, flat));
        }
        value => {
            flat.insert(key.to_string(), value.to_string());
        }
    }
}
