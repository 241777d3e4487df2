//! Tensors on the CPU.

use super::*;

#[test]
fn from_vec_refuses_a_wrong_length() {
    let err = Tensor::from_vec(&[2, 2], vec![0.0_f32; 3]).unwrap_err();
    assert_eq!(err.to_string(), "Tensor::from_vec: `data.len()` = 3, expected 4");
}

#[test]
fn set_rows_keeps_old_rows_and_zeroes_new_ones() {
    let mut t = Tensor::from_vec(&[2, 2], vec![1.0_f32, 2.0, 3.0, 4.0]).unwrap();
    t.set_rows(1).unwrap();
    t.set_rows(2).unwrap();
    assert_eq!(t.as_slice(), &[1.0, 2.0, 0.0, 0.0]);
}

#[test]
fn rows_are_copied_where_they_are_told_to() {
    let source = Tensor::from_vec(&[3, 2], vec![1_u32, 2, 3, 4, 5, 6]).unwrap();
    let mut t = Tensor::zeros(&[4, 2], &Device::Cpu).unwrap();
    t.copy_rows_from(1, &source, 1, 2).unwrap();
    assert_eq!(t.as_slice(), &[0, 0, 3, 4, 5, 6, 0, 0]);
    t.copy_row_within(3, 1).unwrap();
    assert_eq!(t.as_slice(), &[0, 0, 3, 4, 5, 6, 3, 4]);
    let message = t.copy_rows_from(3, &source, 0, 2).unwrap_err().to_string();
    assert_eq!(message, "Tensor::copy_rows_from: `to + n` = 5, expected <= 4");
}

#[test]
fn bf16_is_not_for_the_processor() {
    let message = Tensor::<f32>::zeros_as(&[1], &Device::Cpu, DType::Bf16).unwrap_err().to_string();
    assert!(message.starts_with("Tensor::zeros: cpu does not offer f32 stored as bf16"), "{message}");
}
