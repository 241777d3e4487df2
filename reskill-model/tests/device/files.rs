use std::path::Path;

use reskill_kernels::{DType, Device};
use reskill_model::weights::{from_folder, from_safetensors, to_safetensors};
use reskill_model::{Lora, Params};

use crate::support::{adapter, bits, device, families, model, narrow};

#[test]
fn weights_of_a_device_are_saved_as_they_are() {
    for config in families() {
        let model = model(&config, 1);
        let there = model.to_device(&device()).unwrap();
        let want = to_safetensors(&config, model.params()).unwrap();
        assert_eq!(to_safetensors(&config, there.params()).unwrap(), want);
        // Of bf16, the rounded values, which come back as they were.
        let narrow = model.to_device(&narrow()).unwrap();
        let bytes = to_safetensors(&config, narrow.params()).unwrap();
        let read = from_safetensors(&config, &bytes, Path::new("x")).unwrap();
        let again = read.to_device(&device(), DType::Bf16).unwrap();
        let all = |params: &Params| params.tensors().into_iter().map(bits).collect::<Vec<_>>();
        assert_eq!(all(&again), all(narrow.params()));
    }
}

#[test]
fn weights_are_read_straight_to_a_device_in_its_precision() {
    for config in families() {
        let model = model(&config, 1);
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("model.safetensors"),
            to_safetensors(&config, model.params()).unwrap(),
        )
        .unwrap();
        for device in [Device::Cpu, device(), narrow()] {
            let read = from_folder(&config, dir.path(), &device).unwrap();
            let want = model.params().to_device(&device, device.precision()).unwrap();
            for (read, want) in read.tensors().into_iter().zip(want.tensors()) {
                assert_eq!((read.device(), read.dtype()), (device.clone(), device.precision()));
                assert_eq!(bits(read), bits(want));
            }
        }
    }
}

#[test]
fn an_adapter_of_a_device_is_saved_loaded_and_merged() {
    let config = &families()[1];
    let lora = adapter(config);
    let there = lora.to_device(&device(), DType::F32).unwrap();
    assert_eq!(there.to_safetensors().unwrap(), lora.to_safetensors().unwrap());
    let dir = tempfile::tempdir().unwrap();
    there.save(dir.path(), "base").unwrap();
    let mut on_cpu = model(config, 1);
    let mut on_device = on_cpu.to_device(&device()).unwrap();
    for model in [&mut on_cpu, &mut on_device] {
        model.attach(Lora::load(config, dir.path()).unwrap()).unwrap();
        assert_eq!(model.adapter().unwrap().tensors()[0].device(), model.device());
        model.merge_adapter().unwrap();
    }
    for (a, b) in on_cpu.params().tensors().into_iter().zip(on_device.params().tensors()) {
        assert_eq!(bits(a), bits(b));
    }
}
