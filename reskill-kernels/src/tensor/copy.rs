//! Values in and out of a tensor: to and from the host, between tensors of any device and storage.

use super::{Storage, Tensor, check_storage};
#[cfg(feature = "cuda")]
use crate::cuda::CudaBuffer;
use crate::device::Device;
use crate::dtype::{DType, Element};
use crate::error::{KernelError, check_range, check_shape};
#[cfg(feature = "cuda")]
use crate::ops::elementwise;

impl<T: Element> Tensor<T> {
    /// All elements, row-major. On a CUDA device this waits for all work given so far.
    ///
    /// # Errors
    /// None on the CPU; [`KernelError::Driver`] elsewhere.
    pub fn to_vec(&self) -> Result<Vec<T>, KernelError> {
        match &self.storage {
            Storage::Cpu(data) => Ok(data.clone()),
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer, device) => {
                let bytes = buffer.download("Tensor::to_vec", 0, buffer.len())?;
                T::decode(&bytes, buffer.dtype())
                    .ok_or_else(|| unreadable::<T>("Tensor::to_vec", device, buffer.dtype()))
            }
            #[cfg(feature = "cuda")]
            Storage::Lost(error, _) => Err(error.clone()),
        }
    }

    /// Overwrites all elements with `values`, row-major, rounding them if they are stored in fewer bits.
    ///
    /// # Errors
    /// [`KernelError::Range`] if `values` has another length; [`KernelError::Driver`].
    pub fn copy_from_slice(&mut self, values: &[T]) -> Result<(), KernelError> {
        const OP: &str = "Tensor::copy_from_slice";
        check_range(values.len() == self.len(), OP, "values.len()", values.len(), self.len())?;
        match &mut self.storage {
            Storage::Cpu(data) => data.copy_from_slice(values),
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer, device) => {
                let bytes = T::encode(values, buffer.dtype())
                    .ok_or_else(|| unreadable::<T>(OP, device, buffer.dtype()))?;
                buffer.upload(OP, 0, bytes)?;
            }
            #[cfg(feature = "cuda")]
            Storage::Lost(error, _) => return Err(error.clone()),
        }
        Ok(())
    }

    /// A copy on `device`: stored as this tensor is if the device can, else as f32.
    ///
    /// # Errors
    /// As [`Tensor::zeros`] and [`Tensor::copy_from`].
    pub fn to_device(&self, device: &Device) -> Result<Tensor<T>, KernelError> {
        let dtype =
            if check_storage::<T>("", device, self.dtype()).is_ok() { self.dtype() } else { T::DTYPE };
        self.to_device_as(device, dtype)
    }

    /// A copy on `device`, stored as `dtype`.
    ///
    /// # Errors
    /// As [`Tensor::zeros_as`] and [`Tensor::copy_from`].
    pub fn to_device_as(&self, device: &Device, dtype: DType) -> Result<Tensor<T>, KernelError> {
        let mut copy = Tensor::zeros_as(&self.shape, device, dtype)?;
        copy.copy_from(self)?;
        Ok(copy)
    }

    /// A copy on the same device, stored the same way.
    ///
    /// # Errors
    /// [`KernelError::OutOfDeviceMemory`], [`KernelError::Driver`].
    pub fn try_clone(&self) -> Result<Tensor<T>, KernelError> {
        let storage = match &self.storage {
            Storage::Cpu(data) => Storage::Cpu(data.clone()),
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer, device) => {
                Storage::Cuda(buffer.duplicate("Tensor::try_clone")?, device.clone())
            }
            #[cfg(feature = "cuda")]
            Storage::Lost(error, _) => return Err(error.clone()),
        };
        Ok(Tensor { shape: self.shape.clone(), storage })
    }

    /// Overwrites all elements with `value`.
    ///
    /// # Errors
    /// None on the CPU; [`KernelError::Driver`] elsewhere.
    pub fn fill(&mut self, value: T) -> Result<(), KernelError> {
        match &mut self.storage {
            Storage::Cpu(data) => data.fill(value),
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer, device) => {
                const OP: &str = "Tensor::fill";
                let unreadable = || unreadable::<T>(OP, device, buffer.dtype());
                let pattern = T::encode(&[value], buffer.dtype()).ok_or_else(unreadable)?;
                if pattern.iter().all(|&byte| byte == 0) {
                    return buffer.clear(OP, 0, buffer.len());
                }
                elementwise::fill(OP, self, &pattern)?;
            }
            #[cfg(feature = "cuda")]
            Storage::Lost(error, _) => return Err(error.clone()),
        }
        Ok(())
    }

    /// Copies all elements of `source`, which has the same shape, from whatever device and storage.
    ///
    /// # Errors
    /// [`KernelError::Shape`]; [`KernelError::Driver`].
    pub fn copy_from(&mut self, source: &Tensor<T>) -> Result<(), KernelError> {
        const OP: &str = "Tensor::copy_from";
        check_shape(OP, "source", source.shape(), &self.shape)?;
        self.copy_elements(OP, 0, source, 0, source.len())
    }

    /// Copies rows `from..from + n` of `source` over rows `to..to + n`. Rows have one length in both.
    ///
    /// # Errors
    /// [`KernelError::Shape`] for rows of another length, [`KernelError::Range`] for rows that are not there;
    /// [`KernelError::Driver`].
    pub fn copy_rows_from(
        &mut self,
        to: usize,
        source: &Tensor<T>,
        from: usize,
        n: usize,
    ) -> Result<(), KernelError> {
        const OP: &str = "Tensor::copy_rows_from";
        check_shape(OP, "source[..]", &[source.row_len()], &[self.row_len()])?;
        check_range(to + n <= self.rows(), OP, "to + n", to + n, format!("<= {}", self.rows()))?;
        check_range(from + n <= source.rows(), OP, "from + n", from + n, format!("<= {}", source.rows()))?;
        let row_len = self.row_len();
        self.copy_elements(OP, to * row_len, source, from * row_len, n * row_len)
    }

    /// Copies row `from` over row `to`, a different one.
    ///
    /// # Errors
    /// [`KernelError::Range`] if there are no such rows or they are one; [`KernelError::Driver`].
    pub fn copy_row_within(&mut self, to: usize, from: usize) -> Result<(), KernelError> {
        const OP: &str = "Tensor::copy_row_within";
        let rows = self.rows();
        check_range(to < rows && from < rows && to != from, OP, "to, from", format!("{to}, {from}"), rows)?;
        let len = self.row_len();
        match &mut self.storage {
            Storage::Cpu(data) => data.copy_within(from * len..(from + 1) * len, to * len),
            #[cfg(feature = "cuda")]
            Storage::Cuda(buffer, _) => buffer.copy_inside(OP, to * len, from * len, len)?,
            #[cfg(feature = "cuda")]
            Storage::Lost(error, _) => return Err(error.clone()),
        }
        Ok(())
    }

    /// Copies `n` elements; the ranges lie inside both tensors.
    #[cfg_attr(
        not(feature = "cuda"),
        expect(unused_variables, reason = "the processor's copy does not fail")
    )]
    fn copy_elements(
        &mut self,
        op: &'static str,
        to: usize,
        source: &Tensor<T>,
        from: usize,
        n: usize,
    ) -> Result<(), KernelError> {
        match (&mut self.storage, &source.storage) {
            (Storage::Cpu(data), Storage::Cpu(source)) => {
                data[to..to + n].copy_from_slice(&source[from..from + n]);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            (Storage::Cpu(data), Storage::Cuda(source, device)) => {
                let bytes = source.download(op, from, n)?;
                let values = T::decode(&bytes, source.dtype())
                    .ok_or_else(|| unreadable::<T>(op, device, source.dtype()))?;
                data[to..to + n].copy_from_slice(&values);
                Ok(())
            }
            #[cfg(feature = "cuda")]
            (Storage::Cuda(buffer, device), Storage::Cpu(source)) => {
                let bytes = T::encode(&source[from..from + n], buffer.dtype())
                    .ok_or_else(|| unreadable::<T>(op, device, buffer.dtype()))?;
                buffer.upload(op, to, bytes)
            }
            #[cfg(feature = "cuda")]
            (Storage::Cuda(buffer, _), Storage::Cuda(from_buffer, _)) => {
                if buffer.device() != from_buffer.device() {
                    let bytes = from_buffer.download(op, from, n)?;
                    return upload_converted::<T>(op, buffer, to, &bytes, from_buffer.dtype());
                }
                if buffer.dtype() == from_buffer.dtype() {
                    return buffer.copy_within_device(op, to, from_buffer, from, n);
                }
                elementwise::cast(op, self, to, source, from, n)
            }
            #[cfg(feature = "cuda")]
            (Storage::Lost(error, _), _) => Err(error.clone()),
            #[cfg(feature = "cuda")]
            (_, Storage::Lost(error, _)) => Err(error.clone()),
        }
    }
}

