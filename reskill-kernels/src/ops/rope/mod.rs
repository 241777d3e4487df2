//! Rotary position embedding, in place, on the query and key heads of a packed projection.
//!
//! Source: Su et al. 2021, arXiv:2104.09864; the pairing of dimension `d` with `d + D/2` is Hugging Face's.

mod cpu;
#[cfg(feature = "cuda")]
mod cuda;

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_range, check_shape};
use crate::parallel::for_row_blocks;
use crate::tensor::Tensor;

/// Cosines and sines for positions below `max_positions`.
#[derive(Debug, Clone)]
pub struct RopeTable {
    /// (`max_positions`, D/2) f32.
    pub cos: Tensor,
    /// (`max_positions`, D/2) f32.
    pub sin: Tensor,
}

impl RopeTable {
    /// Angles `position * theta^(-2d/D)` for `d` in 0..D/2, computed in f64.
    ///
    /// # Errors
    /// [`KernelError::Range`] if `head_dim` is odd or zero, or `theta` not positive.
    pub fn new(max_positions: usize, head_dim: usize, theta: f64) -> Result<RopeTable, KernelError> {
        const OP: &str = "RopeTable::new";
        check_range(
            head_dim > 0 && head_dim.is_multiple_of(2),
            OP,
            "head_dim",
            head_dim,
            "even and positive",
        )?;
        check_range(theta > 0.0, OP, "theta", theta, "> 0")?;
        let half = head_dim / 2;
        let angle = |index: usize| {
            let (position, d) = (index / half, index % half);
            position as f64 * theta.powf(-2.0 * d as f64 / head_dim as f64)
        };
        let table = |f: fn(f64) -> f64| {
            Tensor::from_vec(
                &[max_positions, half],
                (0..max_positions * half).map(|index| f(angle(index)) as f32).collect(),
            )
        };
        Ok(RopeTable { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// Angles `position * frequencies[d]`, rounded to f32 before their cosine and sine are taken: how Hugging Face
    /// computes them, and so what its models were trained with. At position 8,000 an angle of 8,000 is off by up to
    /// 2.4e-4 that way, which is why the exact table would not reproduce them.
    ///
    /// - `frequencies`: D/2 of them, radians a position
    ///
    /// # Errors
    /// [`KernelError::Range`] for no frequencies, or one that is not finite.
    pub fn from_frequencies(max_positions: usize, frequencies: &[f32]) -> Result<RopeTable, KernelError> {
        const OP: &str = "RopeTable::from_frequencies";
        let half = frequencies.len();
        check_range(half > 0, OP, "frequencies.len()", half, ">= 1")?;
        for &frequency in frequencies {
            check_range(frequency.is_finite(), OP, "frequencies", frequency, "finite numbers")?;
        }
        let table = |f: fn(f64) -> f64| {
            let mut table = Tensor::zeros(&[max_positions, half], &Device::Cpu)?;
            for_row_blocks(table.as_mut_slice(), half, |first, rows| {
                for (row, to) in rows.chunks_exact_mut(half).enumerate() {
                    let position = (first + row) as f32;
                    for (to, frequency) in to.iter_mut().zip(frequencies) {
                        *to = f(f64::from(position * frequency)) as f32;
                    }
                }
            });
            Ok::<Tensor, KernelError>(table)
        };
        Ok(RopeTable { cos: table(f64::cos)?, sin: table(f64::sin)? })
    }

    /// The table on a device.
    ///
    /// # Errors
    /// [`KernelError::OutOfDeviceMemory`], [`KernelError::Driver`].
    pub fn to_device(&self, device: &Device) -> Result<RopeTable, KernelError> {
        Ok(RopeTable { cos: self.cos.to_device(device)?, sin: self.sin.to_device(device)? })
    }
}

/// Rotates the first `n_heads` heads of every row by the row's position.
///
/// `y[d] = x[d] cos - x[d + D/2] sin`, `y[d + D/2] = x[d + D/2] cos + x[d] sin`, for `d` in 0..D/2.
///
/// - `qkv`: (N, W) f32, or bf16 on a CUDA device, with W >= `n_heads` * D, in place; heads lie one after the other
/// - `positions`: (N) u32, each below the table's rows
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`], [`KernelError::Range`]. Positions on a CUDA
/// device are not read back: there, one outside the table gives NaN.
pub fn rope_forward(
    qkv: &mut Tensor,
    positions: &Tensor<u32>,
    table: &RopeTable,
    n_heads: usize,
) -> Result<(), KernelError> {
    rotate("rope_forward", qkv, positions, table, n_heads, 1.0)
}

/// The gradient of [`rope_forward`], in place: the rotation by the opposite angle.
///
/// # Errors
/// As [`rope_forward`].
pub fn rope_backward(
    d_qkv: &mut Tensor,
    positions: &Tensor<u32>,
    table: &RopeTable,
    n_heads: usize,
) -> Result<(), KernelError> {
    rotate("rope_backward", d_qkv, positions, table, n_heads, -1.0)
}

fn rotate(
    op: &'static str,
    qkv: &mut Tensor,
    positions: &Tensor<u32>,
    table: &RopeTable,
    n_heads: usize,
    direction: f32,
) -> Result<(), KernelError> {
    check(op, qkv, positions, table, n_heads)?;
    let arguments = [
        qkv.is("qkv", qkv.dtype()),
        positions.is("positions", DType::U32),
        table.cos.is("table.cos", DType::F32),
        table.sin.is("table.sin", DType::F32),
    ];
    match placed(op, &arguments)? {
        Device::Cpu => cpu::rotate(qkv, positions, table, n_heads, direction),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => cuda::rotate(&device, op, qkv, positions, table, n_heads, direction)?,
    }
    Ok(())
}

pub(super) fn check(
    op: &'static str,
    qkv: &Tensor,
    positions: &Tensor<u32>,
    table: &RopeTable,
    n_heads: usize,
) -> Result<(), KernelError> {
    check_shape(op, "positions", positions.shape(), &[qkv.rows()])?;
    let rotated = n_heads * table.cos.row_len() * 2;
    check_range(
        rotated <= qkv.row_len(),
        op,
        "n_heads * head_dim",
        rotated,
        format!("<= {}", qkv.row_len()),
    )?;
    let max_positions = table.cos.rows();
    let Ok(positions) = positions.host() else { return Ok(()) };
    for &position in positions {
        check_range(
            (position as usize) < max_positions,
            op,
            "positions",
            position,
            format!("< {max_positions} (max_position_embeddings)"),
        )?;
    }
    Ok(())
}
