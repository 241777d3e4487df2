//! The presets of the publication against its values, and the ablations.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::Path;

use reskill_cli::config::TrainConfig;
use reskill_cli::presets::{OVERLAYS, PRESETS};
use serde_json::{Value, json};

fn load(source: &str, overrides: &[&str]) -> Value {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let config = TrainConfig::load(Some(Path::new(source)), &overrides).unwrap();
    serde_json::to_value(config).unwrap()
}

/// Every key must have its value; numbers that are stored in f32 are compared as such.
fn check(config: &Value, expected: &[(&str, Value)]) {
    for (key, want) in expected {
        let got = config.pointer(&format!("/{}", key.replace('.', "/"))).unwrap_or(&Value::Null);
        let is_same = match (got.as_f64(), want.as_f64()) {
            (Some(got), Some(want)) => got as f32 == want as f32,
            _ => got == want,
        };
        assert!(is_same, "{key} = {got}, expected {want}");
    }
}

/// Published values that all environments share.
fn shared() -> Vec<(&'static str, Value)> {
    vec![
        // Qwen3-4B-Instruct, all weights, no warm start.
        ("model.path", json!("hf:Qwen/Qwen3-4B-Instruct-2507")),
        ("model.lora", Value::Null),
        ("sft.steps", json!(0)),
        // Prompts in the published order, replies in free text with a tag.
        ("policy.prompt.prompt_layout", json!("paper")),
        ("policy.prompt.action_format", json!("tagged")),
        ("rollout.temperature", json!(1.0)),
        ("rollout.reward", json!("success")),
        ("schedule", json!("joint")),
        // lr 1e-6 constant without warm-up, weight decay 0.01, gradient clip 1.0.
        ("grpo.optimizer.learning_rate", json!(1e-6)),
        ("grpo.optimizer.warmup_steps", json!(0)),
        ("grpo.optimizer.schedule.decay", json!("constant")),
        ("grpo.optimizer.weight_decay", json!(0.01)),
        ("grpo.optimizer.max_grad_norm", json!(1.0)),
        // k3 in the loss, one epoch, clip 0.2 / 0.2, dual clip 3, token-mean, clamps of the framework.
        ("grpo.loss.kl", json!("k3")),
        ("grpo.learner.epochs", json!(1)),
        ("grpo.learner.minibatch_split", json!("turn")),
        ("grpo.loss.surrogate", json!("clip")),
        ("grpo.loss.clip_low", json!(0.2)),
        ("grpo.loss.clip_high", json!(0.2)),
        ("grpo.loss.dual_clip", json!(3.0)),
        ("grpo.loss.aggregation", json!("token-mean")),
        ("grpo.loss.ratio", json!("token")),
        ("grpo.loss.sequence", json!("turn")),
        ("grpo.loss.entropy_coef", json!(0.0)),
        ("grpo.loss.log_ratio_clamp", json!(20.0)),
        ("grpo.loss.k3_clamp", json!(10.0)),
        // Group statistics, a second whitening, a group of one gets its return, penalty 0.1.
        ("grpo.advantage.baseline", json!("group")),
        ("grpo.advantage.std_norm", json!("group")),
        ("grpo.advantage.double_normalize", json!(true)),
        ("grpo.advantage.singleton", json!("raw")),
        ("grpo.advantage.invalid_action_penalty", json!(0.1)),
        ("grpo.advantage.eps", json!(1e-6)),
        // Reservoir 200, minimum 100, key (goal text, arm, outcome), 30 groups.
        ("skills.reservoir.capacity", json!(200)),
        ("skills.reservoir.min", json!(100)),
        ("skills.reservoir.key", json!("goal")),
        ("skills.reservoir.sample_groups", json!(30)),
        // 8 active skills, trigger rate 0.5 of all episodes, 3 tries, 16 workers.
        ("skills.mode", json!("evolve")),
        ("skills.max_skills", json!(8)),
        ("skills.triggers", json!("all")),
        ("skills.assertions", json!(true)),
        ("skills.verify.scope", json!("all")),
        ("skills.verify.min_rate", json!(0.5)),
        ("skills.verify.min_overall", json!(0.0)),
        ("skills.creator.author_tries", json!(3)),
        ("skills.creator.max_concurrent", json!(16)),
        ("skills.creator.join_after_steps", json!(0)),
        // Test: 5 steps and 50 episodes, clamp 0.15..0.85, dynamic discount, posterior means (a tie rejects).
        ("skills.version_test.assignment", json!("thompson")),
        ("skills.version_test.sampling", json!("independent")),
        ("skills.version_test.rule", json!("paper")),
        ("skills.version_test.min_steps", json!(5)),
        ("skills.version_test.min_episodes", json!(50)),
        ("skills.version_test.p_min", json!(0.15)),
        ("skills.version_test.p_max", json!(0.85)),
        ("skills.version_test.discount", json!("dynamic")),
        ("skills.version_test.early_stop", json!(false)),
        // Greedy in validation.
        ("eval.temperature", json!(0.0)),
    ]
}

const GIVEN: [&str; 2] = ["env.data=x", "skills.creator.model=m"];

#[test]
fn paper_alfworld_has_the_published_values() {
    let config = load("paper-alfworld", &GIVEN);
    check(&config, &shared());
    check(
        &config,
        &[
            ("env.name", json!("alfworld")),
            ("rollout.group_size", json!(8)),
            ("rollout.tasks_per_step", json!(16)),
            ("policy.prompt.history_turns", json!(50)),
            ("model.context", json!(4096 + 512)),
            ("rollout.max_new_tokens", json!(512)),
            ("rollout.max_turns", json!(50)),
            ("grpo.loss.kl_coef", json!(0.01)),
            ("grpo.learner.minibatch_turns", json!(64)),
            ("rollout.success_reward", json!(10.0)),
            ("eval.every", json!(10)),
            ("checkpoint.every", json!(30)),
        ],
    );
}

