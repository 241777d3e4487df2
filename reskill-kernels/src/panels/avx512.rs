//! The tiles of a product by AVX-512.

use std::arch::x86_64::{
    __m512, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256, _mm512_add_ps, _mm512_castpd_ps, _mm512_castps_pd,
    _mm512_castsi512_ps, _mm512_cvtepu16_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4, _mm512_slli_epi32,
    _mm512_storeu_ps, _mm512_unpackhi_pd, _mm512_unpackhi_ps, _mm512_unpacklo_pd, _mm512_unpacklo_ps,
};

use super::{Left, Matrix, MatrixMut, PANEL, PanelElement, Panels, TILE_ROWS};

/// Elements from a place that is read to the one that is fetched in advance.
const AHEAD: usize = 8 * PANEL;

/// Whether the processor has the instructions.
pub(super) fn is_available() -> bool {
    is_x86_feature_detected!("avx512f")
}

/// Where the tiles of one block of rows are read and written.
struct Block {
    out: *mut f32,
    out_stride: usize,
    left: *const f32,
    row_stride: usize,
    /// Elements of `left` from a term of the sums to the next.
    step: usize,
    accumulate: bool,
}

/// One part of the depth.
///
/// # Panics
/// If the processor has not the instructions or the factors have not the sizes of `out`.
pub(super) fn run<T: PanelElement>(
    out: &mut MatrixMut<'_>,
    left: Left<'_>,
    panels: Panels<'_, T>,
    accumulate: bool,
) {
    let (rows, cols, depth) = (out.rows(), out.cols(), panels.depth);
    assert!(is_available(), "the caller asked for instructions that the processor has");
    match left {
        Left::InPlace(left) => {
            assert!((left.rows(), left.cols()) == (rows, depth), "the left factor fits");
        }
        Left::Packed(data) => assert_eq!(data.len(), rows * depth, "the left factor fits"),
    }
    let n_panels = cols.div_ceil(PANEL);
    assert_eq!(cols, panels.cols, "the right factor fits");
    if rows == 0 || n_panels == 0 {
        return;
    }
    assert!(panels.data.len() >= (n_panels - 1) * panels.stride + PANEL * depth, "every panel is there");
    // Few rows are bound by memory and by the latency of the sums: many panels at once serve both.
    let widest = if rows <= 2 { 8 } else { 4 };
    let mut panel = 0;
    while panel < n_panels {
        let n = match (n_panels - panel).min(widest) {
            8.. => 8,
            4.. => 4,
            2.. => 2,
            _ => 1,
        };
        for first in (0..rows).step_by(TILE_ROWS) {
            let height = TILE_ROWS.min(rows - first);
            let (from, offset, row_stride, step) = match left {
                Left::InPlace(left) => (left.as_ptr(), first * left.row_stride(), left.row_stride(), 1),
                Left::Packed(data) => (data.as_ptr(), first * depth, 1, height),
            };
            let stride = out.stride();
            // SAFETY: the processor has AVX-512, and the asserts above say that the factors have the sizes of `out`: rows
            // `first .. first + height` of left factor and `out` and panels `panel .. panel + n` exist. `out` is borrowed
            // mutably, the factors immutably.
            unsafe {
                let block = Block {
                    out: out.as_mut_ptr().add(first * stride + panel * PANEL),
                    out_stride: stride,
                    left: from.add(offset),
                    row_stride,
                    step,
                    accumulate,
                };
                let last = PANEL.min(cols - (panel + n - 1) * PANEL);
                let weights = panels.data.as_ptr().add(panel * panels.stride);
                tile(&block, height, (weights, panels.stride), depth, n, last);
            }
        }
        panel += n;
    }
}

/// A tile of `height` rows by `n` panels, the last of which has `last` columns.
///
/// # Safety
/// The processor has AVX-512; `block.left` points to `height` rows of `depth` elements at their strides, `weights` to `n`
/// panels of that depth, and `block.out` to `height` rows of all their columns, which nothing else reaches.
#[target_feature(enable = "avx512f")]
unsafe fn tile<T: PanelElement>(
    block: &Block,
    height: usize,
    weights: (*const T, usize),
    depth: usize,
    n: usize,
    last: usize,
) {
    // SAFETY: the caller's promise, for the numbers of rows and panels that are matched.
    unsafe {
        match n {
            8 => tile_of::<T, 8>(block, height, weights, depth, last),
            4 => tile_of::<T, 4>(block, height, weights, depth, last),
            2 => tile_of::<T, 2>(block, height, weights, depth, last),
            _ => tile_of::<T, 1>(block, height, weights, depth, last),
        }
    }
}

/// [`tile`] of `P` panels.
///
/// # Safety
/// As for [`tile`].
#[target_feature(enable = "avx512f")]
unsafe fn tile_of<T: PanelElement, const P: usize>(
    block: &Block,
    height: usize,
    weights: (*const T, usize),
    depth: usize,
    last: usize,
) {
    // SAFETY: the caller's promise, for the number of rows that is matched.
    unsafe {
        match height {
            1 => sums::<T, 1, P>(block, weights, depth, last),
            2 => sums::<T, 2, P>(block, weights, depth, last),
            3 => sums::<T, 3, P>(block, weights, depth, last),
            4 => sums::<T, 4, P>(block, weights, depth, last),
            5 => sums::<T, 5, P>(block, weights, depth, last),
            _ => sums::<T, TILE_ROWS, P>(block, weights, depth, last),
        }
    }
}

