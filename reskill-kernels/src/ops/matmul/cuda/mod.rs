//! Products of matrices on a CUDA device.

mod choice;
mod cublaslt;
mod hopper;
mod own;

use std::fmt;

use crate::cuda::CudaDevice;
use crate::dtype::DType;
use crate::error::KernelError;
use crate::tensor::Tensor;

pub(crate) use choice::GemmState;

/// How the factors of a product are stored, as letters of the left and the right one: `N` with the summed index along
/// the row for the left and down the rows for the right, `T` the other way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Layout {
    /// left (M, K), right (N, K): forward.
    Nt,
    /// left (M, K), right (K, N): gradient of the input.
    Nn,
    /// left (K, M), right (K, N): gradient of the weight.
    Tn,
}

/// A matrix in the memory of a tensor: from element `first` on, rows `stride` elements apart.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) tensor: &'a Tensor,
    pub(crate) first: usize,
    pub(crate) stride: usize,
}

impl<'a> View<'a> {
    /// The whole tensor, as rows of its last axes.
    pub(crate) fn of(tensor: &'a Tensor) -> View<'a> {
        View { tensor, first: 0, stride: tensor.row_len() }
    }
}

/// As [`View`], to write to.
#[derive(Debug)]
pub(crate) struct ViewMut<'a> {
    pub(crate) tensor: &'a mut Tensor,
    pub(crate) first: usize,
    pub(crate) stride: usize,
}

impl<'a> ViewMut<'a> {
    /// The whole tensor, as rows of its last axes.
    pub(crate) fn of(tensor: &'a mut Tensor) -> ViewMut<'a> {
        let stride = tensor.row_len();
        ViewMut { tensor, first: 0, stride }
    }
}

/// `out (M, N) (+)= alpha * left * right` with sums over K.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Product {
    pub(crate) layout: Layout,
    pub(crate) m: usize,
    pub(crate) n: usize,
    pub(crate) k: usize,
    /// Multiplies the product, not the old `out`.
    pub(crate) alpha: f32,
    /// Whether the old `out` is added.
    pub(crate) accumulate: bool,
}

impl Product {
    /// A plain product: `alpha` 1.
    pub(crate) fn new(layout: Layout, m: usize, n: usize, k: usize, accumulate: bool) -> Product {
        Product { layout, m, n, k, alpha: 1.0, accumulate }
    }

    /// Rows and columns of the left factor as stored, then of the right one.
    fn stored(&self) -> [(usize, usize); 2] {
        let Product { layout, m, n, k, .. } = *self;
        match layout {
            Layout::Nt => [(m, k), (n, k)],
            Layout::Nn => [(m, k), (k, n)],
            Layout::Tn => [(k, m), (k, n)],
        }
    }
}

impl fmt::Display for Product {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} M={} N={} K={}", self.layout, self.m, self.n, self.k)
    }
}

/// `out (+)= alpha * left * right` on `device`. The factors are stored alike, in f32 or bf16; `out` as they are, or in f32.
/// With `Tn`, `out` is f32.
///
/// # Errors
/// [`KernelError::Range`] if a matrix reaches beyond its tensor or is too large, [`KernelError::Unsupported`] for other
/// types; errors of the device.
pub(crate) fn product(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    product: &Product,
) -> Result<(), KernelError> {
    check_all_inside(op, out, &left, &right, product)?;
    let types = (left.tensor.dtype(), right.tensor.dtype(), out.tensor.dtype());
    let known = match types {
        (DType::F32, DType::F32, DType::F32) | (DType::Bf16, DType::Bf16, DType::F32) => true,
        (DType::Bf16, DType::Bf16, DType::Bf16) => product.layout != Layout::Tn,
        _ => false,
    };
    if !known {
        let (left, right, out) = types;
        return Err(KernelError::Unsupported {
            op,
            device: format!("cuda:{}", device.ordinal()),
            what: format!("{left} times {right} into {out} ({:?})", product.layout),
            remedy: "store both factors in one type, the result in that or in f32, gradients of weights in f32",
        });
    }
    if product.m == 0 || product.n == 0 {
        return Ok(());
    }
    choice::product(device, op, out, left, right, product)
}

/// As [`product`] of bf16, by the kernels for compute capability 9.0 whatever its size, each sum in one order: a row's bits
/// do not depend on the number of rows.
///
/// # Errors
/// As [`product`]; [`KernelError::Unsupported`] where these kernels cannot be used.
pub(crate) fn warpgroup_product(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    product: &Product,
) -> Result<(), KernelError> {
    check_all_inside(op, out, &left, &right, product)?;
    if !hopper::takes(device, out, &left, &right, product) {
        return Err(KernelError::Unsupported {
            op,
            device: format!("cuda:{}", device.ordinal()),
            what: format!("{product} by warpgroups"),
            remedy: "use gemm backend `portable`",
        });
    }
    hopper::product_in_one_order(device, op, out, left, right, product)
}

fn check_all_inside(
    op: &'static str,
    out: &ViewMut<'_>,
    left: &View<'_>,
    right: &View<'_>,
    product: &Product,
) -> Result<(), KernelError> {
    let [left_size, right_size] = product.stored();
    check_inside(op, "left factor", (left.tensor, left.first, left.stride), left_size)?;
    check_inside(op, "right factor", (right.tensor, right.first, right.stride), right_size)?;
    check_inside(op, "out", (&*out.tensor, out.first, out.stride), (product.m, product.n))
}

/// `rows` rows of `cols` elements, `stride` apart from `first` on, lie inside the tensor and do not overlap.
fn check_inside(
    op: &'static str,
    arg: &'static str,
    (tensor, first, stride): (&Tensor, usize, usize),
    (rows, cols): (usize, usize),
) -> Result<(), KernelError> {
    let end = if rows == 0 || cols == 0 { first } else { first + (rows - 1) * stride + cols };
    if end <= tensor.len() && (cols <= stride || rows <= 1) {
        return Ok(());
    }
    Err(KernelError::Range {
        op,
        arg,
        got: format!("{rows} rows of {cols} elements, {stride} apart from element {first} on"),
        expected: format!("rows apart and inside of {} elements", tensor.len()),
    })
}
