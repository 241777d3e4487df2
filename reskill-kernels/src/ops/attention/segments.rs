//! The segments of a packed batch, with the work lists that a device makes from them.

use std::fmt;
use std::ops::Deref;

#[cfg(feature = "cuda")]
use super::cuda::PackedPlans;

/// Rows of a packed batch: each sees one earlier run of rows, the prefix, and its own segment up to itself.
///
/// A segment whose (empty) prefix starts at its own first row opens a new sequence. In trunk/branch packing the trunk
/// of an episode is such a segment, and each branch follows with the part of the trunk that it saw as its prefix, or
/// with an empty prefix at the first row of the trunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedSegment {
    /// First row.
    pub start: usize,
    /// Number of rows.
    pub len: usize,
    /// First row of the prefix, inside the same sequence.
    pub prefix_start: usize,
    /// Rows of the prefix.
    pub prefix_len: usize,
}

impl PackedSegment {
    /// Whether this segment opens a new sequence.
    #[must_use]
    pub fn opens_sequence(&self) -> bool {
        self.prefix_len == 0 && self.prefix_start == self.start
    }
}

/// The segments of a packed batch, in the order of its rows.
///
/// Which tile of rows meets which keys is worked out once, when an operation first needs it on a device, and kept here for
/// the other layers of the model and for the backward pass.
#[derive(Default)]
pub struct PackedSegments {
    list: Vec<PackedSegment>,
    #[cfg(feature = "cuda")]
    plans: PackedPlans,
}

impl PackedSegments {
    /// No segments.
    #[must_use]
    pub fn new() -> PackedSegments {
        PackedSegments::default()
    }

    /// Adds a segment behind the others.
    pub fn push(&mut self, segment: PackedSegment) {
        *self = PackedSegments::from({
            let mut list = std::mem::take(&mut self.list);
            list.push(segment);
            list
        });
    }

    #[cfg(feature = "cuda")]
    pub(super) fn plans(&self) -> &PackedPlans {
        &self.plans
    }
}

impl From<Vec<PackedSegment>> for PackedSegments {
    fn from(list: Vec<PackedSegment>) -> PackedSegments {
        PackedSegments {
            list,
            #[cfg(feature = "cuda")]
            plans: PackedPlans::default(),
        }
    }
}

impl Deref for PackedSegments {
    type Target = [PackedSegment];

    fn deref(&self) -> &[PackedSegment] {
        &self.list
    }
}

impl Clone for PackedSegments {
    fn clone(&self) -> PackedSegments {
        PackedSegments::from(self.list.clone())
    }
}

impl PartialEq for PackedSegments {
    fn eq(&self, other: &PackedSegments) -> bool {
        self.list == other.list
    }
}

impl Eq for PackedSegments {}

impl fmt::Debug for PackedSegments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.list).finish()
    }
}
