//! Views of matrices with strides: factors that are read, and results that tasks write side by side.

use std::marker::PhantomData;

/// A factor that is read in place: element (i, j) is `data[i * row_stride + j * col_stride]`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a> Matrix<'a> {
    /// A view of `data`.
    ///
    /// # Panics
    /// If `data` has not all elements.
    pub(crate) fn new(
        data: &'a [f32],
        (rows, cols): (usize, usize),
        (row_stride, col_stride): (usize, usize),
    ) -> Matrix<'a> {
        let matrix = Matrix { data, rows, cols, row_stride, col_stride };
        let is_empty = rows == 0 || cols == 0;
        assert!(is_empty || data.len() > matrix.offset(rows - 1, cols - 1), "a matrix has all its elements");
        matrix
    }

    /// Rows of `cols` elements, one after the other.
    pub(crate) fn row_major(data: &'a [f32], rows: usize, cols: usize) -> Matrix<'a> {
        Matrix::new(data, (rows, cols), (cols, 1))
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub(crate) fn col_stride(&self) -> usize {
        self.col_stride
    }

    pub(crate) fn rows_are_contiguous(&self) -> bool {
        self.col_stride == 1
    }

    pub(crate) fn columns_are_contiguous(&self) -> bool {
        self.row_stride == 1
    }

    /// The same elements, rows and columns exchanged.
    pub(crate) fn transposed(self) -> Matrix<'a> {
        Matrix {
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
            ..self
        }
    }

    /// Rows `first .. first + rows`.
    pub(crate) fn rows_from(self, first: usize, rows: usize) -> Matrix<'a> {
        assert!(first + rows <= self.rows, "rows of the matrix");
        Matrix { data: &self.data[self.offset(first, 0).min(self.data.len())..], rows, ..self }
    }

    /// Columns `first .. first + cols`.
    pub(crate) fn columns(self, first: usize, cols: usize) -> Matrix<'a> {
        self.transposed().rows_from(first, cols).transposed()
    }

    /// The elements of row `i`, which are contiguous.
    pub(crate) fn row(&self, i: usize) -> &'a [f32] {
        assert!(self.rows_are_contiguous() && i < self.rows, "a contiguous row of the matrix");
        &self.data[i * self.row_stride..][..self.cols]
    }

    pub(crate) fn at(&self, i: usize, j: usize) -> f32 {
        self.data[self.offset(i, j)]
    }

    /// The first element; all elements are inside the slice it came from.
    pub(crate) fn as_ptr(&self) -> *const f32 {
        self.data.as_ptr()
    }

    fn offset(&self, i: usize, j: usize) -> usize {
        i * self.row_stride + j * self.col_stride
    }
}

/// A result with contiguous rows, or a block of one. Blocks of one matrix are disjoint, so tasks may write them at once.
#[derive(Debug)]
pub(crate) struct MatrixMut<'a> {
    first: *mut f32,
    rows: usize,
    cols: usize,
    stride: usize,
    borrow: PhantomData<&'a mut [f32]>,
}

// SAFETY: it stands for the mutable borrow of its elements, which no other view reaches: f32 is `Send`.
unsafe impl Send for MatrixMut<'_> {}

impl<'a> MatrixMut<'a> {
    /// A view of `data`: element (i, j) is `data[i * stride + j]`.
    ///
    /// # Panics
    /// If `data` has not all elements, or rows overlap.
    pub(crate) fn new(data: &'a mut [f32], (rows, cols): (usize, usize), stride: usize) -> MatrixMut<'a> {
        let is_empty = rows == 0 || cols == 0;
        assert!(is_empty || data.len() >= (rows - 1) * stride + cols, "a matrix has all its elements");
        assert!(stride >= cols, "rows do not overlap");
        MatrixMut { first: data.as_mut_ptr(), rows, cols, stride, borrow: PhantomData }
    }

    /// Rows of `cols` elements, one after the other.
    pub(crate) fn row_major(data: &'a mut [f32], rows: usize, cols: usize) -> MatrixMut<'a> {
        MatrixMut::new(data, (rows, cols), cols)
    }

    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    pub(crate) fn cols(&self) -> usize {
        self.cols
    }

    pub(crate) fn stride(&self) -> usize {
        self.stride
    }

    /// The first element; rows of `cols` elements follow each other in distances of `stride`.
    pub(crate) fn as_mut_ptr(&mut self) -> *mut f32 {
        self.first
    }

    /// The elements of row `i`.
    pub(crate) fn row_mut(&mut self, i: usize) -> &mut [f32] {
        assert!(i < self.rows, "a row of the matrix");
        // SAFETY: the elements of row `i` belong to this view alone, and the result borrows it mutably.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(i * self.stride), self.cols) }
    }

    pub(crate) fn fill(&mut self, value: f32) {
        (0..self.rows).for_each(|i| self.row_mut(i).fill(value));
    }

    /// Columns `first .. first + cols`, borrowed from this view.
    pub(crate) fn columns(&mut self, first: usize, cols: usize) -> MatrixMut<'_> {
        assert!(first + cols <= self.cols, "columns of the matrix");
        // SAFETY: `first` is at most `cols`, so this is inside or one past the first row.
        let start = unsafe { self.first.add(first) };
        MatrixMut { first: start, rows: self.rows, cols, stride: self.stride, borrow: PhantomData }
    }

    /// Cuts the matrix into blocks of at most `rows` rows and `cols` columns, each with its first row and column.
    pub(crate) fn into_blocks(self, rows: usize, cols: usize) -> Vec<(usize, usize, MatrixMut<'a>)> {
        let mut blocks = Vec::with_capacity(self.rows.div_ceil(rows) * self.cols.div_ceil(cols));
        for col in (0..self.cols).step_by(cols) {
            for row in (0..self.rows).step_by(rows) {
                // SAFETY: row and column are inside the matrix. The blocks share no element, and the matrix is consumed.
                let first = unsafe { self.first.add(row * self.stride + col) };
                let (rows, cols) = (rows.min(self.rows - row), cols.min(self.cols - col));
                let block = MatrixMut { first, rows, cols, stride: self.stride, borrow: PhantomData };
                blocks.push((row, col, block));
            }
        }
        blocks
    }
}
