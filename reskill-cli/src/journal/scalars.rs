//! A record of `metrics.jsonl` as named numbers, for programs that plot numbers over steps.
//!
//! | record | step | names |
//! |---|---|---|
//! | `warm_start` | mini-batch | `warm_start/loss`, ... |
//! | `step` | training step | `train/success`, `update/loss`, `tokens/run`, `time/...`, `test/p_new_better`, `skills/n_skills`, `skills/shown/ID`, `failures/loop`, `assertions/NAME`, `creator/calls` |
//! | `evaluation` | training step | `eval/unseen/success`, `eval/unseen/families/NAME`; without skills `eval_bank_off/...` |

use serde_json::Value;

/// A name of parts with `/` between, and a finite value.
pub type Scalar = (String, f64);

/// Step and numbers of a record; of an unknown kind none.
#[must_use]
pub fn scalars(record: &Value) -> (u64, Vec<Scalar>) {
    let mut out = Vec::new();
    let number = |key: &str| record.get(key).and_then(Value::as_u64).unwrap_or(0);
    match record.get("kind").and_then(Value::as_str) {
        Some("warm_start") => {
            leaves("warm_start", &record["update"], &mut out);
            leaves("warm_start/time", &record["time"], &mut out);
            (number("batch"), out)
        }
        Some("step") => {
            step(record, &mut out);
            (number("step"), out)
        }
        Some("evaluation") => {
            evaluation(record, &mut out);
            (number("step"), out)
        }
        _ => (0, out),
    }
}

/// Every finite number below `value`, named by its path.
fn leaves(name: &str, value: &Value, out: &mut Vec<Scalar>) {
    match value {
        Value::Number(number) => out.extend(number.as_f64().map(|number| (name.to_string(), number))),
        Value::Object(entries) => {
            entries.iter().for_each(|(key, value)| leaves(&format!("{name}/{key}"), value, out));
        }
        _ => {}
    }
}

fn step(record: &Value, out: &mut Vec<Scalar>) {
    let entries = record.as_object().into_iter().flatten();
    for (key, value) in entries.filter(|(key, value)| value.is_number() && *key != "step") {
        leaves(&format!("train/{key}"), value, out);
    }
    for section in ["update", "tokens", "time", "failures", "creator"] {
        leaves(section, &record[section], out);
    }
    let n_skills = record["bank"].as_array().map_or(0, Vec::len);
    out.push(("skills/n_skills".into(), n_skills as f64));
    for (id, used) in record["shown"].as_object().into_iter().flatten() {
        leaves(&format!("skills/shown/{id}"), &used["episodes"], out);
    }
    for (name, rates) in record["assertions"].as_object().into_iter().flatten() {
        let sum = |key: &str| -> f64 {
            ["success", "failure"].iter().filter_map(|half| rates[half][key].as_f64()).sum()
        };
        if sum("total") > 0.0 {
            out.push((format!("assertions/{name}"), sum("hits") / sum("total")));
        }
    }
    let test = &record["posterior"];
    leaves("test/p_new_better", &test["p_new_better"], out);
    leaves("test/episodes", &test["n_episodes"], out);
    for (name, arm) in ["old", "new"].iter().zip(test["arms"].as_array().into_iter().flatten()) {
        leaves(&format!("test/mean/{name}"), &arm["mean"], out);
        leaves(&format!("test/episodes_{name}"), &arm["episodes"], out);
    }
}

fn evaluation(record: &Value, out: &mut Vec<Scalar>) {
    let evaluation = &record["evaluation"];
    let split = evaluation["split"].as_str().unwrap_or_default().trim_start_matches("valid_");
    let is_off = record["phase"].as_str().is_some_and(|phase| phase.ends_with("bank_off"));
    let name = format!("{}/{split}", if is_off { "eval_bank_off" } else { "eval" });
    leaves(&format!("{name}/success"), &evaluation["overall"]["rate"], out);
    for (family, success) in evaluation["families"].as_object().into_iter().flatten() {
        leaves(&format!("{name}/families/{family}"), &success["rate"], out);
    }
    for key in ["mean_turns", "mean_score", "faults"] {
        leaves(&format!("{name}/{key}"), &evaluation[key], out);
    }
    for (measure, by_family) in evaluation["measures"].as_object().into_iter().flatten() {
        leaves(&format!("{name}/{measure}"), &by_family["all"], out);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(record: &Value, expected: (u64, &[(&str, f64)])) {
        let (step, mut got) = scalars(record);
        got.sort_by(|a, b| a.0.cmp(&b.0));
        let got: Vec<(&str, f64)> = got.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        assert_eq!((step, got.as_slice()), expected);
    }

    #[test]
    fn a_step_gives_its_numbers_and_leaves_out_what_is_none() {
        check(
            &json!({
                "kind": "step", "step": 7, "success": 0.5, "update": {"loss": 0.1, "ratio": {"p01": 0.9}, "ref_kl": null},
                "bank": ["a", "b"], "decision": "accept", "shown": {"s0001": {"episodes": 3, "turns": 9}},
                "posterior": {"p_new_better": 0.9, "n_episodes": 4, "arms": [{"mean": 0.2, "episodes": 1},
                              {"mean": 0.4, "episodes": 3}]},
                "assertions": {"opens": {"success": {"hits": 3, "total": 3}, "failure": {"hits": 0, "total": 1}}},
            }),
            (
                7,
                &[
                    ("assertions/opens", 0.75),
                    ("skills/n_skills", 2.0),
                    ("skills/shown/s0001", 3.0),
                    ("test/episodes", 4.0),
                    ("test/episodes_new", 3.0),
                    ("test/episodes_old", 1.0),
                    ("test/mean/new", 0.4),
                    ("test/mean/old", 0.2),
                    ("test/p_new_better", 0.9),
                    ("train/success", 0.5),
                    ("update/loss", 0.1),
                    ("update/ratio/p01", 0.9),
                ],
            ),
        );
    }

    #[test]
    fn evaluations_are_named_by_split_and_by_whether_the_bank_played() {
        let evaluation = json!({"split": "valid_unseen", "overall": {"rate": 0.25}, "mean_turns": 8.0});
        let mut record =
            json!({"kind": "evaluation", "step": 5, "phase": "during", "evaluation": evaluation});
        check(&record, (5, &[("eval/unseen/mean_turns", 8.0), ("eval/unseen/success", 0.25)]));
        record["phase"] = json!("during_bank_off");
        let off = [("eval_bank_off/unseen/mean_turns", 8.0), ("eval_bank_off/unseen/success", 0.25)];
        check(&record, (5, &off));
        check(&json!({"kind": "something_newer", "x": 1}), (0, &[]));
    }
}
