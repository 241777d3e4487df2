// A stand-in for libcublasLt.so: the calls that this project makes, as loops. A library of its own.
//
// Matrices are column-major: D (rows x cols) = alpha * op(A) op(B) + beta * C. It lives beside the stand-in driver, to
// whose streams it gives its work.
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <functional>

#define API extern "C" __attribute__((visibility("default"))) int

// Of the stand-in driver: runs the work now, or records it if the stream is capturing.
extern "C" int reskill_simt_submit(void* stream, const std::function<int()>& work);

namespace {

enum Status { kSuccess = 0, kInvalidValue = 7, kExecutionFailed = 13, kNotSupported = 15 };

struct MatrixLayout {
  int type;  // cudaDataType: 0 f32, 14 bf16
  uint64_t rows, cols;
  int64_t ld;
};
struct Description {
  int32_t turned[2] = {0, 0};  // CUBLASLT_MATMUL_DESC_TRANSA, TRANSB
};
struct Preference {
  uint32_t schemes = 7;  // CUBLASLT_REDUCTION_SCHEME_: 1 in place, 2 in the type of sums, 4 in that of the result
};
// Word 0 of an algorithm says that it is one, word 1 whether K is split and each part rounded to the type of the result.
enum Algorithm { kIsOne, kRoundsParts };

float read(const void* matrix, int type, uint64_t at) {
  if (type == 0) return static_cast<const float*>(matrix)[at];
  const uint32_t bits = static_cast<uint32_t>(static_cast<const uint16_t*>(matrix)[at]) << 16;
  float v;
  memcpy(&v, &bits, 4);
  return v;
}
void write(void* matrix, int type, uint64_t at, float v) {
  if (type == 0) {
    static_cast<float*>(matrix)[at] = v;
    return;
  }
  uint32_t bits;
  memcpy(&bits, &v, 4);
  static_cast<uint16_t*>(matrix)[at] = static_cast<uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

// As a value of this type.
float rounded(int type, float v) {
  uint16_t bf16 = 0;
  if (type != 0) write(&bf16, type, 0, v);
  return type == 0 ? v : read(&bf16, type, 0);
}

int multiply(const Description& d, float alpha, const void* a, const MatrixLayout& la, const void* b,
             const MatrixLayout& lb, float beta, const void* c, void* out, const MatrixLayout& lo, bool rounds_parts) {
  const uint64_t depth = d.turned[0] ? la.rows : la.cols;
  for (uint64_t col = 0; col < lo.cols; ++col)
    for (uint64_t row = 0; row < lo.rows; ++row) {
      float sum = 0.0f, first = 0.0f;
      for (uint64_t k = 0; k < depth; ++k) {
        if (rounds_parts && k == depth / 2) {
          first = rounded(lo.type, sum);
          sum = 0.0f;
        }
        const uint64_t at_a = d.turned[0] ? row * la.ld + k : k * la.ld + row;
        const uint64_t at_b = d.turned[1] ? k * lb.ld + col : col * lb.ld + k;
        sum += read(a, la.type, at_a) * read(b, lb.type, at_b);
      }
      if (rounds_parts) sum = rounded(lo.type, sum) + first;
      const uint64_t at = col * lo.ld + row;
      write(out, lo.type, at, alpha * sum + (beta == 0.0f ? 0.0f : beta * read(c, lo.type, at)));
    }
  return kSuccess;
}

// Whether the sizes of the three matrices fit together.
bool fits(const Description& d, const MatrixLayout& a, const MatrixLayout& b, const MatrixLayout& out) {
  const uint64_t a_rows = d.turned[0] ? a.cols : a.rows, a_cols = d.turned[0] ? a.rows : a.cols;
  const uint64_t b_rows = d.turned[1] ? b.cols : b.rows, b_cols = d.turned[1] ? b.rows : b.cols;
  auto wide = [](const MatrixLayout& m) { return m.cols <= 1 || static_cast<uint64_t>(m.ld) >= m.rows; };
  return a_rows == out.rows && b_cols == out.cols && a_cols == b_rows && wide(a) && wide(b) && wide(out);
}

}  // namespace

API cublasLtCreate(void** handle) { *handle = new char; return kSuccess; }
API cublasLtDestroy(void* handle) { delete static_cast<char*>(handle); return kSuccess; }
API cublasLtMatrixLayoutCreate(MatrixLayout** layout, int type, uint64_t rows, uint64_t cols, int64_t ld) {
  if (type != 0 && type != 14) return kNotSupported;
  *layout = new MatrixLayout{type, rows, cols, ld};
  return kSuccess;
}
API cublasLtMatrixLayoutDestroy(MatrixLayout* layout) { delete layout; return kSuccess; }
API cublasLtMatmulDescCreate(Description** d, int compute, int scale) {
  if (compute != 68 || scale != 0) return kNotSupported;  // CUBLAS_COMPUTE_32F, f32 scalars
  *d = new Description;
  return kSuccess;
}
API cublasLtMatmulDescDestroy(Description* d) { delete d; return kSuccess; }
API cublasLtMatmulDescSetAttribute(Description* d, int attribute, const void* value, size_t bytes) {
  if ((attribute != 3 && attribute != 4) || bytes != 4) return kInvalidValue;  // TRANSA, TRANSB
  memcpy(&d->turned[attribute - 3], value, 4);
  return kSuccess;
}
API cublasLtMatmulPreferenceCreate(Preference** preference) { *preference = new Preference; return kSuccess; }
API cublasLtMatmulPreferenceDestroy(Preference* preference) { delete preference; return kSuccess; }
API cublasLtMatmulPreferenceSetAttribute(Preference* preference, int attribute, const void* value, size_t bytes) {
  // REDUCTION_SCHEME_MASK; MAX_WORKSPACE_BYTES, a uint64; MIN_ALIGNMENT_A_BYTES to _D_BYTES.
  if (attribute == 3 && bytes == 4) memcpy(&preference->schemes, value, 4);
  const bool known = attribute == 1 ? bytes == 8 : bytes == 4 && (attribute == 3 || (attribute >= 5 && attribute <= 8));
  return known ? kSuccess : kInvalidValue;
}

// cublasLtMatmulHeuristicResult_t.
struct Heuristic {
  uint64_t algorithm[8];
  size_t workspace;
  int state;
  float waves;
  int reserved[4];
};
API cublasLtMatmulAlgoGetHeuristic(void*, const Description* d, const MatrixLayout* a, const MatrixLayout* b,
                                   const MatrixLayout*, const MatrixLayout* out, const Preference* preference,
                                   int wanted, Heuristic* found, int* n) {
  *n = 0;
  if (wanted < 1 || !fits(*d, *a, *b, *out)) return kInvalidValue;
  memset(found, 0, sizeof *found);
  found->algorithm[kIsOne] = 1;
  // The least exact of what is allowed.
  found->algorithm[kRoundsParts] = (preference->schemes & (1 | 4)) != 0;
  *n = 1;
  return kSuccess;
}
API cublasLtMatmul(void*, const Description* d, const float* alpha, const void* a, const MatrixLayout* la,
                   const void* b, const MatrixLayout* lb, const float* beta, const void* c, const MatrixLayout*,
                   void* out, const MatrixLayout* lo, const uint64_t* algorithm, void*, size_t, void* stream) {
  if (algorithm[kIsOne] != 1 || !fits(*d, *la, *lb, *lo)) return kInvalidValue;
  const bool rounds = algorithm[kRoundsParts] != 0;
  const auto work = [d = *d, x = *alpha, a, la = *la, b, lb = *lb, y = *beta, c, out, lo = *lo, rounds] {
    return multiply(d, x, a, la, b, lb, y, c, out, lo, rounds);
  };
  return reskill_simt_submit(stream, work) == 0 ? kSuccess : kExecutionFailed;
}
