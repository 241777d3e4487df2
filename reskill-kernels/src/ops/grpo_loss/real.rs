//! The number types that the loss is computed in: f32 in training, f64 where ratios may leave its range.

use std::ops::{Add, Mul, Neg, Sub};

use crate::dtype::Element;

/// f32 or f64.
pub trait Real:
    Element
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Neg<Output = Self>
    + private::Sealed
{
    /// Rounds to this type.
    fn from_f64(x: f64) -> Self;
    /// Widens.
    fn to_f64(self) -> f64;
    /// `e^x`.
    fn exp(self) -> Self;
    /// `e^x - 1`.
    fn exp_m1(self) -> Self;
    /// Within `low..=high`, neither of them NaN.
    fn within(self, low: Self, high: Self) -> Self;
}

mod private {
    /// Only the two types below.
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

impl Real for f32 {
    fn from_f64(x: f64) -> f32 {
        x as f32
    }
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    fn exp(self) -> f32 {
        f32::exp(self)
    }
    fn exp_m1(self) -> f32 {
        f32::exp_m1(self)
    }
    fn within(self, low: f32, high: f32) -> f32 {
        self.clamp(low, high)
    }
}

impl Real for f64 {
    fn from_f64(x: f64) -> f64 {
        x
    }
    fn to_f64(self) -> f64 {
        self
    }
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    fn exp_m1(self) -> f64 {
        f64::exp_m1(self)
    }
    fn within(self, low: f64, high: f64) -> f64 {
        self.clamp(low, high)
    }
}
