//! Rotary positions, forward and backward, in place.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, RopeTable, Rotation, cost};
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

/// Positions of rows, by chance, and the angles.
pub(super) struct Turns {
    positions: Vec<u32>,
    column: Tensor<u32>,
    table: RopeTable,
}

impl Turns {
    pub(super) fn new(inputs: &Inputs<'_>) -> Result<Turns> {
        let positions = inputs.stream(20).ids(inputs.n, LONGEST);
        Ok(Turns {
            column: inputs.column(&positions)?,
            positions,
            table: RopeTable::new(LONGEST, inputs.model.head_dim, THETA)?.to_device(inputs.device)?,
        })
    }

    pub(super) fn rotation(&self) -> Rotation<'_> {
        Rotation { positions: &self.column, table: &self.table }
    }

    /// A head of a row turned by the row's angle in f64; back with direction -1.
    pub(super) fn turn(&self, row: usize, head: &mut [f64], direction: f64) {
        let (d, half) = (head.len(), head.len() / 2);
        for i in 0..half {
            let angle = f64::from(self.positions[row]) * THETA.powf(-2.0 * i as f64 / d as f64);
            let (sin, cos) = (direction * angle).sin_cos();
            let (a, b) = (head[i], head[i + half]);
            head[i] = a * cos - b * sin;
            head[i + half] = b * cos + a * sin;
        }
    }
}

struct Rope {
    backward: bool,
    qkv: Tensor,
    original: Tensor,
    turns: Turns,
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
        Ok(Rope {
            backward,
            qkv: original.try_clone()?,
            original,
            turns: Turns::new(inputs)?,
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
        let Rotation { positions, table } = self.turns.rotation();
        if self.backward {
            return ops::rope_backward(&mut self.qkv, positions, table, self.heads);
        }
        ops::rope_forward(&mut self.qkv, positions, table, self.heads)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let direction = if self.backward { -1.0 } else { 1.0 };
        let mut pairs = Vec::new();
        for n in sample.rows(self.qkv.rows()) {
            let (got, mut want) = (row_of(&self.qkv, n)?, row_of(&self.original, n)?);
            for head in want.chunks_exact_mut(self.head_dim).take(self.heads) {
                self.turns.turn(n, head, direction);
            }
            // Values are left as they are.
            pairs.extend(got.into_iter().zip(want));
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
