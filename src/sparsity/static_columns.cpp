#include "sparsity/static_columns.h"

#include <algorithm>
#include <cmath>

namespace mochi {
namespace {

struct Window {
  std::int64_t begin, end;
};

// A window of `size` places around `centre`, shifted to lie inside an axis of `length` places.
Window window_around(std::int64_t centre, std::int64_t size, std::int64_t length) {
  const std::int64_t fitting = std::min(size, length);
  const std::int64_t begin = std::clamp<std::int64_t>(centre - fitting / 2, 0, length - fitting);
  return {begin, begin + fitting};
}

class StaticColumns {
 public:
  StaticColumns(const SparsityConfig& config, const TokenGrid& grid, std::int64_t num_text)
      : attn_(config.attn),
        num_visual_(grid.num_tokens()),
        num_columns_(num_visual_ + num_text),
        voxel_(voxel_of(attn_.group_size)),
        // In raster order there are no voxels, so all tokens are outside of them.
        voxels_(config.patchify_is_enabled ? count_voxels(grid, voxel_) : TokenGrid{}),
        bits_((num_columns_ + attn_.group_size - 1) / attn_.group_size, num_columns_) {}

  ColumnBits find() {
    for (std::int64_t group = 0; group < bits_.num_groups(); ++group) add_group(group);
    return std::move(bits_);
  }

 private:
  std::int64_t first_of_tail() const { return voxels_.num_tokens() * voxel_.num_tokens(); }

  void add_group(std::int64_t group) {
    const std::int64_t begin = group * attn_.group_size;
    const std::int64_t end = std::min<std::int64_t>(begin + attn_.group_size, num_columns_);
    const bool is_tail = group >= voxels_.num_tokens();
    const bool holds_text = end > num_visual_;
    if (holds_text || (is_tail && attn_.full_attn_from_3d_tail)) {
      bits_.set_range(group, 0, num_columns_);
      return;
    }
    bits_.set_range(group, num_visual_, num_columns_);
    if (attn_.full_attn_to_3d_tail) bits_.set_range(group, first_of_tail(), num_visual_);
    if (attn_.local_voxels > 0) {
      is_tail ? add_last_visual(group) : add_voxels(group);
    }
    if (attn_.local_1d_window > 0) add_line(group, begin, end);
  }

  std::int64_t window_size() const { return attn_.local_voxels / 2 * 2 + 1; }

  void add_last_visual(std::int64_t group) {
    const auto voxels = std::pow(static_cast<double>(attn_.local_voxels), 3);
    const double count = std::min(voxels * attn_.group_size, static_cast<double>(num_visual_));
    bits_.set_range(group, num_visual_ - static_cast<std::int64_t>(count), num_visual_);
  }

  void add_voxels(std::int64_t group) {
    const std::int64_t size = window_size();
    const Window frames =
        window_around(group / (voxels_.rows * voxels_.columns), size, voxels_.frames);
    const Window rows = window_around(group / voxels_.columns % voxels_.rows, size, voxels_.rows);
    const Window columns = window_around(group % voxels_.columns, size, voxels_.columns);
    for (std::int64_t t = frames.begin; t < frames.end; ++t) {
      for (std::int64_t h = rows.begin; h < rows.end; ++h) {
        const std::int64_t line = (t * voxels_.rows + h) * voxels_.columns;
        bits_.set_range(group, (line + columns.begin) * attn_.group_size,
                        (line + columns.end) * attn_.group_size);
      }
    }
  }

  // Columns whose middles are within the window of the group's centre.
  void add_line(std::int64_t group, std::int64_t begin, std::int64_t end) {
    const double centre = static_cast<double>(begin + end) / 2;
    const double reach = attn_.local_1d_window * static_cast<double>(num_visual_) / 2;
    const auto first = static_cast<std::int64_t>(std::ceil(centre - reach - 0.5));
    const auto last = static_cast<std::int64_t>(std::floor(centre + reach - 0.5));
    bits_.set_range(group, std::max<std::int64_t>(first, 0), std::min(last + 1, num_visual_));
  }

  const AttentionSparsity& attn_;
  std::int64_t num_visual_, num_columns_;
  Voxel voxel_;
  TokenGrid voxels_;
  ColumnBits bits_;
};

}  // namespace

ColumnBits find_static_columns(const SparsityConfig& config, const TokenGrid& grid,
                               std::int64_t num_text_tokens) {
  return StaticColumns(config, grid, num_text_tokens).find();
}

}  // namespace mochi
