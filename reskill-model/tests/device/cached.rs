use reskill_kernels::Device;
use reskill_kernels::ops::SamplingFilter;
use reskill_model::constraint::Unconstrained;
use reskill_model::engine::GenerationRequest;
use reskill_model::{
    Engine, EngineConfig, Generator, KvCache, Next, PackedBatch, Reply, Request, SamplingParams,
    TokenConstraint, Transformer, Workspace,
};
use std::ops::ControlFlow;

use crate::support::{adapter, bits, device, difference, families, model, narrow, rng, tokens};

/// Either of three tokens, five times.
struct OneOfThree;

impl TokenConstraint for OneOfThree {
    fn next(&self, generated: &[u32]) -> Next {
        if generated.len() < 5 { Next::OneOf(vec![3, 17, 40]) } else { Next::Done }
    }
}

/// Replies of four slots that share a prompt of 70 tokens, page borders included, each with its own turn.
fn replies(model: &Transformer, device: &Device, graphs: bool, temperature: f32) -> (Vec<Reply>, usize) {
    let mut generator = Generator::on(device, model.config(), 4, 128).unwrap();
    generator.cache_mut().set_graphs(graphs);
    generator.extend(model, &[(0, &tokens(70, 1))]).unwrap();
    for slot in 1..4 {
        generator.cache_mut().copy_prefix(0, slot, 70);
    }
    let turns: Vec<Vec<u32>> = (0..4).map(|slot| tokens(3 + slot, 10 + slot as u64)).collect();
    let mut requests: Vec<_> = turns
        .iter()
        .enumerate()
        .map(|(slot, tokens)| Request {
            slot,
            tokens,
            constraint: if slot == 1 { &OneOfThree as &dyn TokenConstraint } else { &Unconstrained },
            rng: rng(slot as u64),
        })
        .collect();
    let params = SamplingParams { temperature, max_new_tokens: 9, end_token: 999 };
    let (replies, _) = generator.generate(model, &mut requests, &params).unwrap();
    (replies, generator.cache().recorded_steps())
}

#[test]
fn replies_on_a_device_are_those_of_the_processor() {
    for config in families() {
        let model = model(&config, 1);
        let (want, recorded) = replies(&model, &Device::Cpu, true, 0.8);
        assert_eq!(recorded, 0);
        let (got, _) = replies(&model.to_device(&device()).unwrap(), &device(), true, 0.8);
        for (got, want) in got.iter().zip(&want) {
            assert_eq!(got.ids(), want.ids());
            for (got, want) in got.tokens.iter().zip(&want.tokens) {
                // Sums in another order, as in the packed pass.
                assert!((got.logprob - want.logprob).abs() < 2e-5, "{got:?}, expected {want:?}");
            }
        }
    }
}

#[test]
fn a_recorded_step_gives_the_bits_of_its_operations() {
    for (config, device) in families().iter().zip([device(), narrow(), narrow()]) {
        let there = model(config, 1).to_device(&device).unwrap();
        let (plain, none) = replies(&there, &device, false, 0.8);
        let (replayed, recorded) = replies(&there, &device, true, 0.8);
        assert_eq!(plain, replayed);
        assert_eq!(none, 0);
        // Replies of five and nine tokens: eight rows all the time.
        assert_eq!(recorded, 1);
    }
}

#[test]
fn a_recorded_step_notices_new_weights_and_an_adapter() {
    let config = &families()[0];
    let (device, mut there) = (device(), model(config, 1).to_device(&device()).unwrap());
    let mut cache = KvCache::on(&device, config, 2, 128).unwrap();
    let step = |model: &Transformer, cache: &mut KvCache| {
        cache.truncate(0, 0);
        cache.truncate(1, 0);
        model.forward_cached(cache, &tokens(40, 3), &[(0, 20), (1, 20)]).unwrap();
        let mut last = None;
        for i in 0..4 {
            last = Some(model.forward_cached(cache, &[i, 5], &[(0, 1), (1, 1)]).unwrap());
        }
        last.unwrap()
    };
    let before = step(&there, &mut cache);
    assert_eq!(cache.recorded_steps(), 1);
    // Written in place: the recorded step reads the new values. The clone makes the next write go to new memory.
    there.params_mut().final_norm.fill(2.0).unwrap();
    let keep = there.clone();
    let changed = step(&there, &mut cache);
    assert!(difference(&changed, &before) > 0.1);
    there.params_mut().final_norm.fill(0.5).unwrap();
    let halved = step(&there, &mut cache);
    assert!((difference(&halved, &changed) - 0.75).abs() < 1e-5);
    assert_eq!(bits(&step(&keep, &mut cache)), bits(&changed));
    there.attach(adapter(config)).unwrap();
    assert!(difference(&step(&there, &mut cache), &halved) > 1e-3);
}

