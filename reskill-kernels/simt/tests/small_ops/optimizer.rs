use reskill_kernels::ops::{AdamWParams, adamw, adamw_scaled, add_sum_squares, clip_scale, sum_squares};
use reskill_kernels::{DType, Tensor};
use reskill_simt::with_each_order;

use crate::support::{assert_close, bits, device, message, random, there, wide, zeros};

const PARAMS: AdamWParams = AdamWParams {
    learning_rate: 0.01,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weight_decay: 0.1,
    step: 3,
    grad_scale: 0.5,
};

/// Weight, m, v, gradient on the CPU; second moments are not negative.
fn start(n: usize) -> [Tensor; 4] {
    let mut v = random(&[n], 3);
    v.as_mut_slice().iter_mut().for_each(|v| *v = v.abs());
    [random(&[n], 1), random(&[n], 2), v, random(&[n], 4)]
}

#[test]
fn adamw_equals_the_processors_in_every_order() {
    with_each_order(|_| {
        for n in [1, 37, 256, 1001] {
            let [mut weight, mut m, mut v, grad] = start(n);
            let [mut there_weight, mut there_m, mut there_v, there_grad] =
                [&weight, &m, &v, &grad].map(|x| there(x, DType::F32));
            adamw(&mut weight, &mut m, &mut v, &grad, &PARAMS).unwrap();
            adamw(&mut there_weight, &mut there_m, &mut there_v, &there_grad, &PARAMS).unwrap();
            // Products may be fused with sums on one side and not on the other: a unit or two in the last place.
            assert_close(&there_weight, &wide(&weight), 2e-7, "weight");
            assert_close(&there_m, &wide(&m), 2e-7, "m");
            assert_close(&there_v, &wide(&v), 2e-7, "v");
        }
    });
}

#[test]
fn bf16_weights_are_the_rounded_masters_and_small_steps_are_not_lost() {
    let n = 257;
    let [weight, ..] = start(n);
    let mut narrow = there(&weight, DType::Bf16);
    let mut master = narrow.to_device_as(&device(), DType::F32).unwrap();
    let before = wide(&master);
    let (mut m, mut v, mut grad) =
        (zeros(&[n], DType::F32), zeros(&[n], DType::F32), zeros(&[n], DType::F32));
    grad.fill(1.0).unwrap();
    let scale = there(&Tensor::from_vec(&[1], vec![1.0]).unwrap(), DType::F32);
    // A step of 1e-5 is far below the spacing of bf16, 2^-8 at 1; a hundred of them are seen.
    for step in 1..=100 {
        let params = AdamWParams { learning_rate: 1e-5, weight_decay: 0.0, step, ..PARAMS };
        adamw_scaled(&mut narrow, Some(&mut master), (&mut m, &mut v), &grad, &scale, &params).unwrap();
    }
    for (after, before) in wide(&master).iter().zip(before) {
        // A constant gradient moves by the learning rate each step; rounding of a hundred sums at 1.
        assert!((after - (before - 1e-3)).abs() < 1e-5, "{after} from {before}");
    }
    assert_eq!(bits(&narrow), bits(&master.to_device_as(&device(), DType::Bf16).unwrap()));
}

#[test]
fn a_master_stands_beside_bf16_weights_and_no_others() {
    let [weight, m, v, grad] = start(4).map(|x| there(&x, DType::F32));
    let (mut m, mut v) = (m, v);
    let scale = there(&Tensor::from_vec(&[1], vec![1.0]).unwrap(), DType::F32);
    let mut narrow = weight.to_device_as(&device(), DType::Bf16).unwrap();
    assert_eq!(
        message(adamw_scaled(&mut narrow, None, (&mut m, &mut v), &grad, &scale, &PARAMS)),
        "adamw: `weight` is stored as bf16, expected f32"
    );
    let (mut wide, mut master) = (weight.clone(), weight);
    assert_eq!(
        message(adamw_scaled(&mut wide, Some(&mut master), (&mut m, &mut v), &grad, &scale, &PARAMS)),
        "adamw: `weight` is stored as f32, expected bf16"
    );
}

#[test]
fn sums_of_squares_are_those_of_f64_with_the_same_bits_in_every_order() {
    for n in [0, 1, 37, 8193, 40_000] {
        let x = random(&[n], 1);
        let want: f64 = wide(&x).iter().map(|x| x * x).sum();
        let mut seen = None;
        with_each_order(|order| {
            let got = sum_squares(&there(&x, DType::F32)).unwrap();
            // Sums of 40,000 exact squares in f64, in another order.
            assert!((got - want).abs() <= 1e-12 * want, "{got}, expected {want}");
            assert_eq!(*seen.get_or_insert(got), got, "{order:?}");
        });
    }
}

#[test]
fn the_clip_factor_brings_a_long_gradient_to_the_limit_and_leaves_a_short_one() {
    let mut total = Tensor::<f64>::zeros(&[1], &device()).unwrap();
    let mut scale = zeros(&[1], DType::F32);
    // 3, 4: norm 5.
    for x in [3.0, 4.0] {
        add_sum_squares(&mut total, &there(&Tensor::from_vec(&[1], vec![x]).unwrap(), DType::F32)).unwrap();
    }
    for (limit, want) in [(1.0, 0.2), (5.0, 1.0), (100.0, 1.0)] {
        clip_scale(&mut scale, &total, limit).unwrap();
        assert_eq!(scale.to_vec().unwrap(), [want]);
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    for broken in [f32::NAN, f32::INFINITY] {
        let [weight, m, v, mut grad] = start(9);
        grad.as_mut_slice()[4] = broken;
        let before = [&weight, &m, &v].map(bits);
        let [mut weight, mut m, mut v, grad] = [weight, m, v, grad].map(|x| there(&x, DType::F32));
        let mut total = Tensor::<f64>::zeros(&[1], &device()).unwrap();
        add_sum_squares(&mut total, &grad).unwrap();
        let mut scale = zeros(&[1], DType::F32);
        clip_scale(&mut scale, &total, 1.0).unwrap();
        assert!(scale.to_vec().unwrap()[0].is_nan());
        adamw_scaled(&mut weight, None, (&mut m, &mut v), &grad, &scale, &PARAMS).unwrap();
        assert_eq!([&weight, &m, &v].map(bits), before);
    }
}
