//! Skills for any agent, from a file of its episodes: asks a language model over an OpenAI-compatible API (or repeats
//! recorded calls) and writes the bank with the proposed skills as Agent Skills folders.
//!
//! ```text
//! cargo run --release -p reskill-skills --features llm --example create_skills -- \
//!     --episodes episodes.jsonl --out proposal --base-url http://127.0.0.1:8000/v1 --model my-model
//! ```
//!
//! `--help` prints all options and the format of the file.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to the terminal")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use reskill_envs::{ActionTemplate, ActionVocabulary, Episode, Outcome, Split, Task, TaskId, Turn};
use reskill_skills::creator::llm;
use reskill_skills::lifecycle::LifecycleConfig;
use reskill_skills::{
    Arm, CreatorConfig, CreatorKind, CreatorRequest, Reservoir, ReservoirConfig, SkillBank, SkillEpisode,
    store,
};
use serde::Deserialize;
use serde_json::json;

const HELP: &str = "\
create_skills --episodes FILE --out DIR (--base-url URL --model NAME [--key-env NAME] | --replay DIR) [more]

  --episodes FILE   one JSON object a line, see below
  --out DIR         gets skills/<name>/SKILL.md, proposal.json, creator/ (every stage) and creator/calls (the record)
  --base-url URL    an OpenAI-compatible server, up to and without /chat/completions
  --model NAME      as the server knows it
  --key-env NAME    environment variable with the key; without it no key is sent
  --replay DIR      repeats the calls recorded in DIR; needs neither server nor key
  --bank DIR        present skills, as Agent Skills folders
  --commands FILE   the commands of the environment, one a line, with slots: take {object} from {place}
  --note TEXT       a remark for the author of the skills
  --groups N        most tasks that are looked at [default: 30]

An episode:
  {\"task\": \"id\", \"family\": \"pick\", \"goal\": \"put an apple in the bin\", \"success\": false, \"arm\": \"old\",
   \"turns\": [{\"observation\": \"...\", \"action\": \"go to bin 1\", \"reply\": \"...\", \"valid\": true}],
   \"final_observation\": \"...\"}
`task`, `goal`, `success`, `turns` and in each turn `observation` and `action` are needed; episodes of one task share its
id. `arm` (old or new) says which of two versions of the bank was played.
";

/// An episode as a trainer in any language can write it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EpisodeLine {
    task: String,
    #[serde(default)]
    family: Option<String>,
    goal: String,
    success: bool,
    #[serde(default)]
    arm: ArmName,
    turns: Vec<TurnLine>,
    #[serde(default)]
    final_observation: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TurnLine {
    observation: String,
    action: Option<String>,
    #[serde(default)]
    reply: String,
    #[serde(default)]
    admissible: Vec<String>,
    #[serde(default)]
    valid: Option<bool>,
}

#[derive(Deserialize, Clone, Copy, Default, PartialEq)]
#[serde(rename_all = "snake_case")]
enum ArmName {
    #[default]
    Old,
    New,
}

impl EpisodeLine {
    fn into_episode(self, bank: &SkillBank) -> SkillEpisode {
        let task = Task {
            id: TaskId(self.task),
            split: Split::Train,
            family: self.family.unwrap_or_else(|| "all".into()),
            goal: self.goal,
        };
        let turns = self.turns.into_iter().map(|turn| Turn {
            observation: turn.observation,
            admissible: turn.admissible,
            reply: turn.reply,
            valid: turn.valid.unwrap_or(turn.action.is_some()),
            action: turn.action,
        });
        let episode = Episode {
            task: Arc::new(task),
            turns: turns.collect(),
            final_observation: self.final_observation,
            outcome: if self.success { Outcome::Success } else { Outcome::Failure },
            return_: f32::from(u8::from(self.success)),
            score: f32::from(u8::from(self.success)),
            fault: None,
        };
        let arm = if self.arm == ArmName::New { Arm::Candidate(0) } else { Arm::Incumbent };
        let mut played = SkillEpisode { episode, arm, group: 0, step: 0, triggered: Vec::new() };
        let shown = |(turn_idx, previous, _): (usize, Option<&str>, &Turn)| {
            bank.triggered(turn_idx, previous).iter().map(|skill| skill.id.clone()).collect()
        };
        played.triggered = played.turns().map(shown).collect();
        played
    }
}

#[derive(Default)]
struct Options {
    episodes: Option<PathBuf>,
    out: Option<PathBuf>,
    bank: Option<PathBuf>,
    commands: Option<PathBuf>,
    groups: Option<usize>,
    creator: CreatorConfig,
}

type AnyError = Box<dyn std::error::Error>;

fn options() -> Result<Option<Options>, AnyError> {
    let mut options = Options::default();
    let creator = &mut options.creator;
    // A server that needs no key is the common case here.
    creator.api_key_env = Some(String::new());
    creator.kind = CreatorKind::Openai;
    let mut args = std::env::args().skip(1);
    while let Some(option) = args.next() {
        if option == "--help" || option == "-h" {
            return Ok(None);
        }
        let value = args.next().ok_or_else(|| format!("{option}: a value is missing; see --help"))?;
        match option.as_str() {
            "--episodes" => options.episodes = Some(value.into()),
            "--out" => options.out = Some(value.into()),
            "--bank" => options.bank = Some(value.into()),
            "--commands" => options.commands = Some(value.into()),
            "--groups" => options.groups = Some(value.parse()?),
            "--base-url" => creator.base_url = Some(value),
            "--model" => creator.model = Some(value),
            "--key-env" => creator.api_key_env = Some(value),
            "--note" => creator.note = value,
            "--replay" => {
                creator.kind = CreatorKind::Replay;
                creator.replay_dir = Some(value.into());
            }
            _ => return Err(format!("{option}: there is no such option; see --help").into()),
        }
    }
    Ok(Some(options))
}

fn read_episodes(path: &Path, bank: &SkillBank) -> Result<Vec<SkillEpisode>, AnyError> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            let line: EpisodeLine = serde_json::from_str(line)
                .map_err(|error| format!("{}: line {}: {error}", path.display(), index + 1))?;
            Ok(line.into_episode(bank))
        })
        .collect()
}

