// What the stand-in's cuTensorMapEncodeTiled puts into the 128 bytes of a CUtensorMap.
#pragma once
#include <stdint.h>

namespace simt {

struct TensorMapContents {
  uint64_t magic;
  const unsigned char* address;
  uint64_t columns, rows;  // of 2-byte elements
  uint64_t row_bytes;
  uint32_t box_columns, box_rows;  // columns as many as one swizzled row has: 64 or 32
};
constexpr uint64_t kTensorMapMagic = 0x70614d726f736e54ull;

}  // namespace simt
