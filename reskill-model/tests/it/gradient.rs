use rand::RngExt;
use reskill_kernels::ops::{TokenSets, linear_logprob_backward, linear_logprob_forward};
use reskill_kernels::{Device, Tensor};
use reskill_model::{ModelConfig, PackedBatch, Params, Transformer, Workspace};

use crate::reference::Reference;
use crate::support::{config, families, model, rng, tokens};

/// A prompt and a token to predict after its last one, with what that prediction weighs.
struct Sample {
    prompt: Vec<u32>,
    target: u32,
    weight: f32,
}

/// Weighted log-probability of the targets in f64.
fn reference_loss(reference: &Reference, samples: &[Sample]) -> f64 {
    let one = |sample: &Sample| {
        let hidden = reference.hidden(&sample.prompt);
        let logprobs = reference.logprobs(&hidden[hidden.len() - 1], &[], 1.0);
        f64::from(sample.weight) * logprobs[sample.target as usize]
    };
    samples.iter().map(one).sum()
}

/// Loss and gradients when the targets are predicted at these rows of a batch.
fn gradients(model: &Transformer, batch: &PackedBatch, rows: &[usize], samples: &[Sample]) -> (f64, Params) {
    let config = model.config();
    let mut workspace = Workspace::new(config).unwrap();
    let hidden = model.forward(&mut workspace, batch).unwrap().clone();
    let (n, r, c) = (batch.len(), samples.len(), config.hidden_size);
    let column = |data: Vec<f32>| Tensor::from_vec(&[data.len()], data).unwrap();
    let zeros = |shape: &[usize]| Tensor::<f32>::zeros(shape, &Device::Cpu).unwrap();
    let picked: Vec<f32> =
        rows.iter().flat_map(|row| hidden.as_slice()[row * c..(row + 1) * c].to_vec()).collect();
    let picked = Tensor::from_vec(&[r, c], picked).unwrap();
    let targets = Tensor::from_vec(&[r], samples.iter().map(|sample| sample.target).collect()).unwrap();
    let mut allowed = TokenSets::new();
    samples.iter().for_each(|_| allowed.push(&[]));
    let [mut logprobs, mut entropy, mut lse] = [zeros(&[r]), zeros(&[r]), zeros(&[r])];
    let head = model.params().head();
    linear_logprob_forward(&mut logprobs, &mut entropy, &mut lse, &picked, head, &targets, &allowed, 1.0)
        .unwrap();
    let weights = column(samples.iter().map(|sample| sample.weight).collect());
    let mut grads = Params::zeros(config).unwrap();
    let mut d_picked = zeros(&[r, c]);
    linear_logprob_backward(
        &mut d_picked,
        grads.head_mut(),
        &weights,
        &zeros(&[r]),
        &entropy,
        &lse,
        &picked,
        head,
        &targets,
        &allowed,
        1.0,
    )
    .unwrap();
    let mut d_hidden = zeros(&[n, c]);
    for (row, d) in rows.iter().zip(d_picked.as_slice().chunks(c)) {
        for (to, d) in d_hidden.as_mut_slice()[row * c..].iter_mut().zip(d) {
            *to += d;
        }
    }
    model.backward(&mut grads, &mut workspace, batch, &d_hidden).unwrap();
    let loss =
        logprobs.as_slice().iter().zip(samples).map(|(&x, s)| f64::from(x) * f64::from(s.weight)).sum();
    (loss, grads)
}

/// An episode of three turns: trunk and branches, predicted at the last two tokens of each branch; and the same
/// predictions as separate samples with their whole prompts.
fn episode() -> (PackedBatch, Vec<usize>, Vec<Sample>) {
    let trunk = tokens(8, 23, 11);
    let mut batch = PackedBatch::new().unwrap();
    let trunk_start = batch.push_trunk(&trunk).unwrap();
    let (mut rows, mut samples) = (Vec::new(), Vec::new());
    for (turn, visible) in [(0, 3), (1, 6), (2, 8)] {
        let branch = tokens(4, 23, 20 + turn);
        let start = batch.push_branch(&branch, trunk_start, visible).unwrap();
        for last in [2, 3] {
            rows.push(start + last);
            samples.push(Sample {
                prompt: [&trunk[..visible], &branch[..=last]].concat(),
                target: (5 * turn as u32 + last as u32) % 23,
                weight: 0.7 - 0.5 * turn as f32,
            });
        }
    }
    (batch, rows, samples)
}

