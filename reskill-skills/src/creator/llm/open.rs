//! From a configuration and the environment's variables to a creator.

use std::sync::Arc;

use crate::creator::config::{CreatorConfig, CreatorKind};
use crate::creator::llm::anthropic::Anthropic;
use crate::creator::llm::openai::OpenAi;
use crate::creator::llm::{ChatModel, LlmCreator, Secret};
use crate::error::SkillError;

/// The creator that a configuration asks for. `variable` looks up a variable of the environment; `seed` is that of the
/// jitter between attempts.
///
/// # Errors
/// [`SkillError::Config`] on values out of range; [`SkillError::Creator`] with what to do if a key is missing, a replay
/// folder is not there, the kind is not compiled in, or it is `offline`; whatever prompts are refused for.
pub fn open(
    config: &CreatorConfig,
    seed: u64,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<LlmCreator, SkillError> {
    config.validate()?;
    let model = config.model.as_deref().unwrap_or_default().trim();
    let client: Option<Arc<dyn ChatModel>> = match config.kind {
        CreatorKind::Offline => {
            return Err(unusable(config.kind, "it asks no language model; use the statistical creator"));
        }
        CreatorKind::Replay => {
            let folder = config.replay_dir.clone().unwrap_or_default();
            if !folder.is_dir() {
                let what = format!("`creator.replay_dir` = {}: there is no such folder", folder.display());
                return Err(unusable(config.kind, &what));
            }
            None
        }
        CreatorKind::Openai => {
            Some(Arc::new(OpenAi::new(config, model, key(config, "OPENAI_API_KEY", variable)?)))
        }
        CreatorKind::Anthropic => {
            Some(Arc::new(Anthropic::new(config, model, key(config, "ANTHROPIC_API_KEY", variable)?)))
        }
        CreatorKind::Bedrock => Some(bedrock(config, model, variable)?),
    };
    LlmCreator::new(config, client, seed)
}

fn unusable(kind: CreatorKind, reason: &str) -> SkillError {
    SkillError::Creator { kind: kind.as_str(), reason: reason.to_owned() }
}

/// The key in the variable that the configuration names.
fn key(
    config: &CreatorConfig,
    default: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Secret>, SkillError> {
    let name = config.api_key_env.as_deref().unwrap_or(default);
    if name.is_empty() {
        return Ok(None);
    }
    secret(config.kind, name, variable)?.map(Some).ok_or_else(|| {
        let remedy = "export it, name another in `creator.api_key_env`, or set that to \"\" if the server needs no key";
        unusable(config.kind, &format!("the environment variable {name} is not set; {remedy}"))
    })
}

fn secret(
    kind: CreatorKind,
    name: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Option<Secret>, SkillError> {
    let Some(value) = variable(name).filter(|value| !value.trim().is_empty()) else { return Ok(None) };
    let key = Secret::new(&value).ok_or_else(|| {
        unusable(kind, &format!("the environment variable {name} holds characters that no key has"))
    })?;
    Ok(Some(key))
}

#[cfg(feature = "bedrock")]
fn bedrock(
    config: &CreatorConfig,
    model: &str,
    variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn ChatModel>, SkillError> {
    use crate::creator::llm::bedrock::{AwsKeys, Bedrock};
    let missing = |name: &str, remedy: &str| {
        unusable(config.kind, &format!("the environment variable {name} is not set; {remedy}"))
    };
    let region = config
        .region
        .clone()
        .or_else(|| variable("AWS_REGION"))
        .or_else(|| variable("AWS_DEFAULT_REGION"))
        .ok_or_else(|| missing("AWS_REGION", "export it or set `creator.region`"))?;
    let export = "export the keys, e.g. with `aws configure export-credentials --format env`";
    let required = |name: &str| secret(config.kind, name, variable)?.ok_or_else(|| missing(name, export));
    let keys = AwsKeys {
        access_key_id: required("AWS_ACCESS_KEY_ID")?.reveal().to_owned(),
        secret_access_key: required("AWS_SECRET_ACCESS_KEY")?,
        session_token: secret(config.kind, "AWS_SESSION_TOKEN", variable)?,
    };
    Ok(Arc::new(Bedrock::new(config, model, &region, keys)))
}

#[cfg(not(feature = "bedrock"))]
fn bedrock(
    config: &CreatorConfig,
    _model: &str,
    _variable: &dyn Fn(&str) -> Option<String>,
) -> Result<Arc<dyn ChatModel>, SkillError> {
    Err(unusable(config.kind, "this program was built without it; build with `--features bedrock`"))
}
