//! The configurations that are compiled in, by name.

/// A configuration that is compiled in.
#[derive(Debug, Clone, Copy)]
pub struct Preset {
    /// Its name: `configs/<name>.toml`.
    pub name: &'static str,
    /// The file.
    pub text: &'static str,
}

/// Lists files of `configs/`.
macro_rules! presets {
    ($($name:literal),* $(,)?) => {
        &[$(Preset { name: $name, text: include_str!(concat!("../../configs/", $name, ".toml")) }),*]
    };
}

/// Configurations that stand alone, the default first.
pub const PRESETS: &[Preset] = presets![
    "default",
    "alfworld",
    "scienceworld",
    "search",
    "sql",
    "wands",
    "external",
    "smollm2-alfworld",
    "paper-alfworld",
    "paper-search",
];

/// Configurations that change a few keys of another one, which stands before them: `default+ablation-uniform`.
pub const OVERLAYS: &[Preset] = presets![
    "ablation-auto-accept",
    "ablation-uniform",
    "ablation-paper-rule",
    "ablation-skill-first",
    "ablation-policy-first",
    "ablation-no-assertions",
    "ablation-general-triggers",
    "ablation-static",
    "ablation-off",
];

/// The text of a preset or an overlay.
#[must_use]
pub fn preset(name: &str) -> Option<&'static str> {
    PRESETS.iter().chain(OVERLAYS).find(|preset| preset.name == name).map(|preset| preset.text)
}

/// Whether this is the name of an overlay.
#[must_use]
pub fn is_overlay(name: &str) -> bool {
    OVERLAYS.iter().any(|overlay| overlay.name == name)
}

/// All names, for a message.
#[must_use]
pub fn names() -> String {
    PRESETS.iter().chain(OVERLAYS).map(|preset| preset.name).collect::<Vec<_>>().join(", ")
}

/// What a preset is, in one line: the first line of its file.
#[must_use]
pub fn title(preset: &Preset) -> &'static str {
    let comment = preset.text.lines().find(|line| line.starts_with("# "));
    comment.map_or("", |line| line.trim_start_matches("# ").trim_end_matches(['.', ':']))
}
