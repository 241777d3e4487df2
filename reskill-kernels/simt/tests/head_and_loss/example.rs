//! The example trains on the device as on the CPU.

use reskill_kernels::Device;

#[expect(dead_code, reason = "`main` belongs to the example")]
#[path = "../../../examples/two_layer_net.rs"]
mod two_layer_net;

#[test]
fn the_two_layer_net_learns_on_the_device_as_on_the_cpu() {
    let (cpu_before, cpu_after, _) = two_layer_net::train(&Device::Cpu, 40).unwrap();
    let (before, after, right) = two_layer_net::train(&reskill_simt::device(), 40).unwrap();
    assert!(after < 0.8 * before && right > 0.5, "{before} {after} {right}");
    // One pass of f32; then 40 steps, in which AdamW turns roundings of tiny gradients into steps of the learning rate.
    assert!((before - cpu_before).abs() < 1e-5, "{before} {cpu_before}");
    assert!((after - cpu_after).abs() < 0.02, "{after} {cpu_after}");
}
