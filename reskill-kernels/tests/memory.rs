//! The memory of the fused log-probability: a counting allocator around one call of each pass, on one thread of the test.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use reskill_kernels::ops::{TokenSets, linear_logprob_backward, linear_logprob_forward};
use reskill_kernels::{Device, Tensor};

/// The system's allocator, with the bytes now and at most.
struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: both methods hand their arguments to the system's allocator and return what it returns; counting touches no
// memory of the caller. `realloc` and `alloc_zeroed` have default implementations over these two.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::SeqCst) + layout.size();
        PEAK.fetch_max(now, Ordering::SeqCst);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::SeqCst);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// Bytes that `f` takes at most beyond those held when it begins.
fn peak_of(f: impl FnOnce()) -> usize {
    let before = NOW.load(Ordering::SeqCst);
    PEAK.store(before, Ordering::SeqCst);
    f();
    PEAK.load(Ordering::SeqCst) - before
}

#[test]
fn neither_pass_holds_the_logits_of_the_batch() {
    let (n, vocab, c) = (700, 60_000, 8);
    let filled = |shape: &[usize]| {
        let len = shape.iter().product();
        Tensor::from_vec(shape, (0..len).map(|i: usize| (i % 17) as f32 * 0.01).collect()).unwrap()
    };
    let column = || Tensor::<f32>::zeros(&[n], &Device::Cpu).unwrap();
    let (hidden, head) = (filled(&[n, c]), filled(&[vocab, c]));
    let targets = Tensor::from_vec(&[n], (0..n as u32).collect()).unwrap();
    let mut allowed = TokenSets::new();
    (0..n).for_each(|_| allowed.push(&[]));
    let (mut logprobs, mut entropy, mut lse) = (column(), column(), column());
    let mut forward = || {
        linear_logprob_forward(
            &mut logprobs, &mut entropy, &mut lse, &hidden, &head, &targets, &allowed, 1.0,
        )
        .unwrap();
    };
    // The first call starts the threads and takes the scratch that `gemm` keeps.
    forward();
    let forward_peak = peak_of(forward);
    let ones = filled(&[n]);
    let (mut d_hidden, mut d_head) = (filled(&[n, c]), filled(&[vocab, c]));
    let backward_peak = peak_of(|| {
        linear_logprob_backward(
            &mut d_hidden, &mut d_head, &ones, &ones, &entropy, &lse, &hidden, &head, &targets, &allowed, 1.0,
        )
        .unwrap();
    });
    // All logits would be 168 MB. The forward pass keeps 16 bytes a row and tile and some tiles of 128 rows, the backward
    // pass eight tiles of all 700 rows: 23 MB.
    assert!(forward_peak < 12 << 20, "forward: {forward_peak} bytes");
    assert!(backward_peak < 32 << 20, "backward: {backward_peak} bytes");
    assert!(backward_peak > 700 * 8192 * 4, "the allocator counts nothing");
}
