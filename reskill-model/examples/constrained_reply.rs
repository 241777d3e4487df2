//! Builds a tiny model over a word-level tokenizer and lets it choose among commands, several prompts side by side:
//! `cargo run --release -p reskill-model --example constrained_reply`. Untrained, it chooses at random.
#![expect(clippy::print_stdout, reason = "an example prints its result")]

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reskill_model::{
    Generator, ModelConfig, ModelError, PolicyTokenizer, Request, SamplingParams, TokenTrie, Transformer,
};

const COMMANDS: [&str; 4] = ["go to drawer 1", "go to drawer 2", "open fridge 1", "look"];
const PROMPTS: [&str; 2] = ["you are in the kitchen", "the fridge is closed"];

fn main() -> Result<(), ModelError> {
    let tokenizer = PolicyTokenizer::word_level(COMMANDS.into_iter().chain(PROMPTS))?;
    let config = ModelConfig { vocab_size: tokenizer.vocab_size(), ..ModelConfig::tiny() };
    let model = Transformer::init(&config, &mut ChaCha8Rng::seed_from_u64(0))?;
    println!("{} parameters, {} tokens", model.params().count(), config.vocab_size);

    let commands = COMMANDS.iter().map(|command| tokenizer.encode(command)).collect::<Result<Vec<_>, _>>()?;
    let commands: Vec<&[u32]> = commands.iter().map(AsRef::as_ref).collect();
    let trie = TokenTrie::new(&commands, tokenizer.end_token());
    let prompts = PROMPTS.iter().map(|prompt| tokenizer.encode(prompt)).collect::<Result<Vec<_>, _>>()?;
    let mut requests: Vec<Request<'_, ChaCha8Rng>> = prompts
        .iter()
        .enumerate()
        .map(|(slot, tokens)| Request {
            slot,
            tokens,
            constraint: &trie,
            rng: ChaCha8Rng::seed_from_u64(slot as u64),
        })
        .collect();
    let sampling = SamplingParams { temperature: 1.0, max_new_tokens: 8, end_token: tokenizer.end_token() };
    let mut generator = Generator::new(&config, requests.len(), 64)?;
    let (replies, n_run) = generator.generate(&model, &mut requests, &sampling)?;
    for (prompt, reply) in PROMPTS.iter().zip(&replies) {
        let command = trie.resolve(&reply.ids()).map_or("(cut off)", |index| COMMANDS[index]);
        println!("{prompt}: {command}");
        for token in &reply.tokens {
            let word = tokenizer.decode(&[token.token])?;
            let chosen = if token.is_forced() { "forced" } else { "drawn" };
            println!("    {word:8} {chosen}, log-probability {:.3}", token.logprob);
        }
    }
    println!("{n_run} tokens were run");
    Ok(())
}
