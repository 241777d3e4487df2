//! The little YAML that a SKILL.md needs: where the front matter ends, where its keys stand, how a string is written.
//!
//! Reading is left to a real parser; nothing here interprets a value.

use std::ops::Range;

/// Longest front matter that is read, in bytes: far above what a skill needs, and a bound on what aliases can expand.
pub(super) const MAX_FRONT_MATTER: usize = 64 << 10;

/// A file in two parts.
pub(super) struct Parts {
    /// Between the two lines `---`, with `\n` line ends.
    pub(super) yaml: String,
    /// After them.
    pub(super) body: String,
}

/// Splits a file. A byte order mark is dropped and line ends, lone carriage returns too, become `\n`. `None`: no front matter.
pub(super) fn split(text: &str) -> Option<Parts> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n").replace('\r', "\n");
    let (first, rest) = text.split_once('\n')?;
    if first.trim_end() != "---" {
        return None;
    }
    let mut offset = 0;
    for line in rest.split_inclusive('\n') {
        if line.trim_end() == "---" {
            let body = rest[offset + line.len()..].to_owned();
            return Some(Parts { yaml: rest[..offset].to_owned(), body });
        }
        offset += line.len();
    }
    None
}

/// A key at the left margin, and all lines that belong to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) range: Range<usize>,
    /// 1-based line in the file, whose first line is `---`.
    pub(super) line: usize,
}

/// The entries of a front matter in block style, in order.
pub(super) fn entries(yaml: &str) -> Vec<Entry> {
    let mut found: Vec<Entry> = Vec::new();
    let mut offset = 0;
    for (index, line) in yaml.split_inclusive('\n').enumerate() {
        let range = offset..offset + line.len();
        offset = range.end;
        if let Some(key) = key_of(line) {
            found.push(Entry { key, range, line: index + 2 });
        } else if let Some(last) = found.last_mut() {
            last.range.end = range.end;
        }
    }
    found
}

/// The line of a key that stands at the margin for the second time.
pub(super) fn repeated(yaml: &str) -> Option<usize> {
    let found = entries(yaml);
    let again =
        (0..found.len()).find(|at| found[..*at].iter().any(|earlier| earlier.key == found[*at].key))?;
    Some(found[again].line)
}

/// The key a line begins with, if it begins one.
fn key_of(line: &str) -> Option<String> {
    let first = line.chars().next()?;
    if first.is_whitespace() || "#}],{[&*!|>%@`".contains(first) {
        return None;
    }
    if "-?:".contains(first) && line[1..].chars().next().is_none_or(char::is_whitespace) {
        return None;
    }
    if first == '"' || first == '\'' {
        let (key, rest) = line[1..].split_once(first)?;
        return rest.trim_start().starts_with(':').then(|| key.to_owned());
    }
    let end = line
        .match_indices(':')
        .map(|(at, _)| at)
        .find(|at| line[at + 1..].chars().next().is_none_or(char::is_whitespace))?;
    Some(line[..end].trim_end().to_owned())
}

/// The line of a nested `key:` inside an entry, or else that of the entry.
pub(super) fn line_inside(yaml: &str, entry: &Entry, key: &str) -> usize {
    let inside = yaml[entry.range.clone()].lines();
    let at = inside.enumerate().skip(1).find(|(_, line)| {
        line.trim_start()
            .trim_start_matches(['"', '\''])
            .strip_prefix(key)
            .is_some_and(|rest| rest.trim_start_matches(['"', '\'']).trim_start().starts_with(':'))
    });
    entry.line + at.map_or(0, |(index, _)| index)
}

/// A string as a YAML scalar on one line. It never holds `---`, which readers of the format take for the end of the front
/// matter wherever it stands.
pub(super) fn scalar(text: &str) -> String {
    if is_plain(text) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    let mut before = ' ';
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '-' if before == '-' => out.push_str("\\x2D"),
            '\0'..='\u{1f}' | '\u{7f}'..='\u{a0}' => out.push_str(&format!("\\x{:02X}", u32::from(c))),
            '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => {
                out.push_str(&format!("\\u{:04X}", u32::from(c)));
            }
            c if u32::from(c) & 0xfffe == 0xfffe => out.push_str(&format!("\\U{:08X}", u32::from(c))),
            c => out.push(c),
        }
        before = c;
    }
    out.push('"');
    out
}

/// Whether every YAML parser takes the bare text for this very string.
fn is_plain(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " _/.,()-;!".contains(c);
    let reserved = ["true", "false", "null", "yes", "no", "on", "off", "y", "n", "nan", "inf"];
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(allowed)
        && !text.ends_with(' ')
        && !text.contains("--")
        && !reserved.contains(&text.to_ascii_lowercase().as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_read_back_as_the_same_string() {
        for text in [
            "Plain words, with commas.",
            "a: b",
            "x # y",
            "- item",
            "007",
            "true",
            "No",
            "1e3",
            "--- cut ---",
            "quote \" and \\ and '",
            "line\nbreak\ttab",
            "naïve 東京 🦀",
            "\u{feff}mark\u{2028}",
            "{a}",
            "*alias",
            "&anchor",
            "@at",
            "",
            " outer ",
            "%",
            "null",
            "~",
            "0x1f",
            "2026-01-02",
            "\u{0}\u{7f}\u{85}",
            "ends with colon:",
            "\u{1fffe}",
            "!tag",
        ] {
            let yaml = format!("key: {}\n", scalar(text));
            let value: serde_yaml_ng::Value = serde_yaml_ng::from_str(&yaml).unwrap();
            assert_eq!(value["key"].as_str(), Some(text), "{yaml}");
            assert!(!yaml.contains("---"), "{yaml}");
        }
    }

    #[test]
    fn entries_are_the_keys_at_the_margin_with_their_lines() {
        let yaml = "# top\nname: a\n'my key' : |\n  name: not this\n\n  more\nlist:\n- one: 1\n- two\nurl: http://x\n";
        let found = entries(yaml);
        let keys: Vec<(&str, usize)> = found.iter().map(|it| (it.key.as_str(), it.line)).collect();
        assert_eq!(keys, [("name", 3), ("my key", 4), ("list", 8), ("url", 11)]);
        assert_eq!(&yaml[found[2].range.clone()], "list:\n- one: 1\n- two\n");
    }
}
