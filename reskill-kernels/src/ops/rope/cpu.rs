//! Rotary embedding on the CPU.

use multiversion::multiversion;

use super::RopeTable;
use crate::parallel::for_row_blocks;
use crate::tensor::Tensor;

pub(super) fn rotate(
    qkv: &mut Tensor,
    positions: &Tensor<u32>,
    table: &RopeTable,
    n_heads: usize,
    direction: f32,
) {
    let (width, half) = (qkv.row_len(), table.cos.row_len());
    if width == 0 {
        return;
    }
    let (cos, sin) = (table.cos.as_slice(), table.sin.as_slice());
    let positions = positions.as_slice();
    for_row_blocks(qkv.as_mut_slice(), width, |first, rows| {
        for (row, &position) in rows.chunks_exact_mut(width).zip(&positions[first..]) {
            let angles = position as usize * half..(position as usize + 1) * half;
            rotate_row(&mut row[..n_heads * half * 2], &cos[angles.clone()], &sin[angles], direction);
        }
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn rotate_row(heads: &mut [f32], cos: &[f32], sin: &[f32], direction: f32) {
    for head in heads.chunks_exact_mut(2 * cos.len()) {
        let (low, high) = head.split_at_mut(cos.len());
        for (((low, high), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
            let (x, y, sin) = (*low, *high, direction * sin);
            *low = x * cos - y * sin;
            *high = y * cos + x * sin;
        }
    }
}
