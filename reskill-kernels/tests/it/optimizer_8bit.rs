//! `adamw_8bit`: what rounding keeps, and that it optimises as the f32 version does.

use reskill_kernels::ops::{AdamWParams, Moments8, adamw, adamw_8bit, adamw_8bit_scaled};
use reskill_kernels::{Device, Tensor};

use crate::support::{message, random, zeros};

const PARAMS: AdamWParams = AdamWParams {
    learning_rate: 0.02,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.0,
    step: 1,
    grad_scale: 1.0,
};

/// Moments over many octaves, of both signs.
fn moments(len: usize) -> (Vec<f32>, Vec<f32>) {
    let m: Vec<f32> = random(&[len], 3)
        .as_slice()
        .iter()
        .enumerate()
        .map(|(i, x)| x * 10.0_f32.powi(-((i % 5) as i32)))
        .collect();
    let v = m.iter().map(|m| m * m).collect();
    (m, v)
}

#[test]
fn rounding_keeps_moments_within_a_sixteenth() {
    for len in [1, 255, 256, 1000] {
        let (m, v) = moments(len);
        let (m8, v8) = Moments8::from_f32(&m, &v, &Device::Cpu).unwrap().to_f32().unwrap();
        for (block, chunk) in m.chunks(256).enumerate() {
            let largest = chunk.iter().fold(0.0_f32, |a, x| a.max(x.abs()));
            for (i, (&m, &v)) in chunk.iter().zip(&v[block * 256..]).enumerate() {
                let (got_m, got_v) = (m8[block * 256 + i], v8[block * 256 + i]);
                // Half a step of three bits of fraction, or what lies below the smallest code.
                assert!((got_m - m).abs() <= 0.0626 * m.abs() + 2e-5 * largest, "{got_m} for {m}");
                assert!((got_v - v).abs() <= 0.0626 * v + 3e-10 * largest * largest, "{got_v} for {v}");
                assert_eq!(got_v == 0.0, v == 0.0, "a second moment is lost");
            }
        }
    }
}

#[test]
fn storing_what_was_read_changes_nothing() {
    let (m, v) = moments(777);
    let once = Moments8::from_f32(&m, &v, &Device::Cpu).unwrap();
    let (m, v) = once.to_f32().unwrap();
    assert_eq!(Moments8::from_f32(&m, &v, &Device::Cpu).unwrap(), once);
}

#[test]
fn a_moment_takes_two_bytes_and_a_share_of_the_scales() {
    assert_eq!(Moments8::bytes(256), 520);
    assert_eq!(Moments8::bytes(257), 530);
}

/// Distance to a minimum of a badly scaled quadratic after 300 steps.
fn descend(mut step: impl FnMut(&mut Tensor, &Tensor, &AdamWParams)) -> f32 {
    let n = 600;
    let (goal, mut weight) = (random(&[n], 1), zeros(&[n]));
    for number in 1..=300 {
        let scale = |i: usize| 10.0_f32.powi((i % 4) as i32 - 2);
        let grad: Vec<f32> = (0..n).map(|i| scale(i) * (weight.as_slice()[i] - goal.as_slice()[i])).collect();
        let grad = Tensor::from_vec(&[n], grad).unwrap();
        step(&mut weight, &grad, &AdamWParams { step: number, ..PARAMS });
    }
    let errors = weight.as_slice().iter().zip(goal.as_slice()).map(|(w, g)| (w - g).abs());
    errors.fold(0.0, f32::max)
}

#[test]
fn eight_bit_moments_descend_as_far_as_those_in_f32() {
    let (mut m, mut v) = (zeros(&[600]), zeros(&[600]));
    let exact = descend(|weight, grad, params| adamw(weight, &mut m, &mut v, grad, params).unwrap());
    let mut moments = Moments8::zeros(600, &Device::Cpu).unwrap();
    let rounded = descend(|weight, grad, params| adamw_8bit(weight, &mut moments, grad, params).unwrap());
    // Goals are up to 1 away; a step is at most about the learning rate of 0.02.
    assert!(exact < 0.03, "f32 ends {exact} away");
    assert!(rounded < 0.06, "8 bits end {rounded} away, f32 {exact}");
}

#[test]
fn the_first_step_is_that_of_f32() {
    let grad = random(&[300], 7);
    let (mut a, mut b) = (zeros(&[300]), zeros(&[300]));
    let (mut m, mut v) = (zeros(&[300]), zeros(&[300]));
    adamw(&mut a, &mut m, &mut v, &grad, &PARAMS).unwrap();
    adamw_8bit(&mut b, &mut Moments8::zeros(300, &Device::Cpu).unwrap(), &grad, &PARAMS).unwrap();
    // Moments are rounded after the step.
    assert_eq!(a, b);
}

#[test]
fn adamw_8bit_refuses_moments_of_another_length() {
    assert_eq!(
        message(adamw_8bit(
            &mut zeros(&[2]),
            &mut Moments8::zeros(3, &Device::Cpu).unwrap(),
            &zeros(&[2]),
            &PARAMS
        )),
        "adamw_8bit: `moments.len()` = 3, expected 2"
    );
}

#[test]
fn a_factor_that_is_not_finite_changes_neither_weights_nor_moments() {
    let grad = Tensor::from_vec(&[300], vec![0.5; 300]).unwrap();
    let mut weight = Tensor::from_vec(&[300], vec![1.0; 300]).unwrap();
    let mut moments = Moments8::zeros(300, &Device::Cpu).unwrap();
    adamw_8bit(&mut weight, &mut moments, &grad, &PARAMS).unwrap();
    let before = (weight.clone(), moments.clone());
    for factor in [f32::NAN, f32::INFINITY] {
        let scale = Tensor::from_vec(&[1], vec![factor]).unwrap();
        adamw_8bit_scaled(&mut weight, &mut moments, &grad, &scale, &PARAMS).unwrap();
        assert_eq!((&weight, &moments), (&before.0, &before.1));
    }
}
