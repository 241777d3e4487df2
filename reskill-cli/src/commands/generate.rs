//! `reskill-cli generate`: text from a pretrained model, for one prompt or in a conversation.

use std::io::{BufRead, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use reskill_model::decode::{DecodeOptions, Ending, reply};
use reskill_model::{
    ChatTemplate, Engine, EngineConfig, Message, ModelError, PolicyTokenizer, Pretrained, Transformer,
    WeightStorage,
};
use serde::Serialize;

use crate::device::DeviceArgs;
use crate::model_source;
use crate::progress::print_line;

/// Writes text with a pretrained model.
#[derive(Debug, Args)]
#[command(
    after_help = "Without --prompt, --chat holds a conversation: one message a line. /new begins another one, /quit or \
the end of the input leaves.

Examples:
  reskill-cli generate --model DIR --prompt 'The capital of France is' --temperature 0
  reskill-cli generate --model SmolLM2-135M-Instruct.Q4_1.gguf --chat --prompt 'Name three rivers.'
  reskill-cli generate --model DIR --chat --temperature 0.7 --top-p 0.9
  reskill-cli generate --model DIR --adapter runs/one/policy --prompt 'Your task:'
  reskill-cli generate --model DIR --prompt 'One, two,' --json | jq -r .text

Exit codes: 0 done, 2 an error: one line says what and what to do."
)]
pub struct GenerateArgs {
    /// A folder with config.json and safetensors, a .gguf file, or org/name[@revision] on the Hugging Face hub.
    #[arg(long, value_name = "DIR|FILE|NAME")]
    model: PathBuf,
    /// A folder with adapter_config.json and adapter_model.safetensors: an adapter of PEFT, or policy/ of a run that trained
    /// one. It is put beside the model.
    #[arg(long, value_name = "DIR")]
    adapter: Option<PathBuf>,
    /// The prompt, or with --chat the user's message.
    #[arg(long)]
    prompt: Option<String>,
    /// Lays messages out with the model's chat template.
    #[arg(long)]
    chat: bool,
    /// The system message of --chat.
    #[arg(long, requires = "chat")]
    system: Option<String>,
    /// Divides the logits; 0 takes the likeliest token.
    #[arg(long, default_value_t = 0.7)]
    temperature: f32,
    /// Draws from this many of the likeliest tokens only; 0 for all.
    #[arg(long, default_value_t = 0)]
    top_k: usize,
    /// Draws from the likeliest tokens that together have this probability only.
    #[arg(long, default_value_t = 1.0)]
    top_p: f32,
    /// Draws from tokens at least this many times as likely as the likeliest only.
    #[arg(long, default_value_t = 0.0)]
    min_p: f32,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Longest reply, in tokens.
    #[arg(long, default_value_t = 256)]
    max_new_tokens: usize,
    /// A text that ends a reply; may be given several times.
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
    #[command(flatten)]
    device: DeviceArgs,
    /// How the CPU keeps the weights while generating: as they are, or rounded to bf16, which is quicker. A CUDA device
    /// keeps them as --precision says.
    #[arg(long, value_enum, default_value_t = Weights::F32)]
    weights: Weights,
    /// Longest prompt and replies together, in tokens; the model's own limit if that is smaller.
    #[arg(long, default_value_t = 4096)]
    context: usize,
    /// Prints one JSON line a reply when it is complete: {"text","ids","logprobs"}
    #[arg(long)]
    json: bool,
}

/// A reply as `--json` prints it.
#[derive(Serialize)]
struct Line<'a> {
    text: &'a str,
    ids: Vec<u32>,
    /// Natural logarithms under the model, without temperature and truncation.
    logprobs: Vec<f32>,
}

/// How weights are kept.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Weights {
    F32,
    Bf16,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// If the model cannot be read, or a prompt does not fit.
