//! In which order the simulator runs threads and blocks.

use crate::library::functions;

/// An order of threads within a block and of blocks within a grid.
///
/// A missing barrier shows only in an order in which the reader comes first, so tests run in several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// First to last.
    Forward,
    /// Last to first.
    Reverse,
    /// Warps, lanes within a warp, and blocks shuffled by a seed.
    Random(u64),
}

/// Runs `f` with its launches in this order. On a real device the order is the device's own.
///
/// Only launches by the calling thread are concerned.
pub fn with_order<R>(order: Order, f: impl FnOnce() -> R) -> R {
    let _reset = Reset;
    set(order_code(order));
    f()
}

/// Runs `f` once in every order (forward, reverse, two shuffles); once on a real device.
pub fn with_each_order(mut f: impl FnMut(Order)) {
    if functions().is_none() {
        f(Order::Forward);
        return;
    }
    for order in [Order::Forward, Order::Reverse, Order::Random(1), Order::Random(2)] {
        with_order(order, || f(order));
    }
}

/// Puts back the environment's order, also after a panic.
struct Reset;

impl Drop for Reset {
    fn drop(&mut self) {
        set((3, 0));
    }
}

fn order_code(order: Order) -> (i32, u64) {
    match order {
        Order::Forward => (0, 0),
        Order::Reverse => (1, 0),
        Order::Random(seed) => (2, seed),
    }
}

fn set((kind, seed): (i32, u64)) {
    if let Some(functions) = functions() {
        // SAFETY: the signature is that of `reskill_simt_set_order(int, uint64_t)`; it sets two numbers of this thread.
        unsafe { (functions.set_order)(kind, seed) };
    }
}
