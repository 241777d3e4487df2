//! The CUDA back end's host side: devices, their memory, their kernels. Nothing here asks what a kernel computes.
//!
//! A device has one stream; everything given to it runs in the order in which it was given, so no event has to be
//! recorded and memory can be used again as soon as the call that used it has been given. The stream is created once a
//! device and process ([`CudaDevice::new`] of one ordinal gives the same one again).

mod buffer;
mod device;
mod driver;
mod driver_pool;
mod graph;
mod launch;
mod memory;
mod modules;
mod pool;
mod scratch;
mod stream;
mod tensor_map;
mod timing;
mod units;
mod uploads;

pub use device::{CudaDevice, Properties};

pub(crate) use buffer::CudaBuffer;
pub(crate) use graph::CudaGraph;
pub(crate) use launch::{Grid, Launch, lanes_of_head};
pub(crate) use scratch::Scratch;
pub(crate) use tensor_map::TensorMap;
