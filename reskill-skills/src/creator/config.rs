//! Who writes the skills, and how a language model is asked.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::creator::offline::OfflineConfig;
use crate::error::SkillError;
use crate::transcript::TranscriptConfig;

/// Who writes the skills.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum CreatorKind {
    /// Statistics over the reservoir: no network, no key, bit-reproducible.
    #[default]
    Offline,
    /// Any server with an OpenAI-compatible chat API: vLLM, SGLang, llama.cpp, a vendor.
    Openai,
    /// Anthropic Messages.
    Anthropic,
    /// AWS Bedrock, Converse; needs the feature `bedrock`.
    Bedrock,
    /// The recorded calls of an earlier run: no network, no key.
    Replay,
}

impl CreatorKind {
    /// The name in configurations.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            CreatorKind::Offline => "offline",
            CreatorKind::Openai => "openai",
            CreatorKind::Anthropic => "anthropic",
            CreatorKind::Bedrock => "bedrock",
            CreatorKind::Replay => "replay",
        }
    }

    /// Whether it asks a model over the network.
    #[must_use]
    pub fn is_remote(self) -> bool {
        matches!(self, CreatorKind::Openai | CreatorKind::Anthropic | CreatorKind::Bedrock)
    }
}

/// How a server is told the shape of an answer. The prompt states it and the reply is checked in every case.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum StructuredOutput {
    /// The JSON schema itself: OpenAI `json_schema`, or a forced tool call for Anthropic and Bedrock.
    #[default]
    Schema,
    /// OpenAI `json_object`: some JSON. For Anthropic and Bedrock the same as `prompt`.
    Json,
    /// Nothing but the prompt.
    Prompt,
}

/// The creator of skills.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct CreatorConfig {
    /// Who writes the skills.
    pub kind: CreatorKind,
    /// Language models: steps after a request at whose end its answer joins, 0..=1000; 0 waits in the same step.
    pub join_after_steps: u64,
    /// Language models: seconds that the joining step waits before it records a miss, in (0, 86400].
    pub wait_secs: f64,
    /// Name of the model, as the server knows it. On Bedrock a model id or an inference profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Address up to and without `/chat/completions` (OpenAI), `/messages` (Anthropic) or `/model` (Bedrock). Absent: the
    /// vendor's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_url: Option<String>,
    /// Name of the environment variable that holds the key, never the key. Absent: `OPENAI_API_KEY` or
    /// `ANTHROPIC_API_KEY`; empty: no key is sent (local servers). Bedrock reads the variables of AWS instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key_env: Option<String>,
    /// Bedrock: the region. Absent: the variable `AWS_REGION`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// How the server is told the shape of an answer.
    pub structured_output: StructuredOutput,
    /// Sampling temperature, 0..=2. Absent: the server's own; some models accept no other.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    /// Longest reply, in tokens, 64..=1,000,000.
    pub max_tokens: u32,
    /// Seconds to connect, in (0, 3600].
    pub connect_timeout_secs: f64,
    /// Seconds for a whole attempt, connection included, in (0, 3600].
    pub timeout_secs: f64,
    /// Largest response, in bytes, at least 1024.
    pub max_response_bytes: u64,
    /// Attempts of one call, 1..=20.
    pub max_attempts: u32,
    /// Seconds before the second attempt; doubled each time, times a jitter in [0.5, 1), in [0, 3600].
    pub retry_base_secs: f64,
    /// Longest of these waits, in seconds, in [0, 3600].
    pub retry_cap_secs: f64,
    /// Longest `Retry-After` that is waited for, in seconds, in [0, 3600]; a longer one ends the call.
    pub max_retry_after_secs: f64,
    /// Calls side by side, 1..=256.
    pub max_concurrent: usize,
    /// Tries of the author for one skill, the first included, 1..=10.
    pub author_tries: u32,
    /// Folder whose `<stage>.md` files replace the built-in prompts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prompts_dir: Option<PathBuf>,
    /// A remark for the author, put into the prompt, e.g. about the agent that reads the skills.
    pub note: String,
    /// Folder for the record of all calls. Absent: `creator/calls` in the run directory. A call that is recorded there
    /// is not made again.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record_dir: Option<PathBuf>,
    /// `replay`: the folder that another run recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replay_dir: Option<PathBuf>,
    /// Price of a million prompt tokens, in any currency, >= 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_prompt_per_mtok: Option<f64>,
    /// Price of a million reply tokens, in the same currency, >= 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price_completion_per_mtok: Option<f64>,
    /// How episodes are shown to a model.
    pub transcript: TranscriptConfig,
    /// The statistical creator.
    pub offline: OfflineConfig,
}

