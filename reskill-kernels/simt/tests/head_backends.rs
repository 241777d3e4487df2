//! Who computes the output head on compute capability 9.0.
//!
//! One program, since the capability holds for the process and the backend for the device.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

#[path = "head_and_loss/support.rs"]
#[expect(dead_code, reason = "`head_and_loss` uses the rest")]
mod support;
#[path = "head_and_loss/head.rs"]
#[expect(dead_code, reason = "`head_and_loss` uses the rest")]
mod head;

use std::sync::{Mutex, PoisonError};

use reskill_kernels::{DType, Device, GemmBackend};

use head::Case;
use support::{assert_close, device, wide};

const CAPABILITY: Option<i32> = Some(90);

/// Tests of this file take turns: they set the backend of one device.
static TURN: Mutex<()> = Mutex::new(());

fn with_backend<T>(backend: GemmBackend, work: impl FnOnce(&Device) -> T) -> T {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let device = device();
    let Device::Cuda(cuda) = &device else { unreachable!("a CUDA device was asked for") };
    cuda.set_gemm_backend(backend).unwrap();
    work(&device)
}

/// Multiply-adds of matrix instructions in the forward pass of `case`.
fn multiplied(case: &Case, backend: GemmBackend) -> Option<u64> {
    let work = |device: &Device| {
        reskill_simt::counters::count(|| drop(case.forward(device, DType::Bf16)))
            .map(|counters| counters.multiply_adds)
    };
    with_backend(backend, work)
}

#[test]
fn warpgroups_compute_all_rows_that_begin_at_16_bytes_unless_the_backend_is_portable() {
    for (n, c) in [(1, 16), (5, 40), (64, 24), (65, 72), (257, 8), (5, 33), (70, 12)] {
        let case = Case::random(n, c, 300, false, 1.0);
        let Some(done) = multiplied(&case, GemmBackend::Own) else { return };
        let height = if n <= 64 { 64 } else { 128 };
        // Two strips of 256 tokens; a stage holds 64 of C.
        let by_warpgroups = n.next_multiple_of(height) * 512 * c.next_multiple_of(64);
        assert_eq!(done == by_warpgroups as u64, c % 8 == 0, "{n} {c}: {done}");
        assert_ne!(multiplied(&case, GemmBackend::Portable), Some(by_warpgroups as u64), "{n} {c}");
    }
}

#[test]
fn both_ways_agree() {
    // 12 tiles, more than the multiprocessors of the stand-in; rows by an index.
    for mixed in [false, true] {
        let case = Case::random(3 * 150, 40, 700, mixed, 3.0);
        let d = [0.7; 450];
        let of = |backend| {
            with_backend(backend, |device| {
                let columns = case.forward(device, DType::Bf16);
                columns
                    .into_iter()
                    .chain(case.backward(device, DType::Bf16, &d, &d, None))
                    .collect::<Vec<_>>()
            })
        };
        let (own, portable) = (of(GemmBackend::Own), of(GemmBackend::Portable));
        // Exponentials and their sums in another order; gradients of the logits are rounded to bf16, those of the hidden
        // states once more: two neighbours at most.
        let tolerances = [1e-5, 1e-5, 1e-5, 1.0 / 64.0, 1.0 / 64.0];
        for ((own, portable), tolerance) in own.iter().zip(&portable).zip(tolerances) {
            assert_close(own, &wide(portable), tolerance, "mixed");
        }
    }
}
