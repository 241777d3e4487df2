use std::ops::ControlFlow;

use reskill_kernels::Device;
use reskill_kernels::ops::SamplingFilter;
use reskill_model::engine::{Finish, Generation, GenerationRequest, RequestId};
use reskill_model::{
    Decoder, Engine, EngineConfig, KvCache, ModelConfig, PackedBatch, Transformer, Workspace,
};

use crate::support::{config, model, rng, tokens};

const VOCAB: usize = 23;
const FILTER: SamplingFilter = SamplingFilter { temperature: 0.8, top_k: 10, top_p: 0.95, min_p: 0.01 };

/// The small model, with room for prompts of several pages.
fn wide_config(tied: bool) -> ModelConfig {
    ModelConfig { max_position_embeddings: 256, ..config(tied) }
}

fn request(prompt: &[u32], max_new_tokens: usize, seed: u64) -> GenerationRequest {
    GenerationRequest {
        tokens: prompt.to_vec(),
        filter: FILTER,
        max_new_tokens,
        stop_tokens: vec![22],
        rng: rng(seed),
    }
}

/// Prompts of several lengths, some of which begin alike.
fn requests() -> Vec<GenerationRequest> {
    let common = tokens(70, 22, 1);
    (0..12)
        .map(|index| {
            let mut prompt = common[..70 * (index % 3) / 2].to_vec();
            prompt.extend(tokens(1 + 7 * index, 22, 10 + index as u64));
            let stop_tokens = if index % 2 == 0 { Vec::new() } else { vec![22] };
            GenerationRequest { stop_tokens, ..request(&prompt, 5 + 20 * (index % 4), index as u64) }
        })
        .collect()
}

fn sizes(model: &Transformer) -> EngineConfig {
    let max_len = model.config().max_position_embeddings;
    EngineConfig { max_sequences: 32, max_len, cache_bytes: 1 << 26, prefill_chunk: 64 }
}

fn run(
    model: &Transformer,
    config: EngineConfig,
    requests: &[GenerationRequest],
) -> (Vec<Generation>, Engine) {
    let mut engine = Engine::new(model.config(), config).unwrap();
    for request in requests {
        engine.submit(request.clone()).unwrap();
    }
    let done = engine.run(model, &mut |_, _| ControlFlow::Continue(())).unwrap();
    assert!(engine.is_idle());
    (done, engine)
}

fn pages(model: &Transformer, n: usize) -> usize {
    n * KvCache::page_bytes(model.config(), &Device::Cpu)
}

#[test]
fn replies_have_the_log_probabilities_of_the_whole_sequence() {
    let model = model(&wide_config(true), 1);
    let requests = requests();
    let (done, _) = run(&model, sizes(&model), &requests);
    assert_eq!(done.len(), requests.len());
    for (generation, request) in done.iter().zip(&requests) {
        let mut whole = request.tokens.clone();
        whole.extend(generation.tokens.iter().map(|token| token.token));
        let batch = PackedBatch::causal(&whole).unwrap();
        let mut workspace = Workspace::new(model.config()).unwrap();
        let hidden = model.forward(&mut workspace, &batch).unwrap();
        let logits = Decoder::logits(&model, hidden).unwrap();
        for (index, token) in generation.tokens.iter().enumerate() {
            let row = request.tokens.len() + index - 1;
            let row = &logits.as_slice()[row * VOCAB..(row + 1) * VOCAB];
            let lse = row.iter().map(|&z| f64::from(z).exp()).sum::<f64>().ln();
            let want = f64::from(row[token.token as usize]) - lse;
            assert!((f64::from(token.logprob) - want).abs() < 1e-5, "{token:?}, expected {want}");
        }
    }
}

#[test]
fn replies_do_not_depend_on_batch_chunks_or_memory() {
    let mut preemptions = 0;
    for tied in [true, false] {
        let model = model(&wide_config(tied), 2);
        let requests = requests();
        let (want, roomy) = run(&model, sizes(&model), &requests);
        assert_eq!(roomy.stats().preemptions, 0);
        for (max_sequences, n_pages, prefill_chunk) in
            [(1, 1000, 64), (3, 1000, 1), (12, 1000, 7), (12, 8, 64), (5, 7, 16), (2, 6, 100), (12, 12, 64)]
        {
            let config = EngineConfig {
                max_sequences,
                cache_bytes: pages(&model, n_pages),
                prefill_chunk,
                ..sizes(&model)
            };
            let (got, mut engine) = run(&model, config, &requests);
            assert_eq!(got, want, "{max_sequences} sequences, {n_pages} pages, chunks of {prefill_chunk}");
            preemptions += engine.stats().preemptions;
            engine.forget_prefixes();
            assert_eq!(engine.free_pages(), n_pages, "every page is given back");
        }
    }
    assert!(preemptions > 0, "where pages are few some sequence has to leave");
}

