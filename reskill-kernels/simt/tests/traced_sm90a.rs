//! What kernels for compute capability 9.0 of products, of the output head and of attention touch and ask of
//! memory, as `traced_costs` and `traced_requests` have it for the others.
//!
//! One program, since the capability holds for the process.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod common;

use common::{ids, packed_attention, tensor};
use reskill_kernels::ops::cost::{self, Cost};
use reskill_kernels::ops::{self, AttentionShape, CachedPlan, CachedSpan, Distribution, TokenSets};
use reskill_kernels::{DType, Device, KernelError, Tensor};
use reskill_simt::{counters, requests};

const BF16: DType = DType::Bf16;
/// Kernels that may take more than one and a tenth of the least sectors, by reason.
const ALLOWED: [(&str, f64); 12] = [
    // Results leave as pairs of a fragment, four lanes a row: in bf16 that is half a sector.
    ("matmul_rows_1_sm90a_bf16", 2.0),
    ("matmul_rows_2_sm90a_bf16", 2.0),
    ("matmul_rows_4_sm90a_bf16", 2.0),
    ("matmul_rows_8_sm90a_bf16", 2.0),
    ("matmul_nt_sm90a_bf16", 2.0),
    ("matmul_join_sm90a_bf16", 1.2),
    // One lane a row writes 16 bytes, or 4 of the divergence; the rows of a warp are apart by their strips.
    ("linear_logprob_parts_sm90a_bf16", 2.0),
    ("linear_kl_parts_sm90a_bf16", 3.4),
    // Eight f32 a lane are two accesses of 16 bytes that touch the same sectors one after the other.
    ("linear_logprob_d_hidden_rows_bf16", 1.7),
    // A thread reads the parts of its row; a lane one of four strips.
    ("linear_kl_join", 7.3),
    ("linear_logprob_join", 1.3),
    ("linear_sample_strip", 1.4),
];

/// An output head with N rows, its reference of width D, and places for all results.
struct Head {
    device: Device,
    n: usize,
    everything: TokenSets,
    hidden: Tensor,
    head: Tensor,
    ref_hidden: Tensor,
    ref_head: Tensor,
    targets: Tensor<u32>,
    columns: [Tensor; 6],
    d_hidden: Tensor,
    d_head: Tensor,
}

impl Head {
    fn new(n: usize, c: usize, d: usize, v: usize) -> Head {
        reskill_simt::set_capability(90);
        let device = reskill_simt::device();
        let mut everything = TokenSets::new();
        (0..n).for_each(|_| everything.push(&[]));
        let of = |rows, width| tensor(&device, &[rows, width], BF16);
        let targets: Vec<u32> = (0..n).map(|row| (row * 7 % v) as u32).collect();
        Head {
            n,
            everything,
            hidden: of(n, c),
            head: of(v, c),
            ref_hidden: of(n, d),
            ref_head: of(v, d),
            targets: ids(&device, &targets),
            columns: [(); 6].map(|()| tensor(&device, &[n], DType::F32)),
            d_hidden: of(n, c),
            d_head: tensor(&device, &[v, c], DType::F32),
            device,
        }
    }

    fn forward(&mut self) -> Result<(), KernelError> {
        let [logprobs, entropy, lse, ..] = &mut self.columns;
        let Head { hidden, head, targets, everything, .. } = self;
        ops::linear_logprob_forward(logprobs, entropy, lse, hidden, head, targets, everything, 1.0)
    }

    fn backward(&mut self) -> Result<(), KernelError> {
        let [_, entropy, lse, d, ..] = &self.columns;
        let (d_hidden, d_head) = (&mut self.d_hidden, &mut self.d_head);
        let (hidden, head, targets, everything) = (&self.hidden, &self.head, &self.targets, &self.everything);
        ops::linear_logprob_backward(
            d_hidden, d_head, d, d, entropy, lse, hidden, head, targets, everything, 1.0,
        )
    }

