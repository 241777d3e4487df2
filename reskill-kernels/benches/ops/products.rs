//! Linear layers: over weights as they are, forward and both gradients, and over packed weights.

use reskill_kernels::KernelError;
use reskill_kernels::ops::{self, Cost, PackedWeight, WeightStorage, cost};

use crate::{Bench, random};

pub(crate) fn run(bench: &Bench) -> Result<(), KernelError> {
    let shapes = [
        (512, 576, 1536),
        (512, 1536, 576),
        (512, 576, 49_152),
        (4096, 96, 256),
        (4096, 128, 96),
        (4096, 96, 512),
        (4096, 256, 96),
        (64, 96, 512),
        (1, 96, 512),
    ];
    for (n, i, o) in shapes {
        let (mut x, mut weight, mut out) = (random(&[n, i])?, random(&[o, i])?, random(&[n, o])?);
        let sizes = [("N", n), ("I", i), ("O", o)];
        bench
            .run("matmul", &sizes, cost::matmul(n, i, o, 4), || ops::matmul(&mut out, &x, &weight, false))?;
        bench.run("matmul_backward_input", &sizes, cost::matmul(n, o, i, 4), || {
            ops::matmul_backward_input(&mut x, &out, &weight, false)
        })?;
        weight.as_mut_slice().fill(0.0);
        bench.run("matmul_backward_weight", &sizes, cost::matmul_backward_weight(n, i, o, 4), || {
            ops::matmul_backward_weight(&mut weight, &out, &x)
        })?;
    }
    packed(bench)
}

/// Linear layers of SmolLM2-135M over packed weights, at the batch sizes of decoding and of a chunk of a prompt.
fn packed(bench: &Bench) -> Result<(), KernelError> {
    let widths = [(576, 960), (576, 576), (576, 3072), (1536, 576), (576, 49_152)];
    let storages =
        [(WeightStorage::Bf16, "packed_matmul_bf16", 2), (WeightStorage::F32, "packed_matmul_f32", 4)];
    for (storage, name, size) in storages {
        for (i, o) in widths {
            let weight = PackedWeight::new(&random(&[o, i])?, storage);
            for n in [1, 8, 32, 512] {
                let (x, mut out) = (random(&[n, i])?, random(&[n, o])?);
                // Rows are f32, weights of their own size.
                let flops = 2 * (n * i * o) as u64;
                let cost = Cost { bytes: (4 * n * (i + o) + size * i * o) as u64, flops };
                bench.run(name, &[("N", n), ("I", i), ("O", o)], cost, || {
                    ops::packed_matmul(&mut out, &x, &weight, false)
                })?;
            }
        }
    }
    Ok(())
}
