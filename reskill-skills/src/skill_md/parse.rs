//! Reading a SKILL.md: every problem with its line, and the skill if it can be read all the same.

use std::collections::BTreeMap;

use serde_yaml_ng::{Mapping, Value};

use crate::skill::{Example, ForeignFields, Skill, SkillContent, SkillId, SkillStatus, check_name};
use crate::skill_md::yaml::{self, Entry, Parts};
use crate::skill_md::{KNOWN, PREFIX, Problem};
use crate::trigger::Trigger;

/// What has been found so far.
struct Findings<'a> {
    yaml: &'a str,
    entries: Vec<Entry>,
    problems: Vec<Problem>,
}

impl Findings<'_> {
    fn line(&self, key: &str) -> usize {
        self.entries.iter().find(|entry| entry.key == key).map_or(1, |entry| entry.line)
    }

    fn metadata_line(&self, key: &str) -> usize {
        let entry = self.entries.iter().find(|entry| entry.key == "metadata");
        entry.map_or(1, |entry| yaml::line_inside(self.yaml, entry, key))
    }

    fn add(&mut self, line: usize, problem: String, remedy: &str) {
        self.problems.push(Problem { line, problem, remedy: remedy.to_owned(), fatal: true });
    }

    fn note(&mut self, line: usize, problem: String, remedy: &str) {
        self.problems.push(Problem { line, problem, remedy: remedy.to_owned(), fatal: false });
    }
}

/// Reads a file's text: the skill, unless a problem is fatal, and all problems in the order of their lines. `folder` is
/// the name of the folder the file lies in, which must be the skill's.
#[must_use]
pub fn parse(text: &str, folder: Option<&str>) -> (Option<Skill>, Vec<Problem>) {
    let fatal = |line: usize, problem: String, remedy: &str| {
        (None, vec![Problem { line, problem, remedy: remedy.to_owned(), fatal: true }])
    };
    let Some(Parts { yaml, body }) = yaml::split(text) else {
        return fatal(
            1,
            "no front matter".into(),
            "begin the file with `---`, keys, and a second line `---`",
        );
    };
    if yaml.len() > yaml::MAX_FRONT_MATTER {
        let problem =
            format!("front matter of {} bytes, expected at most {}", yaml.len(), yaml::MAX_FRONT_MATTER);
        return fatal(1, problem, "move text into the body");
    }
    let mut front = match serde_yaml_ng::from_str::<Value>(&yaml) {
        Ok(value) => value,
        Err(error) => {
            let message = error.to_string();
            // The parser gives the start of the mapping for a key that stands there twice.
            let twice = yaml::repeated(&yaml).filter(|_| message.contains("duplicate"));
            let line = twice.or_else(|| error.location().map(|at| at.line() + 1)).unwrap_or(1);
            return fatal(line, format!("front matter: {message}"), "write valid YAML");
        }
    };
    if let Err(error) = front.apply_merge() {
        return fatal(1, format!("front matter: {error}"), "write valid YAML");
    }
    let Value::Mapping(front) = front else {
        return fatal(
            2,
            "front matter is not a list of `key: value`".into(),
            "give at least name and description",
        );
    };
    let mut findings = Findings { yaml: &yaml, entries: yaml::entries(&yaml), problems: Vec::new() };
    let skill = assemble(text, &front, &body, folder, &mut findings);
    let mut problems = findings.problems;
    problems.sort_by_key(|problem| problem.line);
    let is_readable = problems.iter().all(|problem| !problem.fatal);
    (skill.filter(|_| is_readable), problems)
}

