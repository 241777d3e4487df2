//! Drawing tokens of one step of decoding, over the whole vocabulary.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, SampledToken, SamplingFilter, cost};
use reskill_kernels::{DType, KernelError, Tensor};

use super::exact::log_softmax;
use super::head::Logprob;
use super::operation::{Build, Inputs, Operation, poison, relative_error, worse};
use super::sample::{Sample, row_of, value_of};

/// Rows of one step of decoding.
const DECODE: usize = 128;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 3] = [
    ("linear_sample", |inputs| Ok(Box::new(FromHidden::new(&decoding(inputs))?))),
    ("sample_logits", |inputs| Ok(Box::new(FromLogits::new(&decoding(inputs), SamplingFilter::default())?))),
    ("sample_logits_top_p", |inputs| {
        let filter = SamplingFilter { temperature: 0.8, top_k: 50, top_p: 0.95, min_p: 0.0 };
        Ok(Box::new(FromLogits::new(&decoding(inputs), filter)?))
    }),
];

fn decoding<'a>(inputs: &Inputs<'a>) -> Inputs<'a> {
    Inputs { n: inputs.n.min(DECODE), ..*inputs }
}

struct FromHidden {
    from: Logprob,
    tokens: Tensor<u32>,
    logprobs: Tensor,
    uniforms: Vec<f32>,
    uniform_column: Tensor,
}

impl FromHidden {
    fn new(inputs: &Inputs<'_>) -> Result<FromHidden> {
        let uniforms = inputs.stream(12).uniforms(inputs.n);
        Ok(FromHidden {
            from: Logprob::new(inputs)?,
            tokens: inputs.ids(13, inputs.n, 1)?,
            logprobs: inputs.wide(14, &[inputs.n], 1.0)?,
            uniform_column: Tensor::from_slice(&[inputs.n], &uniforms, inputs.device, DType::F32)?,
            uniforms,
        })
    }
}

impl Operation for FromHidden {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.from.shape()
    }
    fn cost(&self) -> Cost {
        let (n, c, v) = self.from.sizes();
        cost::linear_sample(n, c, v, self.from.size)
    }
    fn poison(&mut self) -> Result<()> {
        self.tokens.fill(u32::MAX)?;
        poison(&mut [&mut self.logprobs])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let Logprob { hidden, head, allowed, .. } = &self.from;
        let (tokens, uniforms) = (&mut self.tokens, &self.uniform_column);
        ops::linear_sample(tokens, &mut self.logprobs, hidden, head, allowed, 1.0, uniforms)
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let tokens = self.tokens.to_vec()?;
        let mut worst = 0.0_f64;
        for exact in self.from.exact(sample)? {
            let token = tokens[exact.row];
            let Some(logprob) = exact.logprob(token) else { return Ok(f64::NAN) };
            worst = worse(worst, relative_error([(value_of(&self.logprobs, exact.row)?, logprob)]));
            let uniform = f64::from(self.uniforms[exact.row]);
            worst = worse(worst, outside(&exact.logprobs, token as usize, uniform));
        }
        Ok(worst)
    }
    fn tolerance(&self) -> f64 {
        3e-5
    }
    fn outputs(&self) -> Vec<&Tensor> {
        vec![&self.logprobs]
    }
}

/// How far a uniform number is from the interval that means `token`.
fn outside(logprobs: &[f64], token: usize, uniform: f64) -> f64 {
    let below: f64 = logprobs[..token].iter().map(|l| l.exp()).sum();
    (below - uniform).max(uniform - below - logprobs[token].exp()).max(0.0)
}

struct FromLogits {
    logits: Tensor,
    filters: Vec<SamplingFilter>,
    uniforms: Vec<f32>,
    drawn: Vec<SampledToken>,
    size: usize,
}

impl FromLogits {
    fn new(inputs: &Inputs<'_>, filter: SamplingFilter) -> Result<FromLogits> {
        Ok(FromLogits {
            logits: inputs.tensor(1, &[inputs.n, inputs.model.vocab], 6.0)?,
            filters: vec![filter; inputs.n],
            uniforms: inputs.stream(2).uniforms(inputs.n),
            drawn: Vec::new(),
            size: inputs.size(),
        })
    }
}

impl Operation for FromLogits {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        vec![("N", self.logits.rows()), ("V", self.logits.row_len())]
    }
    fn cost(&self) -> Cost {
        cost::sample_logits(self.logits.rows(), self.logits.row_len(), self.size)
    }
    fn poison(&mut self) -> Result<()> {
        self.drawn.clear();
        Ok(())
    }
    fn run(&mut self) -> Result<(), KernelError> {
        self.drawn = ops::sample_logits(&self.logits, &self.filters, &self.uniforms)?;
        Ok(())
    }
    fn error(&self, sample: Sample) -> Result<f64> {
        let mut pairs = Vec::new();
        for n in sample.rows(self.logits.rows()) {
            let exact = log_softmax(&row_of(&self.logits, n)?);
            let SampledToken { token, logprob, .. } = self.drawn[n];
            let want = exact.get(token as usize).copied().unwrap_or(f64::INFINITY);
            pairs.push((f64::from(logprob), want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        3e-5
    }
    /// What is drawn comes back to the host.
    fn outputs(&self) -> Vec<&Tensor> {
        Vec::new()
    }
    fn waits(&self) -> bool {
        true
    }
}
