// The order in which visual tokens pass through the blocks. It makes a query group a small box of
// the video instead of a stripe.
#pragma once

#include <cstdint>
#include <vector>

#include "dit/token_grid.h"

namespace mochi {

// A box of tokens that forms a query group.
struct Voxel {
  std::int64_t frames = 4, rows = 6, columns = 8;
  std::int64_t num_tokens() const { return frames * rows * columns; }
};

// Returns the voxel of a group size (192, 128 or 64). Throws Error for other sizes.
Voxel voxel_of(int group_size);

// Counts the whole voxels of a grid along each axis.
TokenGrid count_voxels(const TokenGrid& grid, const Voxel& voxel);

// Returns the raster indices of the tokens in voxel order: first the region of whole voxels, voxel
// by voxel, with voxels and the tokens inside them in (t, h, w) order; then, each in raster order,
// the frames after that region, the rows after it in its frames, and the columns after it in its
// rows.
std::vector<std::int32_t> voxel_order(const TokenGrid& grid, const Voxel& voxel);

}  // namespace mochi
