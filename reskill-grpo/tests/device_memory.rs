//! The memory that training takes on a CUDA device beside its plan, and that steps take from the driver. A program of its own:
//! memory is counted for the whole process.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Mutex, PoisonError};

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use reskill_grpo::memory::DEVICE_ALLOWANCE;
use reskill_grpo::{
    KlEstimator, Learner, LearnerConfig, LossConfig, MemoryPlan, MemoryRequest, MomentPrecision, Optimizer,
    OptimizerConfig, TokenTrajectory, TokenTurn,
};
use reskill_kernels::{DType, Device};
use reskill_model::constraint::Unconstrained;
use reskill_model::{
    Generator, Lora, LoraConfig, ModelConfig, ReplyToken, Request, SamplingParams, Transformer,
};

fn config() -> ModelConfig {
    ModelConfig {
        vocab_size: 1500,
        hidden_size: 48,
        intermediate_size: 96,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 16,
        max_position_embeddings: 128,
        qk_norm: true,
        ..ModelConfig::tiny()
    }
}

/// Held by the test that has the device.
static ALONE: Mutex<()> = Mutex::new(());

/// Six episodes of 96 packed tokens each.
fn trajectories() -> Vec<TokenTrajectory> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut ids = |n: usize| -> Vec<u32> { (0..n).map(|_| rng.random_range(0..1500)).collect() };
    let episode = |index: usize| {
        let reply = ids(5).into_iter().map(|token| ReplyToken { token, logprob: -7.3, allowed: vec![] });
        let reply = reply.collect();
        let turn = TokenTurn { trunk: ids(62), branch: ids(30), reply, invalid: false };
        TokenTrajectory { group: 0, stratum: 0, turns: vec![turn], return_: (index % 2) as f32 }
    };
    (0..6).map(episode).collect()
}

/// Bytes that the device lost, what it keeps for new tensors included, from before the weights to after an update.
fn taken(device: &Device, learner: &LearnerConfig, moments: MomentPrecision) -> u64 {
    fresh(device);
    let before = device.free_memory().unwrap().unwrap();
    let start = Transformer::init(&config(), &mut ChaCha8Rng::seed_from_u64(2)).unwrap();
    let (mut policy, reference) = (start.to_device(device).unwrap(), start.to_device(device).unwrap());
    let mut trained = Learner::for_model(&policy, learner).unwrap();
    let optimizer = OptimizerConfig { moments, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::for_model(&policy, &optimizer).unwrap();
    let (trajectories, advantages) = (trajectories(), vec![vec![0.5]; 6]);
    let loss = LossConfig { kl_coef: 0.1, ..LossConfig::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    trained
        .update(&mut policy, &mut optimizer, &reference, &trajectories, &advantages, &loss, 1.0, &mut rng)
        .unwrap();
    let Device::Cuda(cuda) = device else { panic!("{device:?}") };
    (before + cuda.kept_memory() as u64).saturating_sub(device.free_memory().unwrap().unwrap())
}

/// The plan holds, and is not half as much again as what is taken.
#[test]
fn the_plan_of_a_device_covers_what_training_takes_there() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let (model, learner) = (config(), LearnerConfig { max_tokens: 600, ..LearnerConfig::default() });
    for precision in [DType::F32, DType::Bf16] {
        for moments in [MomentPrecision::F32, MomentPrecision::EightBit] {
            let device = reskill_simt::device().with_precision(precision).unwrap();
            let plan = MemoryPlan::new(&MemoryRequest {
                device: &device,
                learns: true,
                model: &model,
                learner: &learner,
                moments,
                has_reference: true,
                lora: None,
                recompute: false,
                panels: None,
                slots: 0,
                context: 128,
            });
            let taken = taken(&device, &learner, moments);
            assert!(taken <= plan.total(), "{taken} of {plan}");
            // Pieces of scratch memory are rounded to 64 KiB and kept; some thirty of them lie within the allowance.
            let planned = plan.total() - DEVICE_ALLOWANCE;
            // A machine's own driver keeps what an earlier round gave back, and does not count it.
            if reskill_simt::is_stand_in() {
                assert!(planned < taken + taken / 2, "{planned} planned, {taken} taken: {plan}");
            }
        }
    }
}

/// The device, as a program has it that has just begun: it keeps memory, and none yet.
fn fresh(device: &Device) {
    let Device::Cuda(cuda) = device else { panic!("{device:?}") };
    cuda.keep_memory(0);
    cuda.keep_memory(1 << 30);
}

/// Takes pieces of memory from the driver the first time, and none from the third on.
fn takes_memory_at_first_only(what: &str, mut step: impl FnMut()) {
    let taken: Vec<_> = (0..4).map(|_| reskill_simt::counters::count(&mut step)).collect();
    // A machine's own driver does not count.
    let Some(taken) = taken.into_iter().collect::<Option<Vec<_>>>() else { return };
    let taken: Vec<_> = taken.iter().map(|counted| counted.allocations).collect();
    assert!(taken[0] > 5 && taken[2..] == [0, 0], "{what}: {taken:?}");
}

#[test]
fn steps_that_have_been_done_take_no_memory_from_the_driver() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for precision in [DType::F32, DType::Bf16] {
        let device = reskill_simt::device().with_precision(precision).unwrap();
        let start = Transformer::init(&config(), &mut ChaCha8Rng::seed_from_u64(2)).unwrap();
        let mut adapted = start.clone();
        let lora = LoraConfig { r: 2, ..LoraConfig::default() };
        adapted.attach(Lora::init(&config(), &lora, &mut ChaCha8Rng::seed_from_u64(4)).unwrap()).unwrap();
        training(&device, &start, MomentPrecision::F32, KlEstimator::K3);
        training(&device, &adapted, MomentPrecision::EightBit, KlEstimator::Full);
        decoding(&device, &start);
        decoding(&device, &adapted);
    }
}

