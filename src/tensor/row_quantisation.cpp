#include "tensor/row_quantisation.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "base/error.h"
#include "base/parallel_for.h"
#include "tensor/float8.h"

namespace mochi {
namespace {

constexpr float kMaxI8 = 127.0F;

// Returns the bits of the largest magnitude. Those of NaN and infinity are larger than all others.
std::uint32_t find_largest(std::span<const float> values) {
  std::uint32_t largest = 0;
  for (const float value : values) {
    largest = std::max(largest, std::bit_cast<std::uint32_t>(value) & 0x7fffffffU);
  }
  return largest;
}

float largest_code(DType type) {
  if (type == DType::kI8) return kMaxI8;
  if (type == DType::kF8E4M3) return kMaxF8E4M3;
  fail("rows are not quantised to {}", dtype_name(type));
}

}  // namespace

float quantise_row(DType type, std::span<const float> values, std::span<std::byte> elements) {
  const float largest = std::bit_cast<float>(find_largest(values));
  float scale = largest / largest_code(type);
  if (!std::isfinite(largest)) {
    std::ranges::fill(elements, std::byte{0});
    return std::numeric_limits<float>::quiet_NaN();
  }
  if (!std::isnormal(scale)) scale = 1.0F;
  const float inverse = 1.0F / scale;
  if (type == DType::kI8) {
    std::ranges::transform(values, elements.begin(), [inverse](float value) {
      return static_cast<std::byte>(static_cast<std::int8_t>(std::nearbyintf(value * inverse)));
    });
  } else {
    std::ranges::transform(values, elements.begin(), [inverse](float value) {
      return static_cast<std::byte>(f32_to_f8_e4m3(value * inverse));
    });
  }
  return scale;
}

void quantise_rows(DType type, std::span<const float> values, std::span<std::byte> elements,
                   std::span<float> scales) {
  if (scales.empty()) return;
  const std::size_t row_size = values.size() / scales.size();
  constexpr std::int64_t kGrainRows = 16;
  parallel_for(0, std::ssize(scales), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
    for (auto row = static_cast<std::size_t>(begin); row < static_cast<std::size_t>(end); ++row) {
      scales[row] = quantise_row(type, values.subspan(row * row_size, row_size),
                                 elements.subspan(row * row_size, row_size));
    }
  });
}

}  // namespace mochi
