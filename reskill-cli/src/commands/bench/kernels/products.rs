//! Linear layers, forward and both gradients.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::{inner, row};
use super::operation::{Build, Inputs, Operation, poison, relative_error, some_rows, values};
use super::sizes::Model;

/// Inputs and outputs of a layer.
type Widths = fn(Model) -> (usize, usize);

const QKV: Widths = |model| (model.c, (model.heads + 2 * model.kv_heads) * model.head_dim);
const OUT: Widths = |model| (model.heads * model.head_dim, model.c);
const GATE_UP: Widths = |model| (model.c, 2 * model.f);
const DOWN: Widths = |model| (model.f, model.c);

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 7] = [
    ("matmul_qkv", |inputs| Ok(Box::new(Product::new(inputs, QKV, Kind::Forward)?))),
    ("matmul_out", |inputs| Ok(Box::new(Product::new(inputs, OUT, Kind::Forward)?))),
    ("matmul_gate_up", |inputs| Ok(Box::new(Product::new(inputs, GATE_UP, Kind::Forward)?))),
    ("matmul_down", |inputs| Ok(Box::new(Product::new(inputs, DOWN, Kind::Forward)?))),
    ("matmul_backward_input", |inputs| Ok(Box::new(Product::new(inputs, GATE_UP, Kind::Input)?))),
    ("matmul_backward_weight", |inputs| Ok(Box::new(Product::new(inputs, GATE_UP, Kind::Weight)?))),
    ("matmul_decode", |inputs| {
        let few = Inputs { n: inputs.n.min(8), ..*inputs };
        Ok(Box::new(Product::new(&few, GATE_UP, Kind::Forward)?))
    }),
];

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
}

/// Column `index` of a matrix.
fn column(matrix: &[f64], width: usize, index: usize) -> Vec<f64> {
    matrix.iter().skip(index).step_by(width).copied().collect()
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
    fn error(&self) -> Result<f64> {
        let (n, i, o) = self.sizes();
        let (x, weight, y) = (values(&self.x)?, values(&self.weight)?, values(&self.y)?);
        let mut pairs = Vec::new();
        match self.kind {
            Kind::Forward => {
                for (a, b) in some_rows(n).into_iter().flat_map(|a| (0..o).map(move |b| (a, b))) {
                    pairs.push((y[a * o + b], inner(row(&x, i, a), row(&weight, i, b))));
                }
            }
            Kind::Input => {
                for b in some_rows(i) {
                    let weights = column(&weight, i, b);
                    pairs.extend(
                        some_rows(n).into_iter().map(|a| (x[a * i + b], inner(row(&y, o, a), &weights))),
                    );
                }
            }
            Kind::Weight => {
                for (a, b) in
                    some_rows(o).into_iter().flat_map(|a| some_rows(i).into_iter().map(move |b| (a, b)))
                {
                    pairs.push((weight[a * i + b], inner(&column(&y, o, a), &column(&x, i, b))));
                }
            }
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
}
