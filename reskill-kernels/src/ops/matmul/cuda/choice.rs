//! Who computes a product: our kernels, cuBLASLt, or whichever was quickest when it was tried.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use cudarc::driver::sys::CUevent_flags;

use super::cublaslt::CublasLt;
use super::{Layout, Product, View, ViewMut, hopper, own};
use crate::cuda::{CudaDevice, Grid, Launch};
use crate::dtype::DType;
use crate::error::KernelError;
use crate::gemm::{GemmBackend, GemmChoice, GemmTrial};
use crate::tensor::Tensor;

/// Runs of a candidate that are given to the stream at once, and whose mean counts: one alone, on an idle stream, would
/// take as long as the host needs to ask for it.
const RUNS: u32 = 8;
/// How far a candidate may be from our portable kernels, as a part of the largest value of a row. Sums in another order
/// differ by far less, a wrong kernel by far more.
const TOLERANCE: f32 = 0.03;

/// What a device knows of products.
#[derive(Debug, Default)]
pub(crate) struct GemmState {
    backend: Mutex<GemmBackend>,
    cublaslt: OnceLock<Result<CublasLt, String>>,
    choices: Mutex<HashMap<Kind, (Candidate, GemmChoice)>>,
}

/// Products that are taken to behave alike: the rows in powers of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Kind {
    layout: Layout,
    rows: usize,
    n: usize,
    k: usize,
    factors: DType,
    out: DType,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Candidate {
    Portable,
    Hopper,
    CublasLt,
}

impl Candidate {
    fn name(self) -> &'static str {
        match self {
            Candidate::Portable => "portable",
            Candidate::Hopper => "sm90a",
            Candidate::CublasLt => "cublaslt",
        }
    }
}

impl CudaDevice {
    /// Says who computes products on this device, for all its handles.
    ///
    /// # Errors
    /// [`KernelError::Unsupported`] if cuBLASLt is asked for and cannot be used.
    pub fn set_gemm_backend(&self, backend: GemmBackend) -> Result<(), KernelError> {
        if backend == GemmBackend::CublasLt {
            self.cublaslt("CudaDevice::set_gemm_backend")?;
        }
        *self.gemm().backend.lock().unwrap_or_else(PoisonError::into_inner) = backend;
        Ok(())
    }