/// Every tensor, at up to `n_coordinates` places each.
fn check(config: &ModelConfig, n_coordinates: usize) {
    let model = model(config, 1);
    let (batch, rows, samples) = episode();
    let (loss, grads) = gradients(&model, &batch, &rows, &samples);
    let reference = Reference::new(config, model.params());
    assert!((loss - reference_loss(&reference, &samples)).abs() < 1e-5);
    let mut rng = rng(5);
    for (index, grad) in grads.tensors().iter().enumerate() {
        let largest = grad.as_slice().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
        assert!(largest > 1e-4, "tensor {index} gets no gradient");
        for _ in 0..n_coordinates {
            let at = rng.random_range(0..grad.len());
            let moved = |by: f64| {
                let mut reference = reference.clone();
                reference.weights[index][at] += by;
                reference_loss(&reference, &samples)
            };
            let step = 1e-5;
            let want = (moved(step) - moved(-step)) / (2.0 * step);
            let got = f64::from(grad.as_slice()[at]);
            // f32 through two blocks keeps about five digits of the largest element; the difference quotient ten.
            let tolerance = 2e-4 * (want.abs() + 0.1 * f64::from(largest));
            assert!((got - want).abs() < tolerance, "tensor {index}[{at}]: {got} for {want}");
        }
    }
}

#[test]
fn gradient_of_every_tensor_of_llama_equals_finite_differences() {
    families()[..3].iter().for_each(|config| check(config, 12));
}

#[test]
fn gradient_of_every_tensor_of_qwen_equals_finite_differences() {
    families()[3..].iter().for_each(|config| check(config, 12));
}

#[test]
fn recomputed_activations_give_the_same_gradients_to_the_bit() {
    for config in families() {
        let model = model(&config, 1);
        let (batch, _, _) = episode();
        let d_hidden = Tensor::from_vec(&[batch.len(), 20], vec![0.1; 20 * batch.len()]).unwrap();
        let run = |mut workspace: Workspace| {
            let mut grads = Params::zeros(&config).unwrap();
            model.forward(&mut workspace, &batch).unwrap();
            model.backward(&mut grads, &mut workspace, &batch, &d_hidden).unwrap();
            grads
        };
        assert_eq!(run(Workspace::recomputing(&config).unwrap()), run(Workspace::new(&config).unwrap()));
    }
}

#[test]
fn gradient_of_a_packed_episode_equals_the_sum_over_separate_samples() {
    families().iter().for_each(check_packed);
}

fn check_packed(config: &ModelConfig) {
    let model = model(config, 1);
    let (batch, rows, samples) = episode();
    let (loss, packed) = gradients(&model, &batch, &rows, &samples);
    let mut separate_loss = 0.0;
    let mut separate = Params::zeros(config).unwrap();
    for sample in samples {
        let batch = PackedBatch::causal(&sample.prompt).unwrap();
        let (loss, grads) = gradients(&model, &batch, &[sample.prompt.len() - 1], &[sample]);
        separate_loss += loss;
        for (to, from) in separate.tensors_mut().into_iter().zip(grads.tensors()) {
            to.as_mut_slice().iter_mut().zip(from.as_slice()).for_each(|(to, from)| *to += from);
        }
    }
    // The log-probabilities are equal to the bit; only the order of the f64 sum differs.
    assert!((loss - separate_loss).abs() < 1e-12);
    for (index, (a, b)) in packed.tensors().iter().zip(separate.tensors()).enumerate() {
        let largest = b.as_slice().iter().fold(0.0_f32, |a, x| a.max(x.abs()));
        for (a, b) in a.as_slice().iter().zip(b.as_slice()) {
            // The same terms in another order.
            assert!((a - b).abs() < 1e-5 * (b.abs() + largest), "tensor {index}: {a} for {b}");
        }
    }
}

#[test]
fn gradients_add_up_until_they_are_cleared() {
    let config = config(true);
    let model = model(&config, 1);
    let batch = PackedBatch::causal(&tokens(5, 23, 3)).unwrap();
    let mut workspace = Workspace::new(&config).unwrap();
    let d_hidden = Tensor::from_vec(&[5, 20], vec![0.1; 100]).unwrap();
    let mut grads = Params::zeros(&config).unwrap();
    model.forward(&mut workspace, &batch).unwrap();
    model.backward(&mut grads, &mut workspace, &batch, &d_hidden).unwrap();
    let once = grads.clone();
    model.backward(&mut grads, &mut workspace, &batch, &d_hidden).unwrap();
    for (twice, once) in grads.tensors().iter().zip(once.tensors()) {
        for (twice, once) in twice.as_slice().iter().zip(once.as_slice()) {
            assert!((twice - 2.0 * once).abs() <= 1e-6 * (1.0 + once.abs()));
        }
    }
    grads.clear().unwrap();
    assert_eq!(grads, Params::zeros(&config).unwrap());
}

#[test]
fn backward_refuses_a_gradient_of_another_shape() {
    let config = config(true);
    let model = model(&config, 1);
    let batch = PackedBatch::causal(&[1, 2]).unwrap();
    let mut workspace = Workspace::new(&config).unwrap();
    model.forward(&mut workspace, &batch).unwrap();
    let d_hidden = Tensor::from_vec(&[1, 20], vec![0.0; 20]).unwrap();
    let mut grads = Params::zeros(&config).unwrap();
    assert_eq!(
        model.backward(&mut grads, &mut workspace, &batch, &d_hidden).unwrap_err().to_string(),
        "rms_norm_backward: `d_out` has shape [1, 20], expected [2, 20]"
    );
}
