//! SwiGLU on the CPU.

use multiversion::multiversion;

use crate::parallel::for_row_blocks;
use crate::simd::exp;
use crate::tensor::Tensor;

pub(super) fn forward(out: &mut Tensor, gate_up: &Tensor) {
    let f = out.row_len();
    if f == 0 {
        return;
    }
    let gate_up = gate_up.as_slice();
    for_row_blocks(out.as_mut_slice(), f, |first, rows| forward_rows(rows, &gate_up[first * 2 * f..], f));
}

pub(super) fn backward(d_gate_up: &mut Tensor, d_out: &Tensor, gate_up: &Tensor) {
    let f = d_out.row_len();
    if f == 0 {
        return;
    }
    let (d_out, gate_up) = (d_out.as_slice(), gate_up.as_slice());
    for_row_blocks(d_gate_up.as_mut_slice(), 2 * f, |first, rows| {
        backward_rows(rows, &d_out[first * f..], &gate_up[first * 2 * f..], f);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn forward_rows(out: &mut [f32], gate_up: &[f32], f: usize) {
    for (out, gate_up) in out.chunks_exact_mut(f).zip(gate_up.chunks_exact(2 * f)) {
        let (gate, up) = gate_up.split_at(f);
        for ((out, gate), up) in out.iter_mut().zip(gate).zip(up) {
            let s = 1.0 / (1.0 + exp(-gate));
            *out = gate * s * up;
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn backward_rows(d_gate_up: &mut [f32], d_out: &[f32], gate_up: &[f32], f: usize) {
    let rows = d_gate_up.chunks_exact_mut(2 * f).zip(d_out.chunks_exact(f)).zip(gate_up.chunks_exact(2 * f));
    for ((d_gate_up, d_out), gate_up) in rows {
        let (d_gate, d_up) = d_gate_up.split_at_mut(f);
        let (gate, up) = gate_up.split_at(f);
        for ((((d_gate, d_up), d_out), gate), up) in d_gate.iter_mut().zip(d_up).zip(d_out).zip(gate).zip(up)
        {
            let s = 1.0 / (1.0 + exp(-gate));
            *d_gate = d_out * up * s * (1.0 + gate * (1.0 - s));
            *d_up = d_out * gate * s;
        }
    }
}