    fn kl(&mut self, backward: bool) -> Result<(), KernelError> {
        let [kl, lse, ref_lse, d, ..] = &mut self.columns;
        let policy = Distribution { hidden: &self.hidden, head: &self.head, lse };
        let reference = Distribution { hidden: &self.ref_hidden, head: &self.ref_head, lse: ref_lse };
        if !backward {
            return ops::linear_kl_forward(kl, policy, reference, &self.everything, 1.0);
        }
        let (d_hidden, d_head) = (&mut self.d_hidden, &mut self.d_head);
        ops::linear_kl_backward(d_hidden, d_head, d, kl, policy, reference, &self.everything, 1.0)
    }

    fn sample(&mut self) -> Result<(), KernelError> {
        let mut tokens = ids(&self.device, &vec![0; self.n]);
        let uniforms = Tensor::from_slice(&[self.n], &vec![0.5; self.n], &self.device, DType::F32).unwrap();
        let logprobs = &mut self.columns[0];
        ops::linear_sample(&mut tokens, logprobs, &self.hidden, &self.head, &self.everything, 1.0, &uniforms)
    }
}

/// `work` touches what the formula says and besides `scratch` bytes at most, written and read.
fn touches(name: &str, cost: Cost, scratch: usize, work: impl FnOnce() -> Result<(), KernelError>) {
    let counted = counters::count(|| work().unwrap()).unwrap();
    let (touched, floor) = (counted.read_bytes + counted.written_bytes, cost.bytes);
    let most = floor + 2 * scratch as u64;
    assert!((floor..=most).contains(&touched), "{name}: {touched} bytes, expected {floor} to {most}");
}

#[test]
fn bytes_are_those_of_the_formulas() {
    // 200 rows by two strips are four tiles of 128 rows; the tile of 64 rows has the others.
    for n in [5, 200] {
        let (c, d, v, s) = (40, 24, 300, 2);
        let mut head = Head::new(n, c, d, v);
        // Two strips of 16 bytes a row, and the target's logit; the targets are read in both launches.
        touches(
            "linear_logprob_forward",
            cost::linear_logprob_forward(n, c, v, s),
            n * (2 * 16 + 4 + 4),
            || head.forward(),
        );
        // The slab; hidden states and head once more for the products; d_hidden in f32.
        let slab = n * 512 * s + (n + v) * c * s + 4 * n * c;
        touches("linear_logprob_backward", cost::linear_logprob_backward(n, c, v, s), slab, || {
            head.backward()
        });
        // The sums of three parts a row.
        touches("linear_kl_forward", cost::linear_kl_forward(n, c, d, v, s), n * 3 * 4, || head.kl(false));
        touches("linear_kl_backward", cost::linear_kl_backward(n, c, d, v, s), slab, || head.kl(true));
        // The strips' statistics, the strip and the rest of each row; a strip of the head for each row and the rows after it.
        let again = n * (256 + 8) * c * s;
        touches("linear_sample", cost::linear_sample(n, c, v, s), n * (2 * 16 + 20) * 2 + again, || {
            head.sample()
        });
    }
}

