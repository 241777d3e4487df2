//! Errors of the kernels: each names the operation and the argument at fault.

/// What an operation refuses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KernelError {
    /// A tensor has the wrong shape.
    #[error("{op}: `{arg}` has shape {got:?}, expected {expected:?}")]
    Shape {
        /// The operation.
        op: &'static str,
        /// The argument.
        arg: &'static str,
        /// The shape it must have.
        expected: Vec<usize>,
        /// The shape it has.
        got: Vec<usize>,
    },
    /// An argument is out of its range.
    #[error("{op}: `{arg}` = {got}, expected {expected}")]
    Range {
        /// The operation.
        op: &'static str,
        /// The argument.
        arg: &'static str,
        /// The value found.
        got: String,
        /// The values allowed.
        expected: String,
    },
    /// This build has no CUDA back end.
    #[error("cuda:{ordinal}: this build has no CUDA back end; use device `cpu`")]
    CudaNotCompiled {
        /// The device asked for.
        ordinal: usize,
    },
}

/// `Ok` if `got` equals `expected`.
pub(crate) fn check_shape(
    op: &'static str,
    arg: &'static str,
    got: &[usize],
    expected: &[usize],
) -> Result<(), KernelError> {
    if got == expected {
        return Ok(());
    }
    Err(KernelError::Shape { op, arg, expected: expected.to_vec(), got: got.to_vec() })
}

/// `Ok` if `holds`; else an error that says what was expected of `arg`.
pub(crate) fn check_range(
    holds: bool,
    op: &'static str,
    arg: &'static str,
    got: impl ToString,
    expected: impl ToString,
) -> Result<(), KernelError> {
    if holds {
        return Ok(());
    }
    Err(KernelError::Range { op, arg, got: got.to_string(), expected: expected.to_string() })
}
