//! A tile of a packed product by AVX-512: sums of several rows and panels stay in registers over all inputs.

use std::arch::x86_64::{
    __m512, _mm256_loadu_si256, _mm512_add_ps, _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_slli_epi32,
};

use super::PANEL;
use super::cpu::{PanelElement, Tile};

/// Rows of a full block: with 4 panels it keeps 24 of 32 registers as sums.
const ROWS: usize = 6;

/// Whether the processor has the instructions.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// Computes a tile; `out` has a slice of `tile.outputs` for every row.
///
/// # Panics
/// If the slices do not have the sizes of the tile.
pub(super) fn run<T: PanelElement>(out: &mut [&mut [f32]], tile: &Tile<'_, T>) {
    assert!(is_available(), "the caller asked for instructions that the processor has");
    assert_eq!(tile.x.len(), out.len() * tile.inputs, "every row has its inputs");
    let n_panels = tile.outputs.div_ceil(PANEL);
    assert_eq!(tile.panels.len(), n_panels * PANEL * tile.inputs, "every output has its panel");
    assert!(out.iter().all(|row| row.len() == tile.outputs), "every row has its outputs");
    // Few rows are bound by memory and by the latency of the sums: many panels at once serve both.
    let widest = if out.len() <= 2 { 8 } else { 4 };
    let mut panel = 0;
    while panel < n_panels {
        let left = n_panels - panel;
        // SAFETY: the processor has AVX-512 and the slices have the sizes of the tile (asserted above); `panel` and the
        // panels after it, 8, 4, 2 or 1 of them, exist.
        panel += unsafe {
            match left.min(widest) {
                8.. => all_rows::<T, 8>(out, tile, panel),
                4.. => all_rows::<T, 4>(out, tile, panel),
                2.. => all_rows::<T, 2>(out, tile, panel),
                _ => all_rows::<T, 1>(out, tile, panel),
            }
        };
    }
}

/// All rows by `P` panels; returns `P`.
///
/// # Safety
/// The processor has AVX-512, the slices have the sizes of the tile, and panels `panel .. panel + P` exist.
#[target_feature(enable = "avx512f")]
unsafe fn all_rows<T: PanelElement, const P: usize>(
    out: &mut [&mut [f32]],
    tile: &Tile<'_, T>,
    panel: usize,
) -> usize {
    for (block, out) in out.chunks_mut(ROWS).enumerate() {
        let first = block * ROWS;
        // SAFETY: rows `first .. first + out.len()` exist; the rest is the caller's promise.
        unsafe {
            match out.len() {
                1 => block_rows::<T, 1, P>(out, tile, first, panel),
                2 => block_rows::<T, 2, P>(out, tile, first, panel),
                3 => block_rows::<T, 3, P>(out, tile, first, panel),
                4 => block_rows::<T, 4, P>(out, tile, first, panel),
                5 => block_rows::<T, 5, P>(out, tile, first, panel),
                _ => block_rows::<T, ROWS, P>(out, tile, first, panel),
            }
        }
    }
    P
}

/// `R` rows by `P` panels.
///
/// # Safety
/// As for [`all_rows`]; rows `first .. first + R` exist, and `out` holds their outputs.
#[target_feature(enable = "avx512f")]
unsafe fn block_rows<T: PanelElement, const R: usize, const P: usize>(
    out: &mut [&mut [f32]],
    tile: &Tile<'_, T>,
    first: usize,
    panel: usize,
) {
    let inputs = tile.inputs;
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: `x` has (rows, inputs) elements and `panels` (panels, inputs, 16); rows `first .. first + R`, panels
    // `panel .. panel + P` and inputs `0 .. inputs` are inside, by the caller's promise.
    unsafe {
        let x = tile.x.as_ptr().add(first * inputs);
        let weights = tile.panels.as_ptr().add(panel * inputs * PANEL);
        for i in 0..inputs {
            let mut w = [_mm512_setzero_ps(); P];
            for (p, w) in w.iter_mut().enumerate() {
                *w = load(weights.add((p * inputs + i) * PANEL));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*x.add(r * inputs + i));
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm512_fmadd_ps(x, w, *sum);
                }
            }
        }
    }
    for (out, sums) in out.iter_mut().zip(sums) {
        for (p, mut sum) in sums.into_iter().enumerate() {
            let from = (panel + p) * PANEL;
            let width = PANEL.min(tile.outputs - from);
            let mask = ((1_u32 << width) - 1) as u16;
            let to = &mut out[from..from + width];
            // SAFETY: `to` has `width` elements, and the mask has that many bits.
            unsafe {
                if tile.accumulate {
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to.as_ptr()), sum);
                }
                _mm512_mask_storeu_ps(to.as_mut_ptr(), mask, sum);
            }
        }
    }
}

/// One row of a panel, as f32.
///
/// # Safety
/// `from` points to 16 elements.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load<T: PanelElement>(from: *const T) -> __m512 {
    // SAFETY: 16 elements of 4 or 2 bytes are readable, by the caller's promise; the loads need no alignment. A bf16 is
    // the upper half of its f32.
    unsafe {
        if T::IS_BF16 {
            let half = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(half))
        } else {
            _mm512_loadu_ps(from.cast())
        }
    }
}
