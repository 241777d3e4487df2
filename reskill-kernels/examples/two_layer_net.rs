//! Trains a two-layer network to tell three spirals apart, with the operations alone:
//! `cargo run --release -p reskill-kernels --example two_layer_net [-- cuda]`.
//!
//! Layers: a product, SwiGLU, and an output head whose log-probabilities never become an array. The gradient is written
//! out by hand, one operation a line; AdamW updates both weights. On a CUDA device nothing but the loss comes back.

use std::process::ExitCode;

use reskill_kernels::ops::{self, AdamWParams, TokenSets};
use reskill_kernels::{DType, Device, KernelError, Tensor};

/// Points of a class.
const POINTS: usize = 64;
const CLASSES: usize = 3;
/// Inputs: both coordinates, their sines and cosines, and 1 for the bias.
const INPUTS: usize = 7;
/// Width of the hidden layer.
const HIDDEN: usize = 32;

/// Points on three spirals, their features and classes.
fn spirals() -> (Vec<f32>, Vec<u32>) {
    let (mut features, mut classes) = (Vec::new(), Vec::new());
    for class in 0..CLASSES {
        for point in 0..POINTS {
            let along = point as f32 / POINTS as f32;
            let angle = 4.0 * along + 2.1 * class as f32;
            let (x, y) = ((0.1 + along) * angle.cos(), (0.1 + along) * angle.sin());
            features.extend([x, y, (3.0 * x).sin(), (3.0 * y).sin(), (3.0 * x).cos(), (3.0 * y).cos(), 1.0]);
            classes.push(class as u32);
        }
    }
    (features, classes)
}

/// Numbers in -0.5..0.5, the same every time.
fn initial(shape: [usize; 2], device: &Device) -> Result<Tensor, KernelError> {
    let mut state = 12_345_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let numbers: Vec<f32> = (0..shape[0] * shape[1]).map(|_| next()).collect();
    Tensor::from_slice(&shape, &numbers, device, DType::F32)
}

/// A weight with its gradient and moments.
struct Weight {
    value: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
}

impl Weight {
    fn new(shape: [usize; 2], device: &Device) -> Result<Weight, KernelError> {
        let zeros = || Tensor::zeros(&shape, device);
        Ok(Weight { value: initial(shape, device)?, grad: zeros()?, m: zeros()?, v: zeros()? })
    }

    fn step(&mut self, step: u64) -> Result<(), KernelError> {
        let numbers = AdamWParams {
            learning_rate: 0.03,
            beta1: 0.9,
            beta2: 0.99,
            eps: 1e-8,
            weight_decay: 0.0,
            step,
            grad_scale: 1.0,
        };
        ops::adamw(&mut self.value, &mut self.m, &mut self.v, &self.grad, &numbers)?;
        self.grad.fill(0.0)
    }
}

/// Mean loss before and after `steps` steps, and the share of points told right.
pub(crate) fn train(device: &Device, steps: u64) -> Result<(f32, f32, f32), KernelError> {
    let (features, classes) = spirals();
    let n = classes.len();
    let x = Tensor::from_slice(&[n, INPUTS], &features, device, DType::F32)?;
    let targets = Tensor::from_slice(&[n], &classes, device, DType::U32)?;
    let mut everything = TokenSets::new();
    (0..n).for_each(|_| everything.push(&[]));
    let mut first = Weight::new([2 * HIDDEN, INPUTS], device)?;
    let mut second = Weight::new([CLASSES, HIDDEN], device)?;
    let array = |width: usize| Tensor::<f32>::zeros(&[n, width], device);
    let (mut gate_up, mut d_gate_up, mut hidden, mut d_hidden) =
        (array(2 * HIDDEN)?, array(2 * HIDDEN)?, array(HIDDEN)?, array(HIDDEN)?);
    let column = || Tensor::<f32>::zeros(&[n], device);
    let (mut logprobs, mut entropy, mut lse, mut d_logprobs, d_entropy) =
        (column()?, column()?, column()?, column()?, column()?);
    // The loss is the mean of minus the log-probabilities.
    d_logprobs.fill(-1.0 / n as f32)?;
    let mean_loss = |logprobs: &Tensor| -> Result<f32, KernelError> {
        Ok(-logprobs.to_vec()?.iter().sum::<f32>() / n as f32)
    };
    let mut before = f32::NAN;
    for step in 1..=steps + 1 {
        let head = &second.value;
        ops::matmul(&mut gate_up, &x, &first.value, false)?;
        ops::swiglu_forward(&mut hidden, &gate_up)?;
        let (out, t) = (&mut logprobs, 1.0);
        ops::linear_logprob_forward(out, &mut entropy, &mut lse, &hidden, head, &targets, &everything, t)?;
        if step == 1 {
            before = mean_loss(&logprobs)?;
        }
        if step > steps {
            break;
        }
        let d_head = &mut second.grad;
        let columns = (&d_logprobs, &d_entropy, &entropy, &lse);
        ops::linear_logprob_backward(
            &mut d_hidden,
            d_head,
            columns.0,
            columns.1,
            columns.2,
            columns.3,
            &hidden,
            head,
            &targets,
            &everything,
            t,
        )?;
        ops::swiglu_backward(&mut d_gate_up, &d_hidden, &gate_up)?;
        ops::matmul_backward_weight(&mut first.grad, &d_gate_up, &x)?;
        first.step(step)?;
        second.step(step)?;
    }
    // A class with more than half of the probability is the likeliest.
    let right = logprobs.to_vec()?.iter().filter(|logprob| logprob.exp() > 0.5).count();
    Ok((before, mean_loss(&logprobs)?, right as f32 / n as f32))
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[expect(clippy::print_stderr, reason = "an example prints its error")]
            {
                eprintln!("error: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), KernelError> {
    let device = Device::parse(&std::env::args().nth(1).unwrap_or_else(|| "cpu".to_string()))?;
    let (before, after, right) = train(&device, 200)?;
    #[expect(clippy::print_stdout, reason = "an example prints its result")]
    {
        println!(
            "{}: loss {before:.3} -> {after:.3}, {:.1} % of the points told right",
            device.describe(),
            100.0 * right
        );
    }
    Ok(())
}
