//! Dense row-major tensors.

mod copy;
mod rows;
#[cfg(test)]
mod tests;

#[cfg(feature = "cuda")]
use crate::cuda::CudaBuffer;
use crate::device::{Argument, Device};
use crate::dtype::{DType, Element};
use crate::error::{KernelError, check_range};

/// A dense, row-major tensor. The last axis is contiguous.
///
/// Its numbers lie on one device. On a CUDA device a tensor of f32 may be stored in bf16 ([`Tensor::dtype`]); values
/// are f32 to the program all the same.
#[derive(Debug)]
pub struct Tensor<T: Element = f32> {
    shape: Vec<usize>,
    storage: Storage<T>,
}

#[derive(Debug)]
enum Storage<T> {
    Cpu(Vec<T>),
    #[cfg(feature = "cuda")]
    Cuda(CudaBuffer, Device),
    /// Memory that could not be had when a clone needed it; whoever touches the tensor gets the error.
    #[cfg(feature = "cuda")]
    Lost(KernelError, Device),
}

/// What a tensor of the processor is on.
static CPU: Device = Device::Cpu;

impl<T: Element> Tensor<T> {
    /// A tensor of zeros, stored as what it is.
    ///
    /// # Errors
    /// None on the CPU; [`KernelError::OutOfDeviceMemory`] or [`KernelError::Driver`] elsewhere.
    pub fn zeros(shape: &[usize], device: &Device) -> Result<Tensor<T>, KernelError> {
        Tensor::zeros_as(shape, device, T::DTYPE)
    }

    /// A tensor of zeros, stored as `dtype`.
    ///
    /// # Errors
    /// As [`Tensor::zeros`]; [`KernelError::Unsupported`] if the device cannot store this type so.
    pub fn zeros_as(shape: &[usize], device: &Device, dtype: DType) -> Result<Tensor<T>, KernelError> {
        let len = shape.iter().product();
        check_storage::<T>("Tensor::zeros", device, dtype)?;
        let storage = match device {
            Device::Cpu => Storage::Cpu(vec![T::default(); len]),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => {
                Storage::Cuda(CudaBuffer::zeros(cuda, dtype, len, "Tensor::zeros")?, device.clone())
            }
        };
        Ok(Tensor { shape: shape.to_vec(), storage })
    }

    /// A CPU tensor over `data` in row-major order.
    ///
    /// # Errors
    /// [`KernelError::Range`] if `data` has not as many elements as the shape.
    pub fn from_vec(shape: &[usize], data: Vec<T>) -> Result<Tensor<T>, KernelError> {
        let len: usize = shape.iter().product();
        check_range(data.len() == len, "Tensor::from_vec", "data.len()", data.len(), len)?;
        Ok(Tensor { shape: shape.to_vec(), storage: Storage::Cpu(data) })
    }

    /// A tensor over a copy of `data`, in row-major order, on `device`, stored as `dtype`.
    ///
    /// # Errors
    /// As [`Tensor::from_vec`] and [`Tensor::zeros_as`].
    pub fn from_slice(
        shape: &[usize],
        data: &[T],
        device: &Device,
        dtype: DType,
    ) -> Result<Tensor<T>, KernelError> {
        let mut tensor = Tensor::zeros_as(shape, device, dtype)?;
        tensor.copy_from_slice(data)?;
        Ok(tensor)
    }

    /// The sizes of the axes.
    #[must_use]
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// Number of rows: the size of the first axis (1 for a scalar).
    #[must_use]
    pub fn rows(&self) -> usize {
        self.shape.first().copied().unwrap_or(1)
    }

    /// Elements in one row: the product of all axes but the first.
    #[must_use]
    pub fn row_len(&self) -> usize {
        self.shape.iter().skip(1).product()
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The device that holds the elements.
    #[must_use]
    pub fn device(&self) -> Device {
        self.place().clone()
    }

    /// The device that holds the elements, borrowed.
    pub(crate) fn place(&self) -> &Device {
        match &self.storage {
            Storage::Cpu(_) => &CPU,
            #[cfg(feature = "cuda")]
            Storage::Cuda(_, device) | Storage::Lost(_, device) => device,
        }
    }

    /// The tensor as the argument `name` of an operation that takes it stored as `expected`.
    pub(crate) fn is(&self, name: &'static str, expected: DType) -> Argument<'_> {
        Argument { name, device: self.place(), got: self.dtype(), expected }
    }

    /// The type in which the elements are stored.
    #[must_use]
    pub fn dtype(&self) -> DType {
        match &self.storage {
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer, _) => buffer.dtype(),
            _ => T::DTYPE,
        }
    }

    /// The number of the memory that holds the elements on a device: another one after the tensor got other memory. 0 on
    /// the CPU, and where there are no elements.
    #[must_use]
    pub fn memory_id(&self) -> u64 {
        match &self.storage {
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer, _) => buffer.address(0),
            _ => 0,
        }
    }

