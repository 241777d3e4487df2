//! The fused kernels of low-rank additions: bf16, ranks up to 64, sizes that are multiples of 8.

use reskill_kernels::ops::{LowRank, low_rank_backward, low_rank_forward};
use reskill_kernels::{DType, Device, Tensor};
use reskill_simt::with_each_order;

use crate::support::{Wide, assert_close, bits, device, random, rounding, there, wide};

const SCALE: f32 = 0.5;
const BF16: DType = DType::Bf16;

/// A layer and what comes into it.
struct Case {
    /// Rows, inputs, rank, outputs, first column, width.
    sizes: [usize; 6],
    x: Tensor,
    a: Tensor,
    b: Tensor,
    /// Before the addition; of the gradient, `d_out`.
    out: Tensor,
    d_x: Tensor,
}

/// What both directions leave: `out`, `d_x`, `d_a`, `d_b`.
type Results = [Tensor; 4];
const NAMES: [&str; 4] = ["out", "d_x", "d_a", "d_b"];

impl Case {
    fn new(sizes: [usize; 6]) -> Case {
        let [n, inputs, rank, outputs, _, width] = sizes;
        let at = |shape: &[usize], seed| there(&random(shape, seed), BF16);
        // Inner values of size 1.
        let a = random(&[rank, inputs], 2).to_vec().unwrap();
        let a: Vec<f32> = a.iter().map(|v| v * 2.0 / (inputs as f32).sqrt()).collect();
        Case {
            sizes,
            x: at(&[n, inputs], 1),
            a: there(&Tensor::from_vec(&[rank, inputs], a).unwrap(), BF16),
            b: at(&[outputs, rank], 3),
            out: at(&[n, width], 4),
            d_x: at(&[n, inputs], 5),
        }
    }

    /// The first `n` rows alone.
    fn head(&self, n: usize) -> Case {
        let cut = |tensor: &Tensor| {
            let values = tensor.to_vec().unwrap();
            Tensor::from_slice(&[n, tensor.row_len()], &values[..n * tensor.row_len()], &device(), BF16)
                .unwrap()
        };
        let [_, inputs, rank, outputs, first, width] = self.sizes;
        let (a, b) = (self.a.try_clone().unwrap(), self.b.try_clone().unwrap());
        let sizes = [n, inputs, rank, outputs, first, width];
        Case { sizes, x: cut(&self.x), a, b, out: cut(&self.out), d_x: cut(&self.d_x) }
    }

    fn pair(&self) -> LowRank<'_> {
        LowRank { a: &self.a, b: &self.b, scale: SCALE, first_column: self.sizes[4] }
    }

    fn run(&self) -> Results {
        let mut out = self.out.try_clone().unwrap();
        low_rank_forward(&mut out, &self.x, &self.pair()).unwrap();
        let [d_x, d_a, d_b] = self.gradients();
        [out, d_x, d_a, d_b]
    }

    /// Those of the factors are added to ones.
    fn gradients(&self) -> [Tensor; 3] {
        let ones = |like: &Tensor| {
            let mut ones = Tensor::zeros_as(like.shape(), &device(), DType::F32).unwrap();
            ones.fill(1.0).unwrap();
            ones
        };
        let mut d_x = self.d_x.try_clone().unwrap();
        let (mut d_a, mut d_b) = (ones(&self.a), ones(&self.b));
        low_rank_backward(&mut d_x, (&mut d_a, &mut d_b), &self.out, &self.x, &self.pair()).unwrap();
        [d_x, d_a, d_b]
    }

    /// In f64, with inner values rounded as the kernels round them.
    fn expected(&self) -> [Wide; 4] {
        let [n, inputs, rank, outputs, first, width] = self.sizes;
        let (x, a, b) = (wide(&self.x), wide(&self.a), wide(&self.b));
        let (mut out, mut d_x) = (wide(&self.out), wide(&self.d_x));
        let (mut d_a, mut d_b) = (vec![1.0; rank * inputs], vec![1.0; outputs * rank]);
        let d_out = out.clone();
        let scale = f64::from(SCALE);
        for row in 0..n {
            let x = &x[row * inputs..][..inputs];
            let d_out = &d_out[row * width + first..][..outputs];
            let inner: Wide = a.chunks_exact(inputs).map(|a| dot(a, x)).collect();
            let inner = rounded(&inner);
            let mut d_inner = vec![0.0; rank];
            d_out.iter().zip(b.chunks_exact(rank)).for_each(|(d, b)| add(&mut d_inner, scale * d, b));
            let d_inner = rounded(&d_inner);
            let out = &mut out[row * width + first..][..outputs];
            for o in 0..outputs {
                out[o] += scale * dot(&b[o * rank..][..rank], &inner);
                add(&mut d_b[o * rank..][..rank], scale * d_out[o], &inner);
            }
            for (r, &d) in d_inner.iter().enumerate() {
                add(&mut d_x[row * inputs..][..inputs], d, &a[r * inputs..][..inputs]);
                add(&mut d_a[r * inputs..][..inputs], d, x);
            }
        }
        [out, d_x, d_a, d_b]
    }

    /// A sum that f32 and f64 round to different neighbours moves an inner value by 2^-8 of itself: allowed to one of size
    /// 2 times a factor of size 1 in each sum. The results from `first` on are looked at.
    fn assert_right(&self, got: &Results, first: usize) {
        let flip = 2.0 * rounding(BF16);
        // Sums over many outputs are larger.
        let d_flip = flip * (self.sizes[3] as f64 / 100.0).sqrt().max(1.0);
        let within = [flip + rounding(BF16), d_flip + rounding(BF16), d_flip, flip];
        for (((got, want), within), name) in
            got.iter().zip(self.expected()).zip(within).zip(NAMES).skip(first)
        {
            assert_close(got, &want, within, &format!("{name} of {:?}", self.sizes));
        }
    }
}

