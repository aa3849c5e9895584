// The order in which visual tokens go through the blocks, so that a query group is a small box of
// the video and not a stripe of it.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mochi {

// Visual tokens along t, h, w; in raster order when nothing else is said.
struct TokenGrid {
  std::int64_t frames = 0, rows = 0, columns = 0;
  std::int64_t num_tokens() const { return frames * rows * columns; }
};

// The box of tokens that makes a query group.
struct Voxel {
  std::int64_t frames = 4, rows = 6, columns = 8;
  std::int64_t num_tokens() const { return frames * rows * columns; }
};

// The voxel of a group size (192, 128 or 64). Throws Error for others.
Voxel voxel_of(int group_size);

// Whole voxels of a grid along each axis.
TokenGrid count_voxels(const TokenGrid& grid, const Voxel& voxel);

// Raster index of the i-th token: the region of whole voxels, voxel by voxel, both in (t, h, w)
// order; then, in raster order each, the frames beyond it, the rows beyond it of the frames in it,
// and the columns beyond it of the rows in it.
std::vector<std::int32_t> voxel_order(const TokenGrid& grid, const Voxel& voxel);

// positions[order[i]] = i.
std::vector<std::int32_t> invert_order(std::span<const std::int32_t> order);

}  // namespace mochi
