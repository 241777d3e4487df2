//! Skills as text: the SKILL.md file of the Agent Skills open format.
//!
//! Front matter holds only keys of the open format; what is ours lives under `metadata`, as strings:
//! `reskill-trigger` (`general`, `beginning`, `action_pattern`), `reskill-pattern`, `reskill-version`,
//! `reskill-status`, `reskill-id`, `reskill-born-step`, `reskill-guidance`, `reskill-example` (`do`, `dont`: the last
//! paragraph of the body is the example). A file without them is a third-party skill: its body is the guidance and it
//! is general.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_yaml_ng::Value;

use crate::error::SkillError;
use crate::skill::{Example, ForeignFields, Skill, SkillContent, SkillId, SkillStatus, check_name};
use crate::trigger::Trigger;

const PREFIX: &str = "reskill-";

#[derive(Serialize)]
struct FrontMatterOut<'a> {
    name: &'a str,
    description: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    license: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compatibility: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none", rename = "allowed-tools")]
    allowed_tools: Option<&'a str>,
    metadata: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct FrontMatterIn {
    name: String,
    description: String,
    #[serde(default)]
    license: Option<Value>,
    #[serde(default)]
    compatibility: Option<Value>,
    #[serde(default, rename = "allowed-tools")]
    allowed_tools: Option<Value>,
    #[serde(default)]
    metadata: Option<BTreeMap<String, Value>>,
}

/// The text of a skill's SKILL.md.
///
/// # Errors
/// [`SkillError::Yaml`] if the front matter cannot be written.
pub fn write(skill: &Skill) -> Result<String, SkillError> {
    let content = &skill.content;
    let mut metadata = skill.foreign.metadata.clone();
    let mut put = |key: &str, value: String| metadata.insert(format!("{PREFIX}{key}"), value);
    put("id", skill.id.0.clone());
    put("version", skill.version.to_string());
    put("status", skill.status.as_str().to_owned());
    put("born-step", skill.born_step.to_string());
    match &content.trigger {
        Trigger::Always => put("trigger", "general".into()),
        Trigger::EpisodeStart => put("trigger", "beginning".into()),
        Trigger::AfterAction(pattern) => {
            put("pattern", pattern.as_str().to_owned());
            put("trigger", "action_pattern".into())
        }
    };
    if let Some(guidance) = &content.guidance {
        put("guidance", guidance.to_string());
    }
    let example = match &content.example {
        Some(Example::Do(text)) => Some(("do", "Do", text)),
        Some(Example::Dont(text)) => Some(("dont", "Don't", text)),
        None => None,
    };
    if let Some((kind, ..)) = example {
        put("example", kind.to_owned());
    }
    let front = FrontMatterOut {
        name: &content.name,
        description: &content.when_to_use,
        license: skill.foreign.license.as_deref(),
        compatibility: skill.foreign.compatibility.as_deref(),
        allowed_tools: skill.foreign.allowed_tools.as_deref(),
        metadata,
    };
    let yaml = serde_yaml_ng::to_string(&front)
        .map_err(|source| SkillError::Yaml { path: Path::new(&content.name).join("SKILL.md"), source })?;
    let example = example.map(|(_, label, text)| format!("\n{label}: {text}\n")).unwrap_or_default();
    Ok(format!("---\n{yaml}---\n\n{}\n{example}", content.action))
}

/// Reads the text of a SKILL.md. `path` is named in errors; its folder must carry the skill's name.
///
/// # Errors
/// [`SkillError::SkillFile`], [`SkillError::Yaml`], [`SkillError::BadPattern`], [`SkillError::Guidance`],
/// [`SkillError::Limit`] for an illegal name.
pub fn read(text: &str, path: &Path) -> Result<Skill, SkillError> {
    let fail = |reason: String| SkillError::SkillFile { path: path.to_owned(), reason };
    let (yaml, body) = split(text).ok_or_else(|| fail("no front matter between two lines `---`".into()))?;
    let front: FrontMatterIn = serde_yaml_ng::from_str(&yaml)
        .map_err(|source| SkillError::Yaml { path: path.to_owned(), source })?;
    check_name(&front.name)?;
    let folder = path.parent().and_then(Path::file_name).and_then(|name| name.to_str());
    if folder.is_some_and(|folder| folder != front.name) {
        return Err(fail(format!("name `{}` differs from its folder's", front.name)));
    }
    let description_chars = front.description.trim().chars().count();
    if !(1..=1024).contains(&description_chars) {
        return Err(fail(format!("description has {description_chars} characters, expected 1 to 1024")));
    }
    let (ours, foreign): (BTreeMap<_, _>, BTreeMap<_, _>) = front
        .metadata
        .unwrap_or_default()
        .into_iter()
        .map(|(key, value)| (key, scalar(&value)))
        .partition(|(key, _)| key.starts_with(PREFIX));
    let get = |key: &str| ours.get(&format!("{PREFIX}{key}")).map(String::as_str);
    let number = |key: &'static str, default: u64| match get(key) {
        None => Ok(default),
        Some(text) => {
            text.parse::<u64>().map_err(|_| fail(format!("`{PREFIX}{key}` = `{text}`, expected a number")))
        }
    };
    let trigger = match (get("trigger"), get("pattern")) {
        (None | Some("general"), _) => Trigger::Always,
        (Some("beginning"), _) => Trigger::EpisodeStart,
        (Some("action_pattern"), Some(pattern)) => Trigger::after_action(pattern)?,
        (Some("action_pattern"), None) => return Err(fail(format!("`{PREFIX}pattern` is missing"))),
        (Some(other), _) => return Err(fail(format!("unknown trigger `{other}`"))),
    };
    let status = match get("status") {
        None | Some("active") => SkillStatus::Active,
        Some("inactive") => SkillStatus::Inactive,
        Some(other) => return Err(fail(format!("unknown status `{other}`"))),
    };
    let (action, example) = match get("example") {
        None => (body.trim().to_owned(), None),
        Some(kind) => {
            let label = if kind == "do" { "Do: " } else { "Don't: " };
            let (action, example) = body
                .trim()
                .rsplit_once("\n\n")
                .and_then(|(action, last)| Some((action, last.strip_prefix(label)?)))
                .ok_or_else(|| fail(format!("the last paragraph is not an example `{label}..`")))?;
            let example = example.to_owned();
            (
                action.trim().to_owned(),
                Some(if kind == "do" { Example::Do(example) } else { Example::Dont(example) }),
            )
        }
    };
    Ok(Skill {
        id: SkillId(get("id").map_or_else(|| front.name.clone(), str::to_owned)),
        version: u32::try_from(number("version", 1)?).map_err(|_| fail("version is too large".into()))?,
        status,
        born_step: number("born-step", 0)?,
        content: SkillContent {
            guidance: get("guidance").map(str::parse).transpose()?,
            name: front.name,
            when_to_use: front.description.trim().to_owned(),
            action,
            example,
            trigger,
        },
        foreign: ForeignFields {
            license: front.license.as_ref().map(scalar),
            compatibility: front.compatibility.as_ref().map(scalar),
            allowed_tools: front.allowed_tools.as_ref().map(scalar),
            metadata: foreign,
        },
    })
}

