// Weights from a seed, and weights in smaller types.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "backend/cpu/implement.h"
#include "base/noise.h"
#include "base/parallel_for.h"

namespace mochi::cpu {
namespace {

constexpr std::int64_t kGrain = 1 << 16;

// Rounds a finite value to nearest, ties to even.
BFloat16 round_to_bf16(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return {static_cast<std::uint16_t>((bits + 0x7fffU + ((bits >> 16) & 1U)) >> 16)};
}

}  // namespace

void run(Cpu& /*cpu*/, const ops::FillNormal& op) {
  const std::int64_t n = op.target.num_elements();
  std::vector<float> own;
  std::span<float> values;
  if (op.target.dtype() == DType::kF32) {
    values = op.target.f32();
  } else {
    own.resize(static_cast<std::size_t>(n));
    values = own;
  }
  mochi::fill_normal(NoiseSource::kMochi, op.seed, values);
  const bool is_bf16 = !own.empty();
  auto* const rounded = reinterpret_cast<BFloat16*>(op.target.bytes());
  parallel_for(0, n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (auto i = static_cast<std::size_t>(begin); i < static_cast<std::size_t>(end); ++i) {
      values[i] = std::fma(op.deviation, values[i], op.mean);
      if (is_bf16) rounded[i] = round_to_bf16(values[i]);
    }
  });
}
template void compute(Cpu&, const ops::FillNormal&);

void run(Cpu& /*cpu*/, const ops::Widen& op) {
  const std::int64_t row_size = op.matrix.dim(1);
  const std::size_t row_bytes = storage_bytes(op.matrix.type(), row_size);
  const TensorView& scales = op.matrix.scales();
  const bool has_row_scales = scales && scales.num_elements() > 1;
  const auto widen_range = [&](std::int64_t begin, std::int64_t end, std::span<float> values) {
    const auto num_rows = static_cast<std::size_t>(end - begin);
    const std::span<const std::byte> elements(
        op.matrix.values().bytes() + static_cast<std::size_t>(begin) * row_bytes,
        num_rows * row_bytes);
    std::span<const float> range_scales;
    if (scales) range_scales = has_row_scales ? scales.rows(begin, end).f32() : scales.f32();
    widen_rows(op.matrix.type(), elements, range_scales, end - begin, values);
  };
  constexpr std::int64_t kGrainRows = 8;
  parallel_for(0, op.matrix.dim(0), kGrainRows, [&](std::int64_t begin, std::int64_t end) {
    if (op.out.dtype() == DType::kF32)
      return widen_range(begin, end, op.out.rows(begin, end).f32());
    std::vector<float> values(static_cast<std::size_t>((end - begin) * row_size));
    widen_range(begin, end, values);
    auto* const rounded = reinterpret_cast<BFloat16*>(op.out.rows(begin, end).bytes());
    std::ranges::transform(values, rounded, round_to_bf16);
  });
}
template void compute(Cpu&, const ops::Widen&);

}  // namespace mochi::cpu
