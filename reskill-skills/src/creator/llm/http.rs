//! One POST of JSON with limits on time and size, and with secrets that stay secret.

use std::fmt;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::creator::config::CreatorConfig;
use crate::creator::llm::chat::{ChatError, FailureKind};
use crate::creator::llm::retry::parse_retry_after;

/// Characters of a response that an error quotes.
const MAX_QUOTED: usize = 300;
/// Shorter keys (`none`, `EMPTY`) are placeholders and no secrets.
const SHORTEST_SECRET: usize = 8;

/// A key. It can be sent, but not printed or serialised.
#[derive(Clone)]
pub struct Secret(String);

impl Secret {
    /// Keeps a key; blanks around it go. `None` if it is empty or holds what cannot stand in a header.
    #[must_use]
    pub fn new(key: &str) -> Option<Self> {
        let key = key.trim();
        let legal = !key.is_empty() && key.bytes().all(|b| (0x21..0x7f).contains(&b));
        legal.then(|| Self(key.to_owned()))
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A client with its limits.
#[derive(Debug, Clone)]
pub(super) struct HttpClient {
    agent: ureq::Agent,
    max_bytes: u64,
    timeout: Duration,
    /// Blotted out wherever a server echoes them.
    secrets: Vec<Secret>,
}

impl HttpClient {
    /// A client for `base_url`. Redirects are not followed: they could carry the key elsewhere. Proxies of the
    /// environment are used, but not to reach this machine.
    pub(super) fn new(config: &CreatorConfig, base_url: &str, secrets: Vec<Secret>) -> Self {
        let timeout = Duration::from_secs_f64(config.timeout_secs);
        let mut builder = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs_f64(config.connect_timeout_secs)))
            .timeout_global(Some(timeout))
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .user_agent(concat!("reskill/", env!("CARGO_PKG_VERSION")));
        let host = base_url.split("://").nth(1).unwrap_or_default();
        if ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local)) {
            builder = builder.proxy(None);
        }
        let secrets = secrets.into_iter().filter(|secret| secret.0.len() >= SHORTEST_SECRET).collect();
        Self { agent: builder.build().into(), max_bytes: config.max_response_bytes, timeout, secrets }
    }

    /// Sends `body` and reads the JSON that comes back.
    pub(super) fn post(
        &self,
        url: &str,
        headers: &[(String, String)],
        body: &[u8],
    ) -> Result<Value, ChatError> {
        let mut request = self.agent.post(url).header("content-type", "application/json");
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let mut response = request.send(body).map_err(|error| self.failure(&error))?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get("retry-after")
            .and_then(|value| value.to_str().ok())
            .and_then(|value| parse_retry_after(value, SystemTime::now()));
        let read = response.body_mut().with_config().limit(self.max_bytes).read_to_vec();
        // The status of a failure says more than what is wrong with its body.
        let bytes = match read {
            Err(_) if !(200..300).contains(&status) => Vec::new(),
            read => read.map_err(|error| self.failure(&error))?,
        };
        let text = self.redact(&String::from_utf8_lossy(&bytes));
        let quoted = quote(&text);
        let kind = match status {
            200..300 => {
                let what = |error| format!("the response is not JSON ({error}): {quoted}");
                let value: Value = serde_json::from_str(&text)
                    .map_err(|error| ChatError::new(FailureKind::Malformed, what(error)))?;
                return match value.get("error").filter(|error| !error.is_null()) {
                    Some(error) => Err(ChatError::new(
                        FailureKind::Server,
                        format!("status {status} with an error: {}", quote(&error.to_string())),
                    )),
                    None => Ok(value),
                };
            }
            429 => FailureKind::RateLimited,
            408 | 500..600 => FailureKind::Server,
            401 | 403 => FailureKind::Unauthorized,
            _ => FailureKind::Rejected,
        };
        let hint = match kind {
            FailureKind::Unauthorized => "; check the key and what it may do",
            FailureKind::Rejected if (300..400).contains(&status) => {
                "; redirects are not followed, set base_url to the final address"
            }
            FailureKind::Rejected if status == 404 => "; check base_url and model",
            _ => "",
        };
        Err(ChatError { kind, detail: format!("status {status}: {quoted}{hint}"), retry_after })
    }

    /// A text in which no secret is left.
    pub(super) fn redact(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(&secret.0, "[key]"))
    }

    fn failure(&self, error: &ureq::Error) -> ChatError {
        let (kind, detail) = match error {
            ureq::Error::Timeout(phase) => {
                (FailureKind::Timeout, format!("no answer within {} s ({phase})", self.timeout.as_secs_f64()))
            }
            ureq::Error::BodyExceedsLimit(limit) => {
                (FailureKind::TooLarge, format!("the response has more than {limit} bytes"))
            }
            other => (FailureKind::Connection, quote(&other.to_string())),
        };
        ChatError::new(kind, self.redact(&detail))
    }
}

/// The beginning of a text in one line.
fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let quoted: String = line.chars().take(MAX_QUOTED).collect();
    match line.chars().count() {
        0 => "(empty)".into(),
        n if n > MAX_QUOTED => format!("{quoted} [{} more characters]", n - MAX_QUOTED),
        _ => quoted,
    }
}

/// The address of an endpoint.
pub(super) fn join(base_url: &str, path: &str) -> String {
    format!("{}/{path}", base_url.trim_end_matches('/'))
}

/// A number of a response; 0 if it is missing.
pub(super) fn count(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cannot_be_printed_and_are_blotted_out() {
        let key = Secret::new(" sk-0123456789 \n").unwrap();
        assert_eq!(format!("{key:?}"), "Secret(..)");
        let client = HttpClient::new(&CreatorConfig::default(), "http://localhost", vec![key]);
        assert_eq!(client.redact("wrong key sk-0123456789!"), "wrong key [key]!");
        assert!(
            Secret::new("").is_none() && Secret::new("a b").is_none() && Secret::new("a\r\nb: c").is_none()
        );
    }
}
