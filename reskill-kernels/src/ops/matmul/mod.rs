//! Linear layers: products with a weight stored as Hugging Face stores it, (outputs, inputs).

pub(crate) mod cpu;
#[cfg(feature = "cuda")]
pub(crate) mod cuda;
mod gemm;

use crate::device::{Device, placed};
use crate::dtype::DType;
use crate::error::{KernelError, check_shape};
use crate::tensor::Tensor;

/// `out[n, o] = sum_i x[n, i] * weight[o, i]`, plus the old `out` if `accumulate`.
///
/// - `out`: (N, O) T or f32, overwritten or added to
/// - `x`: (N, I) T
/// - `weight`: (O, I) T
///
/// T is f32, or bf16 on a CUDA device; sums are f32.
///
/// # Errors
/// [`KernelError::Shape`], [`KernelError::DType`], [`KernelError::Placement`]; errors of the device.
pub fn matmul(out: &mut Tensor, x: &Tensor, weight: &Tensor, accumulate: bool) -> Result<(), KernelError> {
    const OP: &str = "matmul";
    check(OP, "out", out, x, weight)?;
    let t = x.dtype();
    let arguments = [x.is("x", t), weight.is("weight", t), out.is("out", f32_or(out, t))];
    match placed(OP, &arguments)? {
        Device::Cpu => cpu::forward(
            out.as_mut_slice(),
            x.as_slice(),
            weight.as_slice(),
            weight.rows(),
            weight.row_len(),
            accumulate,
        ),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let (n, outputs, inputs) = (x.rows(), weight.rows(), weight.row_len());
            let p = cuda::Product::new(cuda::Layout::Nt, n, outputs, inputs, accumulate);
            let out = &mut cuda::ViewMut::of(out);
            cuda::product(&device, OP, out, cuda::View::of(x), cuda::View::of(weight), &p)?;
        }
    }
    Ok(())
}

/// `d_x[n, i] = sum_o d_out[n, o] * weight[o, i]`, plus the old `d_x` if `accumulate`.
///
/// - `d_x`: (N, I) T or f32, overwritten or added to
/// - `d_out`: (N, O) T
/// - `weight`: (O, I) T
///
/// # Errors
/// As [`matmul`].
pub fn matmul_backward_input(
    d_x: &mut Tensor,
    d_out: &Tensor,
    weight: &Tensor,
    accumulate: bool,
) -> Result<(), KernelError> {
    const OP: &str = "matmul_backward_input";
    check(OP, "d_out", d_out, d_x, weight)?;
    let t = d_out.dtype();
    let arguments = [d_out.is("d_out", t), weight.is("weight", t), d_x.is("d_x", f32_or(d_x, t))];
    match placed(OP, &arguments)? {
        Device::Cpu => cpu::backward_input(
            d_x.as_mut_slice(),
            d_out.as_slice(),
            weight.as_slice(),
            weight.rows(),
            weight.row_len(),
            accumulate,
        ),
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let (n, outputs, inputs) = (d_out.rows(), weight.rows(), weight.row_len());
            let p = cuda::Product::new(cuda::Layout::Nn, n, inputs, outputs, accumulate);
            let d_x = &mut cuda::ViewMut::of(d_x);
            cuda::product(&device, OP, d_x, cuda::View::of(d_out), cuda::View::of(weight), &p)?;
        }
    }
    Ok(())
}

/// `d_weight[o, i] += sum_n d_out[n, o] * x[n, i]`.
///
/// - `d_weight`: (O, I) f32, added to
/// - `d_out`: (N, O) T
/// - `x`: (N, I) T
///
/// # Errors
/// As [`matmul`].
pub fn matmul_backward_weight(d_weight: &mut Tensor, d_out: &Tensor, x: &Tensor) -> Result<(), KernelError> {
    const OP: &str = "matmul_backward_weight";
    check(OP, "d_out", d_out, x, d_weight)?;
    let (outputs, inputs) = (d_weight.rows(), d_weight.row_len());
    let t = x.dtype();
    let arguments = [d_out.is("d_out", t), x.is("x", t), d_weight.is("d_weight", DType::F32)];
    match placed(OP, &arguments)? {
        Device::Cpu => {
            cpu::backward_weight(d_weight.as_mut_slice(), d_out.as_slice(), x.as_slice(), outputs, inputs);
        }
        #[cfg(feature = "cuda")]
        Device::Cuda(device) => {
            let p = cuda::Product::new(cuda::Layout::Tn, outputs, inputs, x.rows(), true);
            let d_weight = &mut cuda::ViewMut::of(d_weight);
            cuda::product(&device, OP, d_weight, cuda::View::of(d_out), cuda::View::of(x), &p)?;
        }
    }
    Ok(())
}

/// f32 if the tensor is stored so, else `t`: what a result may be.
fn f32_or(tensor: &Tensor, t: DType) -> DType {
    if tensor.dtype() == DType::F32 { DType::F32 } else { t }
}

fn check(
    op: &'static str,
    arg: &'static str,
    out: &Tensor,
    x: &Tensor,
    weight: &Tensor,
) -> Result<(), KernelError> {
    check_shape(op, "weight", weight.shape(), &[weight.rows(), x.row_len()])?;
    check_shape(op, arg, out.shape(), &[x.rows(), weight.rows()])
}
