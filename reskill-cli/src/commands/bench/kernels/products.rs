//! Linear layers, forward and both gradients.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::inner;
use super::operation::{Build, Inputs, Operation, poison, relative_error};
use super::sample::{Sample, columns_of, row_of};
use super::sizes::Model;

/// Inputs and outputs of a layer.
type Widths = fn(Model) -> (usize, usize);

const QKV: Widths = |model| (model.c, (model.heads + 2 * model.kv_heads) * model.head_dim);
const OUT: Widths = |model| (model.heads * model.head_dim, model.c);
const GATE_UP: Widths = |model| (model.c, 2 * model.f);
const DOWN: Widths = |model| (model.f, model.c);
const HEAD: Widths = |model| (model.c, model.vocab);

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 11] = [
    ("matmul_qkv", |inputs| Ok(Box::new(Product::new(inputs, QKV, Kind::Forward)?))),
    ("matmul_out", |inputs| Ok(Box::new(Product::new(inputs, OUT, Kind::Forward)?))),
    ("matmul_gate_up", |inputs| Ok(Box::new(Product::new(inputs, GATE_UP, Kind::Forward)?))),
    ("matmul_down", |inputs| Ok(Box::new(Product::new(inputs, DOWN, Kind::Forward)?))),
    ("matmul_backward_input", |inputs| Ok(Box::new(Product::new(inputs, GATE_UP, Kind::Input)?))),
    ("matmul_backward_weight", |inputs| Ok(Box::new(Product::new(inputs, GATE_UP, Kind::Weight)?))),
    ("matmul_decode", |inputs| few_rows(inputs, GATE_UP, 8)),
    ("matmul_decode_16", |inputs| few_rows(inputs, GATE_UP, 16)),
    ("matmul_decode_32", |inputs| few_rows(inputs, GATE_UP, 32)),
    ("matmul_decode_128", |inputs| few_rows(inputs, GATE_UP, 128)),
    ("matmul_lm_head", |inputs| few_rows(inputs, HEAD, 128)),
];

/// A product as in decoding: of at most `n` rows.
fn few_rows(inputs: &Inputs<'_>, widths: Widths, n: usize) -> Result<Box<dyn Operation>> {
    let few = Inputs { n: inputs.n.min(n), ..*inputs };
    Ok(Box::new(Product::new(&few, widths, Kind::Forward)?))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Forward,
    Input,
    Weight,
}

/// `y = x weight^T`, or one of its gradients.
struct Product {
    kind: Kind,
    x: Tensor,
    weight: Tensor,
    y: Tensor,
    size: usize,
    tolerance: f64,
}

impl Product {
    fn new(inputs: &Inputs<'_>, widths: Widths, kind: Kind) -> Result<Product> {
        let (i, o) = widths(inputs.model);
        let weight = match kind {
            Kind::Weight => inputs.wide(2, &[o, i], 1.0)?,
            _ => inputs.tensor(2, &[o, i], 1.0)?,
        };
        Ok(Product {
            kind,
            x: inputs.tensor(1, &[inputs.n, i], 1.0)?,
            weight,
            y: inputs.tensor(3, &[inputs.n, o], 1.0)?,
            size: inputs.size(),
            tolerance: match kind {
                Kind::Weight => 1e-4,
                _ => inputs.rounding(1e-5),
            },
        })
    }

    fn sizes(&self) -> (usize, usize, usize) {
        (self.x.rows(), self.x.row_len(), self.y.row_len())
    }

    /// `y[a, b] = x[a] . weight[b]`.
    fn forward_pairs(&self, sample: Sample) -> Result<Vec<(f64, f64)>> {
        let (n, _, o) = self.sizes();
        let weights = sample.rows(o).into_iter().map(|b| Ok((b, row_of(&self.weight, b)?)));
        let weights = weights.collect::<Result<Vec<_>>>()?;
        let mut pairs = Vec::new();
        for a in sample.rows(n) {
            let (x, y) = (row_of(&self.x, a)?, row_of(&self.y, a)?);
            pairs.extend(weights.iter().map(|(b, weight)| (y[*b], inner(&x, weight))));
        }
        Ok(pairs)
    }

    /// `x[a, b] = y[a] . weight[:, b]`.
    fn input_pairs(&self, sample: Sample) -> Result<Vec<(f64, f64)>> {
        let (n, i, _) = self.sizes();
        let columns = sample.rows(i);
        let weights = columns_of(&self.weight, &columns)?;
        let mut pairs = Vec::new();
        for a in sample.rows(n) {
            let (x, y) = (row_of(&self.x, a)?, row_of(&self.y, a)?);
            pairs.extend(columns.iter().zip(&weights).map(|(&b, weight)| (x[b], inner(&y, weight))));
        }
        Ok(pairs)
    }

    /// `weight[a, b] = y[:, a] . x[:, b]`.
    fn weight_pairs(&self, sample: Sample) -> Result<Vec<(f64, f64)>> {
        let (_, i, o) = self.sizes();
        let (rows, columns) = (sample.rows(o), sample.rows(i));
        let (ys, xs) = (columns_of(&self.y, &rows)?, columns_of(&self.x, &columns)?);
        let mut pairs = Vec::new();
        for (&a, y) in rows.iter().zip(&ys) {
            let weight = row_of(&self.weight, a)?;
            pairs.extend(columns.iter().zip(&xs).map(|(&b, x)| (weight[b], inner(y, x))));
        }
        Ok(pairs)
    }
}

impl Operation for Product {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        let (n, i, o) = self.sizes();
        vec![("N", n), ("I", i), ("O", o)]
    }
    fn cost(&self) -> Cost {
        let (n, i, o) = self.sizes();
        match self.kind {
            Kind::Weight => cost::matmul_backward_weight(n, i, o, self.size),
            _ => cost::matmul(n, i, o, self.size),
        }
    }
    fn poison(&mut self) -> Result<()> {
        match self.kind {
            Kind::Forward => poison(&mut [&mut self.y]),
            Kind::Input => poison(&mut [&mut self.x]),
            Kind::Weight => Ok(self.weight.fill(0.0)?),
        }
    }
    fn run(&mut self) -> Result<(), KernelError> {
        match self.kind {
            Kind::Forward => ops::matmul(&mut self.y, &self.x, &self.weight, false),
            Kind::Input => ops::matmul_backward_input(&mut self.x, &self.y, &self.weight, false),
            Kind::Weight => ops::matmul_backward_weight(&mut self.weight, &self.y, &self.x),
        }
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        Ok(relative_error(match self.kind {
            Kind::Forward => self.forward_pairs(sample)?,
            Kind::Input => self.input_pairs(sample)?,
            Kind::Weight => self.weight_pairs(sample)?,
        }))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![match self.kind {
            Kind::Forward => &self.y,
            Kind::Input => &self.x,
            Kind::Weight => &self.weight,
        }]
    }
}