    /// Who computes products on this device.
    #[must_use]
    pub fn gemm_backend(&self) -> GemmBackend {
        *self.gemm().backend.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What [`GemmBackend::Auto`] has found so far, in the order of names.
    #[must_use]
    pub fn gemm_choices(&self) -> Vec<GemmChoice> {
        let known = self.gemm().choices.lock().unwrap_or_else(PoisonError::into_inner);
        let mut choices: Vec<GemmChoice> = known.values().map(|(_, choice)| choice.clone()).collect();
        choices.sort_by(|a, b| a.product.cmp(&b.product));
        choices
    }

    fn cublaslt(&self, op: &'static str) -> Result<&CublasLt, KernelError> {
        let opened = self.gemm().cublaslt.get_or_init(|| CublasLt::open(self));
        opened.as_ref().map_err(|reason| KernelError::Unsupported {
            op,
            device: format!("cuda:{}", self.ordinal()),
            what: format!("products by cuBLASLt ({reason})"),
            remedy: "use gemm backend `own`",
        })
    }
}

/// The product by whoever the device's backend names.
pub(super) fn product(
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
) -> Result<(), KernelError> {
    let candidate = match device.gemm_backend() {
        GemmBackend::Own => by_size(device, out, &left, &right, p),
        GemmBackend::Portable => Candidate::Portable,
        GemmBackend::CublasLt => Candidate::CublasLt,
        GemmBackend::Auto => choose(device, op, out, left, right, p)?,
    };
    run(candidate, device, op, out, left, right, p)
}

fn run(
    candidate: Candidate,
    device: &CudaDevice,
    op: &'static str,
    out: &mut ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
) -> Result<(), KernelError> {
    match candidate {
        // An empty sum is no product for a library.
        Candidate::CublasLt if p.k > 0 => device.cublaslt(op)?.product(device, op, out, left, right, p),
        Candidate::Hopper if hopper::takes(device, out, &left, &right, p) => {
            hopper::product(device, op, out, left, right, p)
        }
        _ => own::product(device, op, out, left, right, p),
    }
}

/// What `Own` takes: the kernels for compute capability 9.0 where they can be used and are the quicker ones.
fn by_size(
    device: &CudaDevice,
    out: &ViewMut<'_>,
    left: &View<'_>,
    right: &View<'_>,
    p: &Product,
) -> Candidate {
    let pays = hopper::pays(p, out.tensor.dtype(), device.properties().multiprocessors);
    let hopper = pays && hopper::takes(device, out, left, right, p);
    if hopper { Candidate::Hopper } else { Candidate::Portable }
}

/// The remembered choice for products like this one, or a new one.
fn choose(
    device: &CudaDevice,
    op: &'static str,
    out: &ViewMut<'_>,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
) -> Result<Candidate, KernelError> {
    let rows = p.m.next_power_of_two();
    let (factors, out_type) = (left.tensor.dtype(), out.tensor.dtype());
    let kind = Kind { layout: p.layout, rows, n: p.n, k: p.k, factors, out: out_type };
    let known = |kind| {
        let choices = device.gemm().choices.lock().unwrap_or_else(PoisonError::into_inner);
        choices.get(kind).map(|(candidate, _)| *candidate)
    };
    if let Some(candidate) = known(&kind) {
        return Ok(candidate);
    }
    // Nothing can be timed while a graph is recorded, and an empty sum is no measure.
    if device.is_recording() || p.k == 0 {
        return Ok(by_size(device, out, &left, &right, p));
    }
    let (candidate, candidates) = compare(device, op, left, right, p, out_type)?;
    let product = format!("{:?} M<={rows} N={} K={} {factors} to {out_type}", p.layout, p.n, p.k);
    let choice = GemmChoice { product, chosen: candidate.name(), candidates };
    let mut choices = device.gemm().choices.lock().unwrap_or_else(PoisonError::into_inner);
    choices.insert(kind, (candidate, choice));
    Ok(candidate)
}

/// How each candidate did, or why it is left out.
type Trials = Vec<(&'static str, Result<GemmTrial, String>)>;

/// Runs all candidates on memory of their own; the quickest that agrees with our portable kernels is the choice.
fn compare(
    device: &CudaDevice,
    op: &'static str,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
    out_type: DType,
) -> Result<(Candidate, Trials), KernelError> {
    let p = Product { accumulate: false, ..*p };
    let mut reference: Tensor = device.scratch_tensor(op, &[p.m, p.n], out_type)?;
    let micros = time(Candidate::Portable, device, op, &mut reference, left, right, &p)?;
    let mut best = (Candidate::Portable, micros);
    let mut trials: Trials = vec![(Candidate::Portable.name(), Ok(GemmTrial { micros, distance: 0.0 }))];
    let mut other: Tensor = device.scratch_tensor(op, &[p.m, p.n], out_type)?;
    for candidate in [Candidate::Hopper, Candidate::CublasLt] {
        if candidate == Candidate::Hopper
            && !hopper::takes(device, &ViewMut::of(&mut other), &left, &right, &p)
        {
            continue;
        }
        let trial = trial(candidate, device, op, (&reference, &mut other), left, right, &p);
        if let Ok(GemmTrial { micros, .. }) = trial
            && micros < best.1
        {
            best = (candidate, micros);
        }
        trials.push((candidate.name(), trial));
    }
    Ok((best.0, trials))
}

/// Times a candidate and compares its results with those of our portable kernels.
fn trial(
    candidate: Candidate,
    device: &CudaDevice,
    op: &'static str,
    (reference, out): (&Tensor, &mut Tensor),
    left: View<'_>,
    right: View<'_>,
    p: &Product,
) -> Result<GemmTrial, String> {
    let micros = time(candidate, device, op, out, left, right, p).map_err(|error| error.to_string())?;
    let distance = distance(device, op, reference, out).map_err(|error| error.to_string())?;
    if distance <= TOLERANCE {
        return Ok(GemmTrial { micros, distance });
    }
    Err(format!("its results are off by {distance} of the largest of a row"))
}

/// Microseconds of a run, the mean of some in a row.
fn time(
    candidate: Candidate,
    device: &CudaDevice,
    op: &'static str,
    out: &mut Tensor,
    left: View<'_>,
    right: View<'_>,
    p: &Product,
) -> Result<f64, KernelError> {
    let event = || {
        device
            .stream(op)?
            .record_event(Some(CUevent_flags::CU_EVENT_DEFAULT))
            .map_err(|e| device.error(op, e))
    };
    // The first run loads and prepares.
    run(candidate, device, op, &mut ViewMut::of(out), left, right, p)?;
    let begin = event()?;
    for _ in 0..RUNS {
        run(candidate, device, op, &mut ViewMut::of(out), left, right, p)?;
    }
    let end = event()?;
    let milliseconds = begin.elapsed_ms(&end).map_err(|error| device.error(op, error))?;
    Ok(f64::from(milliseconds) * 1e3 / f64::from(RUNS))
}

/// The largest difference of two (M, N) matrices, each as a part of the largest value of its row in `a`.
/// NaN counts as infinitely far.
fn distance(device: &CudaDevice, op: &'static str, a: &Tensor, b: &Tensor) -> Result<f32, KernelError> {
    let mut rows: Tensor = device.scratch_tensor(op, &[a.rows()], DType::F32)?;
    let launch =
        Launch::of(device, op, "matmul_f32", a.dtype().pick("matmul_distance_f32", "matmul_distance_bf16"))
            .output(&mut rows)
            .input(a)
            .input(b)
            .size(a.row_len());
    // SAFETY:
    // - arguments: order and types match `matmul_distance_T(float*, const T*, const T*, int)`;
    // - bounds: a block a row, M blocks; `a` and `b` hold M * N elements, `rows` M;
    // - aliasing: the kernel writes `rows` only, borrowed mutably.
    unsafe { launch.launch(Grid::linear(a.rows(), 256)) }?;
    let rows = rows.to_vec()?;
    Ok(rows.into_iter().fold(0.0, |far, row| {
        if row <= far {
            far
        } else if row.is_nan() {
            f32::INFINITY
        } else {
            row
        }
    }))
}
