//! Output head and sampling over the whole vocabulary.

use anyhow::Result;
use reskill_kernels::ops::{self, Cost, SampledToken, SamplingFilter, TokenSets, cost};
use reskill_kernels::{KernelError, Tensor};

use super::exact::{log_softmax, logits, row};
use super::operation::{Build, Inputs, Operation, poison, relative_error, some_rows, values};

/// Rows of one step of decoding.
const DECODE: usize = 128;

/// The operations of this file.
pub(super) const OPERATIONS: [(&str, Build); 5] = [
    ("linear_logprob_forward", |inputs| Ok(Box::new(Logprob::new(inputs)?))),
    ("linear_logprob_backward", |inputs| Ok(Box::new(LogprobBackward::new(inputs)?))),
    ("linear_sample", |inputs| Ok(Box::new(Sample::new(&decoding(inputs))?))),
    ("sample_logits", |inputs| Ok(Box::new(FromLogits::new(&decoding(inputs), SamplingFilter::default())?))),
    ("sample_logits_top_p", |inputs| {
        let filter = SamplingFilter { temperature: 0.8, top_k: 50, top_p: 0.95, min_p: 0.0 };
        Ok(Box::new(FromLogits::new(&decoding(inputs), filter)?))
    }),
];

fn decoding<'a>(inputs: &Inputs<'a>) -> Inputs<'a> {
    Inputs { n: inputs.n.min(DECODE), ..*inputs }
}

fn everything(n: usize) -> TokenSets {
    let mut sets = TokenSets::new();
    (0..n).for_each(|_| sets.push(&[]));
    sets
}

pub(super) struct Logprob {
    /// Log-probabilities, entropies, normalisers.
    pub(super) columns: [Tensor; 3],
    pub(super) hidden: Tensor,
    pub(super) head: Tensor,
    targets: Tensor<u32>,
    pub(super) allowed: TokenSets,
    pub(super) size: usize,
}

impl Logprob {
    /// Logits of a standard deviation of about 3.
    pub(super) fn new(inputs: &Inputs<'_>) -> Result<Logprob> {
        let (n, c, v) = (inputs.n, inputs.model.c, inputs.model.vocab);
        let scale = 3.0 * (9.0 / c as f32).sqrt();
        let column = |stream| inputs.wide(stream, &[n], 1.0);
        Ok(Logprob {
            columns: [column(1)?, column(2)?, column(3)?],
            hidden: inputs.tensor(4, &[n, c], 1.0)?,
            head: inputs.tensor(5, &[v, c], scale)?,
            targets: inputs.ids(6, n, v)?,
            allowed: everything(n),
            size: inputs.size(),
        })
    }

    /// N, C, V.
    pub(super) fn sizes(&self) -> (usize, usize, usize) {
        (self.hidden.rows(), self.hidden.row_len(), self.head.rows())
    }

    /// Log-probabilities of some rows, with their numbers.
    pub(super) fn exact(&self) -> Result<Vec<(usize, Vec<f64>)>> {
        let (hidden, head, c) = (values(&self.hidden)?, values(&self.head)?, self.hidden.row_len());
        let rows = some_rows(self.hidden.rows()).into_iter();
        Ok(rows.map(|n| (n, log_softmax(&logits(&hidden, &head, c, n)))).collect())
    }
}

fn entropy(logprobs: &[f64]) -> f64 {
    -logprobs.iter().map(|l| l.exp() * l).sum::<f64>()
}

impl Operation for Logprob {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        let (n, c, v) = self.sizes();
        vec![("N", n), ("C", c), ("V", v)]
    }
    fn cost(&self) -> Cost {
        let (n, c, v) = self.sizes();
        cost::linear_logprob_forward(n, c, v, self.size)
    }
    fn poison(&mut self) -> Result<()> {
        poison(&mut self.columns.each_mut())
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let [logprobs, entropy, lse] = &mut self.columns;
        let (hidden, head) = (&self.hidden, &self.head);
        ops::linear_logprob_forward(logprobs, entropy, lse, hidden, head, &self.targets, &self.allowed, 1.0)
    }
    fn error(&self) -> Result<f64> {
        let (logprobs, entropies, targets) =
            (values(&self.columns[0])?, values(&self.columns[1])?, self.targets.to_vec()?);
        let mut pairs = Vec::new();
        for (n, exact) in self.exact()? {
            pairs.push((logprobs[n], exact[targets[n] as usize]));
            pairs.push((entropies[n], entropy(&exact)));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        // Sums of at most 1024 products in f32, and exponentials of the device.
        3e-5
    }
}

struct LogprobBackward {
    forward: Logprob,
    d_hidden: Tensor,
    d_head: Tensor,
    d_logprobs: Tensor,
    d_entropy: Tensor,
    tolerance: f64,
}

