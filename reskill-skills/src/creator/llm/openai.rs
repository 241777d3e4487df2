//! Chat completions as OpenAI defined them and as vLLM, SGLang, llama.cpp and many vendors serve them.

use serde_json::{Value, json};

use crate::creator::config::{CreatorConfig, StructuredOutput};
use crate::creator::llm::chat::{ChatError, ChatModel, FailureKind, Message, Reply, Usage};
use crate::creator::llm::http::{HttpClient, Secret, count, join};
use crate::creator::llm::schema::Schema;

/// Where the vendor itself is.
pub const BASE_URL: &str = "https://api.openai.com/v1";

/// A client of `<base_url>/chat/completions`.
#[derive(Debug, Clone)]
pub struct OpenAi {
    http: HttpClient,
    url: String,
    key: Option<Secret>,
    model: String,
    config: CreatorConfig,
}

impl OpenAi {
    /// A client. Without a key no `Authorization` is sent.
    #[must_use]
    pub fn new(config: &CreatorConfig, model: &str, key: Option<Secret>) -> Self {
        let base = config.base_url.as_deref().unwrap_or(BASE_URL);
        Self {
            http: HttpClient::new(config, base, key.iter().cloned().collect()),
            url: join(base, "chat/completions"),
            key,
            model: model.to_owned(),
            config: config.clone(),
        }
    }

    fn body(&self, messages: &[Message], schema: &Schema) -> Value {
        let mut body = json!({
            "model": self.model,
            "messages": messages,
            "max_completion_tokens": self.config.max_tokens,
        });
        if let Some(temperature) = self.config.temperature {
            body["temperature"] = json!(temperature);
        }
        match self.config.structured_output {
            StructuredOutput::Schema => {
                let named = json!({"name": schema.name(), "strict": true, "schema": schema.without_limits()});
                body["response_format"] = json!({"type": "json_schema", "json_schema": named});
            }
            StructuredOutput::Json => body["response_format"] = json!({"type": "json_object"}),
            StructuredOutput::Prompt => {}
        }
        body
    }
}

impl ChatModel for OpenAi {
    fn complete(&self, messages: &[Message], schema: &Schema) -> Result<Reply, ChatError> {
        let headers: Vec<(String, String)> = self
            .key
            .iter()
            .map(|key| ("authorization".to_owned(), format!("Bearer {}", key.reveal())))
            .collect();
        let body = self.body(messages, schema).to_string();
        let response = self.http.post(&self.url, &headers, body.as_bytes())?;
        let reply = read(&response)?;
        Ok(Reply { text: self.http.redact(&reply.text), ..reply })
    }
}

/// The reply in a response.
///
/// # Errors
/// [`FailureKind::Malformed`], [`FailureKind::Declined`], [`FailureKind::LengthLimit`].
pub fn read(response: &Value) -> Result<Reply, ChatError> {
    let choice = response.pointer("/choices/0").ok_or_else(|| {
        ChatError::new(FailureKind::Malformed, "the response has no `choices[0]`; is base_url a chat API?")
    })?;
    let text = match choice.pointer("/message/content") {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(parts)) => {
            parts.iter().filter_map(|part| part.get("text").and_then(Value::as_str)).collect()
        }
        _ => String::new(),
    };
    if let Some(refusal) = choice.pointer("/message/refusal").and_then(Value::as_str) {
        let refusal: String = refusal.chars().take(300).collect();
        return Err(ChatError::new(FailureKind::Declined, refusal));
    }
    match choice.get("finish_reason").and_then(Value::as_str) {
        Some("length") => {
            let detail = "the reply reached the token limit; raise max_tokens or shorten the prompts";
            return Err(ChatError::new(FailureKind::LengthLimit, detail));
        }
        Some("content_filter") => {
            return Err(ChatError::new(FailureKind::Declined, "a content filter stopped the reply"));
        }
        _ => {}
    }
    let usage = response.get("usage").unwrap_or(&Value::Null);
    let usage = Usage {
        prompt_tokens: count(usage, "prompt_tokens"),
        completion_tokens: count(usage, "completion_tokens"),
    };
    Ok(Reply { text, usage })
}
