// Static columns against a literal reading of the description, column by column.
#include "sparsity/static_columns.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mochi {
namespace {

struct Case {
  TokenGrid grid;
  std::int64_t num_text;
  int group_size, local_voxels;
  double window;
  bool has_voxels, from_tail, to_tail;
};

constexpr Case kCases[] = {
    {{8, 12, 16}, 7, 192, 1, 0, true, false, false},
    {{8, 12, 16}, 0, 192, 0, 0, true, false, false},
    {{13, 25, 33}, 15, 192, 3, 0, true, false, false},
    {{13, 25, 33}, 15, 192, 3, 0.2, true, false, true},
    {{13, 25, 33}, 5, 192, 2, 0, true, true, false},
    {{9, 14, 17}, 3, 128, 5, 0, true, false, false},
    {{9, 14, 17}, 200, 64, 1, 0.05, true, false, false},
    {{9, 14, 17}, 20, 64, 1, 0.1, false, false, false},
    {{1, 3, 3}, 4, 192, 1, 0, true, false, false},
};

// Returns true if an axis of `length` voxels has `other` in the window of `own`.
bool is_near(std::int64_t own, std::int64_t other, std::int64_t reach, std::int64_t length) {
  std::int64_t first = own - reach;
  std::int64_t last = own + reach;
  while (first < 0 && last < length - 1) ++first, ++last;
  while (last >= length && first > 0) --first, --last;
  return first <= other && other <= last;
}

bool is_static(const Case& c, std::int64_t group, std::int64_t column) {
  const Voxel voxel = voxel_of(c.group_size);
  const std::int64_t num_visual = c.grid.num_tokens();
  const std::int64_t begin = group * c.group_size;
  const std::int64_t end = std::min(begin + c.group_size, num_visual + c.num_text);
  const TokenGrid voxels = c.has_voxels ? count_voxels(c.grid, voxel) : TokenGrid{};
  const bool is_tail = group >= voxels.num_tokens();
  if (end > num_visual) return true;  // the group holds text
  if (column >= num_visual) return true;
  if (is_tail && c.from_tail) return true;
  const std::int64_t other = column / c.group_size;
  if (other >= voxels.num_tokens() && c.to_tail) return true;
  if (c.window > 0) {
    const double centre = static_cast<double>(begin + end) / 2;
    const double middle = static_cast<double>(column) + 0.5;
    if (std::abs(middle - centre) <= c.window * static_cast<double>(num_visual) / 2) return true;
  }
  if (c.local_voxels == 0) return false;
  if (is_tail) {
    return column >= num_visual - c.group_size * c.local_voxels * c.local_voxels * c.local_voxels;
  }
  if (other >= voxels.num_tokens()) return false;
  const std::int64_t reach = c.local_voxels / 2;
  const std::int64_t plane = voxels.rows * voxels.columns;
  return is_near(group / plane, other / plane, reach, voxels.frames) &&
         is_near(group / voxels.columns % voxels.rows, other / voxels.columns % voxels.rows, reach,
                 voxels.rows) &&
         is_near(group % voxels.columns, other % voxels.columns, reach, voxels.columns);
}

TEST(StaticColumns, MatchTheDescription) {
  for (const Case& c : kCases) {
    SparsityConfig config;
    config.patchify_is_enabled = c.has_voxels;
    config.attn.group_size = c.group_size;
    config.attn.local_voxels = c.local_voxels;
    config.attn.local_1d_window = c.window;
    config.attn.full_attn_from_3d_tail = c.from_tail;
    config.attn.full_attn_to_3d_tail = c.to_tail;
    const ColumnBits bits = find_static_columns(config, c.grid, c.num_text);
    const std::int64_t num_columns = c.grid.num_tokens() + c.num_text;
    ASSERT_EQ(bits.num_columns(), num_columns);
    ASSERT_EQ(bits.num_groups(), (num_columns + c.group_size - 1) / c.group_size);
    std::int64_t num_wrong = 0;
    for (std::int64_t group = 0; group < bits.num_groups(); ++group) {
      for (std::int64_t column = 0; column < num_columns; ++column) {
        num_wrong += bits.get(group, column) != is_static(c, group, column) ? 1 : 0;
      }
    }
    EXPECT_EQ(num_wrong, 0) << c.group_size << " " << c.local_voxels << " " << c.window;
  }
}

// Neither no window nor the own voxel alone makes every group see voxel 0.
TEST(StaticColumns, VoxelZeroIsNotForAll) {
  for (const int local_voxels : {0, 1}) {
    SparsityConfig config;
    config.attn.local_voxels = local_voxels;
    const ColumnBits bits = find_static_columns(config, {8, 12, 16}, 0);
    EXPECT_FALSE(bits.get(3, 0));
    EXPECT_EQ(bits.get(3, 3 * 192), local_voxels == 1);
  }
}

}  // namespace
}  // namespace mochi
