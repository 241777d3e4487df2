//! Skills as text: the SKILL.md file of the Agent Skills open format.
//!
//! Front matter holds only keys of the open format; what is ours lives under `metadata`, as strings:
//! `reskill-trigger` (`general`, `beginning`, `action_pattern`), `reskill-pattern`, `reskill-version`,
//! `reskill-status`, `reskill-id`, `reskill-born-step`, `reskill-guidance`, `reskill-example` (`do`, `dont`: the last
//! paragraph of the body is the example). A file without them is a third-party skill: its body is the guidance and it
//! is general.
//!
//! A third-party file that nothing has changed is written back byte for byte. Once its skill is modified, keys the open
//! format does not know stay as they were written, but for line ends, which become `\n`; the six it knows are written anew,
//! metadata values as strings.

mod yaml;
mod parse;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::SkillError;
use crate::skill::{Example, Skill};
use crate::trigger::Trigger;

pub use parse::parse;

/// Longest file that is read, in bytes.
pub const MAX_FILE_BYTES: u64 = 1 << 20;

const PREFIX: &str = "reskill-";
const KNOWN: [&str; 6] = ["name", "description", "license", "compatibility", "metadata", "allowed-tools"];

/// Something in a SKILL.md that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// 1-based line.
    pub line: usize,
    /// What is wrong.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
    /// Whether the file cannot be read because of it. If not, it is outside the open format, but harmless.
    pub fatal: bool,
}

/// The text of a skill's SKILL.md.
#[must_use]
pub fn write(skill: &Skill) -> String {
    if let Some(source) = &skill.foreign.source
        && parse(source, Some(skill.name())).0.as_ref() == Some(skill)
    {
        return source.clone();
    }
    let content = &skill.content;
    let mut metadata: BTreeMap<&str, String> =
        skill.foreign.metadata.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
    metadata.insert("reskill-id", skill.id.0.clone());
    metadata.insert("reskill-version", skill.version.to_string());
    metadata.insert("reskill-status", skill.status.as_str().to_owned());
    metadata.insert("reskill-born-step", skill.born_step.to_string());
    let trigger = match &content.trigger {
        Trigger::Always => "general",
        Trigger::EpisodeStart => "beginning",
        Trigger::AfterAction(pattern) => {
            metadata.insert("reskill-pattern", pattern.as_str().to_owned());
            "action_pattern"
        }
    };
    metadata.insert("reskill-trigger", trigger.to_owned());
    if let Some(guidance) = &content.guidance {
        metadata.insert("reskill-guidance", guidance.to_string());
    }
    let example = match &content.example {
        Some(Example::Do(text)) => Some(("do", "Do", text)),
        Some(Example::Dont(text)) => Some(("dont", "Don't", text)),
        None => None,
    };
    if let Some((kind, ..)) = example {
        metadata.insert("reskill-example", kind.to_owned());
    }
    let mut out = String::from("---\n");
    let mut put = |key: &str, value: Option<&str>| {
        if let Some(value) = value {
            // Writing to a string cannot fail.
            let _ = writeln!(out, "{key}: {}", yaml::scalar(value));
        }
    };
    put("name", Some(&content.name));
    put("description", Some(&content.when_to_use));
    put("license", skill.foreign.license.as_deref());
    put("compatibility", skill.foreign.compatibility.as_deref());
    put("allowed-tools", skill.foreign.allowed_tools.as_deref());
    out.push_str("metadata:\n");
    for (key, value) in metadata {
        let _ = writeln!(out, "  {}: {}", yaml::scalar(key), yaml::scalar(&value));
    }
    out.push_str(&skill.foreign.extra);
    out.push_str("---\n\n");
    out.push_str(&content.action);
    out.push('\n');
    if let Some((_, label, text)) = example {
        let _ = write!(out, "\n{label}: {text}\n");
    }
    out
}

/// Reads the text of a SKILL.md. `path` is named in errors; its folder must carry the skill's name.
///
/// # Errors
/// [`SkillError::SkillFile`] with the line and the reason.
pub fn read(text: &str, path: &Path) -> Result<Skill, SkillError> {
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    let (skill, problems) = parse(text, folder);
    match (problems.into_iter().find(|problem| problem.fatal), skill) {
        (None, Some(skill)) => Ok(skill),
        (problem, _) => Err(SkillError::SkillFile {
            path: path.to_owned(),
            line: problem.as_ref().map_or(1, |problem| problem.line),
            reason: problem.map_or_else(String::new, |it| format!("{}; {}", it.problem, it.remedy)),
        }),
    }
}

#[cfg(test)]
mod tests;
