//! Blocks of quantised weights, widened to f32.
//!
//! A row is cut into blocks of 32 or 256 elements that share their scales. Formats as ggml defines them (`block_q4_0` and
//! so on); numbers of a formula are multiplied in ggml's order, so that results are equal to the bit.

use half::{bf16, f16};
use rayon::prelude::*;

/// Types that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(non_camel_case_types, reason = "names of ggml")]
pub(super) enum BlockType {
    F32,
    F16,
    BF16,
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4_K,
    Q5_K,
    Q6_K,
}

impl BlockType {
    /// The type with this number.
    pub(super) fn of(ggml_type: u32) -> Option<BlockType> {
        Some(match ggml_type {
            0 => BlockType::F32,
            1 => BlockType::F16,
            2 => BlockType::Q4_0,
            3 => BlockType::Q4_1,
            6 => BlockType::Q5_0,
            7 => BlockType::Q5_1,
            8 => BlockType::Q8_0,
            12 => BlockType::Q4_K,
            13 => BlockType::Q5_K,
            14 => BlockType::Q6_K,
            30 => BlockType::BF16,
            _ => return None,
        })
    }

    /// Elements of a block.
    pub(super) fn elements(self) -> usize {
        match self {
            BlockType::F32 | BlockType::F16 | BlockType::BF16 => 1,
            BlockType::Q4_0 | BlockType::Q4_1 | BlockType::Q5_0 | BlockType::Q5_1 | BlockType::Q8_0 => 32,
            BlockType::Q4_K | BlockType::Q5_K | BlockType::Q6_K => 256,
        }
    }

    /// Bytes of a block.
    pub(super) fn bytes(self) -> usize {
        match self {
            BlockType::F32 => 4,
            BlockType::F16 | BlockType::BF16 => 2,
            BlockType::Q4_0 => 18,
            BlockType::Q4_1 => 20,
            BlockType::Q5_0 => 22,
            BlockType::Q5_1 => 24,
            BlockType::Q8_0 => 34,
            BlockType::Q4_K => 144,
            BlockType::Q5_K => 176,
            BlockType::Q6_K => 210,
        }
    }

    /// Widens all blocks of `bytes` into `to`.
    pub(super) fn widen(self, bytes: &[u8], to: &mut [f32]) {
        /// Blocks that a task takes at once.
        const BLOCKS: usize = 1024;
        let one: fn(&[u8], &mut [f32]) = match self {
            BlockType::F32 => |b, to| to[0] = f32::from_le_bytes([b[0], b[1], b[2], b[3]]),
            BlockType::F16 => |b, to| to[0] = half_at(b, 0),
            BlockType::BF16 => |b, to| to[0] = bf16::from_le_bytes([b[0], b[1]]).to_f32(),
            BlockType::Q4_0 => |b, to| {
                let d = half_at(b, 0);
                halves(&b[2..18], to, |_, q| d * (f32::from(q) - 8.0));
            },
            BlockType::Q4_1 => |b, to| {
                let (d, m) = (half_at(b, 0), half_at(b, 2));
                halves(&b[4..20], to, |_, q| d * f32::from(q) + m);
            },
            BlockType::Q5_0 => |b, to| {
                let d = half_at(b, 0);
                let high = u32::from_le_bytes([b[2], b[3], b[4], b[5]]);
                halves(&b[6..22], to, |i, q| d * (f32::from(q | fifth_bit(high, i)) - 16.0));
            },
            BlockType::Q5_1 => |b, to| {
                let (d, m) = (half_at(b, 0), half_at(b, 2));
                let high = u32::from_le_bytes([b[4], b[5], b[6], b[7]]);
                halves(&b[8..24], to, |i, q| d * f32::from(q | fifth_bit(high, i)) + m);
            },
            BlockType::Q8_0 => |b, to| {
                let d = half_at(b, 0);
                for (to, q) in to.iter_mut().zip(&b[2..34]) {
                    *to = d * f32::from(q.cast_signed());
                }
            },
            BlockType::Q4_K => |b, to| four_or_five_bits(b, None, &b[16..144], to),
            BlockType::Q5_K => |b, to| four_or_five_bits(b, Some(&b[16..48]), &b[48..176], to),
            BlockType::Q6_K => six_bits,
        };
        let (elements, len) = (self.elements(), self.bytes());
        to.par_chunks_mut(BLOCKS * elements).zip(bytes.par_chunks(BLOCKS * len)).for_each(|(to, bytes)| {
            to.chunks_exact_mut(elements).zip(bytes.chunks_exact(len)).for_each(|(to, block)| one(block, to));
        });
    }
}

fn half_at(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Four-bit numbers of a block of 32: the low halves of 16 bytes, then the high halves.
fn halves(nibbles: &[u8], to: &mut [f32], value: impl Fn(usize, u8) -> f32) {
    let (low, high) = to.split_at_mut(16);
    for (i, ((low, high), byte)) in low.iter_mut().zip(high).zip(nibbles).enumerate() {
        *low = value(i, byte & 15);
        *high = value(i + 16, byte >> 4);
    }
}

fn fifth_bit(bits: u32, index: usize) -> u8 {
    if bits >> index & 1 == 1 { 16 } else { 0 }
}

/// Q4_K and Q5_K: 8 runs of 32, each with a scale and a minimum of six bits.
fn four_or_five_bits(block: &[u8], fifth: Option<&[u8]>, nibbles: &[u8], to: &mut [f32]) {
    let (d, d_min) = (half_at(block, 0), half_at(block, 2));
    let packed = &block[4..16];
    for (run, to) in to.chunks_exact_mut(32).enumerate() {
        let (scale, min) = match run {
            0..4 => (packed[run] & 63, packed[run + 4] & 63),
            _ => (
                packed[run + 4] & 15 | (packed[run - 4] >> 6) << 4,
                packed[run + 4] >> 4 | (packed[run] >> 6) << 4,
            ),
        };
        let (scale, min) = (d * f32::from(scale), d_min * f32::from(min));
        // Two runs share 32 bytes: the low halves, then the high halves.
        let bytes = &nibbles[run / 2 * 32..][..32];
        for (i, (to, byte)) in to.iter_mut().zip(bytes).enumerate() {
            let low = if run % 2 == 0 { byte & 15 } else { byte >> 4 };
            let high = fifth.map_or(0, |bits| (bits[i] >> run & 1) << 4);
            *to = scale * f32::from(low | high) - min;
        }
    }
}

/// Q6_K: two halves of 128, four bits and two bits apart, a signed scale for every 16.
fn six_bits(block: &[u8], to: &mut [f32]) {
    let (low, high, scales) = (&block[..128], &block[128..192], &block[192..208]);
    let d = half_at(block, 208);
    for (index, to) in to.iter_mut().enumerate() {
        let (half, quarter, i) = (index / 128, index % 128 / 32, index % 32);
        let byte = low[64 * half + 32 * (quarter % 2) + i];
        let four = if quarter < 2 { byte & 15 } else { byte >> 4 };
        let two = high[32 * half + i] >> (2 * quarter) & 3;
        let q = i16::from(four | two << 4) - 32;
        *to = d * f32::from(scales[index / 16].cast_signed()) * f32::from(q);
    }
}
