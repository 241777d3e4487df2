use reskill_kernels::{DType, Device, Tensor, ops};
use reskill_simt::with_each_order;

use crate::support::{bits, device, ids, message, random, there, wide};

#[test]
fn values_come_back_as_they_went() {
    for n in [0, 1, 37, 257] {
        let x = random(&[n], 1);
        assert_eq!(bits(&there(&x, DType::F32)), bits(&x));
        let tokens: Vec<u32> = (0..n as u32).collect();
        assert_eq!(ids(&tokens).to_vec().unwrap(), tokens);
    }
}

#[test]
fn bf16_keeps_eight_bits_of_each_value() {
    let x = random(&[257], 1);
    let narrow = there(&x, DType::Bf16);
    assert_eq!((narrow.dtype(), narrow.bytes()), (DType::Bf16, 514));
    for (got, want) in wide(&narrow).into_iter().zip(wide(&x)) {
        // Half a unit of the eighth bit.
        assert!((got - want).abs() <= want.abs() / 256.0, "{got} for {want}");
    }
}

#[test]
fn casts_on_the_device_round_as_the_host_does() {
    with_each_order(|_| {
        let x = random(&[7, 37], 1);
        let wide = there(&x, DType::F32);
        let mut narrow = Tensor::zeros_as(&[7, 37], &device(), DType::Bf16).unwrap();
        narrow.copy_from(&wide).unwrap();
        assert_eq!(bits(&narrow), bits(&there(&x, DType::Bf16)));
        let mut back = Tensor::zeros(&[7, 37], &device()).unwrap();
        back.copy_from(&narrow).unwrap();
        assert_eq!(bits(&back), bits(&narrow));
    });
}

#[test]
fn casts_between_rows_at_any_address_touch_these_rows_alone() {
    // Rows of 5 begin at most addresses, those of 24 at multiples of 16 bytes; 40 elements are ten runs of four.
    for (c, to, from, n) in [(5, 1, 2, 5), (5, 3, 3, 8), (24, 1, 2, 3), (8, 0, 0, 5)] {
        let x = random(&[12, c], 2);
        for (source, target) in [(DType::F32, DType::Bf16), (DType::Bf16, DType::F32)] {
            let (x, before) = (there(&x, source), there(&random(&[12, c], 3), target));
            let mut out = before.clone();
            out.copy_rows_from(to, &x, from, n).unwrap();
            let rounded = there(&x.to_device(&Device::Cpu).unwrap(), target);
            let mut want = bits(&before);
            want[to * c..(to + n) * c].copy_from_slice(&bits(&rounded)[from * c..(from + n) * c]);
            assert_eq!(bits(&out), want);
        }
    }
}

#[test]
fn filling_reaches_every_element_of_every_type() {
    for n in [1, 37, 257] {
        for dtype in [DType::F32, DType::Bf16] {
            let mut x = Tensor::<f32>::zeros_as(&[n], &device(), dtype).unwrap();
            x.fill(-1.5).unwrap();
            assert_eq!(x.to_vec().unwrap(), vec![-1.5; n]);
        }
        let mut tokens = Tensor::<u32>::zeros(&[n], &device()).unwrap();
        tokens.fill(7).unwrap();
        assert_eq!(tokens.to_vec().unwrap(), vec![7; n]);
        let mut bytes = Tensor::<u8>::zeros(&[n], &device()).unwrap();
        bytes.fill(200).unwrap();
        assert_eq!(bytes.to_vec().unwrap(), vec![200; n]);
        let mut double = Tensor::<f64>::zeros(&[n], &device()).unwrap();
        double.fill(0.1).unwrap();
        assert_eq!(double.to_vec().unwrap(), vec![0.1; n]);
    }
}

#[test]
fn set_rows_keeps_old_rows_and_zeroes_new_ones() {
    for dtype in [DType::F32, DType::Bf16] {
        let host = Tensor::from_vec(&[2, 2], vec![1.0, 2.0, 3.0, 4.0]).unwrap();
        let mut x = there(&host, dtype);
        x.set_rows(1).unwrap();
        x.set_rows(3).unwrap();
        assert_eq!(x.to_vec().unwrap(), [1.0, 2.0, 0.0, 0.0, 0.0, 0.0]);
        x.set_rows(1).unwrap();
        x.shrink().unwrap();
        x.set_rows(2).unwrap();
        assert_eq!(x.to_vec().unwrap(), [1.0, 2.0, 0.0, 0.0]);
    }
}

#[test]
fn rows_are_copied_where_they_are_told_to() {
    let source = random(&[3, 5], 1);
    for (from, to) in [(DType::F32, DType::F32), (DType::Bf16, DType::F32), (DType::F32, DType::Bf16)] {
        let mut out = Tensor::zeros_as(&[4, 5], &device(), to).unwrap();
        out.copy_rows_from(1, &there(&source, from), 2, 1).unwrap();
        out.copy_rows_from(3, &source, 0, 1).unwrap();
        out.copy_row_within(0, 3).unwrap();
        let narrowest = if from == to { from } else { DType::Bf16 };
        let (row, last) = (wide(&there(&source, narrowest)), wide(&there(&source, to)));
        let want = [&last[..5], &row[10..], &[0.0; 5], &last[..5]].concat();
        assert_eq!(wide(&out), want);
    }
}

#[test]
fn a_clone_has_memory_of_its_own() {
    let mut x = there(&random(&[5], 1), DType::F32);
    let before = x.to_vec().unwrap();
    let copy = x.clone();
    x.fill(0.0).unwrap();
    assert_eq!(copy.to_vec().unwrap(), before);
    assert_ne!(copy, x);
    assert_eq!(copy, copy.try_clone().unwrap());
}

