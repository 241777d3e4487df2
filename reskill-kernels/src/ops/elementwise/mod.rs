//! Filling, casting and column sums on a CUDA device: what tensors and several operations need. On the CPU these are
//! loops in place.

use crate::cuda::{CudaDevice, Grid, Launch, Scratch};
use crate::device::Device;
use crate::dtype::{DType, Element};
use crate::error::KernelError;
use crate::tensor::Tensor;

const UNIT: &str = "elementwise";

/// Sets every element to the value with the bytes `pattern`, which are as many as one element has.
pub(crate) fn fill<T: Element>(
    op: &'static str,
    out: &mut Tensor<T>,
    pattern: &[u8],
) -> Result<(), KernelError> {
    let Device::Cuda(device) = out.device() else { return Ok(()) };
    let mut bits = [0_u8; 8];
    let (n, size) = (out.len(), pattern.len());
    // Bytes are filled four at a time: memory is taken in multiples of more than that.
    let (kernel, n) = match size {
        1 => return fill_bytes(op, out, &device, pattern),
        2 => ("elementwise_fill_u16", n),
        4 => ("elementwise_fill_u32", n),
        _ => ("elementwise_fill_u64", n),
    };
    bits[..size].copy_from_slice(pattern);
    let bits = u64::from_le_bytes(bits);
    let launch = Launch::of(&device, op, UNIT, kernel)
        .output(out)
        .number(bits as u32)
        .number((bits >> 32) as u32)
        .number(n as i64);
    // SAFETY:
    // - arguments: order and types match `elementwise_fill_*(uN*, u32, u32, long long)`, N being the size of an element;
    // - bounds: `out` holds n elements of that size, from an address on that is a multiple of 16 bytes as all allocations
    //   are; a thread has 16 bytes of them, and touches nothing from element n on;
    // - aliasing: the kernel writes `out` only, borrowed mutably here.
    unsafe { launch.launch(Grid::items((n * size).div_ceil(16))) }
}

/// Bytes: through the host, since no operation of a step fills them.
fn fill_bytes<T: Element>(
    _op: &'static str,
    out: &mut Tensor<T>,
    _device: &CudaDevice,
    pattern: &[u8],
) -> Result<(), KernelError> {
    let values = T::decode(pattern, T::DTYPE).unwrap_or_default();
    let value = values.first().copied().unwrap_or_default();
    out.copy_from_slice(&vec![value; out.len()])
}

/// Copies elements `from..from + n` of `x` to `to..to + n` of `out`, on one device, between f32 and bf16.
pub(crate) fn cast<T: Element>(
    op: &'static str,
    out: &mut Tensor<T>,
    to: usize,
    x: &Tensor<T>,
    from: usize,
    n: usize,
) -> Result<(), KernelError> {
    let Device::Cuda(device) = x.device() else { return Ok(()) };
    let kernel = match (x.dtype(), out.dtype()) {
        (DType::F32, DType::Bf16) => "elementwise_cast_f32_bf16",
        (DType::Bf16, DType::F32) => "elementwise_cast_bf16_f32",
        (got, expected) => return Err(KernelError::DType { op, arg: "source", expected, got }),
    };
    let launch = Launch::of(&device, op, UNIT, kernel).output_at(out, to).input_at(x, from).number(n as i64);
    // SAFETY:
    // - arguments: order and types match `elementwise_cast_<from>_<to>(to*, const from*, long long)`;
    // - bounds: both tensors hold n elements from there on (checked by the caller); a thread has four of them, and touches
    //   nothing from element n on;
    // - aliasing: the kernel writes `out` only, borrowed mutably here; `x` is another tensor.
    unsafe { launch.launch(Grid::items(n.div_ceil(4))) }
}

/// Sums that blocks left in scratch memory: `rows` of them, `width` f32 each, of which those from `first` on are wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Parts<'a> {
    pub(crate) scratch: &'a Scratch<'a>,
    pub(crate) rows: usize,
    pub(crate) width: usize,
    pub(crate) first: usize,
}

/// `out[c] += sum_p parts[p, first + c]`, in a fixed order.
pub(crate) fn add_column_sums(
    device: &CudaDevice,
    op: &'static str,
    out: &mut Tensor,
    parts: Parts<'_>,
) -> Result<(), KernelError> {
    let c = out.len();
    debug_assert!(parts.first + c <= parts.width);
    let launch = Launch::of(device, op, UNIT, "elementwise_add_column_sums_f32")
        .output(out)
        .scratch(parts.scratch, parts.first * size_of::<f32>())
        .size(parts.rows)
        .size(parts.width)
        .size(c);
    let grid = Grid { blocks: [c.div_ceil(32), 1, 1], threads: [32, 32, 1], shared: 0 };
    // SAFETY:
    // - arguments: order and types match `elementwise_add_column_sums_f32(float*, const float*, int, int, int)`;
    // - bounds: `out` holds C f32, `parts` `rows` times `width` (the caller's promise), of which C from `first` on are
    //   read, and columns from C on are left alone;
    // - aliasing: the kernel writes `out` only, borrowed mutably here.
    unsafe { launch.launch(grid) }
}