impl LogprobBackward {
    fn new(inputs: &Inputs<'_>) -> Result<LogprobBackward> {
        let mut forward = Logprob::new(inputs)?;
        forward.run()?;
        let (n, c, v) = forward.sizes();
        Ok(LogprobBackward {
            forward,
            d_hidden: inputs.tensor(7, &[n, c], 1.0)?,
            d_head: inputs.wide(8, &[v, c], 1.0)?,
            d_logprobs: inputs.wide(9, &[n], 1.0)?,
            d_entropy: inputs.wide(10, &[n], 0.1)?,
            tolerance: inputs.rounding(1e-4),
        })
    }
}

impl Operation for LogprobBackward {
    fn shape(&self) -> Vec<(&'static str, usize)> {
        self.forward.shape()
    }
    fn cost(&self) -> Cost {
        let (n, c, v) = self.forward.sizes();
        cost::linear_logprob_backward(n, c, v, self.forward.size)
    }
    fn poison(&mut self) -> Result<()> {
        self.d_head.fill(0.0)?;
        poison(&mut [&mut self.d_hidden])
    }
    fn run(&mut self) -> Result<(), KernelError> {
        let Logprob { columns: [_, entropy, lse], hidden, head, targets, allowed, .. } = &self.forward;
        ops::linear_logprob_backward(
            &mut self.d_hidden,
            &mut self.d_head,
            &self.d_logprobs,
            &self.d_entropy,
            entropy,
            lse,
            hidden,
            head,
            targets,
            allowed,
            1.0,
        )
    }
    fn error(&self) -> Result<f64> {
        let (head, targets, c) =
            (values(&self.forward.head)?, self.forward.targets.to_vec()?, self.d_hidden.row_len());
        let (got, d_logprobs, d_entropy) =
            (values(&self.d_hidden)?, values(&self.d_logprobs)?, values(&self.d_entropy)?);
        let mut pairs = Vec::new();
        for (n, exact) in self.forward.exact()? {
            let h = entropy(&exact);
            let mut want = vec![0.0; c];
            for (v, logprob) in exact.iter().enumerate() {
                let p = logprob.exp();
                let target = f64::from(u8::from(v == targets[n] as usize));
                let d = d_logprobs[n] * (target - p) - d_entropy[n] * p * (logprob + h);
                want.iter_mut().zip(row(&head, c, v)).for_each(|(want, head)| *want += d * head);
            }
            pairs.extend(row(&got, c, n).iter().copied().zip(want));
        }
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        self.tolerance
    }
}

struct Sample {
    from: Logprob,
    tokens: Tensor<u32>,
    logprobs: Tensor,
    uniforms: Tensor,
}

impl Sample {
    fn new(inputs: &Inputs<'_>) -> Result<Sample> {
        let uniforms: Vec<f32> =
            inputs.numbers(12, inputs.n, 0.5).iter().map(|x| (x + 0.5).clamp(0.0, 0.999_99)).collect();
        Ok(Sample {
            from: Logprob::new(inputs)?,
            tokens: inputs.ids(13, inputs.n, 1)?,
            logprobs: inputs.wide(14, &[inputs.n], 1.0)?,
            uniforms: Tensor::from_slice(&[inputs.n], &uniforms, inputs.device, reskill_kernels::DType::F32)?,
        })
    }
}

impl Operation for Sample {
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
        ops::linear_sample(&mut self.tokens, &mut self.logprobs, hidden, head, allowed, 1.0, &self.uniforms)
    }
    fn error(&self) -> Result<f64> {
        let (tokens, logprobs, uniforms) =
            (self.tokens.to_vec()?, values(&self.logprobs)?, values(&self.uniforms)?);
        let mut worst = 0.0_f64;
        for (n, exact) in self.from.exact()? {
            let Some(&logprob) = exact.get(tokens[n] as usize) else { return Ok(f64::NAN) };
            worst = worst.max(relative_error([(logprobs[n], logprob)]));
            worst = worst.max(outside(&exact, tokens[n] as usize, uniforms[n]));
        }
        Ok(worst)
    }
    fn tolerance(&self) -> f64 {
        3e-5
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
        let uniforms =
            inputs.numbers(2, inputs.n, 0.5).iter().map(|x| (x + 0.5).clamp(0.0, 0.999_99)).collect();
        Ok(FromLogits {
            logits: inputs.tensor(1, &[inputs.n, inputs.model.vocab], 6.0)?,
            filters: vec![filter; inputs.n],
            uniforms,
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
    fn error(&self) -> Result<f64> {
        let logits = values(&self.logits)?;
        let pairs = some_rows(self.logits.rows()).into_iter().map(|n| {
            let exact = log_softmax(row(&logits, self.logits.row_len(), n));
            (
                f64::from(self.drawn[n].logprob),
                exact.get(self.drawn[n].token as usize).copied().unwrap_or(f64::INFINITY),
            )
        });
        Ok(relative_error(pairs))
    }
    fn tolerance(&self) -> f64 {
        3e-5
    }
    fn waits(&self) -> bool {
        true
    }
}
