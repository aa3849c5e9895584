#include "dit/rotary.h"

#include <cmath>

#include "base/parallel_for.h"

namespace mochi {
namespace {

constexpr double kReferenceArea = 192.0 * 192.0;
constexpr std::int64_t kTokenGrain = 64;

}  // namespace

RotaryTable make_rotary_table(Backend& backend, const TensorView& frequencies,
                              const TokenGrid& grid, std::span<const std::int32_t> order) {
  const Tensor host_frequencies(DType::kF32, frequencies.shape());
  backend.run(ops::Download{.source = frequencies, .host = host_frequencies});
  const float* frequency = host_frequencies.view().f32().data();
  const std::int64_t row_size = frequencies.dim(1) * frequencies.dim(2);  // heads · head_dim / 2
  const Shape shape{grid.num_tokens(), frequencies.dim(1), frequencies.dim(2)};
  const Tensor host_cos(DType::kF32, shape);
  const Tensor host_sin(DType::kF32, shape);
  float* cosines = host_cos.view().f32().data();
  float* sines = host_sin.view().f32().data();

  const auto num_rows = static_cast<double>(grid.rows);
  const auto num_columns = static_cast<double>(grid.columns);
  const double scale = std::sqrt(kReferenceArea / (num_rows * num_columns));
  parallel_for(0, grid.num_tokens(), kTokenGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t token = begin; token < end; ++token) {
      const std::int64_t raster = order.empty() ? token : order[static_cast<std::size_t>(token)];
      const std::int64_t column_idx = raster % grid.columns;
      const std::int64_t row_idx = raster / grid.columns % grid.rows;
      const std::int64_t frame_idx = raster / (grid.columns * grid.rows);
      const auto t = static_cast<double>(frame_idx);
      const double y = (static_cast<double>(row_idx) + 0.5 - num_rows / 2) * scale;
      const double x = (static_cast<double>(column_idx) + 0.5 - num_columns / 2) * scale;
      for (std::int64_t i = 0; i < row_size; ++i) {
        const double angle =
            t * frequency[i] + y * frequency[row_size + i] + x * frequency[2 * row_size + i];
        cosines[token * row_size + i] = static_cast<float>(std::cos(angle));
        sines[token * row_size + i] = static_cast<float>(std::sin(angle));
      }
    }
  });

  RotaryTable table{Tensor(DType::kF32, shape, backend.allocator()),
                    Tensor(DType::kF32, shape, backend.allocator())};
  backend.run(ops::Upload{.host = host_cos, .target = table.cos});
  backend.run(ops::Upload{.host = host_sin, .target = table.sin});
  return table;
}

}  // namespace mochi
