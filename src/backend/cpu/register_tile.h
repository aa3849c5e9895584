// The innermost part of matmuls: a tile of the result that stays in vector registers.
#pragma once

#include <array>
#include <cstdint>
#include <experimental/simd>

namespace mochi::cpu {

inline std::int64_t round_up(std::int64_t value, std::int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

using Vec = std::experimental::native_simd<float>;
constexpr std::int64_t kLanes = Vec::size();

inline Vec load(const float* from) { return Vec(from, std::experimental::element_aligned); }
inline void store(const Vec& value, float* to) {
  value.copy_to(to, std::experimental::element_aligned);
}

// Number of vectors of sums: enough to hide the latency of additions, few enough to leave registers
// for the factors (AVX-512 has 32 registers, the others 16).
constexpr std::int64_t kTileVectors = kLanes == 16 ? 24 : 12;

// A tile of [kRows, kColumns] sums of products.
template <std::int64_t Width, std::int64_t Rows = kTileVectors / Width>
class RegisterTile {
 public:
  static constexpr std::int64_t kRows = Rows;
  static constexpr std::int64_t kColumns = Width * kLanes;

  // Adds a·b, with a [kRows, depth], whose elements are `row_stride` and `DepthStride` apart, and b
  // [depth, kColumns]. This is fastest with a constant row_stride, because one register then
  // addresses all rows.
  template <std::int64_t DepthStride = 1>
  void add_product(const float* a, std::int64_t row_stride, std::int64_t depth, const float* b) {
    for (std::int64_t k = 0; k < depth; ++k, b += kColumns) {
      std::array<Vec, Width> right;
      for (std::int64_t v = 0; v < Width; ++v) right[v] = load(b + v * kLanes);
      for (std::int64_t row = 0; row < kRows; ++row) {
        const Vec left = a[row * row_stride + k * DepthStride];
        for (std::int64_t v = 0; v < Width; ++v) sums_[row][v] += left * right[v];
      }
    }
  }

  // Calls fn(row, first column, sums) for every vector.
  template <typename Fn>
  void for_each(Fn fn) const {
    for (std::int64_t row = 0; row < kRows; ++row) {
      for (std::int64_t v = 0; v < Width; ++v) fn(row, v * kLanes, sums_[row][v]);
    }
  }

 private:
  std::array<std::array<Vec, Width>, kRows> sums_{};
};

}  // namespace mochi::cpu