/// [`tile`] of `R` rows and `P` panels.
///
/// # Safety
/// As for [`tile`].
#[target_feature(enable = "avx512f")]
unsafe fn sums<T: PanelElement, const R: usize, const P: usize>(
    block: &Block,
    (weights, panel_stride): (*const T, usize),
    depth: usize,
    last: usize,
) {
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    // SAFETY: term `k < depth` of row `r < R` and of panel `p < P` exist, by the caller's promise.
    unsafe {
        let (mut left, mut weights) = (block.left, weights);
        for _ in 0..depth {
            let mut w = [_mm512_setzero_ps(); P];
            for (p, w) in w.iter_mut().enumerate() {
                *w = load(weights.add(p * panel_stride));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*left.add(r * block.row_stride));
                for (sum, w) in sums.iter_mut().zip(w) {
                    *sum = _mm512_fmadd_ps(x, w, *sum);
                }
            }
            left = left.wrapping_add(block.step);
            weights = weights.wrapping_add(PANEL);
        }
    }
    let mask = ((1_u32 << last) - 1) as u16;
    for (r, sums) in sums.into_iter().enumerate() {
        for (p, mut sum) in sums.into_iter().enumerate() {
            // SAFETY: row `r` of `out` has all columns of the first `P - 1` panels and `last` of the last, which has as
            // many bits in its mask.
            unsafe {
                let to = block.out.add(r * block.out_stride + p * PANEL);
                let mask = if p + 1 == P { mask } else { u16::MAX };
                if block.accumulate {
                    sum = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, to), sum);
                }
                _mm512_mask_storeu_ps(to, mask, sum);
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
    // SAFETY: 16 elements of 4 or of 2 bytes are the 64 or 32 bytes that are loaded, from any address.
    unsafe {
        if T::IS_BF16 {
            let bits = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits))
        } else {
            _mm512_loadu_ps(from.cast())
        }
    }
}

/// One panel (depth, 16) from columns that are contiguous; those that are missing are 0.
pub(super) fn transpose(panel: &mut [f32], columns: Matrix<'_>) {
    let depth = columns.rows();
    assert!(is_available() && columns.columns_are_contiguous() && columns.cols() <= PANEL);
    assert_eq!(panel.len(), PANEL * depth, "the panel has the depth of its columns");
    // SAFETY: the processor has AVX-512 and the panel room for the columns (asserted above).
    unsafe { transpose_columns(panel, columns.transposed()) }
}

/// As [`transpose`]; row `j` of `by_column` is column `j`.
///
/// # Safety
/// The processor has AVX-512; `by_column` has at most 16 rows, contiguous, and `panel` 16 elements for each of its columns.
#[target_feature(enable = "avx512f")]
unsafe fn transpose_columns(panel: &mut [f32], by_column: Matrix<'_>) {
    for (block, to) in panel.chunks_mut(PANEL * PANEL).enumerate() {
        let height = to.len() / PANEL;
        let mask = ((1_u32 << height) - 1) as u16;
        let mut columns = [_mm512_setzero_ps(); PANEL];
        for (j, column) in columns[..by_column.rows()].iter_mut().enumerate() {
            let from = by_column.row(j)[block * PANEL..][..height].as_ptr();
            // The weights come from far away, in as many streams as there are columns.
            _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
            // SAFETY: `height` elements follow, and the mask has as many bits.
            *column = unsafe { _mm512_maskz_loadu_ps(mask, from) };
        }
        // SAFETY: `to` has `height` rows of 16.
        unsafe { store_transposed(to.as_mut_ptr(), height, columns) };
    }
}

/// Stores the first `height` rows of the matrix whose columns are given.
///
/// # Safety
/// The processor has AVX-512, and `to` points to `height` times 16 elements.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store_transposed(to: *mut f32, height: usize, columns: [__m512; PANEL]) {
    // Pairs, then fours of columns: afterwards lane `l` of `fours[4 g + j]` holds row `4 l + j` of columns `4 g .. 4 g + 4`.
    let mut pairs = columns;
    for (to, from) in pairs.chunks_exact_mut(2).zip(columns.chunks_exact(2)) {
        to[0] = _mm512_unpacklo_ps(from[0], from[1]);
        to[1] = _mm512_unpackhi_ps(from[0], from[1]);
    }
    let mut fours = pairs;
    for (to, from) in fours.chunks_exact_mut(4).zip(pairs.chunks_exact(4)) {
        let wide = |i: usize| _mm512_castps_pd(from[i]);
        to[0] = _mm512_castpd_ps(_mm512_unpacklo_pd(wide(0), wide(2)));
        to[1] = _mm512_castpd_ps(_mm512_unpackhi_pd(wide(0), wide(2)));
        to[2] = _mm512_castpd_ps(_mm512_unpacklo_pd(wide(1), wide(3)));
        to[3] = _mm512_castpd_ps(_mm512_unpackhi_pd(wide(1), wide(3)));
    }
    let mut rows = columns;
    for j in 0..4 {
        let [a, b, c, d] = [fours[j], fours[4 + j], fours[8 + j], fours[12 + j]];
        let (even_ab, even_cd) = (_mm512_shuffle_f32x4::<0x88>(a, b), _mm512_shuffle_f32x4::<0x88>(c, d));
        let (odd_ab, odd_cd) = (_mm512_shuffle_f32x4::<0xdd>(a, b), _mm512_shuffle_f32x4::<0xdd>(c, d));
        rows[j] = _mm512_shuffle_f32x4::<0x88>(even_ab, even_cd);
        rows[4 + j] = _mm512_shuffle_f32x4::<0x88>(odd_ab, odd_cd);
        rows[8 + j] = _mm512_shuffle_f32x4::<0xdd>(even_ab, even_cd);
        rows[12 + j] = _mm512_shuffle_f32x4::<0xdd>(odd_ab, odd_cd);
    }
    for (i, row) in rows[..height].iter().enumerate() {
        // SAFETY: row `i < height` is inside.
        unsafe { _mm512_storeu_ps(to.add(i * PANEL), *row) };
    }
}
