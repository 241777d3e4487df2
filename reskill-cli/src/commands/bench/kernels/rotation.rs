//! Rotary positions, forward and backward, in place.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, RopeTable, cost};
use reskill_kernels::{KernelError, Tensor};

use super::operation::{Build, Inputs, Operation, relative_error};
use super::sample::{Sample, row_of};

/// Positions that the table has.
const LONGEST: usize = 4096;
const THETA: f64 = 10_000.0;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 2] = [
    ("rope_forward", |inputs| Ok(Box::new(Rope::new(inputs, false)?))),
    ("rope_backward", |inputs| Ok(Box::new(Rope::new(inputs, true)?))),
];

struct Rope {
    backward: bool,
    qkv: Tensor,
    original: Tensor,
    positions: Vec<u32>,
    column: Tensor<u32>,
    table: RopeTable,
    heads: usize,
    head_dim: usize,
    size: usize,
    tolerance: f64,
}

impl Rope {
    fn new(inputs: &Inputs<'_>, backward: bool) -> Result<Rope> {
        let model = inputs.model;
        let width = (model.heads + 2 * model.kv_heads) * model.head_dim;
        let original = inputs.tensor(1, &[inputs.n, width], 1.0)?;
        let positions = inputs.stream(2).ids(inputs.n, LONGEST);
        Ok(Rope {
            backward,
            qkv: original.try_clone()?,
            original,
            column: inputs.column(&positions)?,
            positions,
            table: RopeTable::new(LONGEST, model.head_dim, THETA)?.to_device(inputs.device)?,
            heads: model.heads + model.kv_heads,
            head_dim: model.head_dim,
            size: inputs.size(),
            // A rotation by 4096 radians loses some digits of its f32 angle.
            tolerance: inputs.rounding(1e-3),
        })
    }
}

impl Operation for Rope {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.qkv.rows()), ("H+K", self.heads), ("D", self.head_dim)]
    }
    fn cost(&self) -> Cost {
        cost::rope(self.qkv.rows(), self.heads * self.head_dim, self.size)
    }
    fn poison(&mut self) -> Result<()> {
        Ok(self.qkv.copy_from(&self.original)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        if self.backward {
            return ops::rope_backward(&mut self.qkv, &self.column, &self.table, self.heads);
        }
        ops::rope_forward(&mut self.qkv, &self.column, &self.table, self.heads)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let (d, half, rotated) = (self.head_dim, self.head_dim / 2, self.heads * self.head_dim);
        let direction = if self.backward { -1.0 } else { 1.0 };
        let mut pairs = Vec::new();
        for n in sample.rows(self.qkv.rows()) {
            let (got, x) = (row_of(&self.qkv, n)?, row_of(&self.original, n)?);
            for (head, i) in (0..self.heads).flat_map(|head| (0..half).map(move |i| (head, i))) {
                let angle = f64::from(self.positions[n]) * THETA.powf(-2.0 * i as f64 / d as f64);
                let (a, b) = (head * d + i, head * d + i + half);
                let (sin, cos) = (direction * angle).sin_cos();
                pairs.push((got[a], x[a] * cos - x[b] * sin));
                pairs.push((got[b], x[b] * cos + x[a] * sin));
            }
            // Values are left as they are.
            pairs.extend(got[rotated..].iter().copied().zip(x[rotated..].iter().copied()));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.qkv]
    }
}