    /// Bytes of the elements.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.len() * self.dtype().size()
    }

    /// The elements of a CPU tensor, row-major.
    ///
    /// # Panics
    /// On a tensor of another device, whose elements no slice can show. Code that may meet one uses [`Tensor::host`] or
    /// [`Tensor::to_vec`].
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        match &self.storage {
            Storage::Cpu(data) => data,
            #[cfg(feature = "cuda")]
            _ => panic!("Tensor::as_slice of a tensor on {}; use Tensor::to_vec", self.place()),
        }
    }

    /// The elements of a CPU tensor, row-major, to write to.
    ///
    /// # Panics
    /// As [`Tensor::as_slice`]. Code that may meet a tensor of another device uses [`Tensor::host_mut`] or
    /// [`Tensor::copy_from_slice`].
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match &mut self.storage {
            Storage::Cpu(data) => data,
            #[cfg(feature = "cuda")]
            Storage::Cuda(_, device) | Storage::Lost(_, device) => {
                panic!("Tensor::as_mut_slice of a tensor on {device}; use Tensor::copy_from_slice")
            }
        }
    }

    /// The elements, if the processor holds them.
    ///
    /// # Errors
    /// [`KernelError::Placement`] if another device does.
    pub fn host(&self) -> Result<&[T], KernelError> {
        match &self.storage {
            Storage::Cpu(data) => Ok(data),
            #[cfg(feature = "cuda")]
            Storage::Cuda(_, device) | Storage::Lost(_, device) => Err(not_on_cpu("Tensor::host", device)),
        }
    }

    /// The elements to write to, if the processor holds them.
    ///
    /// # Errors
    /// [`KernelError::Placement`] if another device does.
    pub fn host_mut(&mut self) -> Result<&mut [T], KernelError> {
        match &mut self.storage {
            Storage::Cpu(data) => Ok(data),
            #[cfg(feature = "cuda")]
            Storage::Cuda(_, device) | Storage::Lost(_, device) => {
                Err(not_on_cpu("Tensor::host_mut", device))
            }
        }
    }

    /// A tensor over memory of a CUDA device.
    #[cfg(feature = "cuda")]
    pub(crate) fn from_cuda(shape: &[usize], buffer: CudaBuffer) -> Tensor<T> {
        let device = Device::Cuda(buffer.device().clone());
        Tensor { shape: shape.to_vec(), storage: Storage::Cuda(buffer, device) }
    }

    /// The memory of a tensor on a CUDA device; none if it is elsewhere or was lost.
    #[cfg(feature = "cuda")]
    pub(crate) fn cuda(&self) -> Option<&CudaBuffer> {
        match &self.storage {
            Storage::Cuda(buffer, _) => Some(buffer),
            _ => None,
        }
    }
}

#[cfg(feature = "cuda")]
fn not_on_cpu(op: &'static str, device: &Device) -> KernelError {
    KernelError::Placement { op, arg: "self", expected: "cpu".to_string(), got: device.to_string() }
}

/// Whether `device` can store numbers of type `T` as `dtype`.
fn check_storage<T: Element>(op: &'static str, device: &Device, dtype: DType) -> Result<(), KernelError> {
    let narrow = T::DTYPE == DType::F32 && dtype == DType::Bf16 && !device.is_cpu();
    if dtype == T::DTYPE || narrow {
        return Ok(());
    }
    Err(KernelError::Unsupported {
        op,
        device: device.to_string(),
        what: format!("{} stored as {dtype}", T::DTYPE),
        remedy: "only f32 on a CUDA device can be stored otherwise, as bf16",
    })
}

/// Equal shapes and values. A tensor that cannot be read equals nothing.
impl<T: Element> PartialEq for Tensor<T> {
    fn eq(&self, other: &Tensor<T>) -> bool {
        if self.shape != other.shape {
            return false;
        }
        match (self.host(), other.host()) {
            (Ok(a), Ok(b)) => a == b,
            _ => matches!((self.to_vec(), other.to_vec()), (Ok(a), Ok(b)) if a == b),
        }
    }
}