/// Front matter and body; line ends are normalised.
fn split(text: &str) -> Option<(String, String)> {
    let text = text.trim_start_matches('\u{feff}').replace("\r\n", "\n");
    let rest = text.strip_prefix("---")?;
    let (first, rest) = rest.split_once('\n')?;
    if !first.trim().is_empty() {
        return None;
    }
    let mut offset = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            return Some((rest[..offset].to_owned(), rest[offset + line.len()..].to_owned()));
        }
        offset += line.len();
    }
    None
}

/// A YAML value as the string the open format asks for; lists become words.
fn scalar(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::Bool(value) => value.to_string(),
        Value::Number(value) => value.to_string(),
        Value::String(value) => value.clone(),
        Value::Sequence(values) => values.iter().map(scalar).collect::<Vec<_>>().join(" "),
        other => serde_yaml_ng::to_string(other).unwrap_or_default().trim_end().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skill() -> Skill {
        Skill {
            id: SkillId("s0003".into()),
            content: SkillContent {
                name: "open-after-go-to".into(),
                when_to_use: "Right after: a `go to` command # yes.".into(),
                action: "next open".into(),
                example: Some(Example::Dont("go to drawer 1, go to drawer 2".into())),
                trigger: Trigger::after_action(r"^go to (drawer|cabinet) \d+$").unwrap(),
                guidance: Some("next open".parse().unwrap()),
            },
            version: 4,
            status: SkillStatus::Active,
            born_step: 17,
            foreign: ForeignFields::default(),
        }
    }

    #[test]
    fn what_is_written_reads_back_as_the_same_skill() {
        let mut variants = vec![skill(), skill(), skill()];
        variants[1].content.example = Some(Example::Do("open drawer 1".into()));
        variants[1].content.trigger = Trigger::EpisodeStart;
        variants[2].content.example = None;
        variants[2].content.guidance = None;
        variants[2].status = SkillStatus::Inactive;
        variants[2].foreign.license = Some("MIT".into());
        variants[2].foreign.metadata.insert("author".into(), "007".into());
        for skill in variants {
            let text = write(&skill).unwrap();
            assert_eq!(read(&text, Path::new("bank/open-after-go-to/SKILL.md")).unwrap(), skill, "{text}");
        }
    }

    #[test]
    fn metadata_values_are_strings() {
        let text = write(&skill()).unwrap();
        assert!(text.contains("reskill-version: '4'"), "{text}");
        assert!(text.contains("reskill-trigger: action_pattern"), "{text}");
        assert!(text.ends_with("---\n\nnext open\n\nDon't: go to drawer 1, go to drawer 2\n"), "{text}");
    }

    #[test]
    fn a_third_party_skill_is_general_and_its_body_the_guidance() {
        let text = "\u{feff}---\r\nname: pdf-tools\r\ndescription: >-\r\n  Work with\r\n  PDF files.\r\nlicense: MIT\r\nallowed-tools: [Read, Bash]\r\nmetadata:\r\n  author: org\r\n  version: 1.0\r\n---\r\n# PDF\r\n\r\nUse it.\r\n\r\n---\r\nend\r\n";
        let skill = read(text, Path::new("pdf-tools/SKILL.md")).unwrap();
        assert_eq!(skill.content.when_to_use, "Work with PDF files.");
        assert_eq!(skill.content.action, "# PDF\n\nUse it.\n\n---\nend");
        assert_eq!(skill.content.trigger, Trigger::Always);
        assert_eq!(skill.foreign.allowed_tools.as_deref(), Some("Read Bash"));
        assert_eq!(skill.foreign.metadata["version"], "1.0");
    }

    #[test]
    fn malformed_files_say_what_is_wrong() {
        let path = Path::new("a/SKILL.md");
        for (text, expected) in [
            ("name: a", "no front matter"),
            ("---\nname: b\ndescription: d\n---\nx", "differs from its folder"),
            ("---\nname: a\ndescription: ''\n---\nx", "description has 0"),
            (
                "---\nname: a\ndescription: d\nmetadata: {reskill-trigger: action_pattern}\n---\nx",
                "pattern` is missing",
            ),
            ("---\nname: a\ndescription: d\nmetadata: {reskill-version: two}\n---\nx", "expected a number"),
            ("---\nname: [\n---\n", "front matter"),
        ] {
            let error = read(text, path).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
