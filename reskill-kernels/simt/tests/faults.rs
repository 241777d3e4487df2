//! A kernel's faults of memory end its launch with words and nothing else.
//!
//! One test in a program of its own: fences are checked for all allocations of the process.

mod common;

use common::failure;
use reskill_simt::Order;

#[test]
fn faults_of_memory_fail_the_launch_and_the_next_launch_works() {
    let cases = [
        ("simt_mistake_wild_read", "invalid address"),
        ("simt_mistake_write_in_front", "were overwritten"),
        ("simt_mistake_write_past_end", "invalid address"),
        ("simt_mistake_deep_stack", "do not fit its stack"),
        ("simt_mistake_misaligned_vector", "not aligned to 16 bytes"),
        ("simt_mistake_abandoned_copy", "without waiting for its asynchronous copies"),
    ];
    for order in [Order::Forward, Order::Random(5)] {
        for (kernel, words) in cases {
            let got = failure(kernel, 256, order);
            assert!(got.contains(words), "{kernel}: {got}");
        }
    }
}