impl Default for CreatorConfig {
    fn default() -> Self {
        Self {
            kind: CreatorKind::default(),
            join_after_steps: 1,
            wait_secs: 300.0,
            model: None,
            base_url: None,
            api_key_env: None,
            region: None,
            structured_output: StructuredOutput::default(),
            temperature: None,
            max_tokens: 4096,
            connect_timeout_secs: 10.0,
            timeout_secs: 120.0,
            max_response_bytes: 4 << 20,
            max_attempts: 4,
            retry_base_secs: 1.0,
            retry_cap_secs: 30.0,
            max_retry_after_secs: 60.0,
            max_concurrent: 16,
            author_tries: 3,
            prompts_dir: None,
            note: String::new(),
            record_dir: None,
            replay_dir: None,
            price_prompt_per_mtok: None,
            price_completion_per_mtok: None,
            transcript: TranscriptConfig::default(),
            offline: OfflineConfig::default(),
        }
    }
}

impl CreatorConfig {
    /// Checks ranges and combinations. Whether the key's variable is set is checked where it is read.
    ///
    /// # Errors
    /// [`SkillError::Config`] with the key and what to do.
    pub fn validate(&self) -> Result<(), SkillError> {
        self.offline.validate()?;
        self.transcript.validate()?;
        self.check_ranges()?;
        self.check_names()?;
        let missing = |key, expected| Err(SkillError::Config { key, value: "nothing".into(), expected });
        if self.kind.is_remote() && self.model.as_deref().is_none_or(|model| model.trim().is_empty()) {
            return missing("creator.model", "the name of a model where creator.kind asks one");
        }
        match (self.kind, &self.replay_dir) {
            (CreatorKind::Replay, None) => {
                missing("creator.replay_dir", "the calls of a recorded run where creator.kind = \"replay\"")
            }
            (CreatorKind::Replay, Some(_)) => match &self.record_dir {
                None => Ok(()),
                Some(folder) => Err(SkillError::Config {
                    key: "creator.record_dir",
                    value: folder.display().to_string(),
                    expected: "nothing where creator.kind = \"replay\": there is nothing new to record",
                }),
            },
            (_, Some(folder)) => Err(SkillError::Config {
                key: "creator.replay_dir",
                value: folder.display().to_string(),
                expected: "creator.kind = \"replay\" beside it, or nothing",
            }),
            (_, None) => Ok(()),
        }
    }

    fn check_ranges(&self) -> Result<(), SkillError> {
        let fail = |key, value: String, expected| Err(SkillError::Config { key, value, expected });
        let positive = [
            ("creator.connect_timeout_secs", self.connect_timeout_secs),
            ("creator.timeout_secs", self.timeout_secs),
        ];
        for (key, value) in positive {
            if !(value > 0.0 && value <= 3600.0) {
                return fail(key, value.to_string(), "in (0, 3600]");
            }
        }
        let from_zero = [
            ("creator.retry_base_secs", self.retry_base_secs),
            ("creator.retry_cap_secs", self.retry_cap_secs),
            ("creator.max_retry_after_secs", self.max_retry_after_secs),
        ];
        for (key, value) in from_zero {
            if !(0.0..=3600.0).contains(&value) {
                return fail(key, value.to_string(), "in [0, 3600]");
            }
        }
        if !(self.wait_secs > 0.0 && self.wait_secs <= 86_400.0) {
            return fail("creator.wait_secs", self.wait_secs.to_string(), "in (0, 86400]");
        }
        for (key, value) in [
            ("creator.price_prompt_per_mtok", self.price_prompt_per_mtok),
            ("creator.price_completion_per_mtok", self.price_completion_per_mtok),
        ] {
            if let Some(value) = value.filter(|value| !(value.is_finite() && *value >= 0.0)) {
                return fail(key, value.to_string(), "at least 0");
            }
        }
        if let Some(value) = self.temperature.filter(|value| !(0.0..=2.0).contains(value)) {
            return fail("creator.temperature", value.to_string(), "in [0, 2]");
        }
        let counts = [
            ("creator.join_after_steps", self.join_after_steps, 0..=1000, "0 to 1000"),
            ("creator.max_tokens", u64::from(self.max_tokens), 64..=1_000_000, "64 to 1000000"),
            ("creator.max_response_bytes", self.max_response_bytes, 1024..=1 << 30, "1024 to 1073741824"),
            ("creator.max_attempts", u64::from(self.max_attempts), 1..=20, "1 to 20"),
            ("creator.max_concurrent", self.max_concurrent as u64, 1..=256, "1 to 256"),
            ("creator.author_tries", u64::from(self.author_tries), 1..=10, "1 to 10"),
        ];
        for (key, value, range, expected) in counts {
            if !range.contains(&value) {
                return fail(key, value.to_string(), expected);
            }
        }
        Ok(())
    }

