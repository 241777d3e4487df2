//! An adapter of rank 16 beside the queries, forward and backward.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, LowRank, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::{add_scaled, inner};
use super::operation::{Build, Inputs, Operation, relative_error, worse};
use super::sample::{Sample, columns_of, for_pieces, row_of};

/// Rank R, and the factor on the product.
const RANK: usize = 16;
const SCALE: f32 = 2.0;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 2] = [
    ("low_rank_forward", |inputs| Ok(Box::new(Adapter::new(inputs)?))),
    ("low_rank_backward", |inputs| Ok(Box::new(AdapterBackward::new(inputs)?))),
];

struct Adapter {
    /// (N, W): queries, keys and values; the product is added to the queries.
    out: Tensor,
    original: Tensor,
    x: Tensor,
    a: Tensor,
    b: Tensor,
    size: usize,
    tolerance: f64,
}

impl Adapter {
    fn new(inputs: &Inputs<'_>) -> Result<Adapter> {
        let (n, c, shape) = (inputs.n, inputs.model.c, inputs.model.attention());
        let original = inputs.tensor(1, &[n, shape.qkv_width()], 1.0)?;
        Ok(Adapter {
            out: original.try_clone()?,
            original,
            x: inputs.tensor(2, &[n, c], 1.0)?,
            a: inputs.tensor(3, &[RANK, c], 1.0 / (c as f32).sqrt())?,
            b: inputs.tensor(4, &[shape.out_width(), RANK], 0.25)?,
            size: inputs.size(),
            tolerance: inputs.rounding(1e-5),
        })
    }

    fn pair(&self) -> LowRank<'_> {
        LowRank { a: &self.a, b: &self.b, scale: SCALE, first_column: 0 }
    }

    /// N, I, O.
    fn sizes(&self) -> (usize, usize, usize) {
        (self.x.rows(), self.x.row_len(), self.b.rows())
    }

    /// Rows of a factor.
    fn factor(tensor: &Tensor) -> Result<Vec<Vec<f64>>> {
        (0..tensor.rows()).map(|row| row_of(tensor, row)).collect()
    }
}

impl Operation for Adapter {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        let (n, i, o) = self.sizes();
        vec![("N", n), ("I", i), ("O", o), ("R", RANK)]
    }
    fn cost(&self) -> Cost {
        let (n, i, o) = self.sizes();
        cost::low_rank_forward(n, i, RANK, o, self.size)
    }
    fn poison(&mut self) -> Result<()> {
        Ok(self.out.copy_from(&self.original)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let pair = LowRank { a: &self.a, b: &self.b, scale: SCALE, first_column: 0 };
        ops::low_rank_forward(&mut self.out, &self.x, &pair)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let (a, b) = (Adapter::factor(&self.a)?, Adapter::factor(&self.b)?);
        let mut pairs = Vec::new();
        for n in sample.rows(self.x.rows()) {
            let x = row_of(&self.x, n)?;
            let inside: Vec<f64> = a.iter().map(|a| f64::from(SCALE) * inner(&x, a)).collect();
            let mut want = row_of(&self.original, n)?;
            want.iter_mut().zip(&b).for_each(|(want, b)| *want += inner(&inside, b));
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

struct AdapterBackward {
    forward: Adapter,
    d_x: Tensor,
    d_a: Tensor,
    d_b: Tensor,
    d_out: Tensor,
}

impl AdapterBackward {
    fn new(inputs: &Inputs<'_>) -> Result<AdapterBackward> {
        let forward = Adapter::new(inputs)?;
        Ok(AdapterBackward {
            d_x: inputs.tensor(5, forward.x.shape(), 1.0)?,
            d_a: inputs.wide(6, forward.a.shape(), 1.0)?,
            d_b: inputs.wide(7, forward.b.shape(), 1.0)?,
            d_out: inputs.tensor(8, forward.out.shape(), 1.0)?,
            forward,
        })
    }

    /// `d_x[n] = scale sum_o d_out[n, o] sum_r b[o, r] a[r]`.
    fn input_error(&self, sample: Sample) -> Result<f64> {
        let (a, b) = (Adapter::factor(&self.forward.a)?, Adapter::factor(&self.forward.b)?);
        let mut pairs = Vec::new();
        for n in sample.rows(self.d_x.rows()) {
            let d_out = row_of(&self.d_out, n)?;
            let mut d_inside = [0.0; RANK];
            d_out.iter().zip(&b).for_each(|(d, b)| add_scaled(&mut d_inside, f64::from(SCALE) * d, b));
            let mut want = vec![0.0; self.d_x.row_len()];
            a.iter().zip(d_inside).for_each(|(a, d)| add_scaled(&mut want, d, a));
            pairs.extend(row_of(&self.d_x, n)?.into_iter().zip(want));
        }
        Ok(relative_error(pairs))
    }

    /// `d_b[o, r] = scale sum_n d_out[n, o] (a[r] . x[n])`, for some outputs.
    fn output_error(&self, sample: Sample) -> Result<f64> {
        let (_, i, o) = self.forward.sizes();
        let a = Adapter::factor(&self.forward.a)?;
        let outputs = sample.few(o);
        let d_out = columns_of(&self.d_out, &outputs)?;
        let mut want = vec![[0.0; RANK]; outputs.len()];
        for_pieces(&self.forward.x, |first, rows| {
            for (n, x) in rows.chunks_exact(i).enumerate() {
                let inside: Vec<f64> = a.iter().map(|a| f64::from(SCALE) * inner(a, x)).collect();
                want.iter_mut()
                    .zip(&d_out)
                    .for_each(|(want, d_out)| add_scaled(want, d_out[first + n], &inside));
            }
        })?;
        let mut pairs = Vec::new();
        for (&output, want) in outputs.iter().zip(want) {
            pairs.extend(row_of(&self.d_b, output)?.into_iter().zip(want));
        }
        Ok(relative_error(pairs))
    }
}

impl Operation for AdapterBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.forward.shape()
    }
    fn cost(&self) -> Cost {
        let (n, i, o) = self.forward.sizes();
        cost::low_rank_backward(n, i, RANK, o, self.forward.size)
    }
    fn poison(&mut self) -> Result<()> {
        self.d_x.fill(0.0)?;
        self.d_a.fill(0.0)?;
        Ok(self.d_b.fill(0.0)?)
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let gradients = (&mut self.d_a, &mut self.d_b);
        ops::low_rank_backward(&mut self.d_x, gradients, &self.d_out, &self.forward.x, &self.forward.pair())
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        Ok(worse(self.input_error(sample)?, self.output_error(sample)?))
    }
    fn tolerance(&self) -> f64 {
        10.0 * self.forward.tolerance
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.d_x, &self.d_a, &self.d_b]
    }
}