#[test]
fn cached_and_packed_passes_of_a_device_agree() {
    for config in families() {
        for (device, within) in [(device(), 2e-5), (narrow(), 0.04)] {
            let there = model(&config, 1).to_device(&device).unwrap();
            let ids = tokens(67, 4);
            let batch = PackedBatch::causal(&ids).unwrap().to_device(&device).unwrap();
            let mut workspace = Workspace::on(&device, &config).unwrap();
            let packed = there.forward(&mut workspace, &batch).unwrap();
            let mut cache = KvCache::on(&device, &config, 1, 128).unwrap();
            there.forward_cached(&mut cache, &ids[..60], &[(0, 60)]).unwrap();
            let mut last = None;
            for id in &ids[60..] {
                last = Some(there.forward_cached(&mut cache, &[*id], &[(0, 1)]).unwrap());
            }
            let last = last.unwrap();
            let mut want = last.clone();
            want.copy_rows_from(0, packed, 66, 1).unwrap();
            // The keys are summed in tiles here and page by page there.
            assert!(difference(&last, &want) < within, "{}", difference(&last, &want));
        }
    }
}

#[test]
fn a_slot_that_shares_its_pages_gets_copies_of_its_own_when_it_writes() {
    let config = &families()[0];
    let there = model(config, 1).to_device(&device()).unwrap();
    let mut cache = KvCache::on(&device(), config, 2, 64).unwrap();
    there.forward_cached(&mut cache, &tokens(20, 1), &[(0, 20)]).unwrap();
    cache.copy_prefix(0, 1, 20);
    let alone = there.forward_cached(&mut cache, &[7], &[(0, 1)]).unwrap();
    cache.truncate(0, 20);
    there.forward_cached(&mut cache, &[30], &[(1, 1)]).unwrap();
    let again = there.forward_cached(&mut cache, &[7], &[(0, 1)]).unwrap();
    assert_eq!(bits(&alone), bits(&again));
}

#[test]
fn a_token_outside_the_vocabulary_is_refused_before_it_reaches_the_device() {
    let config = &families()[0];
    let there = model(config, 1).to_device(&device()).unwrap();
    let mut cache = KvCache::on(&device(), config, 1, 64).unwrap();
    let message = there.forward_cached(&mut cache, &[41], &[(0, 1)]).unwrap_err().to_string();
    assert_eq!(message, "embedding_forward: `tokens` = 41, expected < 41");
    assert!(cache.is_empty());
}

#[test]
fn the_engine_on_a_device_continues_as_on_the_processor() {
    let config = &families()[2];
    let sizes = EngineConfig { max_sequences: 3, max_len: 128, cache_bytes: 1 << 22, prefill_chunk: 16 };
    let run = |model: &Transformer, device: &Device| {
        let mut engine = Engine::on(device, config, sizes).unwrap();
        for seed in 0..5 {
            let filter = SamplingFilter { temperature: 0.9, top_k: 12, ..SamplingFilter::default() };
            let request = GenerationRequest {
                tokens: tokens(20 + 5 * seed, 2),
                filter,
                stop_tokens: Vec::new(),
                max_new_tokens: 6,
                rng: rng(seed as u64),
            };
            engine.submit(request).unwrap();
        }
        let done = engine.run(model, &mut |_, _| ControlFlow::Continue(())).unwrap();
        done.into_iter().map(|one| one.tokens.iter().map(|t| t.token).collect::<Vec<_>>()).collect::<Vec<_>>()
    };
    let model = model(config, 1);
    assert_eq!(run(&model.to_device(&device()).unwrap(), &device()), run(&model, &Device::Cpu));
}
