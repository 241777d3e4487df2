//! How retrieved passages are shown to the agent.

use serde::{Deserialize, Serialize};

use super::retriever::Passage;

/// The layout of what a search brings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum InformationFormat {
    /// As Search-R1 prints it: a line `Doc 1(Title: T) text` a passage.
    #[default]
    SearchR1,
    /// As the published system passes it on: the passages as `Doc 1 (Title: T)`, a line break and the text, in a JSON
    /// object `{"result": "..."}` whose non-ASCII characters are escaped.
    Json,
}

/// The passages between `<information>` and `</information>`.
#[must_use]
pub fn information(passages: &[Passage], format: InformationFormat) -> String {
    let numbered = || passages.iter().zip(1..);
    let shown = match format {
        InformationFormat::SearchR1 => {
            let line = |(Passage { title, text, .. }, n): (&Passage, usize)| {
                format!("Doc {n}(Title: {title}) {text}")
            };
            numbered().map(line).collect::<Vec<_>>().join("\n")
        }
        InformationFormat::Json => {
            let block = |(Passage { title, text, .. }, n): (&Passage, usize)| {
                format!("Doc {n} (Title: {title})\n{text}")
            };
            let blocks = numbered().map(block).collect::<Vec<_>>().join("\n\n");
            let nothing = "No search results found.";
            let text = if passages.is_empty() { nothing } else { blocks.trim() };
            format!("{{\"result\": {}}}", ascii_json(text))
        }
    };
    format!("<information>{}</information>", shown.trim())
}

/// A JSON string with everything beyond ASCII escaped, in UTF-16 as JSON has it.
fn ascii_json(text: &str) -> String {
    let quoted = serde_json::Value::from(text).to_string();
    let mut out = String::with_capacity(quoted.len());
    let mut units = [0; 2];
    for c in quoted.chars() {
        // DEL is ASCII and stands for itself.
        if c.is_ascii() {
            out.push(c);
        } else {
            c.encode_utf16(&mut units).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passages() -> [Passage; 2] {
        [("Ada Lovelace", "was a mathematician."), ("Zoë", "line one\nline \"two\" 🙂")]
            .map(|(title, text)| Passage { title: title.into(), text: text.into(), score: 1.0 })
    }

    #[test]
    fn passages_are_printed_as_search_r1_prints_them() {
        assert_eq!(
            information(&passages(), InformationFormat::SearchR1),
            "<information>Doc 1(Title: Ada Lovelace) was a mathematician.\nDoc 2(Title: Zoë) line one\nline \"two\" 🙂\
             </information>"
        );
        assert_eq!(information(&[], InformationFormat::SearchR1), "<information></information>");
    }

    #[test]
    fn the_json_layout_is_an_escaped_string() {
        let shown = information(&passages(), InformationFormat::Json);
        assert_eq!(
            shown,
            "<information>{\"result\": \"Doc 1 (Title: Ada Lovelace)\\nwas a mathematician.\\n\\nDoc 2 (Title: \
             Zo\\u00eb)\\nline one\\nline \\\"two\\\" \\ud83d\\ude42\"}</information>"
        );
        let inside = shown.trim_start_matches("<information>").trim_end_matches("</information>");
        let value: serde_json::Value = serde_json::from_str(inside).unwrap();
        assert!(value["result"].as_str().unwrap().ends_with("🙂"));
    }
}
