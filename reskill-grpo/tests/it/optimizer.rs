use reskill_grpo::{Decay, GrpoError, MomentPrecision, Optimizer, OptimizerConfig, Schedule};
use reskill_model::Params;

use crate::support::{config, model};

const NUMBERS: OptimizerConfig = OptimizerConfig {
    learning_rate: 0.1,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weight_decay: 0.0,
    max_grad_norm: 1e9,
    warmup_steps: 0,
    schedule: Schedule { decay: Decay::Constant, decay_steps: 1000, final_fraction: 0.0 },
    moments: MomentPrecision::F32,
};

fn filled(value: f32) -> Params {
    let mut params = Params::zeros(&config()).unwrap();
    params.tensors_mut().into_iter().for_each(|tensor| tensor.fill(value).unwrap());
    params
}

/// Ones in every place, after one step along a gradient of `grad` in every place; the first element of each tensor.
fn check(numbers: &OptimizerConfig, grad: f32, want: impl Fn(usize) -> f64) -> (Optimizer, f64) {
    let mut optimizer = Optimizer::new(&config(), numbers).unwrap();
    let mut params = filled(1.0);
    let norm = optimizer.update(&mut params, &filled(grad)).unwrap();
    for tensor in params.tensors() {
        let (got, want) = (f64::from(tensor.as_slice()[0]), want(tensor.shape().len()));
        // One rounding to f32 near 1, and the moments' roundings.
        assert!((got - want).abs() < 1e-6, "{got} for {want}");
    }
    (optimizer, norm)
}

#[test]
fn first_step_moves_by_the_learning_rate_against_the_gradient() {
    let (optimizer, norm) = check(&NUMBERS, 0.5, |_| 0.9);
    check(&NUMBERS, -3.0, |_| 1.1);
    assert_eq!(optimizer.steps(), 1);
    let n = filled(0.0).count() as f64;
    assert!((norm - (0.25 * n).sqrt()).abs() < 1e-9);
}

#[test]
fn weight_decay_spares_the_norms() {
    let decayed = OptimizerConfig { weight_decay: 0.2, ..NUMBERS };
    // 1 - 0.1 (1 + 0.2), but for vectors 1 - 0.1.
    check(&decayed, 0.5, |axes| if axes == 1 { 0.9 } else { 0.88 });
}

#[test]
fn long_gradients_are_scaled_to_the_limit() {
    let clipped = OptimizerConfig { max_grad_norm: 1.0, ..NUMBERS };
    let (optimizer, norm) = check(&clipped, 2.0, |_| 0.9);
    let scaled = 2.0 / norm;
    let first = f64::from(optimizer.moments().unwrap().0.full().unwrap().embed.as_slice()[0]);
    assert!((first - 0.1 * scaled).abs() < 1e-8, "{first}");
    // A gradient within the limit is left alone.
    let (optimizer, _) = check(&NUMBERS, 2.0, |_| 0.9);
    assert!((optimizer.moments().unwrap().0.full().unwrap().embed.as_slice()[0] - 0.2).abs() < 1e-6);
}

#[test]
fn warm_up_raises_the_learning_rate_linearly() {
    let mut optimizer = Optimizer::new(&config(), &OptimizerConfig { warmup_steps: 4, ..NUMBERS }).unwrap();
    let mut params = filled(0.0);
    let mut before = 0.0;
    // A constant gradient makes every step the learning rate.
    for want in [0.025, 0.05, 0.075, 0.1, 0.1] {
        optimizer.update(&mut params, &filled(1.0)).unwrap();
        let at = params.final_norm.as_slice()[0];
        assert!((before - at - want).abs() < 1e-5, "{} for {want}", before - at);
        before = at;
    }
}

#[test]
fn a_gradient_that_is_not_finite_changes_nothing() {
    let mut optimizer = Optimizer::new(&config(), &NUMBERS).unwrap();
    let mut params = model(1).params().clone();
    optimizer.update(&mut params, &filled(0.1)).unwrap();
    let (saved_params, saved_optimizer) = (params.clone(), optimizer.clone());
    for value in [f32::NAN, f32::INFINITY] {
        let mut grads = filled(0.1);
        grads.layers[1].down.as_mut_slice()[7] = value;
        let refused = optimizer.update(&mut params, &grads);
        assert!(matches!(refused, Err(GrpoError::NonFiniteGradient { .. })));
        assert_eq!((&params, &optimizer), (&saved_params, &saved_optimizer));
    }
    let message = optimizer.update(&mut params, &filled(f32::NAN)).unwrap_err().to_string();
    assert_eq!(message, "the gradient norm is NaN; the update was not applied");
}

#[test]
fn a_restored_optimizer_goes_on_as_the_saved_one() {
    let numbers = OptimizerConfig { warmup_steps: 3, ..NUMBERS };
    let mut optimizer = Optimizer::new(&config(), &numbers).unwrap();
    let mut params = filled(1.0);
    optimizer.update(&mut params, &filled(0.5)).unwrap();
    let (m, v) = optimizer.moments().unwrap();
    let mut restored =
        Optimizer::restore(&numbers, (m.into_owned(), v.into_owned()), optimizer.steps()).unwrap();
    let mut restored_params = params.clone();
    optimizer.update(&mut params, &filled(-0.2)).unwrap();
    restored.update(&mut restored_params, &filled(-0.2)).unwrap();
    assert_eq!((params, optimizer), (restored_params, restored));
}

