// Sum of squares of a tensor, added to a running total, and the factor that clips a gradient of that norm.
//
// Formula   total += sum_i x[i]^2        scale = min(1, limit / sqrt(total)), NaN if the total is not finite
// Shapes    x (n) f32 | parts (P) f64 | total (1) f64 | scale (1) f32
// Bytes     4 n + 16 P: x is read once.
// Flops     2 n in f64: memory-bound where f64 runs at half the rate of f32, as on the chips this is tuned for.
// Launch    parts: grid (P = ceil(n / 8192) <= 1024), block (256); then one block (256) for the total; one thread for
//           the scale.
// Numerics  f64 throughout: the square of an f32 is exact in it. The order depends on n alone.
#include "prelude.cuh"
#include "reduce.cuh"

// Four elements a thread at once, 16 of them on their way; those beyond the last four by the first threads of the first block.
extern "C" __global__ void __launch_bounds__(256)
sum_squares_parts_f32(double* __restrict__ parts /* (P) */, const float* __restrict__ x /* (n), 16-byte aligned */,
                      i64 n) {
  double sum = 0.0;
  // 64-bit: an embedding of 151,936 x 16,384 has more than 2^31 elements.
  const i64 fours = n / 4, first = (i64)blockIdx.x * blockDim.x + threadIdx.x, step = (i64)gridDim.x * blockDim.x;
#pragma unroll 4
  for (i64 i = first; i < fours; i += step) {
    const float4 four = reinterpret_cast<const float4*>(x)[i];
    const double values[4] = {four.x, four.y, four.z, four.w};
#pragma unroll
    for (int k = 0; k < 4; ++k) sum += values[k] * values[k];
  }
  if (first < n % 4) {
    const double value = x[fours * 4 + first];
    sum += value * value;
  }
  sum = block_sum(sum);
  if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
EXPORT_KERNEL(sum_squares_parts_f32)

extern "C" __global__ void __launch_bounds__(256)
sum_squares_add_f64(double* __restrict__ total /* (1) */, const double* __restrict__ parts /* (P) */, int p) {
  double sum = 0.0;
  for (int i = threadIdx.x; i < p; i += blockDim.x) sum += parts[i];
  sum = block_sum(sum);
  if (threadIdx.x == 0) *total += sum;
}
EXPORT_KERNEL(sum_squares_add_f64)

extern "C" __global__ void sum_squares_clip_f32(float* __restrict__ scale /* (1) */,
                                                const double* __restrict__ total /* (1) */, float limit) {
  const double norm = sqrt(*total);
  // 0 times a finite number is 0, times infinity or NaN it is NaN.
  *scale = norm > (double)limit ? (float)((double)limit / norm + norm * 0.0) : (float)(1.0 + norm * 0.0);
}
EXPORT_KERNEL(sum_squares_clip_f32)
