//! A retriever behind HTTP: `POST /retrieve`, as Search-R1 serves it.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{Passage, Retriever};
use crate::error::EnvError;
use crate::fault::Fault;

/// What is asked of a server.
const REQUEST: &str = "retrieve";
/// Characters of a response that an error quotes.
const MAX_QUOTED: usize = 200;

/// Servers, and how patient to be with them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct HttpConfig {
    /// Addresses, e.g. `http://127.0.0.1:8000/retrieve`; tried in turn, each request beginning at the next one.
    pub urls: Vec<String>,
    /// Longest wait for a whole answer, in seconds, in (0, 3600]. Default 30.
    pub timeout_secs: f64,
    /// Attempts of a request over all addresses, 1..=100. Default 4.
    pub max_attempts: usize,
    /// Wait before an address is tried again, in seconds, in [0, 600]; doubled each time. Default 0.5.
    pub retry_base_secs: f64,
    /// Longest such wait, in seconds, in [0, 600]. Default 8.
    pub retry_cap_secs: f64,
    /// Queries in one request, 1..=10000. Default 128.
    pub batch_size: usize,
    /// Longest response, in bytes, >= 1. Default 64 MiB.
    pub max_response_bytes: u64,
}

impl Default for HttpConfig {
    fn default() -> Self {
        HttpConfig {
            urls: Vec::new(),
            timeout_secs: 30.0,
            max_attempts: 4,
            retry_base_secs: 0.5,
            retry_cap_secs: 8.0,
            batch_size: 128,
            max_response_bytes: 64 << 20,
        }
    }
}

impl HttpConfig {
    /// Checks the ranges; without addresses nothing is checked but those.
    ///
    /// # Errors
    /// [`EnvError::Config`].
    pub fn validate(&self) -> Result<(), EnvError> {
        let refuse = |key, value: String, expected| Err(EnvError::Config { key, value, expected });
        if let Some(url) =
            self.urls.iter().find(|url| !url.starts_with("http://") && !url.starts_with("https://"))
        {
            return refuse("http.urls", url.clone(), "addresses that begin with http:// or https://");
        }
        if !(self.timeout_secs > 0.0 && self.timeout_secs <= 3600.0) {
            return refuse("http.timeout_secs", self.timeout_secs.to_string(), "a number in (0, 3600]");
        }
        for (key, value) in
            [("http.retry_base_secs", self.retry_base_secs), ("http.retry_cap_secs", self.retry_cap_secs)]
        {
            if !(0.0..=600.0).contains(&value) {
                return refuse(key, value.to_string(), "a number in [0, 600]");
            }
        }
        if !(1..=100).contains(&self.max_attempts) {
            return refuse("http.max_attempts", self.max_attempts.to_string(), "1 to 100");
        }
        if !(1..=10_000).contains(&self.batch_size) {
            return refuse("http.batch_size", self.batch_size.to_string(), "1 to 10000");
        }
        if self.max_response_bytes == 0 {
            return refuse("http.max_response_bytes", "0".into(), "at least 1");
        }
        Ok(())
    }

    /// The wait before an address is tried for the `round`-th time again (from 1): `min(cap, base * 2^(round - 1))`.
    fn wait(&self, round: usize) -> Duration {
        let doubled = self.retry_base_secs * 2_f64.powi(round.saturating_sub(1).min(64) as i32);
        Duration::from_secs_f64(doubled.min(self.retry_cap_secs))
    }
}

/// Retrieval servers.
#[derive(Debug)]
pub struct HttpRetriever {
    config: HttpConfig,
    agents: Vec<ureq::Agent>,
    /// Requests so far: where the next one begins.
    turn: AtomicUsize,
}

/// Why one attempt failed, and whether it is of any use to ask the same address again.
struct Failure {
    fault: Fault,
    is_final: bool,
}

impl Failure {
    fn protocol(reason: String) -> Failure {
        Failure { fault: Fault::Protocol { request: REQUEST.into(), reason }, is_final: false }
    }
}

