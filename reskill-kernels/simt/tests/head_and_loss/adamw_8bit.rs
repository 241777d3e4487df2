//! Eight-bit AdamW on the device is that of the CPU, to the bit.

use reskill_kernels::Device;
use reskill_kernels::ops::{AdamWParams, Moments8, adamw_8bit, adamw_8bit_scaled};

use crate::support::{bits, column, message, values};

const PARAMS: AdamWParams = AdamWParams {
    learning_rate: 0.02,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.01,
    step: 1,
    grad_scale: 0.5,
};

/// Weights, moments and bits of the weights after five steps.
fn run(device: &Device, n: usize) -> (Vec<u32>, Moments8) {
    let mut weight = column(device, &values(1, n, 1.0));
    let mut moments = Moments8::zeros(n, device).unwrap();
    for step in 1..=5 {
        // Gradients over many octaves, some of them 0.
        let grad: Vec<f32> = values(step, n, 1.0)
            .iter()
            .enumerate()
            .map(|(i, g)| if i % 11 == 3 { 0.0 } else { g * 10.0_f32.powi(-((i % 7) as i32)) })
            .collect();
        adamw_8bit(&mut weight, &mut moments, &column(device, &grad), &AdamWParams { step, ..PARAMS })
            .unwrap();
    }
    (bits(&weight), moments)
}

#[test]
fn weights_and_codes_equal_the_cpus_to_the_bit() {
    let device = reskill_simt::device();
    for n in [1, 8, 37, 256, 257, 2048, 5001] {
        let (weight, moments) = run(&device, n);
        let (want, want_moments) = run(&Device::Cpu, n);
        assert_eq!(weight, want, "{n} weights");
        assert_eq!(moments.to_f32().unwrap(), want_moments.to_f32().unwrap(), "{n} moments");
    }
}

#[test]
fn moments_come_back_as_they_were_stored() {
    let device = reskill_simt::device();
    let (m, v) = (values(3, 700, 0.1), values(4, 700, 0.1).iter().map(|x| x * x).collect::<Vec<f32>>());
    let there = Moments8::from_f32(&m, &v, &device).unwrap();
    assert_eq!(there.to_f32().unwrap(), Moments8::from_f32(&m, &v, &Device::Cpu).unwrap().to_f32().unwrap());
}

#[test]
fn a_factor_that_is_not_finite_changes_nothing() {
    let device = reskill_simt::device();
    let (weight, mut moments) = run(&device, 300);
    let before = moments.to_f32().unwrap();
    let mut again = column(&device, &weight.iter().map(|&bits| f32::from_bits(bits)).collect::<Vec<f32>>());
    for factor in [f32::NAN, f32::NEG_INFINITY] {
        let (grad, scale) = (column(&device, &values(9, 300, 1.0)), column(&device, &[factor]));
        adamw_8bit_scaled(&mut again, &mut moments, &grad, &scale, &PARAMS).unwrap();
    }
    assert_eq!((bits(&again), moments.to_f32().unwrap()), (weight, before));
}

#[test]
fn no_elements_are_no_work() {
    let device = reskill_simt::device();
    let mut moments = Moments8::zeros(0, &device).unwrap();
    adamw_8bit(&mut column(&device, &[]), &mut moments, &column(&device, &[]), &PARAMS).unwrap();
    assert!(moments.is_empty());
}

#[test]
fn moments_of_another_device_are_refused() {
    let device = reskill_simt::device();
    let mut moments = Moments8::zeros(2, &Device::Cpu).unwrap();
    assert_eq!(
        message(adamw_8bit(
            &mut column(&device, &[1.0; 2]),
            &mut moments,
            &column(&device, &[1.0; 2]),
            &PARAMS
        )),
        "adamw_8bit: `moments` is on cpu, expected cuda:0; copy it with `Tensor::to_device`"
    );
}
