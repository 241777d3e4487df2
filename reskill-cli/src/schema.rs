//! The JSON schema of a configuration, for editors: keys with their documentation, values with their defaults.

use anyhow::{Context, Result};
use serde_json::Value;

use crate::config::TrainConfig;

/// The schema as text, the same as `configs/schema.json`.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn text() -> Result<String> {
    let mut schema = schemars::schema_for!(TrainConfig).to_value();
    tidy(&mut schema);
    let text = serde_json::to_string_pretty(&schema).context("the schema cannot be written as JSON")?;
    Ok(text + "\n")
}

/// Writes numbers as they are written in a configuration, and leaves out what is a link in the documentation of the code.
fn tidy(value: &mut Value) {
    match value {
        Value::Number(number) => {
            let Some(x) = number.as_f64().filter(|_| number.is_f64()) else { return };
            // 0.2 in f32 is 0.20000000298 in f64.
            let is_single = f64::from(x as f32).to_bits() == x.to_bits();
            let shortest = is_single.then(|| (x as f32).to_string().parse().ok()).flatten();
            if let Some(short) = shortest.and_then(serde_json::Number::from_f64) {
                *number = short;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        Value::Object(fields) => {
            // What a section consists of by default is said at its keys.
            if fields.get("default").is_some_and(Value::is_object) {
                fields.remove("default");
            }
            for (key, value) in fields {
                match value {
                    Value::String(text) if key == "description" => {
                        *text = text.replace("[`", "`").replace("`]", "`").replace('\n', " ");
                    }
                    value => tidy(value),
                }
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_a_person_writes_them() {
        let mut value = serde_json::json!([0.2_f32, 1e-6_f32, 0.1, 3.0, 7]);
        tidy(&mut value);
        assert_eq!(value.to_string(), "[0.2,1e-6,0.1,3.0,7]");
    }
}
