// Rows quantised for 8-bit products: elements times one scale for each row.
#pragma once

#include <cstddef>
#include <span>

#include "tensor/dtype.h"

namespace mochi {

// Writes round(values / scale) in `type`, I8 or F8_E4M3 (else Error), and returns the scale. The
// largest value becomes ±127 or ±448; a row without a normal scale, such as one of zeros, has scale
// 1. The scale is NaN if any value is NaN or infinite.
float quantise_row(DType type, std::span<const float> values, std::span<std::byte> elements);

// Quantises scales.size() rows of equal length, in parallel.
void quantise_rows(DType type, std::span<const float> values, std::span<std::byte> elements,
                   std::span<float> scales);

}  // namespace mochi
