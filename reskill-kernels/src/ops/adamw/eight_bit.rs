//! The moments of AdamW in eight bits each: small floating-point numbers, in blocks of 256 that share a scale.
//!
//! The first moment has a sign, four bits of exponent and three of fraction, the second five and three: it is a square,
//! so it spans twice as many octaves. A block is scaled by its largest magnitude. First moments below 1.9e-5 of that
//! become 0. A second moment that is not 0 never becomes 0, or the update would divide by nothing. Values are within
//! 6.25% of what was stored, and storing what was read gives the same codes.
//!
//! Source of the idea: Dettmers et al. 2022, arXiv:2110.02861; the number formats differ.

use multiversion::multiversion;
use rayon::prelude::*;

use super::AdamWParams;
use super::cpu::Numbers;
use crate::device::{Argument, Device};
use crate::dtype::DType;
use crate::error::KernelError;
use crate::tensor::Tensor;

/// Elements that share a scale.
pub(super) const BLOCK: usize = 256;
/// Bits below the three of the fraction, and half of the last place.
const DROPPED: u32 = 20;
const HALF: u32 = 1 << (DROPPED - 1);
/// 1.0 in the upper twelve bits; the largest codes stand for it.
const ONE: u32 = 1.0_f32.to_bits() >> DROPPED;
const OFFSET_M: u32 = ONE - 127;
const OFFSET_V: u32 = ONE - 255;

/// Both moments of one tensor, on the device of that tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments8 {
    pub(super) m: Codes,
    pub(super) v: Codes,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Codes {
    /// (n) u8.
    pub(super) codes: Tensor<u8>,
    /// (ceil(n / 256)) f32: one a block.
    pub(super) scales: Tensor,
}

impl Codes {
    fn zeros(len: usize, device: &Device) -> Result<Codes, KernelError> {
        Ok(Codes {
            codes: Tensor::zeros(&[len], device)?,
            scales: Tensor::zeros(&[len.div_ceil(BLOCK)], device)?,
        })
    }

    fn of(values: &[f32], device: &Device, code: fn(f32) -> u8) -> Result<Codes, KernelError> {
        let (mut codes, mut scales) = (vec![0; values.len()], Vec::new());
        for (codes, values) in codes.chunks_mut(BLOCK).zip(values.chunks(BLOCK)) {
            scales.push(encode(codes, values, code));
        }
        Ok(Codes {
            codes: Tensor::from_slice(&[codes.len()], &codes, device, DType::U8)?,
            scales: Tensor::from_slice(&[scales.len()], &scales, device, DType::F32)?,
        })
    }

    fn read(&self, value: fn(u8, f32) -> f32) -> Result<Vec<f32>, KernelError> {
        let (codes, scales) = (self.codes.to_vec()?, self.scales.to_vec()?);
        Ok(codes.iter().enumerate().map(|(i, &code)| value(code, scales[i / BLOCK])).collect())
    }
}

impl Moments8 {
    /// Zeros for `len` elements.
    ///
    /// # Errors
    /// None on the CPU; other devices may run out of memory.
    pub fn zeros(len: usize, device: &Device) -> Result<Moments8, KernelError> {
        Ok(Moments8 { m: Codes::zeros(len, device)?, v: Codes::zeros(len, device)? })
    }

    /// Moments of `m.len()` elements, rounded, for a tensor on `device`; `v` has as many.
    ///
    /// # Errors
    /// As [`Moments8::zeros`].
    pub fn from_f32(m: &[f32], v: &[f32], device: &Device) -> Result<Moments8, KernelError> {
        let len = m.len().min(v.len());
        Ok(Moments8 { m: Codes::of(&m[..len], device, code_m)?, v: Codes::of(&v[..len], device, code_v)? })
    }