/// Every kernel that `work` launches takes about the least sectors and passes, or what is allowed to it.
fn asks(what: &str, work: impl FnOnce() -> Result<(), KernelError>) {
    let mut wrong = Vec::new();
    for (kernel, of) in &requests::count(|| work().unwrap()) {
        let most = ALLOWED.iter().find(|(name, _)| name == kernel).map_or(1.1, |&(_, sectors)| sectors);
        let (sectors, passes) = (of.device.excess(), of.shared.excess());
        if sectors > most || passes > 1.1 {
            wrong.push(format!(
                "{what}: {kernel}: {sectors:.2} times the sectors, {passes:.2} times the passes"
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn memory_is_asked_for_in_whole_sectors() {
    let mut head = Head::new(256, 192, 128, 1024);
    asks("linear_logprob_forward", || head.forward());
    asks("linear_logprob_backward", || head.backward());
    asks("linear_kl_forward", || head.kl(false));
    asks("linear_kl_backward", || head.kl(true));
    asks("linear_sample", || head.sample());
}

/// A linear layer with N rows.
struct Layer {
    x: Tensor,
    weight: Tensor,
    d_out: Tensor,
    out: Tensor,
    d_x: Tensor,
    d_weight: Tensor,
}

impl Layer {
    fn new(n: usize, i: usize, o: usize) -> Layer {
        reskill_simt::set_capability(90);
        let device = reskill_simt::device();
        let of = |rows, width| tensor(&device, &[rows, width], BF16);
        let d_weight = tensor(&device, &[o, i], DType::F32);
        Layer { x: of(n, i), weight: of(o, i), d_out: of(n, o), out: of(n, o), d_x: of(n, i), d_weight }
    }

    fn forward(&mut self) -> Result<(), KernelError> {
        ops::matmul(&mut self.out, &self.x, &self.weight, false)
    }

    fn backward_input(&mut self) -> Result<(), KernelError> {
        ops::matmul_backward_input(&mut self.d_x, &self.d_out, &self.weight, false)
    }

    fn backward_weight(&mut self) -> Result<(), KernelError> {
        ops::matmul_backward_weight(&mut self.d_weight, &self.d_out, &self.x)
    }
}

#[test]
fn products_touch_what_their_formulas_say() {
    // Few rows, by a cluster of eight; tiles of 64 rows; large tiles, of which one in two parts: all ragged.
    for (n, i, o, parts) in [(5, 1032, 40, 0), (70, 40, 520, 0), (300, 520, 264, 2)] {
        let mut layer = Layer::new(n, i, o);
        let part = parts * 128 * 256 * 4;
        touches("matmul", cost::matmul(n, i, o, 2), part, || layer.forward());
        touches("matmul_backward_input", cost::matmul(n, o, i, 2), part, || layer.backward_input());
        let cost = cost::matmul_backward_weight(n, i, o, 2);
        touches("matmul_backward_weight", cost, part, || layer.backward_weight());
    }
}

#[test]
fn products_ask_for_memory_in_whole_sectors() {
    // Clusters of four and two blocks, tiles of 64 rows, large tiles.
    for (n, i, o) in [(16, 512, 64), (64, 256, 64), (64, 128, 512), (640, 640, 256)] {
        let mut layer = Layer::new(n, i, o);
        asks("matmul", || layer.forward());
        asks("matmul, added", || ops::matmul(&mut layer.out, &layer.x, &layer.weight, true));
    }
    let mut layer = Layer::new(640, 640, 256);
    asks("matmul_backward_input", || layer.backward_input());
    asks("matmul_backward_weight", || layer.backward_weight());
}

#[test]
fn attention_of_long_spans_to_the_cache_reads_whole_pages_once() {
    reskill_simt::set_capability(90);
    let device = reskill_simt::device().with_precision(BF16).unwrap();
    for head_dim in [64, 128] {
        let (page, len, position, n_blocks) = (32, 64, 96, 12);
        let shape = AttentionShape { n_heads: 4, n_kv_heads: 2, head_dim };
        let blocks = [[7, 1, 0, 9, 3], [2, 10, 11, 4, 5]];
        let spans = [0, 1].map(|span| CachedSpan { row: span * len, len, position, blocks: &blocks[span] });
        let (n, width) = (2 * len, shape.kv_width());
        let mut plan = CachedPlan::new(&device, shape, page).unwrap();
        plan.set(&spans, n, n_blocks).unwrap();
        let keys = tensor(&device, &[n_blocks, width, page], BF16);
        let values = tensor(&device, &[n_blocks, page, width], BF16);
        let qkv = tensor(&device, &[n, shape.qkv_width()], BF16);
        let mut out = tensor(&device, &[n, shape.out_width()], BF16);
        let mut run = || ops::attention_cached_planned(&mut out, &qkv, &keys, &values, &plan);
        let (flops, bytes) = ops::cached_cost(&spans, shape, 2, page, false);
        // Two tiles of 32 bytes; for each row its number and what it sees, which the merge reads again, and its parts.
        touches("attention_cached", Cost { bytes: bytes as u64, flops: flops as u64 }, 8 * n + 256, &mut run);
        asks("attention_cached", &mut run);
    }
}

#[test]
fn attention_of_packed_rows_asks_for_whole_sectors() {
    reskill_simt::set_capability(90);
    let device = reskill_simt::device();
    for head_dim in [64, 128] {
        packed_attention(&device, head_dim, |op, run| asks(op, run));
    }
}
