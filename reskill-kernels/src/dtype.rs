//! How numbers are stored, as opposed to the type in which a program sees them.

use std::fmt;

/// The type of the numbers in a tensor's memory.
///
/// A `Tensor<f32>` on a CUDA device is stored as [`DType::F32`] or [`DType::Bf16`]; a program always reads and writes it
/// as f32. All other tensors are stored as what they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DType {
    /// IEEE 754 single precision, 4 bytes.
    F32,
    /// The upper half of an f32: 8 bits of exponent, 8 of significand with the hidden one; 2 bytes. Values are rounded
    /// to nearest, ties to even.
    Bf16,
    /// IEEE 754 double precision, 8 bytes.
    F64,
    /// Unsigned, 4 bytes: tokens, positions, tables.
    U32,
    /// Unsigned, 1 byte: codes of the eight-bit optimizer.
    U8,
}

impl DType {
    /// Bytes of one number.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            DType::F64 => 8,
            DType::F32 | DType::U32 => 4,
            DType::Bf16 => 2,
            DType::U8 => 1,
        }
    }

    /// The kernel for this type, of one for f32 and one for bf16.
    #[cfg(feature = "cuda")]
    pub(crate) fn pick(self, f32: &'static str, bf16: &'static str) -> &'static str {
        if self == DType::Bf16 { bf16 } else { f32 }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::Bf16 => "bf16",
            DType::F64 => "f64",
            DType::U32 => "u32",
            DType::U8 => "u8",
        })
    }
}

/// What a tensor can hold, as the program sees it.
///
/// The numbers are plain: every pattern of bits is a value, and there is no padding.
pub trait Element: Copy + Default + PartialEq + Send + Sync + sealed::Bytes + 'static {
    /// How it is stored where nothing else is asked for.
    const DTYPE: DType;
}

impl Element for f32 {
    const DTYPE: DType = DType::F32;
}
impl Element for f64 {
    const DTYPE: DType = DType::F64;
}
impl Element for u32 {
    const DTYPE: DType = DType::U32;
}
impl Element for u8 {
    const DTYPE: DType = DType::U8;
}

pub(crate) mod sealed {
    //! Conversion between numbers and the bytes of a device, for the types above only.

    use half::bf16;

    use super::DType;

    /// A number that can be written as bytes in the order of this machine.
    pub trait Bytes: Sized {
        /// The bytes of `values` stored as `dtype`; `None` if the type cannot be stored so.
        fn encode(values: &[Self], dtype: DType) -> Option<Vec<u8>>;
        /// The values that [`Bytes::encode`] wrote.
        fn decode(bytes: &[u8], dtype: DType) -> Option<Vec<Self>>;
    }

    macro_rules! plain {
        ($type:ty, $dtype:expr) => {
            impl Bytes for $type {
                fn encode(values: &[Self], dtype: DType) -> Option<Vec<u8>> {
                    (dtype == $dtype).then(|| values.iter().flat_map(|x| x.to_ne_bytes()).collect())
                }

                fn decode(bytes: &[u8], dtype: DType) -> Option<Vec<Self>> {
                    (dtype == $dtype).then(|| numbers(bytes, <$type>::from_ne_bytes).collect())
                }
            }
        };
    }

    plain!(f64, DType::F64);
    plain!(u32, DType::U32);
    plain!(u8, DType::U8);

    impl Bytes for f32 {
        fn encode(values: &[f32], dtype: DType) -> Option<Vec<u8>> {
            match dtype {
                DType::F32 => Some(values.iter().flat_map(|x| x.to_ne_bytes()).collect()),
                DType::Bf16 => Some(values.iter().flat_map(|&x| bf16::from_f32(x).to_ne_bytes()).collect()),
                _ => None,
            }
        }

        fn decode(bytes: &[u8], dtype: DType) -> Option<Vec<f32>> {
            match dtype {
                DType::F32 => Some(numbers(bytes, f32::from_ne_bytes).collect()),
                DType::Bf16 => Some(numbers(bytes, |b| bf16::from_ne_bytes(b).to_f32()).collect()),
                _ => None,
            }
        }
    }

    fn numbers<T, const N: usize>(bytes: &[u8], read: fn([u8; N]) -> T) -> impl Iterator<Item = T> {
        bytes.as_chunks::<N>().0.iter().map(move |chunk| read(*chunk))
    }
}

#[cfg(test)]
mod tests {
    use super::DType;
    use super::sealed::Bytes;

    #[test]
    fn bf16_rounds_to_nearest_and_ties_to_even() {
        // Between 1 and 1 + 2^-7 lie the ties 1 + 2^-8 (to even: 1) and, one further, 1 + 3 * 2^-8 (to 1 + 2^-6).
        let values = [1.0, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0, -2.5, f32::INFINITY];
        let bytes = f32::encode(&values, DType::Bf16).unwrap();
        assert_eq!(bytes.len(), 10);
        let back = f32::decode(&bytes, DType::Bf16).unwrap();
        assert_eq!(back, [1.0, 1.0, 1.0 + 1.0 / 64.0, -2.5, f32::INFINITY]);
    }

    #[test]
    fn tokens_cannot_be_stored_as_bf16() {
        assert_eq!(u32::encode(&[1], DType::Bf16), None);
    }
}
