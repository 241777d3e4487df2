//! What the output head refuses.

use reskill_kernels::ops::linear_logprob_forward;
use reskill_kernels::{DType, Device};

use crate::head::Case;
use crate::support::{device, ids, message, poisoned};

#[test]
fn a_target_that_is_not_allowed_gets_nan_and_harms_nobody() {
    let device = device();
    for dtype in [DType::F32, DType::Bf16] {
        let mut case = Case::random(4, 8, 20, false, 3.0);
        case.sets[2] = vec![3, 4];
        case.targets = vec![1, 999, 5, 2];
        let [logprobs, entropy, lse] = case.forward(&device, dtype).map(|column| column.to_vec().unwrap());
        assert_eq!(logprobs.map_nan(), [false, true, true, false]);
        assert!(entropy.iter().chain(&lse).all(|x| x.is_finite()));
    }
}

trait MapNan {
    fn map_nan(&self) -> Vec<bool>;
}

impl MapNan for Vec<f32> {
    fn map_nan(&self) -> Vec<bool> {
        self.iter().map(|x| x.is_nan()).collect()
    }
}

#[test]
fn arguments_of_other_devices_and_types_are_refused() {
    let device = device();
    let case = Case::random(2, 8, 20, false, 3.0);
    let with = |head_on: &Device, head_as: DType, logprobs_as: DType| {
        message(linear_logprob_forward(
            &mut poisoned(&device, logprobs_as, &[2]),
            &mut poisoned(&device, DType::F32, &[2]),
            &mut poisoned(&device, DType::F32, &[2]),
            &case.hidden_on(&device, DType::Bf16),
            &case.head_on(head_on, head_as),
            &ids(&device, &case.targets),
            &case.allowed(),
            1.0,
        ))
    };
    assert_eq!(
        with(&device, DType::F32, DType::F32),
        "linear_logprob_forward: `head` is stored as f32, expected bf16"
    );
    assert_eq!(
        with(&device, DType::Bf16, DType::Bf16),
        "linear_logprob_forward: `logprobs` is stored as bf16, expected f32"
    );
    assert_eq!(
        with(&Device::Cpu, DType::F32, DType::F32),
        "linear_logprob_forward: `head` is on cpu, expected cuda:0; copy it with `Tensor::to_device`"
    );
}
