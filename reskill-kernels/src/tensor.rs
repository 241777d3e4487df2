//! Dense row-major tensors.

use crate::device::Device;
use crate::error::{KernelError, check_range, check_shape};

/// What a tensor can hold.
pub trait Element: Copy + Default + Send + Sync + 'static {}
impl Element for f32 {}
impl Element for f64 {}
impl Element for u32 {}

/// A dense, row-major tensor. The last axis is contiguous.
#[derive(Debug, Clone, PartialEq)]
pub struct Tensor<T: Element = f32> {
    shape: Vec<usize>,
    storage: Storage<T>,
}

#[derive(Debug, Clone, PartialEq)]
enum Storage<T> {
    Cpu(Vec<T>),
}

impl<T: Element> Tensor<T> {
    /// A tensor of zeros.
    ///
    /// # Errors
    /// None on the CPU; other devices may run out of memory.
    pub fn zeros(shape: &[usize], device: &Device) -> Result<Tensor<T>, KernelError> {
        let len = shape.iter().product();
        let storage = match device {
            Device::Cpu => Storage::Cpu(vec![T::default(); len]),
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
        match self.storage {
            Storage::Cpu(_) => Device::Cpu,
        }
    }

    /// The elements, row-major.
    #[must_use]
    pub fn as_slice(&self) -> &[T] {
        match &self.storage {
            Storage::Cpu(data) => data,
        }
    }

    /// The elements, row-major, to write to.
    #[must_use]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        match &mut self.storage {
            Storage::Cpu(data) => data,
        }
    }

    /// Sets the number of rows. Memory once taken is kept, so a buffer that is used for batches of several sizes
    /// settles at the largest. New rows are zero; rows that stay keep their values.
    pub fn set_rows(&mut self, rows: usize) {
        let row_len = self.row_len();
        if self.shape.is_empty() {
            return;
        }
        self.shape[0] = rows;
        match &mut self.storage {
            Storage::Cpu(data) => data.resize(rows * row_len, T::default()),
        }
    }

    /// Gives back memory that the rows do not need.
    pub fn shrink(&mut self) {
        match &mut self.storage {
            Storage::Cpu(data) => data.shrink_to_fit(),
        }
    }

    /// Overwrites all elements with `value`.
    pub fn fill(&mut self, value: T) {
        self.as_mut_slice().fill(value);
    }

    /// Copies all elements of `source`, which has the same shape.
    ///
    /// # Errors
    /// [`KernelError::Shape`].
    pub fn copy_from(&mut self, source: &Tensor<T>) -> Result<(), KernelError> {
        check_shape("Tensor::copy_from", "source", source.shape(), &self.shape)?;
        self.as_mut_slice().copy_from_slice(source.as_slice());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn from_vec_refuses_a_wrong_length() {
        let err = Tensor::from_vec(&[2, 2], vec![0.0_f32; 3]).unwrap_err();
        assert_eq!(err.to_string(), "Tensor::from_vec: `data.len()` = 3, expected 4");
    }

    #[test]
    fn set_rows_keeps_old_rows_and_zeroes_new_ones() {
        let mut t = Tensor::from_vec(&[2, 2], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap();
        t.set_rows(1);
        t.set_rows(2);
        assert_eq!(t.as_slice(), &[1.0, 2.0, 0.0, 0.0]);
    }
}