    /// Names that end up in files must not hold secrets; what looks like one is refused without being shown.
    fn check_names(&self) -> Result<(), SkillError> {
        let hidden = |key, expected| Err(SkillError::Config { key, value: "(not shown)".into(), expected });
        if let Some(name) = self.api_key_env.as_deref().filter(|name| !name.is_empty()) {
            let legal = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
            if name.len() > 64 || !name.bytes().all(legal) || name.as_bytes()[0].is_ascii_digit() {
                return hidden(
                    "creator.api_key_env",
                    "the name of an environment variable, such as OPENAI_API_KEY, not the key itself",
                );
            }
        }
        if let Some(url) = &self.base_url {
            let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("http://"));
            let authority = rest.and_then(|rest| rest.split('/').next()).unwrap_or_default();
            if authority.is_empty() || authority.contains('@') || url.contains(['?', '#', ' ', '\n', '\r']) {
                return hidden(
                    "creator.base_url",
                    "http:// or https:// with a host and a path, without user, password or query",
                );
            }
        }
        if let Some(region) = &self.region
            && (region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        {
            return hidden("creator.region", "a region of AWS, such as us-east-1");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(change: impl FnOnce(&mut CreatorConfig)) -> String {
        let mut config = CreatorConfig::default();
        change(&mut config);
        config.validate().map_or_else(|error| error.to_string(), |()| "accepted".into())
    }

    #[test]
    fn bad_combinations_are_refused_with_a_remedy() {
        let openai = |config: &mut CreatorConfig| {
            config.kind = CreatorKind::Openai;
            config.model = Some("m".into());
        };
        assert_eq!(message(|_| ()), "accepted");
        assert_eq!(message(openai), "accepted");
        for (said, fragment) in [
            (message(|config| config.kind = CreatorKind::Openai), "creator.model"),
            (message(|config| config.kind = CreatorKind::Replay), "creator.replay_dir"),
            (message(|config| config.replay_dir = Some("x".into())), "creator.kind = \"replay\""),
            (
                message(|config| {
                    config.kind = CreatorKind::Replay;
                    config.replay_dir = Some("x".into());
                    config.record_dir = Some("y".into());
                }),
                "creator.record_dir",
            ),
            (message(|config| config.timeout_secs = 0.0), "creator.timeout_secs"),
            (message(|config| config.wait_secs = f64::NAN), "creator.wait_secs"),
            (message(|config| config.max_concurrent = 0), "creator.max_concurrent"),
            (message(|config| config.base_url = Some("ftp://x".into())), "creator.base_url"),
        ] {
            assert!(said.contains(fragment), "{said}");
        }
    }

    #[test]
    fn a_key_in_the_wrong_place_is_refused_and_not_shown() {
        for said in [
            message(|config| config.api_key_env = Some("sk-very-secret".into())),
            message(|config| config.base_url = Some("https://user:very-secret@host/v1".into())),
            message(|config| config.base_url = Some("https://host/v1?key=very-secret".into())),
        ] {
            assert!(said.contains("creator.") && !said.contains("secret"), "{said}");
        }
    }
}
