//! What goes over the wire to each kind of server, and how its answers are read.

use reskill_skills::creator::config::StructuredOutput;
use reskill_skills::creator::llm::{FailureKind, anthropic, open, openai};
use reskill_skills::{CreatorConfig, CreatorKind};
use serde_json::{Value, json};

use super::server::{Act, Server};
use super::{World, brain, cost, quick};

const KEY: &str = "test-key-0123456789";

fn config(kind: CreatorKind, server: &Server) -> CreatorConfig {
    CreatorConfig {
        kind,
        base_url: Some(server.url.clone()),
        api_key_env: Some("TEST_KEY".into()),
        temperature: Some(0.25),
        ..quick()
    }
}

fn environment(name: &str) -> Option<String> {
    ["TEST_KEY", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"]
        .contains(&name)
        .then(|| KEY.to_owned())
        .or_else(|| (name == "AWS_ACCESS_KEY_ID").then(|| "AKIDEXAMPLE".to_owned()))
        .or_else(|| (name == "AWS_REGION").then(|| "eu-west-1".to_owned()))
}

#[test]
fn openai_gets_a_strict_schema_or_is_told_as_configured() {
    let server = Server::start(|seen, _| {
        // Without a schema in the request the stage is told from the prompt.
        let (stage, prompt) = brain::openai_stage(&seen.body);
        let guessed = if prompt.starts_with("Compare") {
            "contrast"
        } else if prompt.starts_with("Put single") {
            "diagnose"
        } else if prompt.starts_with("Decide") {
            "recommend"
        } else {
            "author"
        };
        assert!(stage.is_empty() || stage == guessed);
        let text = brain::answer(guessed, &prompt).to_string();
        Act::Answer(200, Vec::new(), brain::openai_response(&text).to_string())
    });
    for (structured, kind) in [
        (StructuredOutput::Schema, json!("json_schema")),
        (StructuredOutput::Json, json!("json_object")),
        (StructuredOutput::Prompt, Value::Null),
    ] {
        let before = server.seen().len();
        let mut config = config(CreatorKind::Openai, &server);
        config.structured_output = structured;
        World::new().ask(&mut open(&config, 0, &environment).unwrap(), 1).unwrap();
        let seen = server.seen();
        let body = &seen[before].body;
        assert_eq!(seen[before].path, "/v1/chat/completions");
        assert_eq!((&body["model"], &body["temperature"]), (&json!("tiny"), &json!(0.25)));
        assert_eq!(body["max_completion_tokens"], 4096);
        assert_eq!(body["response_format"]["type"], kind);
        if structured == StructuredOutput::Schema {
            let schema = &body["response_format"]["json_schema"]["schema"];
            assert_eq!((&schema["type"], &schema["additionalProperties"]), (&json!("object"), &json!(false)));
            assert!(!schema.to_string().contains("maxLength"));
        }
        assert_eq!(seen[before].body["messages"][0]["role"], "system");
    }
}

#[test]
fn anthropic_answers_through_a_tool() {
    let server = Server::start(|seen, _| {
        let stage = seen.body["tool_choice"]["name"].as_str().unwrap_or_default();
        let prompt = seen.body["messages"][0]["content"].as_str().unwrap_or_default();
        let content = json!([
            {"type": "text", "text": "I will answer."},
            {"type": "tool_use", "id": "t", "name": stage, "input": brain::answer(stage, prompt)},
        ]);
        let usage = json!({"input_tokens": 5, "cache_read_input_tokens": 2, "output_tokens": 3});
        let body = json!({"content": content, "stop_reason": "tool_use", "usage": usage});
        Act::Answer(200, Vec::new(), body.to_string())
    });
    let mut creator = open(&config(CreatorKind::Anthropic, &server), 0, &environment).unwrap();
    World::new().ask(&mut creator, 1).unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/v1/messages");
    assert_eq!((seen.header("x-api-key"), seen.header("anthropic-version")), (Some(KEY), Some("2023-06-01")));
    assert!(seen.body["system"].as_str().unwrap().contains("skills"));
    assert_eq!(seen.body["messages"].as_array().unwrap().len(), 1);
    assert_eq!(seen.body["tools"][0]["name"], "contrast");
    let cost = cost(&creator);
    assert_eq!((cost.prompt_tokens, cost.completion_tokens), (28, 12));
}

#[test]
fn replies_are_read_in_all_their_forms() {
    let parts =
        json!({"choices": [{"message": {"content": [{"type": "text", "text": "a"}, {"text": "b"}]}}]});
    assert_eq!(openai::read(&parts).unwrap().text, "ab");
    let text = json!({"content": [{"type": "text", "text": "a"}], "stop_reason": "end_turn"});
    assert_eq!(anthropic::read(&text).unwrap().text, "a");
    for (response, kind) in [
        (json!({"content": [], "stop_reason": "max_tokens"}), FailureKind::LengthLimit),
        (json!({"content": [], "stop_reason": "refusal"}), FailureKind::Declined),
        (json!({"content": 3}), FailureKind::Malformed),
    ] {
        assert_eq!(anthropic::read(&response).unwrap_err().kind, kind);
    }
}

#[cfg(feature = "bedrock")]
mod bedrock {
    use std::time::{Duration, SystemTime};

    use reskill_skills::creator::llm::Secret;
    use reskill_skills::creator::llm::bedrock::{AwsKeys, Bedrock};

    use super::*;

    #[test]
    fn bedrock_converses_with_signed_requests() {
        let server = Server::start(|seen, _| {
            let stage = seen.body["toolConfig"]["toolChoice"]["tool"]["name"].as_str().unwrap_or_default();
            let prompt = seen.body["messages"][0]["content"][0]["text"].as_str().unwrap_or_default();
            let content = json!([{"toolUse": {"toolUseId": "t", "name": stage, "input": brain::answer(stage, prompt)}}]);
            let usage = json!({"inputTokens": 7, "outputTokens": 3});
            let body = json!({"output": {"message": {"content": content}}, "stopReason": "tool_use", "usage": usage});
            Act::Answer(200, Vec::new(), body.to_string())
        });
        let mut config = config(CreatorKind::Bedrock, &server);
        config.model = Some("vendor.model-v1:0".into());
        let mut creator = open(&config, 0, &environment).unwrap();
        World::new().ask(&mut creator, 1).unwrap();
        let seen = &server.seen()[0];
        assert_eq!(seen.path, "/v1/model/vendor.model-v1%3A0/converse");
        let authorization = seen.header("authorization").unwrap();
        assert!(authorization.starts_with("AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/"), "{authorization}");
        assert!(authorization.contains("/eu-west-1/bedrock/aws4_request"), "{authorization}");
        assert_eq!(seen.header("x-amz-security-token"), Some(KEY));
        assert_eq!(seen.body["inferenceConfig"]["maxTokens"], 4096);
        assert_eq!(cost(&creator).prompt_tokens, 28);
    }

    #[test]
    fn the_signature_is_that_of_an_independent_computation() {
        let config = CreatorConfig { base_url: Some("https://example.com".into()), ..quick() };
        let keys = AwsKeys {
            access_key_id: "AKIDEXAMPLE".into(),
            secret_access_key: Secret::new("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY").unwrap(),
            session_token: None,
        };
        let bedrock = Bedrock::new(&config, "a:b", "us-east-1", keys);
        // 2015-08-30 12:36:00 UTC
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_440_938_160);
        let headers = bedrock.sign(b"{}", time).unwrap();
        let authorization = &headers.iter().find(|(name, _)| name == "authorization").unwrap().1;
        assert!(authorization.ends_with(SIGNATURE), "{authorization}");
    }

    /// tests/it/llm/sigv4.py
    const SIGNATURE: &str = "Signature=4f254a84a662f96e67554d800a8a94acb23be8a2518301af05f94231e44e3d8a";

    #[test]
    fn missing_variables_are_named() {
        let server = Server::start(|_, _| Act::Close);
        let config = config(CreatorKind::Bedrock, &server);
        for missing in ["AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"] {
            let error = open(&config, 0, &|name| if name == missing { None } else { environment(name) });
            assert!(error.unwrap_err().to_string().contains(missing));
        }
    }
}

#[cfg(not(feature = "bedrock"))]
#[test]
fn bedrock_is_refused_where_it_is_not_compiled_in() {
    let server = Server::start(|_, _| Act::Close);
    let error = open(&config(CreatorKind::Bedrock, &server), 0, &environment).unwrap_err().to_string();
    assert!(error.contains("--features bedrock"), "{error}");
}
