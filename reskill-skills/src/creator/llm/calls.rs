//! From a model that answers to answers that can be relied on: retries, record, ledger, check and one correction.

use std::sync::Arc;
use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde_json::json;
use tracing::debug;

use crate::creator::cost::{CreatorCost, CreatorHandle};
use crate::creator::llm::chat::{ChatError, ChatModel, FailureKind, Message, Reply, Role};
use crate::creator::llm::prompts::Prompts;
use crate::creator::llm::record::{CallFiles, RecordedCall, RecordedReply, request_sha256};
use crate::creator::llm::reply::extract_json;
use crate::creator::llm::retry::RetryPolicy;
use crate::creator::llm::schema::Schema;
use crate::error::SkillError;

/// Longest part of a reply that is quoted back to the model when it is corrected, in characters.
const MAX_QUOTED: usize = 8_000;
/// How often a waiting call looks whether it was called off.
const TICK: Duration = Duration::from_millis(20);

/// Makes the calls of one creator.
#[derive(Clone)]
pub struct Caller {
    /// The model; `None` where calls are only replayed.
    pub model: Option<Arc<dyn ChatModel>>,
    /// When calls are tried again.
    pub retry: RetryPolicy,
    /// Where calls are kept.
    pub files: Option<CallFiles>,
    /// Ledger, and the way to be called off.
    pub handle: CreatorHandle,
    /// The prompts; here the one that asks for a correction.
    pub prompts: Arc<Prompts>,
}

/// A reply that passed its checks, or why there is none.
type Checked<T> = Result<T, (FailureKind, String)>;

impl Caller {
    /// Asks for a value of type `T`. A reply that is not such a value, or that `check` refuses, is sent back once with
    /// what is wrong.
    ///
    /// # Errors
    /// [`SkillError::Chat`] with the name of the call.
    pub fn ask<T: DeserializeOwned + JsonSchema>(
        &self,
        step: u64,
        call: &str,
        schema_name: &'static str,
        mut messages: Vec<Message>,
        check: &dyn Fn(&T) -> Result<(), String>,
    ) -> Result<T, SkillError> {
        let schema = Schema::of::<T>(schema_name);
        let failed = |call: &str, source: ChatError| SkillError::Chat { call: call.to_owned(), source };
        let reply = self.call(step, call, &messages, &schema).map_err(|error| failed(call, error))?;
        let (kind, violation) = match read(&reply, &schema, check) {
            Ok(value) => return Ok(value),
            Err(wrong) => wrong,
        };
        debug!(call, violation, "a reply is sent back");
        self.handle.record(|cost| {
            cost.count_error(kind.as_str());
            cost.corrections += 1;
        });
        let quoted: String = reply.text.chars().take(MAX_QUOTED).collect();
        messages.push(Message::new(Role::Assistant, quoted));
        messages
            .push(Message::new(Role::User, self.prompts.render("correct", &json!({"violation": violation}))));
        let call = format!("{call}-corrected");
        let reply = self.call(step, &call, &messages, &schema).map_err(|error| failed(&call, error))?;
        read(&reply, &schema, check).map_err(|(kind, violation)| {
            self.handle.record(|cost| cost.count_error(kind.as_str()));
            failed(&call, ChatError::new(kind, violation))
        })
    }

