//! AWS Bedrock, the Converse API, signed with Signature Version 4.

use std::time::SystemTime;

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use serde_json::{Value, json};

use crate::creator::config::{CreatorConfig, StructuredOutput};
use crate::creator::llm::chat::{ChatError, ChatModel, FailureKind, Message, Reply, Role, Usage};
use crate::creator::llm::http::{HttpClient, Secret, count, join};
use crate::creator::llm::schema::Schema;

/// Keys of an AWS identity.
#[derive(Debug, Clone)]
pub struct AwsKeys {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key_id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_access_key: Secret,
    /// `AWS_SESSION_TOKEN`, for temporary keys.
    pub session_token: Option<Secret>,
}

/// A client of `<base_url>/model/<id>/converse`.
#[derive(Debug, Clone)]
pub struct Bedrock {
    http: HttpClient,
    url: String,
    keys: AwsKeys,
    region: String,
    config: CreatorConfig,
}

impl Bedrock {
    /// A client.
    #[must_use]
    pub fn new(config: &CreatorConfig, model: &str, region: &str, keys: AwsKeys) -> Self {
        let vendor = format!("https://bedrock-runtime.{region}.amazonaws.com");
        let base = config.base_url.as_deref().unwrap_or(&vendor);
        let secrets = std::iter::once(&keys.secret_access_key).chain(&keys.session_token).cloned().collect();
        Self {
            http: HttpClient::new(config, base, secrets),
            url: join(base, &format!("model/{}/converse", percent_encode(model))),
            keys,
            region: region.to_owned(),
            config: config.clone(),
        }
    }

    fn body(&self, messages: &[Message], schema: &Schema) -> Value {
        let (system, others): (Vec<&Message>, Vec<&Message>) =
            messages.iter().partition(|message| message.role == Role::System);
        let block = |message: &&Message| json!({"text": message.content});
        let others: Vec<Value> = others
            .iter()
            .map(|message| json!({"role": message.role.as_str(), "content": [block(message)]}))
            .collect();
        let mut body = json!({
            "messages": others,
            "system": system.iter().map(block).collect::<Vec<_>>(),
            "inferenceConfig": {"maxTokens": self.config.max_tokens},
        });
        if let Some(temperature) = self.config.temperature {
            body["inferenceConfig"]["temperature"] = json!(temperature);
        }
        if self.config.structured_output == StructuredOutput::Schema {
            let tool = json!({
                "name": schema.name(),
                "description": "Takes the answer.",
                "inputSchema": {"json": schema.without_limits()},
            });
            let choice = json!({"tool": {"name": schema.name()}});
            body["toolConfig"] = json!({"tools": [{"toolSpec": tool}], "toolChoice": choice});
        }
        body
    }

    /// The headers that sign a request made at `time`.
    ///
    /// # Errors
    /// [`FailureKind::Rejected`] if the address or the keys cannot be signed with.
    pub fn sign(&self, body: &[u8], time: SystemTime) -> Result<Vec<(String, String)>, ChatError> {
        let failed =
            |what: String| ChatError::new(FailureKind::Rejected, format!("cannot be signed: {what}"));
        let keys = &self.keys;
        let identity = Credentials::new(
            keys.access_key_id.clone(),
            keys.secret_access_key.reveal(),
            keys.session_token.as_ref().map(|token| token.reveal().to_owned()),
            None,
            "reskill",
        )
        .into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("bedrock")
            .time(time)
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| failed(error.to_string()))?
            .into();
        let headers = [("content-type", "application/json")];
        let request = SignableRequest::new("POST", &self.url, headers.into_iter(), SignableBody::Bytes(body))
            .map_err(|error| failed(error.to_string()))?;
        let (instructions, _) =
            sign(request, &params).map_err(|error| failed(error.to_string()))?.into_parts();
        Ok(instructions.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
    }
}

impl ChatModel for Bedrock {
    fn complete(&self, messages: &[Message], schema: &Schema) -> Result<Reply, ChatError> {
        let body = self.body(messages, schema).to_string();
        let headers = self.sign(body.as_bytes(), SystemTime::now())?;
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
    let content = response.pointer("/output/message/content").and_then(Value::as_array).ok_or_else(|| {
        ChatError::new(FailureKind::Malformed, "the response has no `output.message.content`")
    })?;
    match response.get("stopReason").and_then(Value::as_str) {
        Some("max_tokens") => {
            let detail = "the reply reached the token limit; raise max_tokens or shorten the prompts";
            return Err(ChatError::new(FailureKind::LengthLimit, detail));
        }
        Some(reason @ ("guardrail_intervened" | "content_filtered")) => {
            return Err(ChatError::new(FailureKind::Declined, reason));
        }
        _ => {}
    }
    let text = match content.iter().find_map(|block| block.pointer("/toolUse/input")) {
        Some(input) => input.to_string(),
        None => content.iter().filter_map(|block| block.get("text").and_then(Value::as_str)).collect(),
    };
    let usage = response.get("usage").unwrap_or(&Value::Null);
    let usage =
        Usage { prompt_tokens: count(usage, "inputTokens"), completion_tokens: count(usage, "outputTokens") };
    Ok(Reply { text, usage })
}

/// A path segment: everything but unreserved characters is escaped (RFC 3986, section 2.3), colons and slashes of model
/// ids included.
fn percent_encode(segment: &str) -> String {
    let mut out = String::new();
    for byte in segment.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
