//! JSON out of what a model wrote: prose around it, code fences and trailing commas are forgiven.

use serde_json::Value;

/// Most places at which a value is looked for, so that a reply of braces alone costs little.
const MAX_STARTS: usize = 64;

/// The JSON object in a reply.
///
/// Tried in this order: the whole text; the text after a closing `</think>`; each top-level `{...}` in it, the longest
/// first. Trailing commas are removed where the text does not parse as it is. `None` if nothing is found.
#[must_use]
pub fn extract_json(reply: &str) -> Option<Value> {
    let text = reply.trim().trim_start_matches('\u{feff}');
    let text = text.rsplit_once("</think>").map_or(text, |(_, after)| after).trim();
    if let Some(value) = parse(text) {
        return Some(value);
    }
    let mut spans = spans(text);
    spans.sort_by_key(|span| std::cmp::Reverse(span.len()));
    spans.into_iter().find_map(parse)
}

fn parse(text: &str) -> Option<Value> {
    let as_object = |value: Value| value.is_object().then_some(value);
    serde_json::from_str(text)
        .or_else(|_| serde_json::from_str(&without_trailing_commas(text)))
        .ok()
        .and_then(as_object)
}

/// The balanced `{...}` of a text that do not lie in another, braces in strings apart.
fn spans(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut from = 0;
    for _ in 0..MAX_STARTS {
        let Some(start) = text[from..].find('{').map(|at| from + at) else { break };
        match end_of(&text[start..]) {
            Some(len) => {
                found.push(&text[start..start + len]);
                from = start + len;
            }
            None => from = start + 1,
        }
    }
    found
}

/// Length of the balanced object that `text` begins with.
fn end_of(text: &str) -> Option<usize> {
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for (at, byte) in text.bytes().enumerate() {
        if in_string {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_string = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_string = true,
            b'{' => depth += 1,
            b'}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// The text without commas that stand before a closing bracket.
fn without_trailing_commas(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        if in_string {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = false,
                _ => {}
            }
        } else if c == '"' {
            in_string = true;
        } else if matches!(c, '}' | ']') {
            let kept = out.trim_end().strip_suffix(',').map(str::len);
            if let Some(len) = kept {
                out.truncate(len);
            }
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_is_found_in_what_models_write_around_it() {
        let expected = json!({"a": [1, 2], "b": "} , ]"});
        for reply in [
            r#"{"a": [1, 2], "b": "} , ]"}"#,
            "\u{feff} {\"a\": [1, 2], \"b\": \"} , ]\"}\n",
            "```json\n{\"a\": [1, 2], \"b\": \"} , ]\"}\n```",
            "Here it is, as {asked}:\n{\"a\": [1, 2,], \"b\": \"} , ]\", }\nI hope this helps {x}.",
            "<think>maybe {\"a\": 3}</think>{\"a\": [1, 2], \"b\": \"} , ]\"}",
            "an open brace { and then {\"a\": [1, 2], \"b\": \"} , ]\"}",
        ] {
            assert_eq!(extract_json(reply), Some(expected.clone()), "{reply}");
        }
    }

    #[test]
    fn the_longest_object_wins() {
        assert_eq!(extract_json(r#"{"x":1} or rather {"a": "longer"}"#), Some(json!({"a": "longer"})));
    }

    #[test]
    fn what_holds_no_object_gives_none_and_costs_little() {
        for reply in ["", "no", "[1]", "{\"a\": ", &"{".repeat(1 << 20), &"{\"".repeat(1 << 18)] {
            assert_eq!(extract_json(reply), None);
        }
    }
}
