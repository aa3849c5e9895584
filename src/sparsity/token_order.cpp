#include "sparsity/token_order.h"

#include "base/error.h"
#include "sparsity/config_keys.h"

namespace mochi {
namespace {

struct Range {
  std::int64_t begin, end;
};

// Appends the tokens of a box in raster order.
void append_box(const TokenGrid& grid, Range frames, Range rows, Range columns,
                std::vector<std::int32_t>& order) {
  for (std::int64_t t = frames.begin; t < frames.end; ++t) {
    for (std::int64_t h = rows.begin; h < rows.end; ++h) {
      for (std::int64_t w = columns.begin; w < columns.end; ++w) {
        order.push_back(static_cast<std::int32_t>((t * grid.rows + h) * grid.columns + w));
      }
    }
  }
}

}  // namespace

Voxel voxel_of(int group_size) {
  for (const VoxelSize& size : kVoxelSizes) {
    if (size.group_size == group_size) return {size.frames, size.rows, size.columns};
  }
  fail("wanted groups of 192, 128 or 64 queries, found {}", group_size);
}

TokenGrid count_voxels(const TokenGrid& grid, const Voxel& voxel) {
  return {grid.frames / voxel.frames, grid.rows / voxel.rows, grid.columns / voxel.columns};
}

std::vector<std::int32_t> voxel_order(const TokenGrid& grid, const Voxel& voxel) {
  const TokenGrid voxels = count_voxels(grid, voxel);
  const std::int64_t frames = voxels.frames * voxel.frames;
  const std::int64_t rows = voxels.rows * voxel.rows;
  const std::int64_t columns = voxels.columns * voxel.columns;
  std::vector<std::int32_t> order;
  order.reserve(static_cast<std::size_t>(grid.num_tokens()));
  for (std::int64_t t = 0; t < frames; t += voxel.frames) {
    for (std::int64_t h = 0; h < rows; h += voxel.rows) {
      for (std::int64_t w = 0; w < columns; w += voxel.columns) {
        append_box(grid, {t, t + voxel.frames}, {h, h + voxel.rows}, {w, w + voxel.columns}, order);
      }
    }
  }
  append_box(grid, {frames, grid.frames}, {0, grid.rows}, {0, grid.columns}, order);
  append_box(grid, {0, frames}, {rows, grid.rows}, {0, grid.columns}, order);
  append_box(grid, {0, frames}, {0, rows}, {columns, grid.columns}, order);
  return order;
}

}  // namespace mochi