impl HttpRetriever {
    /// A client; nothing is sent yet.
    ///
    /// # Errors
    /// [`EnvError::Config`], also without any address.
    pub fn new(config: &HttpConfig) -> Result<HttpRetriever, EnvError> {
        config.validate()?;
        if config.urls.is_empty() {
            let (key, expected) = ("http.urls", "at least one address");
            return Err(EnvError::Config { key, value: "[]".into(), expected });
        }
        let agents = config.urls.iter().map(|url| agent(config, url)).collect();
        Ok(HttpRetriever { config: config.clone(), agents, turn: AtomicUsize::new(0) })
    }

    /// One request, tried over the addresses until one answers.
    fn ask(&self, queries: &[&str], top_k: usize) -> Result<Vec<Vec<Passage>>, EnvError> {
        let body = json!({ "queries": queries, "topk": top_k, "return_scores": true }).to_string();
        let (start, n_urls) = (self.turn.fetch_add(1, Ordering::Relaxed), self.agents.len());
        let mut last = None;
        for attempt in 0..self.config.max_attempts {
            let index = start.wrapping_add(attempt) % n_urls;
            if attempt > 0 && attempt.is_multiple_of(n_urls) {
                std::thread::sleep(self.config.wait(attempt / n_urls));
            }
            match self.attempt(index, body.as_bytes(), queries.len()) {
                Ok(lists) => {
                    return Ok(lists
                        .into_iter()
                        .map(|list| list.into_iter().take(top_k).collect())
                        .collect());
                }
                Err(Failure { fault, is_final }) => {
                    last = Some((index, fault));
                    if is_final && n_urls == 1 {
                        break;
                    }
                }
            }
        }
        let unasked = || (0, Fault::Start { reason: "no attempt is allowed".into() });
        let (index, fault) = last.unwrap_or_else(unasked);
        Err(EnvError::Fault { program: format!("retriever {}", self.config.urls[index]), fault })
    }

    fn attempt(&self, index: usize, body: &[u8], n_queries: usize) -> Result<Vec<Vec<Passage>>, Failure> {
        let url = &self.config.urls[index];
        let request = self.agents[index].post(url).header("content-type", "application/json");
        let mut response = request.send(body).map_err(|error| self.failure(&error))?;
        let status = response.status().as_u16();
        let limit = self.config.max_response_bytes;
        let read = response.body_mut().with_config().limit(limit).read_to_vec();
        if !(200..300).contains(&status) {
            let said = quote(&String::from_utf8_lossy(&read.unwrap_or_default()));
            let is_final = !matches!(status, 408 | 429 | 500..600);
            let fault =
                Fault::Refused { request: REQUEST.into(), reason: format!("status {status}: {said}") };
            return Err(Failure { fault, is_final });
        }
        let bytes = read.map_err(|error| self.failure(&error))?;
        let said = || quote(&String::from_utf8_lossy(&bytes));
        let value: Value = serde_json::from_slice(&bytes)
            .map_err(|error| Failure::protocol(format!("the response is not JSON ({error}): {}", said())))?;
        let lists = parse_result(&value)
            .map_err(|reason| Failure::protocol(format!("{reason} in the response: {}", said())))?;
        if lists.len() != n_queries {
            let (found, asked) = (lists.len(), n_queries);
            return Err(Failure::protocol(format!("{found} lists of passages for {asked} queries")));
        }
        Ok(lists)
    }

    fn failure(&self, error: &ureq::Error) -> Failure {
        let request = REQUEST.to_owned();
        let fault = match error {
            ureq::Error::Timeout(_) => {
                Fault::TimedOut { request, limit: Duration::from_secs_f64(self.config.timeout_secs) }
            }
            ureq::Error::BodyExceedsLimit(limit) => {
                Fault::Protocol { request, reason: format!("the response has more than {limit} bytes") }
            }
            other => Fault::Lost { request, reason: quote(&other.to_string()) },
        };
        Failure { fault, is_final: false }
    }
}

