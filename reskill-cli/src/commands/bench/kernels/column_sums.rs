//! What is added to rows, and gradients that are sums over rows: biases, the embedding.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::add_scaled;
use super::operation::{Build, Inputs, Operation, distinct, relative_error};
use super::sample::{Sample, columns_of, row_of, value_of};

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 4] = [
    ("embedding_backward", |inputs| {
        let ids = inputs.stream(3).ids(inputs.n, inputs.model.vocab);
        Ok(Box::new(EmbeddingBackward::new(inputs, ids)?))
    }),
    ("embedding_backward_zipf", |inputs| {
        let ids = inputs.stream(3).zipf_ids(inputs.n, inputs.model.vocab);
        Ok(Box::new(EmbeddingBackward::new(inputs, ids)?))
    }),
    ("bias_forward", |inputs| Ok(Box::new(Bias::new(inputs)?))),
    ("bias_backward", |inputs| Ok(Box::new(BiasBackward::new(inputs)?))),
];

struct EmbeddingBackward {
    d_table: Tensor,
    d_out: Tensor,
    ids: Vec<u32>,
    tokens: Tensor<u32>,
    size: usize,
}

impl EmbeddingBackward {
    fn new(inputs: &Inputs<'_>, ids: Vec<u32>) -> Result<EmbeddingBackward> {
        let (n, c, v) = (inputs.n, inputs.model.c, inputs.model.vocab);
        Ok(EmbeddingBackward {
            d_table: inputs.wide(1, &[v, c], 1.0)?,
            d_out: inputs.tensor(2, &[n, c], 1.0)?,
            tokens: inputs.column(&ids)?,
            ids,
            size: inputs.size(),
        })
    }
}

impl Operation for EmbeddingBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        let (n, c) = (self.d_out.rows(), self.d_out.row_len());
        vec![("N", n), ("C", c), ("V", self.d_table.rows()), ("distinct", distinct(&self.ids))]
    }
    fn cost(&self) -> Cost {
        cost::embedding_backward(self.d_out.rows(), distinct(&self.ids), self.d_out.row_len(), self.size)
    }
    fn poison(&mut self) -> Result<()> {
        Ok(self.d_table.fill(0.0)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        ops::embedding_backward(&mut self.d_table, &self.d_out, &self.tokens)
    }
    /// Rows of tokens that occur, and some that need not.
    fn error(&self, sample: Sample) -> Result<f64> {
        let (n, c) = (self.d_out.rows(), self.d_out.row_len());
        let mut tokens: Vec<u32> = sample.rows(n).into_iter().map(|n| self.ids[n]).collect();
        tokens.extend(sample.few(self.d_table.rows()).into_iter().map(|token| token as u32));
        tokens.sort_unstable();
        tokens.dedup();
        let mut pairs = Vec::new();
        for token in tokens {
            let mut want = vec![0.0; c];
            for n in (0..n).filter(|&n| self.ids[n] == token) {
                add_scaled(&mut want, 1.0, &row_of(&self.d_out, n)?);
            }
            pairs.extend(row_of(&self.d_table, token as usize)?.into_iter().zip(want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        // Additions in f32, of the most frequent token some thousands.
        1e-5
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.d_table]
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
    fn error(&self, sample: Sample) -> Result<f64> {
        let bias = self.bias.to_vec()?;
        let mut pairs = Vec::new();
        for n in sample.rows(self.out.rows()) {
            let x = row_of(&self.original, n)?;
            let want = x.iter().zip(&bias).map(|(x, bias)| x + f64::from(*bias));
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
    fn error(&self, sample: Sample) -> Result<f64> {
        let columns = sample.rows(self.d_bias.len());
        let mut pairs = Vec::new();
        for (&column, d_out) in columns.iter().zip(columns_of(&self.d_out, &columns)?) {
            pairs.push((value_of(&self.d_bias, column)?, d_out.iter().sum()));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        // Sums of thousands of numbers of both signs in f32.
        1e-4
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.d_bias]
    }
}
