//! Where a configuration comes from: files and presets in layers, and `key=value` on top.
//!
//! A source is a TOML file or the name of a preset. `A+B` lays B over A: tables are merged key by key, every other value of B
//! takes the place of A's. Presets named `ablation-...` change a few keys and mean something only over another source:
//! `default+ablation-uniform`, `configs/mine.toml+ablation-off`.

use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::config::TrainConfig;
use crate::presets;

/// The layers of a source, merged.
#[derive(Debug, Clone, PartialEq)]
pub struct Layered {
    /// What messages call it.
    pub name: String,
    /// The keys that are set.
    pub table: toml::Table,
}

/// Reads the layers of `A+B+...`, the first at the bottom.
///
/// # Errors
/// One line that names the file and what to do.
pub fn read_layers(source: &Path) -> Result<Layered> {
    let text = source.to_string_lossy();
    // A file may have a plus in its name.
    let parts: Vec<&str> = if source.exists() { vec![&text] } else { text.split('+').collect() };
    let mut merged: Option<Layered> = None;
    for part in parts {
        let layer = read_layer(Path::new(part))?;
        merged = Some(match merged {
            None if presets::is_overlay(part) => bail!(
                "{part}: changes a few keys of another configuration: name that before it, as in default+{part}"
            ),
            None => layer,
            Some(mut below) => {
                merge(&mut below.table, layer.table);
                Layered { name: format!("{} + {}", below.name, layer.name), table: below.table }
            }
        });
    }
    merged.with_context(|| format!("{text}: names no configuration"))
}

/// A short name for what `source` reads: the stems of its layers.
#[must_use]
pub fn short_name(source: &Path) -> String {
    let text = source.to_string_lossy();
    let parts: Vec<&str> = if source.exists() { vec![&text] } else { text.split('+').collect() };
    let stem = |part: &&str| Path::new(part).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    parts.iter().filter_map(stem).collect::<Vec<_>>().join("+")
}

/// Lays `above` over `below`.
pub fn merge(below: &mut toml::Table, above: toml::Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(toml::Value::Table(below)), toml::Value::Table(above)) => merge(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

/// The file, or the preset of that name if there is no such file.
fn read_layer(path: &Path) -> Result<Layered> {
    let preset = path.to_str().and_then(presets::preset).filter(|_| !path.is_file());
    let (name, text) = match preset {
        Some(text) => (format!("configs/{}.toml (embedded)", path.display()), text.to_string()),
        None => {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).with_context(|| {
                format!(
                    "{name}: cannot be read; give --config an existing file, or a preset: {}",
                    presets::names()
                )
            })?;
            (name, text)
        }
    };
    let table = text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(0, |span| text[..span.start].matches('\n').count() + 1);
        anyhow::anyhow!("{name}: line {line}: {}", one_line(error.message()))
    })?;
    Ok(Layered { name, table })
}

/// Puts `key=value` into the table; the value is TOML, or a string if it is not.
pub(crate) fn set(table: &mut toml::Table, assignment: &str) -> Result<()> {
    let Some((key, text)) = assignment.split_once('=') else {
        bail!("--set {assignment}: expected key=value, as in --set rollout.group_size=4");
    };
    let (key, text) = (key.trim(), text.trim());
    let value = format!("value = {text}")
        .parse::<toml::Table>()
        .ok()
        .and_then(|mut parsed| parsed.remove("value"))
        .unwrap_or_else(|| toml::Value::String(text.to_string()));
    let mut at = table;
    let mut parts = key.split('.').peekable();
    while let Some(part) = parts.next() {
        if part.is_empty() {
            bail!("--set {assignment}: `{key}` is not a key");
        }
        if parts.peek().is_none() {
            at.insert(part.to_string(), value);
            return Ok(());
        }
        let next = at.entry(part).or_insert_with(|| toml::Value::Table(toml::Table::new()));
        let toml::Value::Table(next) = next else {
            bail!("--set {assignment}: `{part}` is a value, not a section");
        };
        at = next;
    }
    Ok(())
}

/// The configuration that a table describes, unknown keys refused with the nearest name.
pub(crate) fn parse(table: &toml::Table) -> Result<TrainConfig> {
    serde_path_to_error::deserialize(toml::Value::Table(table.clone())).map_err(|error| {
        let path = error.path().to_string();
        let message = one_line(error.inner().message());
        let hint = nearest(&message).map_or(String::new(), |name| format!("; did you mean `{name}`?"));
        anyhow::anyhow!("`{path}`: {message}{hint}")
    })
}

/// The known field nearest to the unknown one that serde complains of.
fn nearest(message: &str) -> Option<String> {
    let mut quoted = message.split('`').skip(1).step_by(2);
    let wrong = message.starts_with("unknown").then(|| quoted.next()).flatten()?;
    quoted
        .map(|name| (strsim::damerau_levenshtein(wrong, name), name))
        .filter(|(distance, _)| *distance <= 3)
        .min()
        .map(|(_, name)| name.to_string())
}

/// A message without line breaks.
pub(crate) fn one_line(message: &str) -> String {
    message.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_merge_tables_and_replace_everything_else() {
        let table = |text: &str| text.parse::<toml::Table>().unwrap();
        let mut below = table("a = 1\nlist = [1, 2]\n[t]\nx = 1\n[t.u]\ny = 2");
        merge(&mut below, table("list = [3]\n[t]\nz = 5\n[t.u]\ny = 3\n[v]\nw = 1"));
        assert_eq!(below, table("a = 1\nlist = [3]\n[t]\nx = 1\nz = 5\n[t.u]\ny = 3\n[v]\nw = 1"));
    }

    #[test]
    fn an_overlay_composes_with_any_base_and_is_refused_alone() {
        let load = |source: &str| TrainConfig::load(Some(Path::new(source)), &["env.data=x".to_string()]);
        let alone = format!("{:#}", load("ablation-off").unwrap_err());
        assert!(alone.contains("default+ablation-off"), "{alone}");
        for base in ["alfworld", "search", "sql"] {
            let (plain, ablated) = (load(base).unwrap(), load(&format!("{base}+ablation-off")).unwrap());
            assert_eq!(ablated.skills.mode, reskill_skills::SkillMode::Off);
            assert_eq!((plain.grpo, plain.rollout), (ablated.grpo, ablated.rollout));
        }
        let typo = format!("{:#}", load("alfworld+ablation-of").unwrap_err());
        assert!(typo.contains("ablation-of: cannot be read") && typo.contains("ablation-off"), "{typo}");
    }

    #[test]
    fn a_file_with_a_plus_in_its_name_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a+b.toml");
        std::fs::write(&path, "seed = 7").unwrap();
        assert_eq!(TrainConfig::load(Some(&path), &[]).unwrap().seed, 7);
        assert_eq!(short_name(&path), "a+b");
        assert_eq!(short_name(Path::new("configs/mine.toml+ablation-off")), "mine+ablation-off");
    }
}
