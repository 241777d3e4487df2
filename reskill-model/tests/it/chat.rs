use std::collections::BTreeMap;

use chrono::{Local, TimeZone};
use minijinja::Value;
use reskill_model::{ChatTemplate, Message};

use crate::pretrained::{fixture, json};

fn template(source: &str) -> ChatTemplate {
    let special = [("bos_token", "<|begin_of_text|>"), ("eos_token", "<|eot_id|>")];
    let special = special.map(|(name, token)| (name.to_string(), token.to_string()));
    ChatTemplate::new(source, BTreeMap::from(special)).unwrap()
}

/// Keeps the order of keys, which templates print.
#[derive(serde::Deserialize)]
struct Case {
    template: String,
    messages: Value,
    variables: BTreeMap<String, Value>,
    add_generation_prompt: bool,
    text: String,
}

#[derive(serde::Deserialize)]
struct Cases {
    templates: BTreeMap<String, String>,
    cases: Vec<Case>,
}

#[test]
fn prompts_equal_those_of_transformers() {
    let text = std::fs::read_to_string(fixture("chat.json")).unwrap();
    let all: Cases = serde_json::from_str(&text).unwrap();
    assert!(all.cases.len() >= 40);
    for (index, case) in all.cases.into_iter().enumerate() {
        let variables: Vec<(&str, Value)> =
            case.variables.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
        let got = template(&all.templates[&case.template])
            .render_values(case.messages, case.add_generation_prompt, &variables, Local::now())
            .unwrap();
        assert_eq!(got, case.text, "case {index} of {}", case.template);
    }
}

#[test]
fn templates_may_ask_for_the_date_raise_and_mark_generations() {
    let now = Local.with_ymd_and_hms(2025, 3, 9, 8, 7, 6).unwrap();
    let render = |source: &str| template(source).render_values(Value::from(()), false, &[], now);
    assert_eq!(render("{{ strftime_now('%d %b %Y') }}").unwrap(), "09 Mar 2025");
    assert_eq!(render("{%- generation -%} a {%- endgeneration %}b").unwrap(), "ab");
    assert_eq!(
        render("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}").unwrap(),
        "012"
    );
    let refused = render("{{ raise_exception('only users may speak') }}").unwrap_err().to_string();
    assert_eq!(refused, "chat template: only users may speak (line 1)");
    let broken = ChatTemplate::new("{% if %}", BTreeMap::new()).unwrap_err().to_string();
    assert!(broken.starts_with("chat template: "), "{broken}");
}

#[test]
fn the_template_of_a_folder_comes_from_its_own_file_first() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::copy(crate::parity::folder("llama").join("config.json"), dir.path().join("config.json"))
        .unwrap();
    let config = serde_json::json!({ "chat_template": [
        { "name": "tool_use", "template": "tools" },
        { "name": "default", "template": "{{ bos_token }}{{ messages[0].content }}" },
    ], "bos_token": { "content": "<s>" } });
    std::fs::write(dir.path().join("tokenizer_config.json"), config.to_string()).unwrap();
    let say = |dir: &std::path::Path| {
        let pretrained = reskill_model::Pretrained::open(dir).unwrap();
        pretrained.chat_template().unwrap().unwrap().render(&[Message::new("user", "hi")], true).unwrap()
    };
    assert_eq!(say(dir.path()), "<s>hi");
    std::fs::write(dir.path().join("chat_template.jinja"), "own {{ messages | length }}").unwrap();
    assert_eq!(say(dir.path()), "own 1");
    assert!(json(&dir.path().join("tokenizer_config.json")).is_object());
}

#[test]
fn the_texts_around_a_message_and_the_message_are_the_prompt() {
    let text = std::fs::read_to_string(fixture("chat.json")).unwrap();
    let all: Cases = serde_json::from_str(&text).unwrap();
    for (name, source) in &all.templates {
        let template = template(source);
        let (before, after) = template.around_user_message("Be brief.").unwrap();
        assert!(before.contains("Be brief.") && !after.is_empty(), "{name}: {before:?} {after:?}");
        // The day that one of them prints is always the same.
        assert_eq!(template.around_user_message("Be brief.").unwrap(), (before.clone(), after.clone()));
        let prints_day = source.contains("strftime_now");
        for message in ["look", "two\nlines"] {
            let messages = [Message::new("system", "Be brief."), Message::new("user", message)];
            let whole = template.render(&messages, true).unwrap();
            assert!(prints_day || format!("{before}{message}{after}") == whole, "{name}: {whole}");
        }
    }
}

#[test]
fn a_template_without_system_messages_gets_them_in_the_users_and_a_lossy_one_is_refused() {
    let picky = "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('no system') }}{% endif %}\
                 <{{ m.role }}>{{ m.content | trim }}{% endfor %}<model>";
    let (before, after) = template(picky).around_user_message("Be brief.").unwrap();
    assert_eq!((before.as_str(), after.as_str()), ("<user>Be brief.\n\n", "<model>"));
    let silent = "{% for m in messages %}{% if m.role != 'system' %}<{{ m.content }}>{% endif %}{% endfor %}";
    assert_eq!(template(silent).around_user_message("Be brief.").unwrap().0, "<Be brief.\n\n");
    for lossy in ["hello", "{{ messages[-1].content }}{{ messages[-1].content }}"] {
        let refused = template(lossy).around_user_message("Be brief.").unwrap_err().to_string();
        assert!(refused.contains("once and as it is"), "{refused}");
    }
}
