//! Loads a checkpoint (Qwen3, Qwen2, Llama; a Hugging Face folder or a .gguf file) and samples four replies to one message, side by
//! side in the engine, with the log-probability of what was drawn:
//! `cargo run --release -p reskill-model --example sample -- DIR|FILE 'Name three rivers.'`
#![expect(clippy::print_stdout, reason = "an example prints its result")]

use std::ops::ControlFlow;
use std::path::Path;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reskill_model::engine::GenerationRequest;
use reskill_model::{Engine, EngineConfig, Message, Pretrained, SamplingFilter, WeightStorage};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, path, message] = arguments.as_slice() else {
        return Err("usage: sample DIR|FILE MESSAGE".into());
    };
    let pretrained = Pretrained::open(Path::new(path))?;
    let tokenizer = pretrained.tokenizer()?;
    let mut model = pretrained.model()?;
    // The layout that generation multiplies with; `WeightStorage::Bf16` halves what a step reads.
    model.pack(WeightStorage::F32);

    let prompt = match pretrained.chat_template()? {
        Some(template) => template.render(&[Message::new("user", message)], true)?,
        None => message.clone(),
    };
    let tokens = tokenizer.encode(&prompt)?;
    let mut engine = Engine::new(model.config(), EngineConfig::for_model(model.config()))?;
    for seed in 0..4 {
        engine.submit(GenerationRequest {
            tokens: tokens.to_vec(),
            filter: SamplingFilter { temperature: 0.8, top_p: 0.95, ..SamplingFilter::default() },
            max_new_tokens: 48,
            stop_tokens: pretrained.end_tokens().to_vec(),
            rng: ChaCha8Rng::seed_from_u64(seed),
        })?;
    }
    let mut replies = engine.run(&model, &mut |_request, _token| ControlFlow::Continue(()))?;
    replies.sort_by_key(|reply| reply.id);
    for reply in &replies {
        let ids: Vec<u32> = reply.tokens.iter().map(|token| token.token).collect();
        let logprob: f32 = reply.tokens.iter().map(|token| token.logprob).sum();
        println!("{} tokens, log-probability {logprob:.1}, ended by {}:", ids.len(), reply.finish.reason());
        println!("  {}", tokenizer.decode_plain(&ids)?.trim().replace('\n', "\n  "));
    }
    Ok(())
}