fn assemble(
    text: &str,
    front: &Mapping,
    body: &str,
    folder: Option<&str>,
    findings: &mut Findings<'_>,
) -> Option<Skill> {
    let required = |key: &str, findings: &mut Findings<'_>| {
        let value = front.get(key).map(scalar).map(|text| text.trim().to_owned()).filter(|it| !it.is_empty());
        if value.is_none() {
            let what = if front.contains_key(key) { "is empty" } else { "is missing" };
            findings.add(findings.line(key), format!("`{key}` {what}"), &format!("give the skill a {key}"));
        }
        value
    };
    let name = required("name", findings);
    let description = required("description", findings);
    if let Some(name) = &name {
        if let Err(error) = check_name(name) {
            findings.add(findings.line("name"), error.to_string(), "rename the skill and its folder");
        } else if folder.is_some_and(|folder| folder != name) {
            let problem = format!("name `{name}` differs from its folder's");
            findings.add(findings.line("name"), problem, "rename one of them");
        }
    }
    for (key, value, max) in [
        ("description", description.clone(), 1024),
        ("compatibility", front.get("compatibility").map(scalar), 500),
    ] {
        let n = value.map_or(0, |value| value.trim().chars().count());
        if n > max {
            findings.add(
                findings.line(key),
                format!("`{key}` has {n} characters, expected 1 to {max}"),
                "shorten it",
            );
        }
    }
    let (extra, unknown) = unknown_fields(front, findings);
    for key in unknown {
        let line = findings.line(&key);
        findings.note(line, format!("`{key}` is no key of the open format"), "move it under metadata");
    }
    let (ours, foreign) = metadata(front, findings);
    let get = |key: &str| ours.get(&format!("{PREFIX}{key}")).map(String::as_str);
    let trigger = match (get("trigger"), get("pattern")) {
        (None | Some("general"), _) => Trigger::Always,
        (Some("beginning"), _) => Trigger::EpisodeStart,
        (Some("action_pattern"), Some(pattern)) => Trigger::after_action(pattern).unwrap_or_else(|error| {
            let line = findings.metadata_line("reskill-pattern");
            findings.add(line, error.to_string(), "write a regular expression that matches some actions");
            Trigger::Always
        }),
        (Some("action_pattern"), None) => {
            let line = findings.metadata_line("reskill-trigger");
            findings.add(line, "`reskill-pattern` is missing".into(), "add it under metadata");
            Trigger::Always
        }
        (Some(other), _) => {
            let line = findings.metadata_line("reskill-trigger");
            findings.add(
                line,
                format!("unknown trigger `{other}`"),
                "use general, beginning or action_pattern",
            );
            Trigger::Always
        }
    };
    let status = match get("status") {
        None | Some("active") => SkillStatus::Active,
        Some("inactive") => SkillStatus::Inactive,
        Some(other) => {
            let line = findings.metadata_line("reskill-status");
            findings.add(line, format!("unknown status `{other}`"), "use active or inactive");
            SkillStatus::Active
        }
    };
    let mut number = |key: &str, default: u64, max: u64| match get(key).map(str::parse::<u64>) {
        None => default,
        Some(Ok(number)) if number <= max => number,
        Some(_) => {
            let key = format!("{PREFIX}{key}");
            let line = findings.metadata_line(&key);
            findings.add(line, format!("`{key}` is not a number up to {max}"), "write a whole number");
            default
        }
    };
    let version = number("version", 1, u64::from(u32::MAX));
    let born_step = number("born-step", 0, u64::MAX);
    let guidance = get("guidance").and_then(|text| match text.parse() {
        Ok(guidance) => Some(guidance),
        Err(error) => {
            let line = findings.metadata_line("reskill-guidance");
            findings.add(line, crate::error::one_line(&error), "use `next <verb>` or `do not <verb>`");
            None
        }
    });
    let (action, example) = body_parts(body, get("example"), findings);
    let name = name?;
    let is_ours = get("id").is_some();
    Some(Skill {
        id: SkillId(get("id").map_or_else(|| name.clone(), str::to_owned)),
        version: u32::try_from(version).unwrap_or(u32::MAX),
        status,
        born_step,
        content: SkillContent { name, when_to_use: description?, action, example, trigger, guidance },
        foreign: ForeignFields {
            license: front.get("license").map(scalar),
            compatibility: front.get("compatibility").map(scalar),
            allowed_tools: front.get("allowed-tools").map(scalar),
            metadata: foreign,
            extra,
            source: (!is_ours).then(|| text.to_owned()),
        },
    })
}

/// Guidance and example of a body.
fn body_parts(body: &str, kind: Option<&str>, findings: &mut Findings<'_>) -> (String, Option<Example>) {
    let body = body.trim();
    let Some(kind) = kind else { return (body.to_owned(), None) };
    let label = if kind == "do" { "Do: " } else { "Don't: " };
    let parts = body.rsplit_once("\n\n").and_then(|(action, last)| Some((action, last.strip_prefix(label)?)));
    let Some((action, example)) = parts.filter(|_| ["do", "dont"].contains(&kind)) else {
        let line = findings.metadata_line("reskill-example");
        findings.add(
            line,
            format!("the last paragraph is not an example `{label}..`"),
            "write it, or drop the key",
        );
        return (body.to_owned(), None);
    };
    let example = example.to_owned();
    let example = if kind == "do" { Example::Do(example) } else { Example::Dont(example) };
    (action.trim().to_owned(), Some(example))
}

/// Our keys of the metadata, and the others.
fn metadata(
    front: &Mapping,
    findings: &mut Findings<'_>,
) -> (BTreeMap<String, String>, BTreeMap<String, String>) {
    match front.get("metadata") {
        None | Some(Value::Null) => Default::default(),
        Some(Value::Mapping(map)) => map
            .iter()
            .map(|(key, value)| (scalar(key), scalar(value)))
            .partition(|(key, _)| key.starts_with(PREFIX)),
        Some(_) => {
            findings.add(
                findings.line("metadata"),
                "`metadata` is not a mapping".into(),
                "write `key: value` lines",
            );
            Default::default()
        }
    }
}

/// The text of keys that the open format does not know, and their names. As written, if the lines of a key mean the same
/// by themselves (they may use anchors of other lines, or stand in one flow mapping); else written anew.
fn unknown_fields(front: &Mapping, findings: &Findings<'_>) -> (String, Vec<String>) {
    let (mut text, mut names) = (String::new(), Vec::new());
    // Keys in ways that the scan for lines does not know: then no line is trusted.
    let all_found = front.len() == findings.entries.len()
        && front.keys().all(|key| findings.entries.iter().any(|entry| entry.key == scalar(key)));
    for (key, value) in front {
        let name = scalar(key);
        if KNOWN.contains(&name.as_str()) {
            continue;
        }
        let single: Mapping = [(key.clone(), value.clone())].into_iter().collect();
        let as_written = findings
            .entries
            .iter()
            .find(|entry| all_found && entry.key == name)
            .map(|entry| &findings.yaml[entry.range.clone()])
            .filter(|lines| {
                // A literal `---` would end the front matter for simpler readers, but that is how it was found.
                serde_yaml_ng::from_str::<Mapping>(lines).is_ok_and(|alone| alone == single)
            });
        match as_written {
            Some(lines) => text.push_str(lines),
            None => text.push_str(&serde_yaml_ng::to_string(&single).unwrap_or_default()),
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        names.push(name);
    }
    (text, names)
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