#[test]
fn handles_of_one_device_are_one_device() {
    let (a, b) = (device(), Device::parse("cuda:0").unwrap());
    assert_eq!(a, b);
    let narrow = b.with_precision(DType::Bf16).unwrap();
    assert_eq!((a.precision(), narrow.precision()), (DType::F32, DType::Bf16));
    assert_eq!(a, narrow);
    assert_eq!(a.to_string(), "cuda:0");
}

#[test]
fn a_device_that_is_not_there_is_named_with_the_number_there_are() {
    let _loaded = device();
    let message = message(Device::cuda(99));
    assert!(message.starts_with("cuda:99: this machine has "), "{message}");
}

#[test]
fn an_operation_refuses_tensors_of_two_devices_and_of_two_types() {
    let (x, weight) = (random(&[2, 4], 1), random(&[4], 2));
    let (mut out, mut rstd) = (there(&x, DType::F32), there(&random(&[2], 3), DType::F32));
    assert_eq!(
        message(ops::rms_norm_forward(&mut out, &mut rstd, &there(&x, DType::F32), &weight, 0.0)),
        "rms_norm_forward: `weight` is on cpu, expected cuda:0; copy it with `Tensor::to_device`"
    );
    let (x, weight) = (there(&x, DType::Bf16), there(&weight, DType::Bf16));
    assert_eq!(
        message(ops::rms_norm_forward(&mut out, &mut rstd, &x, &weight, 0.0)),
        "rms_norm_forward: `out` is stored as f32, expected bf16"
    );
}

#[test]
fn host_slices_of_a_device_tensor_are_refused_with_the_remedy() {
    let mut x = there(&random(&[2], 1), DType::F32);
    assert_eq!(
        message(x.host()),
        "Tensor::host: `self` is on cuda:0, expected cpu; copy it with `Tensor::to_device`"
    );
    assert!(x.host_mut().is_err());
}

#[test]
fn a_graph_runs_what_was_recorded_with_what_its_tensors_hold_then() {
    let device = device();
    let weight = there(&random(&[37], 1), DType::F32);
    let mut x = there(&random(&[5, 37], 2), DType::F32);
    let (mut out, mut rstd) = (x.clone(), there(&random(&[5], 3), DType::F32));
    // Once before, so that the kernel is loaded.
    ops::rms_norm_forward(&mut out, &mut rstd, &x, &weight, 1e-5).unwrap();
    let graph = device.record(|| ops::rms_norm_forward(&mut out, &mut rstd, &x, &weight, 1e-5)).unwrap();
    let new = random(&[5, 37], 4);
    x.copy_from(&new).unwrap();
    out.fill(f32::NAN).unwrap();
    graph.launch().unwrap();
    let replayed = bits(&out);
    ops::rms_norm_forward(&mut out, &mut rstd, &x, &weight, 1e-5).unwrap();
    assert_eq!(replayed, bits(&out));
}

#[test]
fn a_graph_keeps_the_memory_it_uses() {
    let device = device();
    let mut x = there(&random(&[64], 1), DType::F32);
    let mut other = there(&random(&[64], 2), DType::F32);
    other.copy_from(&x).unwrap();
    let graph = device.record(|| other.copy_from(&x)).unwrap();
    // New tensors would get the memory of `x`, were it free, and the graph would copy theirs.
    x = there(&random(&[64], 3), DType::F32);
    let before = other.to_vec().unwrap();
    other.fill(0.0).unwrap();
    graph.launch().unwrap();
    assert_eq!(other.to_vec().unwrap(), before);
    assert_ne!(x.to_vec().unwrap(), before);
}

#[test]
fn a_recording_refuses_new_memory_and_copies_to_the_host() {
    let device = device();
    let x = there(&random(&[8], 1), DType::F32);
    let refused = |work: &mut dyn FnMut() -> Result<(), reskill_kernels::KernelError>| {
        message(device.record(work).map(drop))
    };
    let new = refused(&mut || x.try_clone().map(drop));
    assert!(new.contains("does not offer new memory while a graph is recorded"), "{new}");
    let host = refused(&mut || x.to_vec().map(drop));
    assert!(host.contains("does not offer copies to the host while a graph is recorded"), "{host}");
    // The stream works again afterwards.
    assert_eq!(x.to_vec().unwrap().len(), 8);
}

#[test]
fn a_graph_keeps_its_scratch_memory_to_itself() {
    // The gradient of RMSNorm leaves parts of d_weight in scratch memory, which a second kernel adds up. A thread launches a
    // graph of it all the time while another computes one.
    let device = device();
    let at = |shape: &[usize], seed| there(&random(shape, seed), DType::F32);
    let (x, weight, d_out, rstd) = (at(&[40, 64], 1), at(&[64], 2), at(&[40, 64], 3), at(&[40], 4));
    let backward = |d_x: &mut Tensor, d_weight: &mut Tensor, d_out: &Tensor| {
        ops::rms_norm_backward(d_x, d_weight, d_out, &x, &weight, &rstd)
    };
    let zeros = || (there(&Tensor::zeros(&[40, 64], &Device::Cpu).unwrap(), DType::F32), at(&[64], 9));
    let (mut d_x, mut d_weight) = zeros();
    backward(&mut d_x, &mut d_weight, &d_out).unwrap();
    let mut other = d_out.clone();
    other.fill(100.0).unwrap();
    let (mut graph_d_x, mut graph_d_weight) = zeros();
    let graph = device.record(|| backward(&mut graph_d_x, &mut graph_d_weight, &other)).unwrap();
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                graph.launch().unwrap();
            }
        });
        for _ in 0..20 {
            let (mut again_d_x, mut again) = zeros();
            backward(&mut again_d_x, &mut again, &d_out).unwrap();
            assert_eq!(bits(&again), bits(&d_weight));
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
