//! Rollouts of real games: what the sampler computed from its cache, the trainer computes from packed trunks and
//! branches, and separate samples give the same.

use std::sync::Arc;

use reskill_cli::config::{Reward, TrainConfig};
use reskill_cli::policy::{Policy, build_tokenizer};
use reskill_cli::rollout::{Assignment, RolloutSettings, Trajectory, collect};
use reskill_cli::streams::stream;
use reskill_envs::household::{Household, HouseholdConfig};
use reskill_envs::prompt::PromptConfig;
use reskill_envs::{Split, Suite};
use reskill_grpo::{
    Learner, LearnerConfig, LossConfig, Optimizer, OptimizerConfig, TokenTrajectory, TokenTurn,
    turn_advantages,
};
use reskill_kernels::Device;
use reskill_model::{ModelConfig, Params, SamplingParams};
use reskill_skills::{Arm, Guidance, Operation, SkillBank, SkillContent, SkillLimits, Trigger};

struct World {
    suite: Household,
    policy: Policy,
    bank: SkillBank,
}

fn world() -> World {
    let config = HouseholdConfig { n_train: 24, n_seen: 6, n_unseen: 6, ..HouseholdConfig::default() };
    let suite = Household::generate(&config).unwrap();
    let tokenizer = build_tokenizer(&suite, &PromptConfig::default(), 400).unwrap();
    let model = ModelConfig {
        hidden_size: 32,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        ..ModelConfig::tiny()
    };
    let prompt = TrainConfig::load(None, &[]).unwrap().policy.prompt;
    let policy =
        Policy::init(&model, &prompt, tokenizer, &mut stream(1, "weights", &[]), &Device::Cpu).unwrap();
    let tip = |name: &str, trigger: Trigger, action: &str| {
        let guidance: Guidance = action.parse().unwrap();
        let when_to_use = "Here.".to_string();
        Operation::Add(SkillContent {
            name: name.into(),
            when_to_use,
            action: action.into(),
            example: None,
            trigger,
            guidance: Some(guidance),
        })
    };
    let operations = [
        tip("always", Trigger::Always, "do not look"),
        tip("then", Trigger::after_action("^go to").unwrap(), "next open"),
    ];
    let bank = SkillBank::default().apply(&operations, 0, &SkillLimits::default()).unwrap();
    World { suite, policy, bank }
}

/// Plays `n` tasks four times each; member `only` of each group alone if given.
fn rollouts(world: &World, n: usize, only: Option<usize>) -> Vec<Trajectory> {
    let empty = SkillBank::default();
    let mut assignments = Vec::new();
    for group in 0..n {
        for member in (0..4).filter(|member| only.is_none_or(|only| only == *member)) {
            let arm = if member % 2 == 0 { Arm::Incumbent } else { Arm::Candidate(0) };
            assignments.push(Assignment {
                task: Arc::clone(&world.suite.tasks(Split::Train)[group]),
                group: group as u64,
                arm,
                bank: if arm == Arm::Incumbent { &empty } else { &world.bank },
                rng: stream(3, "rollout", &[group as u64, member as u64]),
            });
        }
    }
    let settings = RolloutSettings {
        max_turns: 9,
        success_reward: 1.0,
        reward: Reward::Success,
        sampling: SamplingParams {
            temperature: 0.7,
            max_new_tokens: 8,
            end_token: world.policy.tokenizer.end_token(),
        },
        step: 1,
    };
    collect(&world.policy, &world.suite, assignments, &settings, &mut |_| {}).unwrap().0
}

fn gradient(world: &World, trajectories: &[TokenTrajectory], advantages: &[Vec<f32>]) -> (f64, Params) {
    let mut model = world.policy.model.clone();
    let config =
        LearnerConfig { minibatch_turns: usize::MAX, max_tokens: 700, epochs: 1, ..LearnerConfig::default() };
    let mut learner = Learner::new(model.config(), &config).unwrap();
    let mut optimizer = Optimizer::new(model.config(), &OptimizerConfig::default()).unwrap();
    let reference = model.clone();
    let loss = LossConfig { entropy_coef: 0.01, ..LossConfig::default() };
    let metrics = learner
        .update(
            &mut model,
            &mut optimizer,
            &reference,
            trajectories,
            advantages,
            &loss,
            0.7,
            &mut stream(0, "order", &[]),
        )
        .unwrap();
    (metrics.sampler_mismatch, learner.grads().full().unwrap().clone())
}

#[test]
fn the_trainer_finds_the_samplers_log_probabilities_to_the_bit() {
    let world = world();
    let tokens: Vec<TokenTrajectory> = rollouts(&world, 6, None).into_iter().map(|it| it.tokens).collect();
    let advantages: Vec<Vec<f32>> = tokens.iter().map(|it| vec![1.0; it.turns.len()]).collect();
    assert!(tokens.iter().map(TokenTrajectory::trained_len).sum::<usize>() > 100);
    assert_eq!(gradient(&world, &tokens, &advantages).0, 0.0);
}

#[test]
fn trunk_and_branches_give_the_gradient_of_separate_samples() {
    let world = world();
    let mut tokens: Vec<TokenTrajectory> =
        rollouts(&world, 4, None).into_iter().map(|it| it.tokens).collect();
    for (index, trajectory) in tokens.iter_mut().enumerate() {
        trajectory.return_ = (index % 3) as f32;
    }
    let advantages = turn_advantages(&tokens, &Default::default()).unwrap();
    // The same turns as samples of their own: the whole prompt as one branch without a trunk.
    let (mut samples, mut sample_advantages) = (Vec::new(), Vec::new());
    for (trajectory, advantages) in tokens.iter().zip(&advantages) {
        let mut trunk = Vec::new();
        for (turn, &advantage) in trajectory.turns.iter().zip(advantages) {
            trunk.extend_from_slice(&turn.trunk);
            let branch = trunk.iter().chain(&turn.branch).copied().collect();
            let turn = TokenTurn { trunk: Vec::new(), branch, ..turn.clone() };
            samples.push(TokenTrajectory { turns: vec![turn], ..trajectory.clone() });
            sample_advantages.push(vec![advantage]);
        }
    }
    let packed: usize = tokens.iter().map(TokenTrajectory::packed_len).sum();
    let separate: usize = samples.iter().map(TokenTrajectory::packed_len).sum();
    assert!(separate > packed * 2, "{separate} tokens apart, {packed} packed");
    let (_, together) = gradient(&world, &tokens, &advantages);
    let (mismatch, apart) = gradient(&world, &samples, &sample_advantages);
    assert_eq!(mismatch, 0.0, "separate samples have the same log-probabilities");
    for (a, b) in together.tensors().iter().zip(apart.tensors()) {
        let scale = b.as_slice().iter().fold(0.0_f32, |max, x| max.max(x.abs()));
        assert!(scale > 0.0, "a parameter has no gradient");
        for (x, y) in a.as_slice().iter().zip(b.as_slice()) {
            // Sums over the same f32 terms in another order.
            assert!((x - y).abs() <= 2e-4 * scale, "{x} against {y}, scale {scale}");
        }
    }
}

#[test]
fn an_episode_does_not_depend_on_the_episodes_beside_it() {
    let world = world();
    let all = rollouts(&world, 5, None);
    for member in 0..4 {
        for (group, alone) in rollouts(&world, 5, Some(member)).into_iter().enumerate() {
            let among = &all[group * 4 + member];
            assert_eq!(alone.tokens, among.tokens);
            assert_eq!(alone.record, among.record);
        }
    }
}
