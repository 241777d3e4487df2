// Matrix instructions, computed for the whole warp by the last lane to arrive.
#pragma once
#include "intrinsics.h"
#include "memory.h"

namespace simt {

struct MmaOperands {
  unsigned a[4], b[2];
};
struct MmaResult {
  float d[4];
};

// D (16x8) += A (16x16, row-major) * B (16x8, column-major), bf16 in, f32 out: PTX mma.m16n8k16, whose fragments are
//   a[i]: row lane/4 + 8*(i&1), columns 2*(lane%4) + 8*(i>>1) and the next
//   b[i]: rows 2*(lane%4) + 8*i and the next, column lane/4
//   d[i]: row lane/4 + 8*(i>>1), column 2*(lane%4) + (i&1)
inline void mma_m16n8k16_bf16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  const MmaOperands mine = {{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  const MmaResult r = collective<MmaResult>(
      mine,
      [](const MmaOperands* in, MmaResult* out) {
        alignas(64) float left[16][16], right[16][8], sum[16][8] = {};
        for (int lane = 0; lane < 32; ++lane) {
          const int group = lane >> 2, pair = (lane & 3) * 2;
          for (int i = 0; i < 4; ++i) {
            float* at = &left[group + (i & 1) * 8][pair + (i >> 1) * 8];
            at[0] = __uint_as_float(in[lane].a[i] << 16);
            at[1] = __uint_as_float(in[lane].a[i] & 0xffff0000u);
          }
          for (int i = 0; i < 2; ++i) {
            right[pair + i * 8][group] = __uint_as_float(in[lane].b[i] << 16);
            right[pair + i * 8 + 1][group] = __uint_as_float(in[lane].b[i] & 0xffff0000u);
          }
        }
        for (int m = 0; m < 16; ++m)
          for (int k = 0; k < 16; ++k)
            for (int n = 0; n < 8; ++n) sum[m][n] += left[m][k] * right[k][n];
        for (int lane = 0; lane < 32; ++lane)
          for (int i = 0; i < 4; ++i) out[lane].d[i] = sum[(lane >> 2) + (i >> 1) * 8][(lane & 3) * 2 + (i & 1)];
        count_mma(16 * 8 * 16);
      },
      "mma.m16n8k16");
  for (int i = 0; i < 4; ++i) d[i] += r.d[i];
}

template <int N>
struct LdmatrixResult {
  unsigned r[N];
};

// PTX ldmatrix.m8n8.xN.b16: lane i < 8N gives the address of row i%8 of matrix i/8. Plain: lane l receives of each
// matrix row l/4, columns 2*(l%4) and the next; transposed: column l/4, rows 2*(l%4) and the next.
template <int N, bool Transposed>
inline void ldmatrix(unsigned (&r)[N], const void* row) {
  if ((int)g_thread->lane < 8 * N) require_aligned(row, 16, "ldmatrix");
  const LdmatrixResult<N> mine = collective<LdmatrixResult<N>>(
      row,
      [](const void* const* addresses, LdmatrixResult<N>* out) {
        unsigned rows[8 * N][4];
        read_rows(rows[0], addresses, 8 * N);
        for (int lane = 0; lane < 32; ++lane) {
          const int group = lane >> 2, pair = lane & 3;
          for (int j = 0; j < N; ++j) {
            if (Transposed) {
              const int shift = group % 2 * 16;
              const unsigned low = rows[j * 8 + 2 * pair][group / 2] >> shift & 0xffff;
              const unsigned high = rows[j * 8 + 2 * pair + 1][group / 2] >> shift & 0xffff;
              out[lane].r[j] = low | high << 16;
            } else {
              out[lane].r[j] = rows[j * 8 + group][pair];
            }
          }
        }
      },
      "ldmatrix");
  for (int j = 0; j < N; ++j) r[j] = mine.r[j];
}

struct StmatrixRows {
  void* row;
  unsigned r[4];
};

// PTX stmatrix.m8n8.x4.b16: the inverse of a plain ldmatrix.
inline void stmatrix_x4(void* row, const unsigned (&r)[4]) {
  require_aligned(row, 16, "stmatrix");
  collective<char>(
      StmatrixRows{row, {r[0], r[1], r[2], r[3]}},
      [](const StmatrixRows* in, char* out) {
        void* rows[32];
        unsigned words[32][4];
        for (int i = 0; i < 32; ++i) {
          rows[i] = in[i].row;
          for (int pair = 0; pair < 4; ++pair) words[i][pair] = in[i % 8 * 4 + pair].r[i / 8];
          out[i] = 0;
        }
        write_rows(rows, words[0], 32);
      },
      "stmatrix");
}

}  // namespace simt
