//! The bytes of the formulas in `ops::cost` are those that kernels touch: each byte read and each byte written once.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use reskill_kernels::ops::cost::{self, Cost};
use reskill_kernels::ops::{
    self, AdamWParams, GrpoLossInputs, GrpoLossParams, Moments8, RopeTable, SamplingFilter, TokenSets,
};
use reskill_kernels::{DType, Device, KernelError, Tensor};
use reskill_simt::counters;

/// Bytes that the launches of `work` read and wrote.
fn touched(work: impl FnOnce() -> Result<(), KernelError>) -> u64 {
    let counted = counters::count(|| work().unwrap()).unwrap();
    counted.read_bytes + counted.written_bytes
}

fn tensor(device: &Device, shape: &[usize], dtype: DType) -> Tensor {
    let len = shape.iter().product();
    let numbers: Vec<f32> = (0..len).map(|i: usize| (i * 7919 % 2003) as f32 / 2003.0 - 0.5).collect();
    Tensor::from_slice(shape, &numbers, device, dtype).unwrap()
}

fn column(device: &Device, n: usize) -> Tensor {
    tensor(device, &[n], DType::F32)
}

fn ids(device: &Device, ids: &[u32]) -> Tensor<u32> {
    Tensor::from_slice(&[ids.len()], ids, device, DType::U32).unwrap()
}

/// `work` touches just what the formula says.
fn check(name: &str, cost: Cost, work: impl FnOnce() -> Result<(), KernelError>) {
    assert_eq!(touched(work), cost.bytes, "{name}");
}

/// `work` touches what the formula says and besides `scratch` bytes at most, written and read.
fn check_with_scratch(
    name: &str,
    cost: Cost,
    scratch: usize,
    work: impl FnOnce() -> Result<(), KernelError>,
) {
    let (touched, floor, most) = (touched(work), cost.bytes, cost.bytes + 2 * scratch as u64);
    assert!((floor..=most).contains(&touched), "{name}: {touched} bytes, expected {floor} to {most}");
}

#[test]
fn operations_on_rows_touch_what_the_formulas_say() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, c, s) = (37, 40, dtype.size());
        let (x, weight, mut out) =
            (tensor(&device, &[n, c], dtype), tensor(&device, &[c], dtype), tensor(&device, &[n, c], dtype));
        let mut rstd = column(&device, n);
        check("rms_norm_forward", cost::rms_norm_forward(n, c, s), || {
            ops::rms_norm_forward(&mut out, &mut rstd, &x, &weight, 1e-5)
        });
        let (gate_up, mut d_gate_up) =
            (tensor(&device, &[n, 2 * c], dtype), tensor(&device, &[n, 2 * c], dtype));
        check("swiglu_forward", cost::swiglu_forward(n, c, s), || ops::swiglu_forward(&mut out, &gate_up));
        check("swiglu_backward", cost::swiglu_backward(n, c, s), || {
            ops::swiglu_backward(&mut d_gate_up, &x, &gate_up)
        });
        let table = tensor(&device, &[50, c], dtype);
        let tokens = ids(&device, &(0..n as u32).map(|i| i * 11 % 50).collect::<Vec<u32>>());
        check("embedding_forward", cost::embedding_forward(n, c, s), || {
            ops::embedding_forward(&mut out, &table, &tokens)
        });
        // One head of 40; the table's cosines and sines come besides, a row for each position.
        let rope = RopeTable::new(n, c, 10_000.0).unwrap().to_device(&device).unwrap();
        let positions = ids(&device, &(0..n as u32).collect::<Vec<u32>>());
        let mut qkv = tensor(&device, &[n, 3 * c], dtype);
        check_with_scratch("rope_forward", cost::rope(n, c, s), n * c * 4 / 2, || {
            ops::rope_forward(&mut qkv, &positions, &rope, 1)
        });
    }
}

#[test]
fn the_output_head_touches_what_the_formulas_say() {
    let device = reskill_simt::device();
    for dtype in [DType::F32, DType::Bf16] {
        let (n, c, v, s) = (5, 40, 300, dtype.size());
        let (hidden, head) = (tensor(&device, &[n, c], dtype), tensor(&device, &[v, c], dtype));
        let targets = ids(&device, &[1, 299, 7, 30, 256]);
        let mut everything = TokenSets::new();
        (0..n).for_each(|_| everything.push(&[]));
        let [mut logprobs, mut entropy, mut lse, d] = [(); 4].map(|()| column(&device, n));
        // Two strips of 16 bytes a row, and the target's logit; the targets are read in both launches.
        let strips = n * (2 * 16 + 4 + 4);
        check_with_scratch(
            "linear_logprob_forward",
            cost::linear_logprob_forward(n, c, v, s),
            strips,
            || {
                ops::linear_logprob_forward(
                    &mut logprobs,
                    &mut entropy,
                    &mut lse,
                    &hidden,
                    &head,
                    &targets,
                    &everything,
                    1.0,
                )
            },
        );
        let (mut d_hidden, mut d_head) =
            (tensor(&device, &[n, c], dtype), tensor(&device, &[v, c], DType::F32));
        // The slab, and hidden states and head once more for the products.
        let slab = n * 512 * s + (n + v) * c * s;
        check_with_scratch(
            "linear_logprob_backward",
            cost::linear_logprob_backward(n, c, v, s),
            slab,
            || {
                ops::linear_logprob_backward(
                    &mut d_hidden,
                    &mut d_head,
                    &d,
                    &d,
                    &entropy,
                    &lse,
                    &hidden,
                    &head,
                    &targets,
                    &everything,
                    1.0,
                )
            },
        );
    }
}

#[test]
fn loss_sampling_and_optimizer_touch_what_the_formulas_say() {
    let device = reskill_simt::device();
    let n = 600;
    let (x, sequences) = (column(&device, n), ids(&device, &vec![0; n]));
    let [mut d_logprobs, mut d_entropy] = [(); 2].map(|()| column(&device, n));
    let mut sums = Tensor::<f64>::zeros(&[9], &device).unwrap();
    let [logprobs, old, reference, entropy, advantages] = [(); 5].map(|()| column(&device, n));
    let inputs = GrpoLossInputs {
        logprobs: &logprobs,
        old_logprobs: &old,
        sampler_logprobs: &x,
        ref_logprobs: &reference,
        entropy: &entropy,
        advantages: &advantages,
        weights: &x,
        sequences: &sequences,
    };
    let params = GrpoLossParams { clip_low: 0.2, clip_high: 0.2, kl_coef: 0.1, ..GrpoLossParams::default() };
    // Three blocks of nine sums.
    check_with_scratch("grpo_loss", cost::grpo_loss(n, 1), 3 * 72, || {
        ops::grpo_loss_into(&mut d_logprobs, &mut d_entropy, &mut sums, &inputs, &params)
    });
    let (mut weight, grad) = (column(&device, n), column(&device, n));
    let mut moments = Moments8::zeros(n, &device).unwrap();
    let step = AdamWParams {
        learning_rate: 0.1,
        beta1: 0.9,
        beta2: 0.99,
        eps: 1e-8,
        weight_decay: 0.0,
        step: 1,
        grad_scale: 1.0,
    };
    check("adamw_8bit", cost::adamw_8bit(n), || ops::adamw_8bit(&mut weight, &mut moments, &grad, &step));
    let logits = tensor(&device, &[3, 700], DType::Bf16);
    check("sample_logits", cost::sample_logits(3, 700, 2), || {
        ops::sample_logits(&logits, &[SamplingFilter::default(); 3], &[0.1, 0.5, 0.9]).map(drop)
    });
}