#[test]
fn a_prompt_is_run_once_for_all_who_share_it() {
    let model = model(&wide_config(true), 1);
    let prompt = tokens(100, 22, 3);
    let group: Vec<GenerationRequest> = (0..8).map(|seed| request(&prompt, 4, seed)).collect();
    let (_, engine) = run(&model, sizes(&model), &group);
    // The last token of a prompt is always run; three pages are full, the fourth is shared up to token 99 only once
    // it is in the tree, which takes full pages.
    let stats = engine.stats();
    assert_eq!(stats.prefilled_tokens + stats.reused_tokens, 800);
    assert_eq!(stats.reused_tokens, 7 * 96);
}

#[test]
fn a_next_turn_reuses_the_turn_before() {
    let model = model(&wide_config(true), 1);
    let prompt = tokens(40, 22, 3);
    let mut engine = Engine::new(model.config(), sizes(&model)).unwrap();
    let none = &mut |_, _: &_| ControlFlow::Continue(());
    engine.submit(GenerationRequest { stop_tokens: Vec::new(), ..request(&prompt, 60, 1) }).unwrap();
    let first = engine.run(&model, none).unwrap();
    let mut turn = prompt;
    turn.extend(first[0].tokens.iter().map(|token| token.token));
    turn.extend(tokens(5, 22, 4));
    engine.submit(request(&turn, 5, 2)).unwrap();
    let second = engine.run(&model, none).unwrap();
    // 99 of the first turn's 100 tokens were run, three pages full.
    assert_eq!(engine.stats().reused_tokens, 96);
    let (alone, _) = run(&model, sizes(&model), &[request(&turn, 5, 2)]);
    assert_eq!(second[0].tokens, alone[0].tokens);
}

#[test]
fn replies_end_for_the_reason_they_give() {
    let model = model(&wide_config(true), 1);
    let prompt = tokens(10, 22, 3);
    let endless = GenerationRequest { stop_tokens: Vec::new(), ..request(&prompt, 7, 1) };
    let (done, _) = run(&model, sizes(&model), std::slice::from_ref(&endless));
    assert_eq!((done[0].finish, done[0].tokens.len()), (Finish::Length, 7));
    let third = done[0].tokens[2].token;
    let first = done[0].tokens.iter().position(|token| token.token == third).unwrap();
    let stopping = GenerationRequest { stop_tokens: vec![third], ..endless.clone() };
    let (stopped, _) = run(&model, sizes(&model), &[stopping]);
    assert_eq!((stopped[0].finish, &stopped[0].tokens[..]), (Finish::StopToken, &done[0].tokens[..=first]));

    let long = GenerationRequest { max_new_tokens: 1000, ..endless.clone() };
    let short = EngineConfig { max_len: 20, ..sizes(&model) };
    let (cut, _) = run(&model, short, std::slice::from_ref(&long));
    assert_eq!((cut[0].finish, cut[0].tokens.len()), (Finish::Context, 10));
    let small = EngineConfig { cache_bytes: pages(&model, 1), ..sizes(&model) };
    let (full, _) = run(&model, small, &[long]);
    assert_eq!((full[0].finish, full[0].tokens.len()), (Finish::Memory, 32 - 10 + 1));

    let mut engine = Engine::new(model.config(), sizes(&model)).unwrap();
    engine.submit(endless).unwrap();
    let mut seen = 0;
    let done = engine
        .run(&model, &mut |_, _| {
            seen += 1;
            if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!((done[0].finish, done[0].tokens.len(), done[0].finish.reason()), (Finish::Stopped, 3, "stop"));
}

#[test]
fn what_cannot_run_is_refused_and_the_rest_goes_on() {
    let model = model(&wide_config(true), 1);
    let config = EngineConfig { max_len: 50, cache_bytes: pages(&model, 1), ..sizes(&model) };
    let mut engine = Engine::new(model.config(), config).unwrap();
    let error =
        |result: Result<_, reskill_model::ModelError>| result.map(|_: RequestId| ()).unwrap_err().to_string();
    assert_eq!(error(engine.submit(request(&[], 5, 1))), "the prompt has no tokens, at least one is needed");
    assert!(
        error(engine.submit(request(&tokens(50, 22, 1), 5, 1)))
            .contains("51 tokens does not fit the context of 50")
    );
    assert!(error(engine.submit(request(&tokens(40, 22, 1), 5, 1))).contains("allow it more memory"));
    engine.submit(request(&[3, 99], 5, 1)).unwrap();
    engine.submit(request(&[3, 4], 5, 1)).unwrap();
    let none = &mut |_, _: &_| ControlFlow::Continue(());
    let error = engine.run(&model, none).unwrap_err().to_string();
    assert!(error.contains("99"), "{error}");
    let done = engine.run(&model, none).unwrap();
    assert_eq!(done.len(), 1);
    assert!(!done[0].tokens.is_empty());
    let odd = EngineConfig { prefill_chunk: 0, ..config };
    assert_eq!(
        Engine::new(model.config(), odd).unwrap_err().to_string(),
        "`prefill_chunk` = 0, expected at least 1"
    );
    let odd = EngineConfig { cache_bytes: 10, ..config };
    assert!(
        Engine::new(model.config(), odd).unwrap_err().to_string().contains("at least one page of 32 tokens")
    );
}
