//! What is added to rows, and gradients that are sums over rows: biases, the embedding.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::row;
use super::operation::{Build, Inputs, Operation, distinct, relative_error, some_rows, values};

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 3] = [
    ("embedding_backward", |inputs| Ok(Box::new(EmbeddingBackward::new(inputs)?))),
    ("bias_forward", |inputs| Ok(Box::new(Bias::new(inputs)?))),
    ("bias_backward", |inputs| Ok(Box::new(BiasBackward::new(inputs)?))),
];

struct EmbeddingBackward {
    d_table: Tensor,
    d_out: Tensor,
    ids: Tensor<u32>,
    distinct: usize,
    size: usize,
}

impl EmbeddingBackward {
    fn new(inputs: &Inputs<'_>) -> Result<EmbeddingBackward> {
        let (n, c, v) = (inputs.n, inputs.model.c, inputs.model.vocab);
        let ids = inputs.ids(3, n, v)?;
        Ok(EmbeddingBackward {
            d_table: inputs.wide(1, &[v, c], 1.0)?,
            d_out: inputs.tensor(2, &[n, c], 1.0)?,
            distinct: distinct(&ids)?,
            ids,
            size: inputs.size(),
        })
    }
}

impl Operation for EmbeddingBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.d_out.rows()), ("C", self.d_out.row_len()), ("V", self.d_table.rows())]
    }
    fn cost(&self) -> Cost {
        cost::embedding_backward(self.d_out.rows(), self.distinct, self.d_out.row_len(), self.size)
    }
    fn poison(&mut self) -> Result<()> {
        Ok(self.d_table.fill(0.0)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::embedding_backward(&mut self.d_table, &self.d_out, &self.ids)
    }
    fn error(&self) -> Result<f64> {
        let (got, d_out, ids) = (values(&self.d_table)?, values(&self.d_out)?, self.ids.to_vec()?);
        let c = self.d_out.row_len();
        let mut pairs = Vec::new();
        for token in some_rows(ids.len()).into_iter().map(|n| ids[n]) {
            let mut want = vec![0.0; c];
            for n in (0..ids.len()).filter(|&n| ids[n] == token) {
                want.iter_mut().zip(row(&d_out, c, n)).for_each(|(want, d)| *want += d);
            }
            pairs.extend(row(&got, c, token as usize).iter().copied().zip(want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        // Some additions in f32.
        1e-5
    }
}

struct Bias {
    out: Tensor,
    original: Tensor,
    bias: Tensor,
    size: usize,
    tolerance: f64,
}

impl Bias {
    fn new(inputs: &Inputs<'_>) -> Result<Bias> {
        let (n, o) = (inputs.n, inputs.model.c);
        let original = inputs.tensor(1, &[n, o], 1.0)?;
        let (bias, tolerance) = (inputs.tensor(2, &[o], 1.0)?, inputs.rounding(1e-6));
        Ok(Bias { out: original.try_clone()?, original, bias, size: inputs.size(), tolerance })
    }
}

impl Operation for Bias {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.out.rows()), ("O", self.out.row_len())]
    }
    fn cost(&self) -> Cost {
        cost::bias_forward(self.out.rows(), self.out.row_len(), self.size)
    }
    fn poison(&mut self) -> Result<()> {
        Ok(self.out.copy_from(&self.original)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::bias_forward(&mut self.out, &self.bias)
    }
    fn error(&self) -> Result<f64> {
        let (got, x, bias) = (values(&self.out)?, values(&self.original)?, values(&self.bias)?);
        let want = x.iter().enumerate().map(|(at, x)| x + bias[at % bias.len()]);
        Ok(relative_error(got.into_iter().zip(want)))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
}

struct BiasBackward {
    d_bias: Tensor,
    d_out: Tensor,
    size: usize,
}

impl BiasBackward {
    fn new(inputs: &Inputs<'_>) -> Result<BiasBackward> {
        let (n, o) = (inputs.n, inputs.model.c);
        let (d_bias, d_out) = (inputs.wide(1, &[o], 1.0)?, inputs.tensor(2, &[n, o], 1.0)?);
        Ok(BiasBackward { d_bias, d_out, size: inputs.size() })
    }
}

impl Operation for BiasBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.d_out.rows()), ("O", self.d_out.row_len())]
    }
    fn cost(&self) -> Cost {
        cost::bias_backward(self.d_out.rows(), self.d_out.row_len(), self.size)
    }
    fn poison(&mut self) -> Result<()> {
        Ok(self.d_bias.fill(0.0)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::bias_backward(&mut self.d_bias, &self.d_out)
    }
    fn error(&self) -> Result<f64> {
        let (got, d_out, o) = (values(&self.d_bias)?, values(&self.d_out)?, self.d_out.row_len());
        let mut want = vec![0.0; o];
        for row in d_out.chunks_exact(o) {
            want.iter_mut().zip(row).for_each(|(want, d)| *want += d);
        }
        Ok(relative_error(got.into_iter().zip(want)))
    }
    fn tolerance(&self) -> f64 {
        // Sums of thousands of numbers of both signs in f32.
        1e-4
    }
}
