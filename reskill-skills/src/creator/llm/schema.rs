//! JSON schemas of the stages: generated from the types, sent to servers, enforced on replies.

use std::sync::Arc;

use schemars::JsonSchema;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Keywords that limit values. Some servers refuse schemas with them; the check of the reply enforces them in any case.
const LIMITS: [&str; 6] = ["minimum", "maximum", "minLength", "maxLength", "minItems", "maxItems"];

/// A closed schema: every object lists all its keys as required and allows no other.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    name: &'static str,
    value: Arc<Value>,
}

/// Where a value breaks a schema, and how.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{path}`: {what}")]
pub struct Violation {
    /// The place, e.g. `recommendations[1].skill`.
    pub path: String,
    /// What is wrong there.
    pub what: String,
}

impl Schema {
    /// The schema of a type.
    #[must_use]
    pub fn of<T: JsonSchema>(name: &'static str) -> Self {
        let settings = SchemaSettings::draft2020_12().with(|settings| {
            settings.inline_subschemas = true;
            settings.meta_schema = None;
        });
        let mut value = settings.into_generator().into_root_schema_for::<T>().to_value();
        close(&mut value);
        if let Some(root) = value.as_object_mut() {
            root.remove("title");
        }
        Self { name, value: Arc::new(value) }
    }

    /// A name for servers that want one.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The whole schema, limits included.
    #[must_use]
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// The schema without limits on sizes and ranges: what every server that knows schemas accepts.
    #[must_use]
    pub fn without_limits(&self) -> Value {
        let mut value = (*self.value).clone();
        strip(&mut value);
        value
    }

    /// Checks a value. An absent key passes where null would.
    ///
    /// # Errors
    /// The first violation.
    pub fn check(&self, value: &Value) -> Result<(), Violation> {
        check(&self.value, value, "")
    }
}

/// Requires all keys and forbids others, and turns a choice between constants into an `enum`.
fn close(schema: &mut Value) {
    if let Some(list) = schema.as_array_mut() {
        list.iter_mut().for_each(close);
    }
    let Some(object) = schema.as_object_mut() else { return };
    let constants: Option<Vec<Value>> = object
        .get("oneOf")
        .and_then(Value::as_array)
        .and_then(|choices| choices.iter().map(|choice| choice.get("const").cloned()).collect());
    if let Some(constants) = constants {
        object.remove("oneOf");
        object.insert("type".into(), json!("string"));
        object.insert("enum".into(), Value::Array(constants));
    }
    for keyword in ["format", "default", "$schema"] {
        if !object.get(keyword).is_some_and(Value::is_object) {
            object.remove(keyword);
        }
    }
    let keys = object.get("properties").and_then(Value::as_object).map(|p| p.keys().cloned().collect());
    if let Some(keys) = keys {
        object.insert("required".into(), Value::Array(Vec::into_iter(keys).map(Value::String).collect()));
        object.insert("additionalProperties".into(), Value::Bool(false));
    }
    for (keyword, part) in object.iter_mut() {
        match keyword.as_str() {
            "properties" => {
                if let Some(properties) = part.as_object_mut() {
                    properties.values_mut().for_each(close);
                }
            }
            "items" | "anyOf" | "oneOf" => close(part),
            _ => {}
        }
    }
}

fn strip(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            let is_property_map = |object: &Map<String, Value>| object.values().all(Value::is_object);
            if !is_property_map(object) {
                LIMITS.iter().for_each(|keyword| drop(object.remove(*keyword)));
            }
            object.values_mut().for_each(strip);
        }
        Value::Array(list) => list.iter_mut().for_each(strip),
        _ => {}
    }
}

