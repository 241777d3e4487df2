use reskill_grpo::{Learner, LearnerConfig, LossConfig, Optimizer, OptimizerConfig, TokenTrajectory};

use crate::support::{config, model, random_trajectories, rng};

fn learner(minibatch_turns: usize) -> Learner {
    Learner::new(&config(), &LearnerConfig { minibatch_turns, ..LearnerConfig::default() }).unwrap()
}

#[test]
fn a_broken_minibatch_is_skipped_counted_and_kept_and_the_others_are_applied() {
    let mut trajectories = random_trajectories(8, 3);
    // A log-probability of this size overflows the ratio in f32.
    trajectories[2].turns[0].reply[0].logprob = -1e4;
    let mut advantages: Vec<Vec<f32>> = trajectories.iter().map(|it| vec![1.0; it.turns.len()]).collect();
    advantages[2][0] = -1.0;
    let loss = LossConfig { dual_clip: None, kl_coef: 0.0, ..LossConfig::default() };
    let dir = std::env::temp_dir().join(format!("reskill-guard-{}", std::process::id()));
    let (mut policy, frozen) = (model(1), model(1));
    let mut learner = learner(1).dumping_to(&dir);
    let mut optimizer = Optimizer::new(&config(), &OptimizerConfig::default()).unwrap();
    let mut update = |trajectories: &[TokenTrajectory], optimizer: &mut Optimizer| {
        learner
            .update(&mut policy, optimizer, &frozen, trajectories, &advantages, &loss, 1.0, &mut rng(0))
            .unwrap()
    };
    let metrics = update(&trajectories, &mut optimizer);
    assert_eq!((metrics.skipped_updates, metrics.optimizer_steps, optimizer.steps()), (1, 7, 7));
    assert!(metrics.loss.is_finite() && metrics.grad_norm.is_finite() && metrics.ratio.max.is_finite());
    let trained: usize =
        trajectories.iter().enumerate().filter(|(i, _)| *i != 2).map(|(_, it)| it.trained_len()).sum();
    assert_eq!(metrics.trained_tokens, trained as u64);
    let kept: Vec<_> = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(kept.len(), 1);
    let batch: serde_json::Value = serde_json::from_slice(&std::fs::read(&kept[0]).unwrap()).unwrap();
    assert_eq!(batch["trajectories"][0]["turns"][0]["reply"][0]["logprob"], -1e4);
    assert_eq!(batch["advantages"][0][0], -1.0);
    assert_eq!(batch["config"]["clip_low"], 0.2);
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_broken_batch_alone_changes_neither_weights_nor_optimizer() {
    let trajectories = random_trajectories(2, 3);
    let members: Vec<&TokenTrajectory> = trajectories.iter().collect();
    let mut policy = model(1);
    policy.params_mut().layers[0].down.as_mut_slice()[3] = f32::NAN;
    let before: Vec<u32> = policy.params().embed.as_slice().iter().map(|x| x.to_bits()).collect();
    let mut optimizer = Optimizer::new(&config(), &OptimizerConfig::default()).unwrap();
    let metrics = learner(1).imitate(&mut policy, &mut optimizer, &members).unwrap();
    assert_eq!((metrics.skipped_updates, optimizer.steps()), (1, 0));
    let after: Vec<u32> = policy.params().embed.as_slice().iter().map(|x| x.to_bits()).collect();
    assert_eq!(before, after);
}
