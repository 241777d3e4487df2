//! A stand-in for a language model: answers every stage sensibly, from what the prompt says.

use serde_json::{Value, json};

/// The answer to a stage, as a model that does as it is told would write it.
pub(crate) fn answer(stage: &str, prompt: &str) -> Value {
    match stage {
        "contrast" => json!({
            "finding": "Closed containers are left unopened.",
            "failure_mode": "does not open",
            "failing_actions": ["go to drawer 1", "look"],
            "succeeding_actions": ["go to drawer 1", "open drawer 1"],
            "failure_point": null,
            "trigger_patterns": ["^go to"],
            "skill_effect": null,
            "arm_delta": null,
            "confidence": 0.9,
        }),
        "diagnose" => {
            // The prompt says how few clusters there may be: `clusters`: 3 to 8 groups.
            let fewest = prompt.split("`clusters`: ").nth(1).and_then(|rest| rest.split(' ').next());
            let fewest: u32 = fewest.and_then(|n| n.parse().ok()).unwrap_or(1);
            let cluster =
                |i: u32| json!({"name": format!("cause {i}"), "findings": [i], "representative": i});
            json!({
                "summary": "Most failures do not open.",
                "causes": [{"cause": "unopened containers", "findings": 3, "share_of_failures": 0.8}],
                "clusters": (0..fewest).map(cluster).collect::<Vec<_>>(),
                "assertion_edits": [{
                    "edit": "put", "name": "opens-something", "description": "Opens a container.",
                    "kind": "action_exists", "pattern": "^open", "second": null, "min": null, "max": null,
                }],
            })
        }
        "recommend" => json!({"recommendations": [{
            "change": "add", "skill": null, "what": "Open what is closed on arrival.",
            "why": "80% of failures leave containers unopened.", "clusters": ["cause 0"],
        }]}),
        "author" => {
            let names = ["open-on-arrival", "open-at-once", "open-it-first", "open-before-you-look"];
            let free = names.iter().find(|name| !prompt.contains(&format!(" {name} ["))).unwrap_or(&names[0]);
            json!({
                "name": free, "when_to_use": "Right after going to a place.", "action": "next open",
                "example": null, "trigger": {"kind": "action_pattern", "pattern": "^go to"},
            })
        }
        other => json!({"unexpected stage": other}),
    }
}

/// Stage and prompt of a request to the OpenAI-compatible API.
pub(crate) fn openai_stage(body: &Value) -> (String, String) {
    let stage = body.pointer("/response_format/json_schema/name").and_then(Value::as_str).unwrap_or_default();
    let prompt = body.pointer("/messages/1/content").and_then(Value::as_str).unwrap_or_default();
    (stage.to_owned(), prompt.to_owned())
}

/// A response of that API with this text.
pub(crate) fn openai_response(text: &str) -> Value {
    json!({
        "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 20},
    })
}
