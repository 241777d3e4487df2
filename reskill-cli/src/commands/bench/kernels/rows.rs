//! Operations that work row by row: all bound by memory.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, RopeTable, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::{inner, row};
use super::operation::{Build, Inputs, Operation, distinct, poison, relative_error, some_rows, values};

/// Under the root of a norm.
const EPS: f32 = 1e-5;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 6] = [
    ("embedding_forward", |inputs| Ok(Box::new(Embedding::new(inputs)?))),
    ("rms_norm_forward", |inputs| Ok(Box::new(Norm::new(inputs)?))),
    ("rms_norm_backward", |inputs| Ok(Box::new(NormBackward::new(inputs)?))),
    ("rope_forward", |inputs| Ok(Box::new(Rope::new(inputs)?))),
    ("swiglu_forward", |inputs| Ok(Box::new(Swiglu::new(inputs)?))),
    ("swiglu_backward", |inputs| Ok(Box::new(SwigluBackward::new(inputs)?))),
];

struct Embedding {
    out: Tensor,
    table: Tensor,
    ids: Tensor<u32>,
    /// Different tokens.
    distinct: usize,
    size: usize,
}

impl Embedding {
    fn new(inputs: &Inputs<'_>) -> Result<Embedding> {
        let (n, c, v) = (inputs.n, inputs.model.c, inputs.model.vocab);
        let (out, table) = (inputs.tensor(1, &[n, c], 1.0)?, inputs.tensor(2, &[v, c], 1.0)?);
        let ids = inputs.ids(3, n, v)?;
        Ok(Embedding { out, table, distinct: distinct(&ids)?, ids, size: inputs.size() })
    }
}

impl Operation for Embedding {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.out.rows()), ("C", self.out.row_len()), ("V", self.table.rows())]
    }
    fn cost(&self) -> Cost {
        cost::embedding_forward(self.out.rows(), self.distinct, self.out.row_len(), self.size)
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.out])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::embedding_forward(&mut self.out, &self.table, &self.ids)
    }
    fn error(&self) -> Result<f64> {
        let (out, table, ids) = (values(&self.out)?, values(&self.table)?, self.ids.to_vec()?);
        let c = self.out.row_len();
        let pairs = (0..ids.len()).flat_map(|n| {
            row(&out, c, n).iter().copied().zip(row(&table, c, ids[n] as usize).iter().copied())
        });
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        // Rows are copied.
        0.0
    }
}

struct Norm {
    out: Tensor,
    rstd: Tensor,
    x: Tensor,
    weight: Tensor,
    size: usize,
    tolerance: f64,
}

impl Norm {
    fn new(inputs: &Inputs<'_>) -> Result<Norm> {
        let (n, c) = (inputs.n, inputs.model.c);
        Ok(Norm {
            out: inputs.tensor(1, &[n, c], 1.0)?,
            rstd: inputs.wide(2, &[n], 1.0)?,
            x: inputs.tensor(3, &[n, c], 2.0)?,
            weight: inputs.tensor(4, &[c], 1.0)?,
            size: inputs.size(),
            tolerance: inputs.rounding(1e-5),
        })
    }

    /// x, 1 / rms of the row, weight.
    fn row(&self, n: usize) -> Result<(Vec<f64>, f64, Vec<f64>)> {
        let x = row(&values(&self.x)?, self.x.row_len(), n).to_vec();
        let rstd = 1.0 / (inner(&x, &x) / x.len() as f64 + f64::from(EPS)).sqrt();
        Ok((x, rstd, values(&self.weight)?))
    }
}