    /// One call with its retries, from the record if it is there.
    fn call(&self, step: u64, call: &str, messages: &[Message], schema: &Schema) -> Result<Reply, ChatError> {
        let call = format!("step-{step:06}-{call}");
        let request = request_sha256(messages, schema);
        let recorded = match self.files.as_ref().map(|files| files.find(&call, &request)).transpose() {
            Ok(found) => found.flatten(),
            Err(error) => {
                self.handle.record(|cost| cost.count_error(error.kind.as_str()));
                return Err(error);
            }
        };
        if let Some(recorded) = recorded {
            self.handle.record(|cost| cost.add(&recorded.cost));
            return match recorded.outcome {
                RecordedReply::Reply(reply) => Ok(reply),
                RecordedReply::Failed { kind, detail } => Err(ChatError::new(kind, detail)),
            };
        }
        let (result, cost) = self.attempts(step, &call, messages, schema);
        self.handle.record(|sum| sum.add(&cost));
        let called_off = result.as_ref().is_err_and(|error| error.kind == FailureKind::CalledOff);
        if let Some(files) = self.files.as_ref().filter(|_| !called_off) {
            let outcome = match &result {
                Ok(reply) => RecordedReply::Reply(reply.clone()),
                Err(error) => RecordedReply::Failed { kind: error.kind, detail: error.detail.clone() },
            };
            let recorded = RecordedCall {
                request_sha256: request,
                messages: messages.to_vec(),
                schema: schema.name().to_owned(),
                outcome,
                cost,
            };
            files.add(&call, &recorded)?;
        }
        result
    }

    fn attempts(
        &self,
        step: u64,
        call: &str,
        messages: &[Message],
        schema: &Schema,
    ) -> (Result<Reply, ChatError>, CreatorCost) {
        let mut cost = CreatorCost { calls: 1, ..CreatorCost::default() };
        let Some(model) = &self.model else {
            let missing = "there is neither a model nor a record of the call";
            return (Err(ChatError::new(FailureKind::NotRecorded, missing)), cost);
        };
        let mut attempt = 1;
        loop {
            if self.handle.is_called_off(step) {
                let given_up = "the step that needed the answer has given up";
                return (Err(ChatError::new(FailureKind::CalledOff, given_up)), cost);
            }
            let start = Instant::now();
            let result = model.complete(messages, schema);
            cost.seconds += start.elapsed().as_secs_f64();
            let result = result.and_then(|reply| {
                cost.prompt_tokens += reply.usage.prompt_tokens;
                cost.completion_tokens += reply.usage.completion_tokens;
                if reply.text.trim().is_empty() {
                    return Err(ChatError::new(FailureKind::Empty, "the reply holds no text"));
                }
                Ok(reply)
            });
            let error = match result {
                Ok(reply) => return (Ok(reply), cost),
                Err(error) => error,
            };
            cost.count_error(error.kind.as_str());
            debug!(call, attempt, %error, "an attempt failed");
            let delay =
                error.kind.is_passing().then(|| self.retry.delay(call, attempt, error.retry_after)).flatten();
            let Some(delay) = delay else {
                let tried = if attempt == 1 { String::new() } else { format!(" ({attempt} attempts)") };
                let asked = error.retry_after.map_or(String::new(), |asked| {
                    format!("; the server asks to wait {} s", asked.as_secs())
                });
                let detail = format!("{}{asked}{tried}", error.detail);
                return (Err(ChatError { detail, ..error }), cost);
            };
            self.sleep(step, delay);
            attempt += 1;
            cost.retries += 1;
        }
    }

    /// Waits, unless the request is called off.
    fn sleep(&self, step: u64, delay: Duration) {
        let end = Instant::now() + delay;
        while !self.handle.is_called_off(step) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(TICK));
        }
    }
}

/// Reads a reply as a value of `T`: JSON somewhere in it, of the schema's shape, that `check` accepts.
///
/// # Errors
/// What is wrong, in words for the model: [`FailureKind::NotJson`] or [`FailureKind::WrongSchema`].
pub fn read<T: DeserializeOwned>(
    reply: &Reply,
    schema: &Schema,
    check: &dyn Fn(&T) -> Result<(), String>,
) -> Checked<T> {
    let value = extract_json(&reply.text)
        .ok_or_else(|| (FailureKind::NotJson, "no JSON object was found in the reply".to_owned()))?;
    let wrong = |violation: String| (FailureKind::WrongSchema, violation);
    schema.check(&value).map_err(|violation| wrong(violation.to_string()))?;
    let value: T = serde_json::from_value(value).map_err(|error| wrong(error.to_string()))?;
    check(&value).map_err(wrong)?;
    Ok(value)
}