fn training(device: &Device, start: &Transformer, moments: MomentPrecision, kl: KlEstimator) {
    fresh(device);
    let mut policy = start.to_device(device).unwrap();
    let reference = policy.without_adapter();
    let learner = LearnerConfig { minibatch_turns: 2, max_tokens: 100, ..LearnerConfig::default() };
    let mut learner = Learner::for_model(&policy, &learner).unwrap();
    let optimizer = OptimizerConfig { moments, ..OptimizerConfig::default() };
    let mut optimizer = Optimizer::for_model(&policy, &optimizer).unwrap();
    let loss = LossConfig { kl, kl_coef: 0.2, ..LossConfig::default() };
    let (mut trajectories, mut rng) = (trajectories(), ChaCha8Rng::seed_from_u64(3));
    trajectories.truncate(3);
    let advantages = vec![vec![0.5]; trajectories.len()];
    takes_memory_at_first_only(&format!("training {moments:?} {kl:?} {device:?}"), || {
        learner
            .update(&mut policy, &mut optimizer, &reference, &trajectories, &advantages, &loss, 0.8, &mut rng)
            .unwrap();
    });
}

fn decoding(device: &Device, start: &Transformer) {
    fresh(device);
    let policy = start.to_device(device).unwrap();
    let mut generator = Generator::on(device, policy.config(), 4, 64).unwrap();
    takes_memory_at_first_only(&format!("decoding {device:?}"), || {
        (0..4).for_each(|slot| generator.cache_mut().truncate(slot, 0));
        let prompts: [&[u32]; 4] = [&[1, 2, 3], &[4], &[5, 6, 7, 8], &[9, 10]];
        let mut requests: Vec<_> = prompts
            .into_iter()
            .enumerate()
            .map(|(slot, tokens)| Request {
                slot,
                tokens,
                constraint: &Unconstrained,
                rng: ChaCha8Rng::seed_from_u64(slot as u64),
            })
            .collect();
        let params = SamplingParams { temperature: 0.8, max_new_tokens: 6, end_token: 9999 };
        generator.generate(&policy, &mut requests, &params).unwrap();
    });
}