impl Operation for Norm {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.x.rows()), ("C", self.x.row_len())]
    }
    fn cost(&self) -> Cost {
        cost::rms_norm_forward(self.x.rows(), self.x.row_len(), self.size)
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.out, &mut self.rstd])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::rms_norm_forward(&mut self.out, &mut self.rstd, &self.x, &self.weight, EPS)
    }
    fn error(&self) -> Result<f64> {
        let (out, c) = (values(&self.out)?, self.x.row_len());
        let mut pairs = Vec::new();
        for n in some_rows(self.x.rows()) {
            let (x, rstd, weight) = self.row(n)?;
            let want = x.iter().zip(&weight).map(|(x, weight)| x * rstd * weight);
            pairs.extend(row(&out, c, n).iter().copied().zip(want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
}

struct NormBackward {
    forward: Norm,
    d_x: Tensor,
    d_weight: Tensor,
    d_out: Tensor,
}

impl NormBackward {
    fn new(inputs: &Inputs<'_>) -> Result<NormBackward> {
        let (n, c) = (inputs.n, inputs.model.c);
        let mut forward = Norm::new(inputs)?;
        forward.run()?;
        Ok(NormBackward {
            forward,
            d_x: inputs.tensor(5, &[n, c], 1.0)?,
            d_weight: inputs.wide(6, &[c], 1.0)?,
            d_out: inputs.tensor(7, &[n, c], 1.0)?,
        })
    }
}

impl Operation for NormBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.forward.shape()
    }
    fn cost(&self) -> Cost {
        cost::rms_norm_backward(self.d_x.rows(), self.d_x.row_len(), self.forward.size)
    }
    fn poison(&mut self) -> Result<()> {
        self.d_x.fill(0.0)?;
        Ok(self.d_weight.fill(0.0)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let Norm { x, weight, rstd, .. } = &self.forward;
        ops::rms_norm_backward(&mut self.d_x, &mut self.d_weight, &self.d_out, x, weight, rstd)
    }
    fn error(&self) -> Result<f64> {
        let (d_x, d_out, c) = (values(&self.d_x)?, values(&self.d_out)?, self.d_x.row_len());
        let mut pairs = Vec::new();
        for n in some_rows(self.d_x.rows()) {
            let (x, rstd, weight) = self.forward.row(n)?;
            let g: Vec<f64> = row(&d_out, c, n).iter().zip(&weight).map(|(d, weight)| d * weight).collect();
            let pull = rstd * rstd * inner(&g, &x) / c as f64;
            let want = g.iter().zip(&x).map(|(g, x)| rstd * (g - x * pull));
            pairs.extend(row(&d_x, c, n).iter().copied().zip(want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        2.0 * self.forward.tolerance
    }
}

struct Rope {
    qkv: Tensor,
    original: Tensor,
    positions: Tensor<u32>,
    table: RopeTable,
    heads: usize,
    head_dim: usize,
    size: usize,
    tolerance: f64,
}

impl Rope {
    fn new(inputs: &Inputs<'_>) -> Result<Rope> {
        let model = inputs.model;
        let width = (model.heads + 2 * model.kv_heads) * model.head_dim;
        let longest = 4096;
        let original = inputs.tensor(1, &[inputs.n, width], 1.0)?;
        let table = RopeTable::new(longest, model.head_dim, 10_000.0)?;
        Ok(Rope {
            qkv: original.try_clone()?,
            original,
            positions: inputs.ids(2, inputs.n, longest)?,
            table: table.to_device(inputs.device)?,
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
        ops::rope_forward(&mut self.qkv, &self.positions, &self.table, self.heads)
    }
    fn error(&self) -> Result<f64> {
        let (got, x, positions) = (values(&self.qkv)?, values(&self.original)?, self.positions.to_vec()?);
        let (width, half) = (self.qkv.row_len(), self.head_dim / 2);
        let mut pairs = Vec::new();
        for n in some_rows(self.qkv.rows()) {
            for (head, i) in (0..self.heads).flat_map(|head| (0..half).map(move |i| (head, i))) {
                let angle = f64::from(positions[n]) * 10_000_f64.powf(-2.0 * i as f64 / self.head_dim as f64);
                let (a, b) =
                    (n * width + head * self.head_dim + i, n * width + head * self.head_dim + i + half);
                let (sin, cos) = angle.sin_cos();
                pairs.push((got[a], x[a] * cos - x[b] * sin));
                pairs.push((got[b], x[b] * cos + x[a] * sin));
            }
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
}

struct Swiglu {
    out: Tensor,
    gate_up: Tensor,
    size: usize,
    tolerance: f64,
}

impl Swiglu {
    fn new(inputs: &Inputs<'_>) -> Result<Swiglu> {
        let (n, f) = (inputs.n, inputs.model.f);
        let (out, gate_up) = (inputs.tensor(1, &[n, f], 1.0)?, inputs.tensor(2, &[n, 2 * f], 3.0)?);
        Ok(Swiglu { out, gate_up, size: inputs.size(), tolerance: inputs.rounding(1e-5) })
    }
}

/// `z sigmoid(z)` and its derivative.
fn silu(z: f64) -> (f64, f64) {
    let sigmoid = 1.0 / (1.0 + (-z).exp());
    (z * sigmoid, sigmoid * (1.0 + z * (1.0 - sigmoid)))
}

impl Operation for Swiglu {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.out.rows()), ("F", self.out.row_len())]
    }
    fn cost(&self) -> Cost {
        cost::swiglu_forward(self.out.rows(), self.out.row_len(), self.size)
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.out])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::swiglu_forward(&mut self.out, &self.gate_up)
    }
    fn error(&self) -> Result<f64> {
        let (out, gate_up, f) = (values(&self.out)?, values(&self.gate_up)?, self.out.row_len());
        let want = |n: usize, i: usize| silu(gate_up[2 * n * f + i]).0 * gate_up[(2 * n + 1) * f + i];
        let places = some_rows(self.out.rows()).into_iter().flat_map(|n| (0..f).map(move |i| (n, i)));
        Ok(relative_error(places.map(|(n, i)| (out[n * f + i], want(n, i)))))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
}

struct SwigluBackward {
    forward: Swiglu,
    d_gate_up: Tensor,
    d_out: Tensor,
}

impl SwigluBackward {
    fn new(inputs: &Inputs<'_>) -> Result<SwigluBackward> {
        let (n, f) = (inputs.n, inputs.model.f);
        let (d_gate_up, d_out) = (inputs.tensor(3, &[n, 2 * f], 1.0)?, inputs.tensor(4, &[n, f], 1.0)?);
        Ok(SwigluBackward { forward: Swiglu::new(inputs)?, d_gate_up, d_out })
    }
}

impl Operation for SwigluBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.forward.shape()
    }
    fn cost(&self) -> Cost {
        cost::swiglu_backward(self.d_out.rows(), self.d_out.row_len(), self.forward.size)
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.d_gate_up])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::swiglu_backward(&mut self.d_gate_up, &self.d_out, &self.forward.gate_up)
    }
    fn error(&self) -> Result<f64> {
        let (got, d_out) = (values(&self.d_gate_up)?, values(&self.d_out)?);
        let (gate_up, f) = (values(&self.forward.gate_up)?, self.d_out.row_len());
        let mut pairs = Vec::new();
        for (n, i) in some_rows(self.d_out.rows()).into_iter().flat_map(|n| (0..f).map(move |i| (n, i))) {
            let (gate, up) = (2 * n * f + i, (2 * n + 1) * f + i);
            let (value, slope) = silu(gate_up[gate]);
            pairs.push((got[gate], d_out[n * f + i] * gate_up[up] * slope));
            pairs.push((got[up], d_out[n * f + i] * value));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.forward.tolerance
    }
}