    /// Both moments.
    ///
    /// # Errors
    /// None on the CPU; [`KernelError::Driver`] elsewhere.
    pub fn to_f32(&self) -> Result<(Vec<f32>, Vec<f32>), KernelError> {
        Ok((self.m.read(value_m)?, self.v.read(value_v)?))
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.m.codes.len()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes taken: two an element and eight a block.
    #[must_use]
    pub fn bytes(len: usize) -> usize {
        2 * len + 8 * len.div_ceil(BLOCK)
    }

    pub(super) fn arguments(&self) -> [Argument<'_>; 4] {
        [
            self.m.codes.is("moments", DType::U8),
            self.v.codes.is("moments", DType::U8),
            self.m.scales.is("moments", DType::F32),
            self.v.scales.is("moments", DType::F32),
        ]
    }
}

pub(super) fn step(weight: &mut [f32], moments: &mut Moments8, grad: &[f32], params: &AdamWParams) {
    let numbers = Numbers::new(params);
    let Moments8 { m, v } = moments;
    let m = m.codes.as_mut_slice().par_chunks_mut(BLOCK).zip(m.scales.as_mut_slice());
    let v = v.codes.as_mut_slice().par_chunks_mut(BLOCK).zip(v.scales.as_mut_slice());
    let blocks = weight.par_chunks_mut(BLOCK).zip(grad.par_chunks(BLOCK)).zip(m).zip(v);
    blocks.with_min_len(256).for_each(|(((weight, grad), (m, m_scale)), (v, v_scale))| {
        block_step(weight, grad, (m, m_scale), (v, v_scale), &numbers);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl+fma", "x86_64+avx2+fma"))]
fn block_step(
    weight: &mut [f32],
    grad: &[f32],
    (m_codes, m_scale): (&mut [u8], &mut f32),
    (v_codes, v_scale): (&mut [u8], &mut f32),
    numbers: &Numbers,
) {
    let (mut m, mut v) = ([0.0; BLOCK], [0.0; BLOCK]);
    let n = weight.len();
    for (m, &code) in m.iter_mut().zip(m_codes.iter()) {
        *m = value_m(code, *m_scale);
    }
    for (v, &code) in v.iter_mut().zip(v_codes.iter()) {
        *v = value_v(code, *v_scale);
    }
    for (((weight, m), v), grad) in weight.iter_mut().zip(&mut m).zip(&mut v).zip(grad) {
        numbers.element(weight, m, v, *grad);
    }
    *m_scale = encode(m_codes, &m[..n], code_m);
    *v_scale = encode(v_codes, &v[..n], code_v);
}

/// Writes the codes of `values` and returns their scale.
#[inline(always)]
fn encode(codes: &mut [u8], values: &[f32], code: impl Fn(f32) -> u8) -> f32 {
    let scale = values.iter().fold(0.0_f32, |largest, x| if x.abs() > largest { x.abs() } else { largest });
    let inverse = if scale > f32::MIN_POSITIVE { 1.0 / scale } else { 0.0 };
    for (to, x) in codes.iter_mut().zip(values) {
        *to = code(x * inverse);
    }
    if inverse == 0.0 { 0.0 } else { scale }
}

/// Sign, exponent, fraction of a number within -1..=1.
#[inline(always)]
fn code_m(x: f32) -> u8 {
    let magnitude = ((x.abs().to_bits() + HALF) >> DROPPED).saturating_sub(OFFSET_M).min(127) as u8;
    if x < 0.0 && magnitude > 0 { magnitude | 0x80 } else { magnitude }
}

#[inline(always)]
fn value_m(code: u8, scale: f32) -> f32 {
    let magnitude = u32::from(code & 0x7f);
    let x = if magnitude == 0 { 0.0 } else { f32::from_bits((magnitude + OFFSET_M) << DROPPED) };
    if code & 0x80 == 0 { x * scale } else { -x * scale }
}

/// Exponent and fraction of a number within 0..=1; none but 0 becomes 0.
#[inline(always)]
fn code_v(x: f32) -> u8 {
    let code = ((x.to_bits() + HALF) >> DROPPED).saturating_sub(OFFSET_V).min(255) as u8;
    if x > 0.0 { code.max(1) } else { 0 }
}

#[inline(always)]
fn value_v(code: u8, scale: f32) -> f32 {
    let x = if code == 0 { 0.0 } else { f32::from_bits((u32::from(code) + OFFSET_V) << DROPPED) };
    x * scale
}
