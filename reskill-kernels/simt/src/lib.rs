//! Runs the CUDA kernels of reskill-kernels on the CPU, for tests.
//!
//! The build compiles every `.cu` file of the operations with a C++ compiler against `shim/`, which runs each thread of a
//! block as a fiber, and links them with `driver/`, a stand-in for the CUDA driver library. [`device`] loads that
//! library, after which `Device::cuda(0)` works as on a machine with a GPU: the host path is the unchanged one.
//! With `RESKILL_GPU_TESTS=1` the same tests run on the real driver, and fail where there is none.
//!
//! What the simulator finds, and what it cannot: see the README.

pub mod library;
pub mod order;
pub mod counters;
pub mod requests;

pub use counters::Counters;
pub use library::{device, is_stand_in, library_dir, load, set_capability, set_memory, set_multiprocessors};
pub use order::{Order, with_each_order, with_order};