/// Writes bytes of another device, stored as `dtype`, through the host.
#[cfg(feature = "cuda")]
fn upload_converted<T: Element>(
    op: &'static str,
    buffer: &mut CudaBuffer,
    first: usize,
    bytes: &[u8],
    dtype: DType,
) -> Result<(), KernelError> {
    if dtype == buffer.dtype() {
        return buffer.upload(op, first, bytes.to_vec());
    }
    let converted = T::decode(bytes, dtype).and_then(|values| T::encode(&values, buffer.dtype()));
    let device = Device::Cuda(buffer.device().clone());
    let converted = converted.ok_or_else(|| unreadable::<T>(op, &device, buffer.dtype()))?;
    buffer.upload(op, first, converted)
}

/// The error for a storage that this type cannot have. [`check_storage`] lets none come about.
#[cfg(feature = "cuda")]
fn unreadable<T: Element>(op: &'static str, device: &Device, dtype: DType) -> KernelError {
    KernelError::Unsupported {
        op,
        device: device.to_string(),
        what: format!("{} stored as {dtype}", T::DTYPE),
        remedy: "only f32 on a CUDA device can be stored otherwise, as bf16",
    }
}

/// A clone that finds no memory on its device is a tensor whose every use gives that error; [`Tensor::try_clone`] gives
/// it at once.
impl<T: Element> Clone for Tensor<T> {
    fn clone(&self) -> Tensor<T> {
        #[cfg(feature = "cuda")]
        return self.try_clone().unwrap_or_else(|error| Tensor {
            shape: self.shape.clone(),
            storage: Storage::Lost(error, self.device()),
        });
        #[cfg(not(feature = "cuda"))]
        match &self.storage {
            Storage::Cpu(data) => Tensor { shape: self.shape.clone(), storage: Storage::Cpu(data.clone()) },
        }
    }
}