#[test]
fn optimizer_config_refuses_values_out_of_range() {
    let refused = |odd: OptimizerConfig| Optimizer::new(&config(), &odd).unwrap_err().to_string();
    assert_eq!(
        refused(OptimizerConfig { beta2: 1.0, ..NUMBERS }),
        "`optimizer.beta2` = 1, expected a number in [0, 1)"
    );
    assert_eq!(
        refused(OptimizerConfig { learning_rate: 0.0, ..NUMBERS }),
        "`optimizer.learning_rate` = 0, expected a number > 0"
    );
}

/// Learning rate at these optimizer steps, as a share of the peak.
fn check_schedule(schedule: Schedule, warmup_steps: u64, want: &[(u64, f32)]) {
    schedule.validate(warmup_steps).unwrap();
    for &(step, want) in want {
        let got = schedule.factor(step, warmup_steps);
        assert!((got - want).abs() < 1e-6, "{schedule:?} at {step}: {got} for {want}");
    }
}

#[test]
fn schedules_match_hand_computed_rates() {
    let constant = Schedule::default();
    check_schedule(constant, 4, &[(1, 0.25), (3, 0.75), (4, 1.0), (5000, 1.0)]);
    let linear = Schedule { decay: Decay::Linear, decay_steps: 12, final_fraction: 0.2 };
    check_schedule(linear, 2, &[(1, 0.5), (2, 1.0), (7, 0.6), (12, 0.2), (99, 0.2)]);
    let cosine = Schedule { decay: Decay::Cosine, decay_steps: 9, final_fraction: 0.0 };
    check_schedule(cosine, 1, &[(1, 1.0), (3, 0.853_553_4), (5, 0.5), (9, 0.0), (10, 0.0)]);
}

#[test]
fn a_schedule_moves_the_weights_by_its_rate() {
    let schedule = Schedule { decay: Decay::Linear, decay_steps: 4, final_fraction: 0.0 };
    let mut optimizer = Optimizer::new(&config(), &OptimizerConfig { schedule, ..NUMBERS }).unwrap();
    let mut params = filled(1.0);
    let mut before = 1.0;
    for step in 1..=4 {
        optimizer.update(&mut params, &filled(0.5)).unwrap();
        let now = params.embed.as_slice()[0];
        // Equal gradients move by the learning rate: 0.1 times 3/4, 2/4, 1/4, 0.
        let want = 0.1 * (4 - step) as f32 / 4.0;
        assert!((before - now - want).abs() < 1e-6, "step {step} moved by {}", before - now);
        assert!((optimizer.learning_rate() - want).abs() < 1e-8);
        before = now;
    }
}

#[test]
fn schedules_refuse_values_out_of_range() {
    let refused = |schedule: Schedule| {
        let odd = OptimizerConfig { schedule, warmup_steps: 10, ..NUMBERS };
        Optimizer::new(&config(), &odd).unwrap_err().to_string()
    };
    assert_eq!(
        refused(Schedule { decay: Decay::Cosine, decay_steps: 10, final_fraction: 0.0 }),
        "`optimizer.schedule.decay_steps` = 10, expected more than optimizer.warmup_steps"
    );
    assert_eq!(
        refused(Schedule { final_fraction: 1.5, ..Schedule::default() }),
        "`optimizer.schedule.final_fraction` = 1.5, expected a number in [0, 1]"
    );
}

#[test]
fn eight_bit_moments_survive_saving_and_restoring_to_the_bit() {
    // Large enough that the embedding is kept in eight bits.
    let model = reskill_model::ModelConfig { vocab_size: 400, ..config() };
    let numbers = OptimizerConfig { moments: MomentPrecision::EightBit, ..NUMBERS };
    let gradient = |step: usize| {
        let mut grads = Params::zeros(&model).unwrap();
        for tensor in grads.tensors_mut() {
            for (i, x) in tensor.as_mut_slice().iter_mut().enumerate() {
                *x = ((i * 37 + step * 11) % 101) as f32 * 1e-3 - 0.05;
            }
        }
        grads
    };
    let mut optimizer = Optimizer::new(&model, &numbers).unwrap();
    let mut params = Params::zeros(&model).unwrap();
    for step in 0..5 {
        optimizer.update(&mut params, &gradient(step)).unwrap();
    }
    let (m, v) = optimizer.moments().unwrap();
    assert!(m.full().unwrap().embed.len() >= 4096 && m.full().unwrap().embed.shape() == params.embed.shape());
    let mut restored =
        Optimizer::restore(&numbers, (m.into_owned(), v.into_owned()), optimizer.steps()).unwrap();
    assert_eq!(restored, optimizer);
    let mut restored_params = params.clone();
    optimizer.update(&mut params, &gradient(9)).unwrap();
    restored.update(&mut restored_params, &gradient(9)).unwrap();
    assert_eq!((params, optimizer), (restored_params, restored));
}
