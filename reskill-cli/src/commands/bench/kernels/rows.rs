//! Operations that work row by row: all bound by memory.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::inner;
use super::operation::{Build, Inputs, Operation, distinct, poison, relative_error, worse};
use super::sample::{Sample, columns_of, row_of, value_of};

/// Under the root of a norm.
const EPS: f32 = 1e-5;

/// The operations of this file. A norm that adds to the residual stream belongs here too.
pub(super) const OPERATIONS: [(&str, Build); 5] = [
    ("embedding_forward", |inputs| Ok(Box::new(Embedding::new(inputs)?))),
    ("rms_norm_forward", |inputs| Ok(Box::new(Norm::new(inputs)?))),
    ("rms_norm_backward", |inputs| Ok(Box::new(NormBackward::new(inputs)?))),
    ("swiglu_forward", |inputs| Ok(Box::new(Swiglu::new(inputs)?))),
    ("swiglu_backward", |inputs| Ok(Box::new(SwigluBackward::new(inputs)?))),
];

struct Embedding {
    out: Tensor,
    table: Tensor,
    ids: Vec<u32>,
    tokens: Tensor<u32>,
    size: usize,
}

impl Embedding {
    fn new(inputs: &Inputs<'_>) -> Result<Embedding> {
        let (n, c, v) = (inputs.n, inputs.model.c, inputs.model.vocab);
        let (out, table) = (inputs.tensor(1, &[n, c], 1.0)?, inputs.tensor(2, &[v, c], 1.0)?);
        let ids = inputs.stream(3).ids(n, v);
        let tokens = inputs.column(&ids)?;
        Ok(Embedding { out, table, ids, tokens, size: inputs.size() })
    }
}

impl Operation for Embedding {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.out.rows()), ("C", self.out.row_len()), ("V", self.table.rows())]
    }
    fn cost(&self) -> Cost {
        cost::embedding_forward(self.out.rows(), distinct(&self.ids), self.out.row_len(), self.size)
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut [&mut self.out])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::embedding_forward(&mut self.out, &self.table, &self.tokens)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let mut pairs = Vec::new();
        for n in sample.rows(self.ids.len()) {
            pairs.extend(row_of(&self.out, n)?.into_iter().zip(row_of(&self.table, self.ids[n] as usize)?));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        // Rows are copied.
        0.0
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.out]
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

    /// x and 1 / rms of a row.
    fn row(&self, n: usize) -> Result<(Vec<f64>, f64)> {
        let x = row_of(&self.x, n)?;
        let rstd = 1.0 / (inner(&x, &x) / x.len() as f64 + f64::from(EPS)).sqrt();
        Ok((x, rstd))
    }

    fn weight(&self) -> Result<Vec<f64>> {
        Ok(self.weight.to_vec()?.into_iter().map(f64::from).collect())
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
    fn error(&self, sample: Sample) -> Result<f64> {
        let weight = self.weight()?;
        let (mut pairs, mut statistics) = (Vec::new(), Vec::new());
        for n in sample.rows(self.x.rows()) {
            let (x, rstd) = self.row(n)?;
            let want = x.iter().zip(&weight).map(|(x, weight)| x * rstd * weight);
            pairs.extend(row_of(&self.out, n)?.into_iter().zip(want));
            statistics.push((value_of(&self.rstd, n)?, rstd));
        }
        Ok(worse(relative_error(pairs), relative_error(statistics)))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.out, &self.rstd]
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

    /// The weight's gradient at some places: `sum_n d_out[n, c] x[n, c] rstd[n]`.
    fn weight_error(&self, sample: Sample) -> Result<f64> {
        let columns = sample.few(self.d_x.row_len());
        let (x, d_out) = (columns_of(&self.forward.x, &columns)?, columns_of(&self.d_out, &columns)?);
        let rstd = self.forward.rstd.to_vec()?;
        let mut pairs = Vec::new();
        for (index, &column) in columns.iter().enumerate() {
            let products: Vec<f64> = x[index].iter().zip(&d_out[index]).map(|(x, d)| x * d).collect();
            pairs.push((value_of(&self.d_weight, column)?, inner(&products, &rstd)));
        }
        Ok(relative_error(pairs))
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
    fn error(&self, sample: Sample) -> Result<f64> {
        let (weight, c) = (self.forward.weight()?, self.d_x.row_len());
        let mut pairs = Vec::new();
        for n in sample.rows(self.d_x.rows()) {
            let (x, rstd) = self.forward.row(n)?;
            let g: Vec<f64> = row_of(&self.d_out, n)?.iter().zip(&weight).map(|(d, w)| d * w).collect();
            let pull = rstd * rstd * inner(&g, &x) / c as f64;
            let want = g.iter().zip(&x).map(|(g, x)| rstd * (g - x * pull));
            pairs.extend(row_of(&self.d_x, n)?.into_iter().zip(want));
        }
        // Sums of thousands of numbers of both signs in f32 lose a little more than a row does.
        let of_weight = self.weight_error(sample)? / 10.0;
        Ok(worse(relative_error(pairs), of_weight))
    }
    fn tolerance(&self) -> f64 {
        2.0 * self.forward.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.d_x, &self.d_weight]
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

    /// Gates and ups of a row.
    fn row(&self, n: usize) -> Result<(Vec<f64>, Vec<f64>)> {
        let mut gates = row_of(&self.gate_up, n)?;
        let ups = gates.split_off(self.out.row_len());
        Ok((gates, ups))
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
    fn error(&self, sample: Sample) -> Result<f64> {
        let mut pairs = Vec::new();
        for n in sample.rows(self.out.rows()) {
            let (gates, ups) = self.row(n)?;
            let want = gates.iter().zip(&ups).map(|(gate, up)| silu(*gate).0 * up);
            pairs.extend(row_of(&self.out, n)?.into_iter().zip(want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.out]
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
    fn error(&self, sample: Sample) -> Result<f64> {
        let f = self.d_out.row_len();
        let mut pairs = Vec::new();
        for n in sample.rows(self.d_out.rows()) {
            let ((gates, ups), d_out) = (self.forward.row(n)?, row_of(&self.d_out, n)?);
            let got = row_of(&self.d_gate_up, n)?;
            for i in 0..f {
                let (value, slope) = silu(gates[i]);
                pairs.push((got[i], d_out[i] * ups[i] * slope));
                pairs.push((got[f + i], d_out[i] * value));
            }
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.forward.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.d_gate_up]
    }
}
