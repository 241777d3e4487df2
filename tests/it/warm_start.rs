//! What the demonstrations of the warm start show, and what they leave out.

use reskill_cli::config::TrainConfig;
use reskill_cli::policy::{Policy, build_tokenizer};
use reskill_cli::streams::stream;
use reskill_cli::suites::open_suite;
use reskill_cli::warm_start::demonstrations;
use reskill_grpo::TokenTrajectory;
use reskill_kernels::Device;

fn demos(overrides: &[&str]) -> (Policy, Vec<TokenTrajectory>) {
    let small = ["env.household.n_train=120", "sft.episodes=80", "policy.model.hidden_size=16"];
    let overrides: Vec<String> = small.iter().chain(overrides).map(ToString::to_string).collect();
    let config = TrainConfig::load(None, &overrides).unwrap();
    let suite = open_suite(&config.env).unwrap();
    let tokenizer = build_tokenizer(suite.as_ref(), &config.policy.prompt, 400).unwrap();
    let mut rng = stream(0, "weights", &[]);
    let policy =
        Policy::init(&config.policy.model, &config.policy.prompt, tokenizer, &mut rng, &Device::Cpu).unwrap();
    let demos = demonstrations(&config, &policy).unwrap();
    (policy, demos)
}

/// Prompt and reply of every turn, as text.
fn turns(policy: &Policy, demo: &TokenTrajectory) -> Vec<(String, String)> {
    let decode = |ids: &[u32]| policy.tokenizer.decode(ids).unwrap();
    demo.turns
        .iter()
        .map(|turn| {
            let reply: Vec<u32> = turn.reply.iter().map(|token| token.token).collect();
            (decode(&turn.branch), decode(&reply))
        })
        .collect()
}

#[test]
fn without_guidance_demonstrations_never_open_or_start_and_yet_reach_the_goal() {
    let (policy, demos) = demos(&["sft.skill_fraction=0.0"]);
    let mut saw_closed = 0;
    for (prompt, reply) in demos.iter().flat_map(|demo| turns(&policy, demo)) {
        assert!(!reply.starts_with("open") && !reply.starts_with("start"), "{reply}");
        assert!(!prompt.contains("tip"), "{prompt}");
        saw_closed += usize::from(prompt.contains("is closed"));
    }
    assert!(saw_closed > 20, "closed containers must be passed by, not absent: {saw_closed}");
    let solved = demos.iter().filter(|demo| demo.return_ > 0.0).count();
    assert!(solved * 10 >= demos.len() * 9, "{solved} of {} demonstrations reach the goal", demos.len());
}

#[test]
fn guidance_in_the_prompt_is_obeyed() {
    let (policy, demos) = demos(&["sft.skill_fraction=1.0"]);
    let (mut told, mut opened) = (0, 0);
    for (prompt, reply) in demos.iter().flat_map(|demo| turns(&policy, demo)) {
        // Only where nothing else is asked for, and the place is closed, so that it can be opened.
        if prompt.ends_with("tip : next open =>")
            && prompt.matches("tip").count() == 1
            && prompt.contains("is closed")
        {
            told += 1;
            opened += usize::from(reply.starts_with("open"));
        }
    }
    assert!(told > 50, "{told}");
    assert_eq!(opened, told);
}

#[test]
fn demonstrations_search_instead_of_going_where_nothing_points_to() {
    let turns_of = |search: &str| {
        let search = format!("sft.search={search}");
        let (_, demos) = demos(&["sft.skill_fraction=0.0", &search]);
        demos.iter().map(|demo| demo.turns.len()).sum::<usize>()
    };
    let (searching, knowing) = (turns_of("true"), turns_of("false"));
    assert!(searching * 10 > knowing * 13, "{searching} turns against {knowing}");
}
