//! A real model, where its file is found: SmolLM2-135M-Instruct against transformers (`fixtures/make_smollm2.py`).

use std::path::PathBuf;

use reskill_kernels::ops::WeightStorage;
use reskill_model::constraint::Unconstrained;
use reskill_model::decode::{DecodeOptions, reply};
use reskill_model::score::token_logprobs;
use reskill_model::{Engine, EngineConfig, Generator, Pretrained, Request, SamplingParams, Workspace};

use crate::pretrained::{fixture, ids, json};
use crate::support::{bits, rng};

/// Tokens of a reply: half of those in the fixture, for time.
const N: usize = 12;

/// `RESKILL_SMOLLM2`, else the shared folder beside the project, else what `scripts/get-smollm2` leaves.
fn file() -> Option<PathBuf> {
    const NAME: &str = "SmolLM2-135M-Instruct.Q4_1.gguf";
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..");
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let cache = std::env::var_os("XDG_CACHE_HOME").map_or_else(|| home.join(".cache"), PathBuf::from);
    let given = std::env::var_os("RESKILL_SMOLLM2").map(PathBuf::from);
    let places = [root.join("../shared").join(NAME), cache.join("reskill").join(NAME)];
    given.into_iter().chain(places).find(|path| path.is_file())
}

#[test]
fn smollm2_says_and_scores_what_transformers_does() {
    let Some(path) = file() else { return };
    let pretrained = Pretrained::open(&path).unwrap();
    let expected = json(&fixture("smollm2.json"));
    let tokenizer = pretrained.tokenizer().unwrap();
    for case in expected["encoded"].as_array().unwrap() {
        let text = case["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode_text(text).unwrap(), ids(&case["ids"]), "{text:?}");
    }
    for case in expected["segments"].as_array().unwrap() {
        let segments: Vec<&str> =
            case["segments"].as_array().unwrap().iter().map(|part| part.as_str().unwrap()).collect();
        let apart = tokenizer.encode_segments(&segments).unwrap();
        assert_eq!(apart, ids(&case["ids"]));
        let whole = tokenizer.encode(&segments.concat()).unwrap();
        assert_eq!(whole[..] != apart[..], case["whole_differs"].as_bool().unwrap(), "{segments:?}");
    }
    let model = pretrained.model().unwrap();
    let mut workspace = Workspace::recomputing(model.config()).unwrap();
    for case in expected["scored"].as_array().unwrap() {
        let got = token_logprobs(&model, &mut workspace, &ids(&case["ids"])).unwrap();
        let want: Vec<f32> = serde_json::from_value(case["logprobs"].clone()).unwrap();
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(&want) {
            // f32 on both sides through 30 blocks.
            assert!((got - want).abs() <= 1e-3, "{got} for {want} in {}", case["text"]);
        }
    }
    // Generated as users do: from weights in panels.
    let mut packed = model.clone();
    packed.pack(WeightStorage::F32);
    for case in expected["continued"].as_array().unwrap() {
        let prompt = tokenizer.encode_text(case["prompt"].as_str().unwrap()).unwrap();
        let sizes = EngineConfig { max_len: 128, ..EngineConfig::for_model(model.config()) };
        let mut engine = Engine::new(model.config(), sizes).unwrap();
        let options = DecodeOptions {
            temperature: 0.0,
            max_new_tokens: N,
            end_tokens: pretrained.end_tokens().to_vec(),
            ..DecodeOptions::default()
        };
        let mut streamed = String::new();
        let said = reply(&packed, &tokenizer, &mut engine, &prompt, &options, rng(1), &mut |text| {
            streamed.push_str(text)
        })
        .unwrap();
        assert_eq!(said.ids(), ids(&case["ids"])[..N], "{}", case["prompt"]);
        assert!(case["text"].as_str().unwrap().starts_with(&said.text));
        assert_eq!(streamed, said.text);
    }
    // Sampled from the cache and scored in a packed batch: the same to the bit, at the sizes of a real model.
    let prompt = tokenizer.encode_text("Two cats and").unwrap();
    let mut requests = [Request { slot: 0, tokens: &prompt, constraint: &Unconstrained, rng: rng(3) }];
    let params = SamplingParams { temperature: 1.0, max_new_tokens: 12, end_token: 2 };
    let mut generator = Generator::new(model.config(), 1, 64).unwrap();
    let sampled = generator.generate(&model, &mut requests, &params).unwrap().0.remove(0);
    let whole = [prompt.as_slice(), &sampled.ids()].concat();
    let scored = token_logprobs(&model, &mut workspace, &whole).unwrap();
    let drawn: Vec<f32> = sampled.tokens.iter().map(|token| token.logprob).collect();
    assert_eq!(bits(&drawn), bits(&scored[prompt.len() - 1..]));
    let template = pretrained.chat_template().unwrap().unwrap();
    let hello = template.render(&[reskill_model::Message::new("user", "Hi")], true).unwrap();
    assert!(
        hello.starts_with("<|im_start|>system\n") && hello.ends_with("<|im_start|>assistant\n"),
        "{hello}"
    );
}