pub fn run(args: &GenerateArgs) -> Result<u8> {
    if args.prompt.is_none() && !args.chat {
        bail!("give --prompt TEXT, or --chat for a conversation");
    }
    let options = DecodeOptions {
        temperature: args.temperature,
        top_k: args.top_k,
        top_p: args.top_p,
        min_p: args.min_p,
        max_new_tokens: args.max_new_tokens,
        stop: args.stop.iter().filter(|stop| !stop.is_empty()).cloned().collect(),
        end_tokens: Vec::new(),
    };
    options.validate()?;
    let device = args.device.open()?;
    let pretrained = Pretrained::open(&model_source::locate_argument(&args.model)?)?;
    let tokenizer = pretrained.tokenizer()?;
    let template = if args.chat { pretrained.chat_template()? } else { None };
    if args.chat && template.is_none() {
        bail!("{}: has no chat template; leave --chat out", args.model.display());
    }
    let mut model = model_source::read(&pretrained, args.adapter.as_deref(), &device)?;
    model.pack(match args.weights {
        Weights::F32 => WeightStorage::F32,
        Weights::Bf16 => WeightStorage::Bf16,
    });
    let max_len = args.context.min(model.config().max_position_embeddings);
    let sizes = EngineConfig { max_sequences: 1, max_len, ..EngineConfig::for_model(model.config()) };
    let mut session = Session {
        engine: Engine::on(&device, model.config(), sizes)?,
        options: DecodeOptions { end_tokens: pretrained.end_tokens().to_vec(), ..options },
        rng: ChaCha8Rng::seed_from_u64(args.seed),
        model,
        tokenizer,
        json: args.json,
    };
    match (&args.prompt, &template) {
        (Some(prompt), None) => {
            let ids = session.tokenizer.encode_text(prompt)?;
            session.reply(&ids)?;
        }
        (prompt, Some(template)) => {
            converse(&mut session, template, args.system.as_deref(), prompt.as_deref())?
        }
        (None, None) => {}
    }
    Ok(0)
}

/// A model with what it has read.
struct Session {
    model: Transformer,
    tokenizer: PolicyTokenizer,
    engine: Engine,
    options: DecodeOptions,
    rng: ChaCha8Rng,
    /// Replies are printed as JSON, when they are complete.
    json: bool,
}

impl Session {
    /// Prints the reply to a prompt; what the prompt shares with the last one is not read again.
    fn reply(&mut self, prompt: &[u32]) -> Result<String> {
        if prompt.is_empty() {
            bail!("the prompt is empty");
        }
        let mut out = std::io::stdout().lock();
        let mut written = Ok(());
        let streams = !self.json;
        let made = reply(
            &self.model,
            &self.tokenizer,
            &mut self.engine,
            prompt,
            &self.options,
            ChaCha8Rng::from_rng(&mut self.rng),
            &mut |text| {
                if streams && written.is_ok() {
                    written = write!(out, "{text}").and_then(|()| out.flush());
                }
            },
        )?;
        let end = match streams {
            true => "\n".to_string(),
            false => {
                let logprobs = made.tokens.iter().map(|token| token.logprob).collect();
                let line = Line { text: &made.text, ids: made.ids(), logprobs };
                serde_json::to_string(&line).context("a reply cannot be written as JSON")? + "\n"
            }
        };
        written.and_then(|()| out.write_all(end.as_bytes())).context("the reply cannot be written")?;
        if made.ending == Ending::Length && std::io::stderr().is_terminal() {
            let (n, limit) = (made.tokens.len(), self.options.max_new_tokens);
            let remedy = if n < limit { "--context" } else { "--max-new-tokens" };
            print_line(&format!("[cut after {n} tokens; {remedy} allows more]"));
        }
        Ok(made.text)
    }

    /// Adds a message and the reply to a conversation; if there is no reply, the conversation is as it was.
    fn say(&mut self, template: &ChatTemplate, messages: &mut Vec<Message>, text: &str) -> Result<()> {
        let n = messages.len();
        messages.push(Message::new("user", text));
        let mut answer = || {
            let prompt = self.tokenizer.encode(&template.render(messages, true)?)?;
            self.reply(&prompt)
        };
        match answer() {
            Ok(said) => messages.push(Message::new("assistant", &said)),
            Err(error) => {
                messages.truncate(n);
                return Err(error);
            }
        }
        Ok(())
    }
}

/// One message, or as many as there are lines.
fn converse(
    session: &mut Session,
    template: &ChatTemplate,
    system: Option<&str>,
    message: Option<&str>,
) -> Result<()> {
    let begin = || -> Vec<Message> { system.map(|text| Message::new("system", text)).into_iter().collect() };
    let mut messages = begin();
    if let Some(text) = message {
        return session.say(template, &mut messages, text);
    }
    let stdin = std::io::stdin();
    let is_person = stdin.is_terminal();
    if is_person {
        print_line("One message a line. /new begins another conversation, /quit or Ctrl-D leaves.");
    }
    loop {
        if is_person {
            show("> ")?;
        }
        let mut line = String::new();
        if stdin.lock().read_line(&mut line).context("the message cannot be read")? == 0 {
            // The shell's prompt belongs on a line of its own.
            return if is_person { show("\n") } else { Ok(()) };
        }
        match line.trim() {
            "" => {}
            "/quit" => return Ok(()),
            "/new" => messages = begin(),
            text => match session.say(template, &mut messages, text) {
                Err(error) if is_person && is_full(&error) => {
                    print_line(&format!(
                        "{error:#}; /new begins another conversation, --context allows more"
                    ));
                }
                done => done?,
            },
        }
    }
}

/// Whether a conversation has outgrown the model's context.
fn is_full(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ModelError::Context { .. }))
}

fn show(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).context("the prompt cannot be written")
}