#[test]
fn paper_search_has_the_published_values() {
    let config = load("paper-search", &GIVEN);
    check(&config, &shared());
    check(
        &config,
        &[
            ("env.name", json!("search")),
            ("env.search.candidates", json!(false)),
            ("env.search.information", json!("json")),
            ("rollout.group_size", json!(5)),
            ("rollout.tasks_per_step", json!(256)),
            ("policy.prompt.history_turns", json!(30)),
            ("model.context", json!(4096 + 512)),
            ("rollout.max_new_tokens", json!(512)),
            ("rollout.max_turns", json!(30)),
            ("grpo.loss.kl_coef", json!(0.001)),
            ("grpo.learner.minibatch_turns", json!(256)),
            ("rollout.success_reward", json!(1.0)),
            ("eval.every", json!(5)),
            ("checkpoint.every", json!(50)),
        ],
    );
    // 500 characters a skill are the limit of every configuration.
    assert_eq!(reskill_skills::SkillLimits::default().total_chars, 500);
}

#[test]
fn an_ablation_changes_its_keys_and_nothing_else_whatever_it_stands_on() {
    let changes: [(&str, &[(&str, Value)]); 9] = [
        ("ablation-auto-accept", &[("skills.version_test.rule", json!("auto_accept"))]),
        ("ablation-uniform", &[("skills.version_test.assignment", json!("uniform"))]),
        (
            "ablation-paper-rule",
            &[
                ("skills.version_test.sampling", json!("independent")),
                ("skills.version_test.rule", json!("paper")),
                ("skills.version_test.early_stop", json!(false)),
                ("skills.version_test.rest_steps", json!(0)),
            ],
        ),
        ("ablation-skill-first", &[("schedule", json!("skill_first"))]),
        ("ablation-policy-first", &[("schedule", json!("policy_first"))]),
        ("ablation-no-assertions", &[("skills.assertions", json!(false))]),
        ("ablation-general-triggers", &[("skills.triggers", json!("general"))]),
        ("ablation-static", &[("skills.mode", json!("static"))]),
        ("ablation-off", &[("skills.mode", json!("off"))]),
    ];
    let names: Vec<&str> = changes.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, OVERLAYS.iter().map(|overlay| overlay.name).collect::<Vec<_>>());
    let given = ["env.data=x", "skills.creator.model=m", "bank=x"];
    for base in ["alfworld", "scienceworld", "paper-alfworld", "paper-search"] {
        let plain = load(base, &given);
        for (name, keys) in &changes {
            let ablated = load(&format!("{base}+{name}"), &given);
            check(&ablated, keys);
            // The same keys put back give the plain configuration.
            let mut back = ablated.clone();
            for (key, _) in *keys {
                let pointer = format!("/{}", key.replace('.', "/"));
                *back.pointer_mut(&pointer).unwrap() = plain.pointer(&pointer).unwrap().clone();
            }
            assert_eq!(back, plain, "{base}+{name}");
        }
    }
}

#[test]
fn every_file_of_configs_is_a_preset_with_a_title_and_a_schema() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut stems: Vec<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| path.file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    stems.sort();
    let mut names: Vec<&str> = PRESETS.iter().chain(OVERLAYS).map(|preset| preset.name).collect();
    names.sort_unstable();
    assert_eq!(stems, names);
    for preset in PRESETS.iter().chain(OVERLAYS) {
        assert!(preset.text.starts_with("#:schema ./schema.json\n"), "{} names no schema", preset.name);
        assert!(reskill_cli::presets::title(preset).len() > 20, "{} has no title", preset.name);
    }
}

#[test]
fn the_schema_in_configs_is_that_of_the_program() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/schema.json");
    let text = std::fs::read_to_string(path).unwrap();
    assert!(
        text == reskill_cli::schema::text().unwrap(),
        "configs/schema.json is old; write it anew: reskill-cli config schema > configs/schema.json"
    );
    // Every key of the default configuration is in it, with a description.
    let schema: Value = serde_json::from_str(&text).unwrap();
    let config = serde_json::to_value(TrainConfig::default()).unwrap();
    check_described(&schema, &schema, &config, "");
}

/// Every field of `value` must be a described property of `node`.
fn check_described(schema: &Value, node: &Value, value: &Value, path: &str) {
    let Value::Object(fields) = value else { return };
    let node = resolved(schema, node);
    for (key, value) in fields {
        let property = &node["properties"][key];
        let path = format!("{path}.{key}");
        assert!(property.is_object(), "{path} is not in the schema");
        assert!(
            property["description"].as_str().is_some_and(|text| text.len() > 3),
            "{path} is not described"
        );
        check_described(schema, property, value, &path);
    }
}

/// What a node means: what its reference names, or the first alternative that has properties.
fn resolved<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    if let Some(name) = node["$ref"].as_str() {
        return schema.pointer(name.trim_start_matches('#')).unwrap();
    }
    let alternatives = node["anyOf"].as_array().map(|all| all.iter());
    let found = alternatives.into_iter().flatten().map(|one| resolved(schema, one));
    found.into_iter().find(|one| one["properties"].is_object()).unwrap_or(node)
}