fn check(schema: &Value, value: &Value, path: &str) -> Result<(), Violation> {
    let Some(schema) = schema.as_object() else { return Ok(()) };
    let fail = |what: String| {
        let path = if path.is_empty() { "the reply" } else { path };
        Err(Violation { path: path.to_owned(), what })
    };
    if let Some(choices) = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array) {
        let results: Vec<_> = choices.iter().map(|choice| check(choice, value, path)).collect();
        if !results.iter().any(Result::is_ok) {
            // The choice that got furthest says most.
            let deepest = results.into_iter().filter_map(Result::err).max_by_key(|error| error.path.len());
            return deepest.map_or(Ok(()), Err);
        }
    }
    if let Some(types) = schema.get("type") {
        let allowed: Vec<&str> = match types {
            Value::Array(list) => list.iter().filter_map(Value::as_str).collect(),
            other => other.as_str().into_iter().collect(),
        };
        if !allowed.iter().any(|kind| is_of_type(value, kind)) {
            return fail(format!("is {}, expected {}", type_of(value), allowed.join(" or ")));
        }
    }
    if value.is_null() {
        return Ok(());
    }
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        return fail(format!("is {}, expected one of {}", excerpt(value), allowed.join(", ")));
    }
    let limits = |low: &str, high: &str| {
        (schema.get(low).and_then(Value::as_f64), schema.get(high).and_then(Value::as_f64))
    };
    let outside = |n: f64, (low, high): (Option<f64>, Option<f64>)| {
        low.is_some_and(|low| n < low) || high.is_some_and(|high| n > high)
    };
    let range = |(low, high): (Option<f64>, Option<f64>)| {
        let shown = |bound: Option<f64>| bound.map_or("any".to_owned(), |bound| bound.to_string());
        format!("{} to {}", shown(low), shown(high))
    };
    match value {
        Value::Number(number) => {
            let bounds = limits("minimum", "maximum");
            if number.as_f64().is_none_or(|n| outside(n, bounds)) {
                return fail(format!("is {number}, expected {}", range(bounds)));
            }
        }
        Value::String(text) => {
            let (n, bounds) = (text.chars().count(), limits("minLength", "maxLength"));
            if outside(as_f64(n), bounds) {
                return fail(format!("has {n} characters, expected {}", range(bounds)));
            }
        }
        Value::Array(items) => {
            let bounds = limits("minItems", "maxItems");
            if outside(as_f64(items.len()), bounds) {
                return fail(format!("has {} items, expected {}", items.len(), range(bounds)));
            }
            if let Some(of) = schema.get("items") {
                for (index, item) in items.iter().enumerate() {
                    check(of, item, &format!("{path}[{index}]"))?;
                }
            }
        }
        Value::Object(fields) => {
            let empty = Map::new();
            let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&empty);
            let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
            if let Some(stranger) = fields.keys().find(|key| !properties.contains_key(*key)) {
                let known: Vec<&str> = properties.keys().map(String::as_str).collect();
                let stranger: String = stranger.chars().take(60).collect();
                return fail(format!("has an unknown key `{stranger}`, expected {}", known.join(", ")));
            }
            for (key, of) in properties {
                match fields.get(key) {
                    Some(field) => check(of, field, &below(key))?,
                    None if check(of, &Value::Null, "").is_ok() => {}
                    None => return fail(format!("lacks the key `{key}`")),
                }
            }
        }
        Value::Null | Value::Bool(_) => {}
    }
    Ok(())
}

fn is_of_type(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => false,
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

fn excerpt(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}

#[expect(clippy::cast_precision_loss, reason = "lengths stay far below 2^52")]
fn as_f64(n: usize) -> f64 {
    n as f64
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Serialize, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    enum Kind {
        /// One.
        One,
        /// Two.
        Two,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Inner {
        /// A count named like a keyword.
        #[schemars(range(min = 0, max = 3))]
        minimum: u32,
        kind: Kind,
    }

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct Outer {
        #[schemars(length(min = 1, max = 5))]
        text: String,
        maybe: Option<Inner>,
        #[schemars(length(max = 2))]
        list: Vec<Inner>,
    }

    #[test]
    fn schemas_are_closed_and_send_no_limits() {
        let schema = Schema::of::<Outer>("outer");
        let sent = schema.without_limits();
        assert_eq!(sent["additionalProperties"], false);
        assert_eq!(sent["required"], json!(["text", "maybe", "list"].map(String::from)).sorted());
        assert_eq!(sent["properties"]["list"]["items"]["additionalProperties"], false);
        // The property that is named like a keyword stays, its own limits go.
        let minimum = &sent["properties"]["list"]["items"]["properties"]["minimum"];
        assert_eq!(minimum["type"], "integer");
        assert!(minimum.get("maximum").is_none() && sent["properties"]["text"].get("maxLength").is_none());
        assert_eq!(schema.value()["properties"]["text"]["maxLength"], 5);
        assert!(!sent.to_string().contains("$ref") && !sent.to_string().contains("oneOf"), "{sent}");
    }

    trait Sorted {
        fn sorted(self) -> Value;
    }

    impl Sorted for Value {
        fn sorted(self) -> Value {
            let mut items: Vec<String> =
                self.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect();
            items.sort();
            json!(items)
        }
    }

    #[test]
    fn violations_name_the_place() {
        let schema = Schema::of::<Outer>("outer");
        let inner = json!({"minimum": 1, "kind": "one"});
        let good = json!({"text": "abc", "maybe": null, "list": [inner]});
        assert_eq!(schema.check(&good), Ok(()));
        assert_eq!(schema.check(&json!({"text": "abc", "list": []})), Ok(()), "an absent null");
        for (value, path, fragment) in [
            (json!([]), "the reply", "an array, expected object"),
            (json!({"text": 3, "list": []}), "text", "a number, expected string"),
            (json!({"text": "abcdef", "list": []}), "text", "6 characters"),
            (json!({"text": "a"}), "the reply", "lacks the key `list`"),
            (json!({"text": "a", "list": [], "more": 1}), "the reply", "unknown key `more`"),
            (json!({"text": "a", "list": [inner, inner, inner]}), "list", "3 items"),
            (json!({"text": "a", "list": [{"minimum": 4, "kind": "one"}]}), "list[0].minimum", "0 to 3"),
            (json!({"text": "a", "list": [{"minimum": -1, "kind": "one"}]}), "list[0].minimum", "-1"),
            (json!({"text": "a", "list": [{"minimum": 0.5, "kind": "one"}]}), "list[0].minimum", "integer"),
            (json!({"text": "a", "list": [{"minimum": 1, "kind": "3"}]}), "list[0].kind", "one of"),
            (json!({"text": "a", "list": [], "maybe": {"minimum": 1, "kind": 1}}), "maybe.kind", "string"),
        ] {
            let violation = schema.check(&value).unwrap_err();
            assert_eq!(violation.path, path, "{violation}");
            assert!(violation.what.contains(fragment), "{violation}");
        }
    }
}
