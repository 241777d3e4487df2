//! The configurations that are compiled in, by name.

/// Name and text of each, the default first.
pub const PRESETS: [(&str, &str); 8] = [
    ("default", include_str!("../../configs/default.toml")),
    ("alfworld", include_str!("../../configs/alfworld.toml")),
    ("scienceworld", include_str!("../../configs/scienceworld.toml")),
    ("search", include_str!("../../configs/search.toml")),
    ("sql", include_str!("../../configs/sql.toml")),
    ("wands", include_str!("../../configs/wands.toml")),
    ("external", include_str!("../../configs/external.toml")),
    ("smollm2-alfworld", include_str!("../../configs/smollm2-alfworld.toml")),
];

/// The text of a preset.
#[must_use]
pub fn preset(name: &str) -> Option<&'static str> {
    PRESETS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// Their names, for a message.
#[must_use]
pub fn names() -> String {
    PRESETS.map(|(name, _)| name).join(", ")
}
