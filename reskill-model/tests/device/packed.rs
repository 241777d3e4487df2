use reskill_kernels::{Device, Tensor};
use reskill_model::score::token_logprobs;
use reskill_model::{Gradients, ModelConfig, PackedBatch, Transformer, Workspace};

use crate::support::{
    adapter_of_rank, bits, device, difference, distance, families, model, narrow, rng, tokens,
};

/// Two episodes, the first with a trunk and three branches.
fn batch() -> PackedBatch {
    let mut batch = PackedBatch::new().unwrap();
    let trunk = batch.push_trunk(&tokens(19, 1)).unwrap();
    for (visible, len) in [(0, 3), (7, 5), (19, 2)] {
        batch.push_branch(&tokens(len, visible as u64), trunk, visible).unwrap();
    }
    batch.push_trunk(&tokens(11, 2)).unwrap();
    batch
}

/// A gradient from above.
fn upstream(config: &ModelConfig) -> Tensor {
    use rand::RngExt;
    let mut rng = rng(5);
    let shape = [batch().len(), config.hidden_size];
    let data = (0..shape[0] * shape[1]).map(|_| rng.random::<f32>() - 0.5).collect();
    Tensor::from_vec(&shape, data).unwrap()
}

/// Hidden states and gradients of `model`, which is on `device`.
fn run(model: &Transformer, device: &Device, recomputing: bool) -> (Tensor, Gradients) {
    let config = model.config();
    let new = if recomputing { Workspace::recomputing_on } else { Workspace::on };
    let mut workspace = new(device, config).unwrap();
    let batch = batch().to_device(device).unwrap();
    let hidden = model.forward(&mut workspace, &batch).unwrap().clone();
    let d_hidden = upstream(config).to_device_as(device, hidden.dtype()).unwrap();
    let mut grads = Gradients::zeros(model).unwrap();
    model.backward_trainable(&mut grads, &mut workspace, &batch, &d_hidden).unwrap();
    (hidden, grads)
}

/// What the device computes in f32 is what the CPU computes, number by number.
fn check(model: &Transformer) {
    let (want, want_grads) = run(model, &Device::Cpu, false);
    let (hidden, grads) = run(&model.to_device(&device()).unwrap(), &device(), false);
    // Two blocks of sums of at most 128 products in f32, in another order.
    assert!(difference(&hidden, &want) < 1e-5, "hidden: {}", difference(&hidden, &want));
    let names = model.trainable_names();
    for ((got, want), name) in grads.tensors().into_iter().zip(want_grads.tensors()).zip(names) {
        let off = difference(got, want);
        assert!(off < 3e-5, "gradient of {name}: {off}");
    }
}

/// What the device computes in bf16 is what the CPU computes in f32 with the same rounded weights, to rounding.
fn check_narrow(model: &Transformer) {
    let there = model.to_device(&narrow()).unwrap();
    let (want, want_grads) = run(&there.to_device(&Device::Cpu).unwrap(), &Device::Cpu, false);
    let (hidden, grads) = run(&there, &narrow(), false);
    // A rounding is off by 2^-9 at most, 0.1% on average; some twenty of them lie on the way through two blocks.
    let off = distance(&[&hidden], &[&want]);
    assert!(off < 0.02, "hidden: {off}");
    let off = distance(&grads.tensors(), &want_grads.tensors());
    assert!(off < 0.04, "all gradients: {off}");
    let names = model.trainable_names();
    for ((got, want), name) in grads.tensors().into_iter().zip(want_grads.tensors()).zip(names) {
        // A head of its own has no part in hidden states.
        if want.as_slice().iter().all(|x| *x == 0.0) {
            assert_eq!(difference(got, want), 0.0, "gradient of {name}");
            continue;
        }
        // Those of queries and keys are small differences of larger numbers: a sign or a factor wrong would be 1 or more.
        let off = distance(&[got], &[want]);
        assert!(off < 0.25, "gradient of {name}: {off}");
    }
}

#[test]
fn hidden_states_and_gradients_on_a_device_are_those_of_the_processor() {
    for config in families() {
        check(&model(&config, 1));
    }
}

#[test]
fn in_bf16_they_are_those_of_the_processor_to_rounding() {
    for config in families() {
        check_narrow(&model(&config, 1));
    }
}

#[test]
fn gradients_of_an_adapter_on_a_device_are_those_of_the_processor() {
    // In bf16 fused kernels take the rank of 8.
    for (config, rank) in families().iter().flat_map(|config| [3, 8].map(|rank| (config, rank))) {
        let mut model = model(config, 1);
        model.attach(adapter_of_rank(rank, config)).unwrap();
        check(&model);
        check_narrow(&model);
    }
}

#[test]
fn recomputation_on_a_device_gives_the_same_bits() {
    for (config, device) in families().iter().zip([device(), narrow(), narrow()]) {
        let there = model(config, 1).to_device(&device).unwrap();
        let ((hidden, grads), (again, grads_again)) =
            (run(&there, &device, false), run(&there, &device, true));
        assert_eq!(bits(&hidden), bits(&again));
        for (a, b) in grads.tensors().into_iter().zip(grads_again.tensors()) {
            assert_eq!(bits(a), bits(b));
        }
    }
}

#[test]
fn scores_on_a_device_are_those_of_the_processor() {
    for config in families() {
        let (model, ids) = (model(&config, 1), tokens(40, 3));
        let want = token_logprobs(&model, &mut Workspace::new(&config).unwrap(), &ids).unwrap();
        for (device, within) in [(device(), 2e-5), (narrow(), 0.06)] {
            let there = model.to_device(&device).unwrap();
            let mut workspace = Workspace::on(&device, &config).unwrap();
            let got = token_logprobs(&there, &mut workspace, &ids).unwrap();
            assert_eq!(got.len(), 39);
            for (got, want) in got.iter().zip(&want) {
                // As the hidden states; a log-probability is off by the logit and the normaliser.
                assert!((got - want).abs() < within, "{got}, expected {want}");
            }
        }
    }
}