fn run() -> Result<(), AnyError> {
    let Some(options) = options()? else {
        println!("{HELP}");
        return Ok(());
    };
    let out = options.out.ok_or("--out is missing; see --help")?;
    let file = options.episodes.ok_or("--episodes is missing; see --help")?;
    let bank = options.bank.as_deref().map(store::load_bank).transpose()?.unwrap_or_default();
    let commands = match &options.commands {
        Some(path) => {
            std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?
        }
        None => String::new(),
    };
    let template = |line: &str| ActionTemplate { name: line.into(), template: line.into() };
    let templates = commands.lines().map(str::trim).filter(|line| !line.is_empty()).map(template);
    let episodes = read_episodes(&file, &bank)?;
    let mut reservoir =
        Reservoir::new(ReservoirConfig { capacity: episodes.len().max(1), ..Default::default() });
    reservoir.extend(&episodes);

    let mut config = options.creator;
    if config.kind != CreatorKind::Replay {
        config.record_dir = Some(out.join("creator/calls"));
    }
    let creator = llm::open(&config, 0, &|name| std::env::var(name).ok())?;
    let mut creator = creator.with_artefacts(out.join("creator"));
    let lifecycle = LifecycleConfig::default();
    let request = CreatorRequest {
        step: 0,
        join_step: 0,
        sample_groups: options.groups.unwrap_or(lifecycle.reservoir.sample_groups),
        bank,
        reservoir,
        vocabulary: ActionVocabulary { templates: templates.collect() },
        assertions: Default::default(),
        history: Vec::new(),
        limits: lifecycle.limits(),
        verify: lifecycle.verify.clone(),
    };
    let result = request.ask(&mut creator);
    let cost = creator.handle().take_cost();
    eprintln!("{}", json!({"cost": cost}));
    let proposal = result?.ok_or("the creator proposes nothing")?;
    let candidate = request.bank.apply(&proposal.operations, 0, &request.limits)?;
    store::save_bank(&out.join("skills"), &candidate)?;
    std::fs::write(out.join("proposal.json"), serde_json::to_vec_pretty(&proposal)?)?;
    println!(
        "{}",
        serde_json::to_string_pretty(&json!({"operations": proposal.operations, "why": proposal.rationale}))?
    );
    Ok(())
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprint!("error: {error}");
            let mut source = error.source();
            while let Some(cause) = source {
                eprint!(": {cause}");
                source = cause.source();
            }
            eprintln!();
            ExitCode::FAILURE
        }
    }
}
