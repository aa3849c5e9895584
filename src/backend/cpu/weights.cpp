// Weights made from nothing but a seed; and copies in the background, which are done at once here.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "backend/cpu/cpu_backend.h"
#include "base/noise.h"
#include "base/parallel_for.h"

namespace mochi {
namespace {

constexpr std::int64_t kGrain = 1 << 16;

// Rounds a finite value to nearest, ties to even.
BFloat16 round_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return {static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}

}  // namespace

void CpuBackend::do_fill_normal(const NormalFill& fill, const TensorView& target) {
  const std::int64_t n = target.num_elements();
  std::vector<float> own;
  std::span<float> values;
  if (target.dtype() == DType::kF32) {
    values = target.f32();
  } else {
    own.resize(static_cast<std::size_t>(n));
    values = own;
  }
  mochi::fill_normal(NoiseSource::kMochi, fill.seed, values);
  const bool is_bf16 = !own.empty();
  auto* const rounded = reinterpret_cast<BFloat16*>(target.bytes());
  parallel_for(0, n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      values[i] = std::fma(fill.deviation, values[i], fill.mean);
      if (is_bf16) rounded[i] = round_to_bf16(values[i]);
    }
  });
}

void CpuBackend::do_widen(const MatrixView& matrix, const TensorView& out) {
  const std::int64_t row_size = matrix.dim(1);
  const std::size_t row_bytes = storage_bytes(matrix.type(), row_size);
  const TensorView& scales = matrix.scales();
  const bool has_row_scales = scales && scales.num_elements() > 1;
  const auto widen_range = [&](std::int64_t begin, std::int64_t end, std::span<float> values) {
    const auto num_rows = static_cast<std::size_t>(end - begin);
    const std::span<const std::byte> elements(
        matrix.values().bytes() + static_cast<std::size_t>(begin) * row_bytes,
        num_rows * row_bytes);
    std::span<const float> range_scales;
    if (scales) range_scales = has_row_scales ? scales.rows(begin, end).f32() : scales.f32();
    widen_rows(matrix.type(), elements, range_scales, end - begin, values);
  };
  constexpr std::int64_t kGrainRows = 8;
  parallel_for(0, matrix.dim(0), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
    if (out.dtype() == DType::kF32) return widen_range(begin, end, out.rows(begin, end).f32());
    std::vector<float> values(static_cast<std::size_t>((end - begin) * row_size));
    widen_range(begin, end, values);
    auto* const rounded = reinterpret_cast<BFloat16*>(out.rows(begin, end).bytes());
    std::ranges::transform(values, rounded, round_to_bf16);
  });
}

void CpuBackend::do_prefetch(int /*slot*/, const TensorView& host, const TensorView& target) {
  std::memcpy(target.bytes(), host.bytes(), host.size_bytes());
}

void CpuBackend::do_write_back(int /*slot*/, const TensorView& source, const TensorView& host) {
  std::memcpy(host.bytes(), source.bytes(), host.size_bytes());
}

}  // namespace mochi