fn dot(x: &[f64], y: &[f64]) -> f64 {
    x.iter().zip(y).map(|(x, y)| x * y).sum()
}

fn add(to: &mut [f64], factor: f64, of: &[f64]) {
    to.iter_mut().zip(of).for_each(|(to, of)| *to += factor * of);
}

fn rounded(values: &[f64]) -> Wide {
    let narrow: Vec<f32> = values.iter().map(|&v| v as f32).collect();
    wide(
        &Tensor::from_slice(&[values.len()], &narrow, &Device::Cpu, DType::F32)
            .unwrap()
            .to_device_as(&device(), BF16)
            .unwrap(),
    )
}

#[test]
fn fused_low_rank_additions_equal_the_f64_version_in_every_order() {
    let sizes = [
        [1, 8, 8, 8, 0, 8],
        [37, 40, 8, 24, 24, 72],
        // More inputs and outputs than the warps of a block take at once.
        [33, 264, 16, 328, 8, 344],
        [18, 296, 24, 40, 0, 40],
        [50, 72, 32, 280, 16, 304],
        [21, 48, 40, 272, 0, 280],
        [19, 312, 64, 296, 8, 304],
    ];
    for sizes in sizes {
        let case = Case::new(sizes);
        let mut seen = None;
        with_each_order(|order| {
            let got = case.run();
            if seen.is_none() {
                case.assert_right(&got, 0);
            }
            let got = got.each_ref().map(bits);
            assert!(seen.get_or_insert_with(|| got.clone()) == &got, "{sizes:?} {order:?}");
        });
    }
}

#[test]
fn rows_of_a_low_rank_addition_do_not_depend_on_how_many_there_are() {
    // Of 4,096 rows and more a block takes 32, else 16.
    for (rank, inputs, outputs) in [(8, 40, 24), (32, 24, 40), (64, 24, 40)] {
        let case = Case::new([4100, inputs, rank, outputs, 8, outputs + 16]);
        let got = case.run();
        case.assert_right(&got, 0);
        let few = case.head(100).run();
        for i in [0, 1] {
            let (many, few) = (bits(&got[i]), bits(&few[i]));
            assert!(many[..few.len()] == few, "{} of rank {rank}", NAMES[i]);
        }
    }
}

#[test]
fn sums_over_many_rows_are_right_in_every_order() {
    // More than 192 blocks of columns leave one part of four tiles: it goes round its stages.
    let case = Case::new([197, 136, 16, 24_400, 8, 24_408]);
    let mut seen = None;
    with_each_order(|order| {
        let [d_x, d_a, d_b] = case.gradients();
        let got = [&d_x, &d_a, &d_b].map(bits);
        if seen.is_none() {
            case.assert_right(&[case.out.try_clone().unwrap(), d_x, d_a, d_b], 1);
        }
        assert!(seen.get_or_insert_with(|| got.clone()) == &got, "{order:?}");
    });
}
