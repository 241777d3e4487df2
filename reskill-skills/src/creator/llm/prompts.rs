//! Prompts: text files with placeholders, built in and replaceable one by one.
//!
//! A placeholder is `{{name}}`. Which names a prompt may use is fixed by the input of its stage; any other is refused when
//! the prompts are loaded. A placeholder may be left out or used twice.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::SkillError;

/// A prompt's file name without `.md`, its built-in text and the placeholders it may use.
struct BuiltIn {
    name: &'static str,
    text: &'static str,
    placeholders: &'static [&'static str],
}

const BUILT_IN: [BuiltIn; 6] = [
    BuiltIn { name: "system", text: include_str!("prompts/system.md"), placeholders: &[] },
    BuiltIn {
        name: "contrast",
        text: include_str!("prompts/contrast.md"),
        placeholders: &["family", "goal", "skills", "episodes", "vocabulary", "schema"],
    },
    BuiltIn {
        name: "diagnose",
        text: include_str!("prompts/diagnose.md"),
        placeholders: &[
            "outcomes",
            "insights",
            "assertions",
            "max_assertions",
            "clusters",
            "vocabulary",
            "schema",
        ],
    },
    BuiltIn {
        name: "recommend",
        text: include_str!("prompts/recommend.md"),
        placeholders: &[
            "outcomes",
            "summary",
            "clusters",
            "assertions",
            "bank",
            "versions",
            "vocabulary",
            "actions",
            "room",
            "max_operations",
            "note",
            "schema",
        ],
    },
    BuiltIn {
        name: "author",
        text: include_str!("prompts/author.md"),
        placeholders: &[
            "recommendation",
            "insights",
            "old_skill",
            "bank",
            "vocabulary",
            "actions",
            "limits",
            "gate",
            "lexicon",
            "note",
            "rejected",
            "schema",
        ],
    },
    BuiltIn { name: "correct", text: include_str!("prompts/correct.md"), placeholders: &["violation"] },
];

/// All prompts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    texts: BTreeMap<&'static str, String>,
}

impl Prompts {
    /// The prompts this crate brings.
    #[must_use]
    pub fn built_in() -> Self {
        Self { texts: BUILT_IN.iter().map(|prompt| (prompt.name, prompt.text.to_owned())).collect() }
    }

    /// The built-in prompts, with those replaced that `folder` has a `<name>.md` for.
    ///
    /// # Errors
    /// [`SkillError::Io`] if the folder or a file cannot be read; [`SkillError::Prompt`] on an unknown file name or
    /// placeholder.
    pub fn load(folder: &Path) -> Result<Self, SkillError> {
        let read_error = |path: &Path, source| SkillError::Io { path: path.to_owned(), verb: "read", source };
        let mut prompts = Self::built_in();
        let mut paths: Vec<PathBuf> = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|source| read_error(folder, source))? {
            paths.push(entry.map_err(|source| read_error(folder, source))?.path());
        }
        paths.sort();
        for path in paths.iter().filter(|path| path.extension().is_some_and(|it| it == "md")) {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            // A README may lie beside the prompts.
            if stem.eq_ignore_ascii_case("readme") {
                continue;
            }
            let Some(known) = BUILT_IN.iter().find(|prompt| prompt.name == stem) else {
                let names: Vec<String> =
                    BUILT_IN.iter().map(|prompt| format!("{}.md", prompt.name)).collect();
                let reason = format!("is no prompt of a stage, expected one of {}", names.join(", "));
                return Err(SkillError::Prompt { path: path.clone(), reason });
            };
            let text = std::fs::read_to_string(path).map_err(|source| read_error(path, source))?;
            check(&text, known).map_err(|reason| SkillError::Prompt { path: path.clone(), reason })?;
            prompts.texts.insert(known.name, text);
        }
        Ok(prompts)
    }

    /// A prompt as it is.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.texts.get(name).map_or("", String::as_str)
    }

    /// A prompt with its placeholders filled from the fields of `input`; text that is not a string is shown as JSON.
    ///
    /// What a field holds is not searched for placeholders.
    #[must_use]
    pub fn render(&self, name: &str, input: &impl Serialize) -> String {
        let fields = serde_json::to_value(input).unwrap_or_default();
        let mut out = String::new();
        let mut rest = self.text(name);
        while let Some((before, after)) = rest.split_once("{{") {
            let Some((placeholder, after)) = after.split_once("}}") else { break };
            out.push_str(before);
            match fields.get(placeholder.trim()) {
                Some(serde_json::Value::String(text)) => out.push_str(text.trim_end()),
                Some(other) => out.push_str(&other.to_string()),
                None => {}
            }
            rest = after;
        }
        out.push_str(rest);
        out
    }

    /// The placeholders that a prompt may use; empty for an unknown prompt.
    #[must_use]
    pub fn placeholders(name: &str) -> &'static [&'static str] {
        BUILT_IN.iter().find(|prompt| prompt.name == name).map_or(&[], |prompt| prompt.placeholders)
    }
}

/// Refuses placeholders that the stage does not fill.
fn check(text: &str, prompt: &BuiltIn) -> Result<(), String> {
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("{{") {
        let Some((name, after)) = after.split_once("}}") else {
            return Err("has `{{` without `}}`".into());
        };
        if !prompt.placeholders.contains(&name.trim()) {
            let known: Vec<String> =
                prompt.placeholders.iter().map(|name| format!("{{{{{name}}}}}")).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            let shown: String = name.chars().take(60).collect();
            return Err(format!("uses the unknown placeholder {{{{{shown}}}}}, expected {known}"));
        }
        rest = after;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn built_in_prompts_use_known_placeholders_only_and_all_of_them() {
        for prompt in &BUILT_IN {
            assert_eq!(check(prompt.text, prompt), Ok(()), "{}", prompt.name);
            for placeholder in prompt.placeholders {
                assert!(
                    prompt.text.contains(&format!("{{{{{placeholder}}}}}")),
                    "{placeholder} in {}",
                    prompt.name
                );
            }
        }
    }

    #[test]
    fn what_is_filled_in_is_not_searched_again() {
        let mut prompts = Prompts::built_in();
        prompts.texts.insert("contrast", "a {{goal}} b {{ family }} {{goal}} {{".into());
        let input = json!({"goal": "{{family}}", "family": 3});
        assert_eq!(prompts.render("contrast", &input), "a {{family}} b 3 {{family}} {{");
    }

    #[test]
    fn a_folder_replaces_prompts_and_unknown_names_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        write("author.md", "only {{recommendation}}");
        write("README.md", "{{anything}}");
        let prompts = Prompts::load(dir.path()).unwrap();
        assert_eq!(prompts.text("author"), "only {{recommendation}}");
        assert_eq!(prompts.text("contrast"), Prompts::built_in().text("contrast"));
        write("author.md", "{{recomendation}}");
        let error = Prompts::load(dir.path()).unwrap_err().to_string();
        assert!(error.contains("author.md") && error.contains("{{recomendation}}"), "{error}");
        write("author.md", "{{note");
        assert!(Prompts::load(dir.path()).is_err());
        write("author.md", "");
        write("writer.md", "");
        assert!(Prompts::load(dir.path()).unwrap_err().to_string().contains("author.md"));
        assert!(Prompts::load(&dir.path().join("nowhere")).is_err());
    }
}
