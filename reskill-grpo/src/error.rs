//! Errors of the learner.

use reskill_kernels::KernelError;
use reskill_model::ModelError;

/// What can go wrong in an update.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GrpoError {
    /// The model refused a batch.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// An operation refused its arguments.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// Two lists that belong together differ in length.
    #[error("`{left}` has {left_len} entries, `{right}` has {right_len}")]
    LengthMismatch {
        /// The first list.
        left: &'static str,
        /// Its length.
        left_len: usize,
        /// The second list.
        right: &'static str,
        /// Its length.
        right_len: usize,
    },
    /// A turn has nothing to predict its reply from.
    #[error("turn {turn} of trajectory {trajectory} has an empty branch")]
    EmptyBranch {
        /// Which trajectory.
        trajectory: usize,
        /// Which of its turns.
        turn: usize,
    },
    /// A return is NaN or infinite.
    #[error("the return of trajectory {index} is {value}")]
    NonFiniteReturn {
        /// Which trajectory.
        index: usize,
        /// The value.
        value: f64,
    },
    /// A reward of a single turn is NaN or infinite.
    #[error("the reward of turn {turn} of trajectory {trajectory} is {value}")]
    NonFiniteReward {
        /// Which trajectory.
        trajectory: usize,
        /// Which of its turns.
        turn: usize,
        /// The value.
        value: f32,
    },
    /// The gradient is NaN or infinite; the weights are untouched.
    #[error("the gradient norm is {value}; the update was not applied")]
    NonFiniteGradient {
        /// The norm.
        value: f64,
    },
    /// The loss is NaN or infinite; the weights are untouched.
    #[error("the loss is {value}; the update was not applied")]
    NonFiniteLoss {
        /// The loss.
        value: f64,
    },
    /// A batch whose update was skipped could not be written.
    #[error("{path}: the skipped batch cannot be written", path = path.display())]
    Dump {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A penalty against a reference needs one.
    #[error("`loss.kl_coef` = {kl_coef}, expected 0 where there is no reference policy")]
    NoReference {
        /// The coefficient.
        kl_coef: f32,
    },
    /// The plan needs more memory than there is.
    #[error("{what} needs {needed} bytes of memory{place}, {available} are there; {advice}")]
    Memory {
        /// What is planned.
        what: &'static str,
        /// Whose memory: of a device, or empty.
        place: String,
        /// Bytes planned.
        needed: u64,
        /// Bytes there.
        available: u64,
        /// What would make it fit.
        advice: String,
    },
    /// A configuration value is out of range.
    #[error("`{key}` = {value}, expected {expected}")]
    Config {
        /// The key.
        key: &'static str,
        /// Its value.
        value: String,
        /// What is allowed.
        expected: &'static str,
    },
}

/// `Ok` if `holds`; else an error that names the key.
pub(crate) fn check(
    holds: bool,
    key: &'static str,
    value: impl ToString,
    expected: &'static str,
) -> Result<(), GrpoError> {
    if holds {
        return Ok(());
    }
    Err(GrpoError::Config { key, value: value.to_string(), expected })
}
