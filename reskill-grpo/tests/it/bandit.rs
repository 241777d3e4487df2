use rand::RngExt;
use reskill_grpo::{
    AdvantageConfig, Learner, LearnerConfig, LossConfig, Optimizer, OptimizerConfig, TokenTrajectory,
    TokenTurn, UpdateMetrics, turn_advantages,
};
use reskill_model::{Generator, Request, SamplingParams, TokenTrie, Transformer};

use crate::support::{config, model, rng};

const ARMS: [u32; 4] = [3, 4, 5, 6];
const CUES: [u32; 2] = [1, 2];
const SAMPLING: SamplingParams = SamplingParams { temperature: 1.0, max_new_tokens: 4, end_token: 16 };

/// Shows a cue and plays one of the arms, 16 times per cue. Each cue has an arm that pays 1.
fn play(model: &Transformer, seed: u64) -> Vec<TokenTrajectory> {
    let arms: Vec<&[u32]> = ARMS.iter().map(std::slice::from_ref).collect();
    let trie = TokenTrie::new(&arms, SAMPLING.end_token);
    let mut generator = Generator::new(model.config(), 32, 8).unwrap();
    let mut seeds = rng(seed);
    let mut requests: Vec<_> = (0..32)
        .map(|slot| Request {
            slot,
            tokens: &CUES[slot / 16..=slot / 16],
            constraint: &trie,
            rng: rng(seeds.random()),
        })
        .collect();
    let (replies, _) = generator.generate(model, &mut requests, &SAMPLING).unwrap();
    replies
        .into_iter()
        .enumerate()
        .map(|(slot, reply)| {
            let cue = slot / 16;
            let paid = reply.ids() == [ARMS[2 * cue + 1]];
            let turn =
                TokenTurn { trunk: vec![], branch: vec![CUES[cue]], reply: reply.tokens, invalid: false };
            TokenTrajectory {
                group: cue as u64,
                stratum: 0,
                turns: vec![turn],
                return_: f32::from(u8::from(paid)),
            }
        })
        .collect()
}

fn train(n_steps: u64) -> (f32, f32, Vec<UpdateMetrics>) {
    let mut policy = model(1);
    let reference = policy.clone();
    let mut learner =
        Learner::new(&config(), &LearnerConfig { minibatch_turns: 32, ..LearnerConfig::default() }).unwrap();
    let numbers = OptimizerConfig { learning_rate: 5e-3, weight_decay: 0.0, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::new(&config(), &numbers).unwrap();
    let mean = |trajectories: &[TokenTrajectory]| trajectories.iter().map(|t| t.return_).sum::<f32>() / 32.0;
    let before = mean(&play(&policy, 1000));
    let mut all = Vec::new();
    for step in 0..n_steps {
        let trajectories = play(&policy, step);
        let advantages = turn_advantages(&trajectories, &AdvantageConfig::default()).unwrap();
        let metrics = learner
            .update(
                &mut policy,
                &mut optimizer,
                &reference,
                &trajectories,
                &advantages,
                &LossConfig::default(),
                SAMPLING.temperature,
                &mut rng(step),
            )
            .unwrap();
        all.push(metrics);
    }
    (before, mean(&play(&policy, 1000)), all)
}

#[test]
fn policy_learns_the_arm_that_pays() {
    let (before, after, _) = train(40);
    // Chance is 0.25; a policy that knows both arms misses rarely.
    assert!(before < 0.6 && after > 0.9, "from {before} to {after}");
}

#[test]
fn sampler_and_trainer_agree_to_the_bit_in_every_step() {
    let (_, _, metrics) = train(5);
    assert!(metrics.iter().all(|metrics| metrics.sampler_mismatch == 0.0));
    // With one mini-batch a step nothing has moved when the loss is taken, so nothing is clipped.
    assert!(metrics.iter().all(|metrics| metrics.clip_fraction_high + metrics.clip_fraction_low == 0.0));
}

#[test]
fn training_is_the_same_run_twice() {
    assert_eq!(train(5), train(5));
}