impl Retriever for HttpRetriever {
    fn retrieve(&self, queries: &[&str], top_k: usize) -> Result<Vec<Vec<Passage>>, EnvError> {
        let mut lists = Vec::with_capacity(queries.len());
        for batch in queries.chunks(self.config.batch_size) {
            lists.extend(self.ask(batch, top_k)?);
        }
        Ok(lists)
    }
}

/// A client of one address. Proxies of the environment are used, but not to reach this machine.
fn agent(config: &HttpConfig, url: &str) -> ureq::Agent {
    let mut builder = ureq::Agent::config_builder()
        .timeout_global(Some(Duration::from_secs_f64(config.timeout_secs)))
        .http_status_as_error(false)
        .user_agent(concat!("reskill/", env!("CARGO_PKG_VERSION")));
    let host = url.split("://").nth(1).unwrap_or_default();
    if ["127.", "localhost", "[::1]"].iter().any(|local| host.starts_with(local)) {
        builder = builder.proxy(None);
    }
    builder.build().into()
}

/// The lists of passages in `{"result": [[..], ..]}`. An entry is `{"document": D, "score": s}` or a bare document D; a
/// document has `contents` (title, line break, text), or `text` and perhaps `title`.
fn parse_result(value: &Value) -> Result<Vec<Vec<Passage>>, String> {
    let lists = value.get("result").and_then(Value::as_array).ok_or("no list `result`")?;
    let entry = |entry: &Value| {
        let document = entry.get("document").unwrap_or(entry);
        let score = entry.get("score").and_then(Value::as_f64).unwrap_or(0.0) as f32;
        let field = |key: &str| document.get(key).and_then(Value::as_str);
        match (field("contents"), field("text")) {
            (Some(contents), _) => Ok(Passage::from_contents(contents, score)),
            (None, Some(text)) => {
                let title = field("title").unwrap_or_default().to_owned();
                Ok(Passage { title, text: text.to_owned(), score })
            }
            _ => Err("a passage without `contents` or `text`".to_owned()),
        }
    };
    let list = |list: &Value| -> Result<Vec<Passage>, String> {
        list.as_array().ok_or("a result that is no list")?.iter().map(entry).collect()
    };
    lists.iter().map(list).collect()
}

/// The beginning of a text in one line.
fn quote(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_QUOTED) {
        Some((end, _)) => format!("{} [..]", &line[..end]),
        None if line.is_empty() => "(empty)".into(),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_with_and_without_scores() {
        let with = json!({"result": [[{"document": {"id": "1", "contents": "T\nx\ny"}, "score": 0.5}], []]});
        let passage = Passage { title: "T".into(), text: "x\ny".into(), score: 0.5 };
        assert_eq!(parse_result(&with).unwrap(), [vec![passage.clone()], vec![]]);
        let bare = json!({"result": [[{"contents": "T\nx\ny"}, {"title": "T", "text": "x\ny"}]]});
        let unscored = Passage { score: 0.0, ..passage };
        assert_eq!(parse_result(&bare).unwrap(), [vec![unscored.clone(), unscored]]);
    }

    #[test]
    fn other_responses_are_refused_with_what_is_missing() {
        for (response, fragment) in [
            (json!({"results": []}), "`result`"),
            (json!({"result": [{}]}), "no list"),
            (json!({"result": [[{"document": {"id": 1}}]]}), "`contents`"),
        ] {
            assert!(parse_result(&response).unwrap_err().contains(fragment), "{response}");
        }
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let config = HttpConfig { retry_base_secs: 1.0, retry_cap_secs: 3.0, ..HttpConfig::default() };
        let waits: Vec<f64> = (1..=4).map(|round| config.wait(round).as_secs_f64()).collect();
        assert_eq!(waits, [1.0, 2.0, 3.0, 3.0]);
    }
}
