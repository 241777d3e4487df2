//! Anthropic Messages. The shape of an answer is that of a tool the model is made to call.

use serde_json::{Value, json};

use crate::creator::config::{CreatorConfig, StructuredOutput};
use crate::creator::llm::chat::{ChatError, ChatModel, FailureKind, Message, Reply, Role, Usage};
use crate::creator::llm::http::{HttpClient, Secret, count, join};
use crate::creator::llm::schema::Schema;

/// Where the vendor is.
pub const BASE_URL: &str = "https://api.anthropic.com/v1";
/// Version of the API.
const VERSION: &str = "2023-06-01";

/// A client of `<base_url>/messages`.
#[derive(Debug, Clone)]
pub struct Anthropic {
    http: HttpClient,
    url: String,
    key: Option<Secret>,
    model: String,
    config: CreatorConfig,
}

impl Anthropic {
    /// A client. Without a key no `x-api-key` is sent.
    #[must_use]
    pub fn new(config: &CreatorConfig, model: &str, key: Option<Secret>) -> Self {
        let base = config.base_url.as_deref().unwrap_or(BASE_URL);
        Self {
            http: HttpClient::new(config, base, key.iter().cloned().collect()),
            url: join(base, "messages"),
            key,
            model: model.to_owned(),
            config: config.clone(),
        }
    }

    fn body(&self, messages: &[Message], schema: &Schema) -> Value {
        let (system, others): (Vec<&Message>, Vec<&Message>) =
            messages.iter().partition(|message| message.role == Role::System);
        let mut body = json!({
            "model": self.model,
            "max_tokens": self.config.max_tokens,
            "messages": others,
        });
        if let Some(system) = system.first() {
            body["system"] = json!(system.content);
        }
        if let Some(temperature) = self.config.temperature {
            body["temperature"] = json!(temperature);
        }
        if self.config.structured_output == StructuredOutput::Schema {
            body["tools"] = json!([{
                "name": schema.name(),
                "description": "Takes the answer.",
                "input_schema": schema.without_limits(),
            }]);
            body["tool_choice"] = json!({"type": "tool", "name": schema.name()});
        }
        body
    }
}

impl ChatModel for Anthropic {
    fn complete(&self, messages: &[Message], schema: &Schema) -> Result<Reply, ChatError> {
        let mut headers = vec![("anthropic-version".to_owned(), VERSION.to_owned())];
        headers.extend(self.key.iter().map(|key| ("x-api-key".to_owned(), key.reveal().to_owned())));
        let body = self.body(messages, schema).to_string();
        let response = self.http.post(&self.url, &headers, body.as_bytes())?;
        let reply = read(&response)?;
        Ok(Reply { text: self.http.redact(&reply.text), ..reply })
    }
}

/// The reply in a response: the tool's input if the tool was called, else the text.
///
/// # Errors
/// [`FailureKind::Malformed`], [`FailureKind::Declined`], [`FailureKind::LengthLimit`].
pub fn read(response: &Value) -> Result<Reply, ChatError> {
    let content = response.get("content").and_then(Value::as_array).ok_or_else(|| {
        ChatError::new(FailureKind::Malformed, "the response has no `content`; is base_url the Messages API?")
    })?;
    match response.get("stop_reason").and_then(Value::as_str) {
        Some("max_tokens") => {
            let detail = "the reply reached the token limit; raise max_tokens or shorten the prompts";
            return Err(ChatError::new(FailureKind::LengthLimit, detail));
        }
        Some("refusal") => return Err(ChatError::new(FailureKind::Declined, "the model declined")),
        _ => {}
    }
    let tool = content.iter().find(|block| block["type"] == "tool_use").and_then(|block| block.get("input"));
    let text = match tool {
        Some(input) => input.to_string(),
        None => content.iter().filter_map(|block| block.get("text").and_then(Value::as_str)).collect(),
    };
    let usage = response.get("usage").unwrap_or(&Value::Null);
    let prompt = ["input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens"];
    let usage = Usage {
        prompt_tokens: prompt.iter().map(|key| count(usage, key)).sum(),
        completion_tokens: count(usage, "output_tokens"),
    };
    Ok(Reply { text, usage })
}
