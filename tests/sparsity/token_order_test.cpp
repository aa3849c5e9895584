#include "sparsity/token_order.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace mochi {
namespace {

constexpr TokenGrid kGrids[] = {{4, 6, 8}, {8, 12, 16}, {7, 11, 13}, {1, 1, 1},    {3, 6, 8},
                                {4, 5, 8}, {4, 6, 7},   {8, 24, 40}, {28, 30, 53}, {5, 13, 9}};

// Where the description puts a token: (region, then its place inside). Sorting by this key is the
// order, however it is computed.
std::array<std::int64_t, 8> key_of(const TokenGrid& grid, const Voxel& voxel, std::int64_t raster) {
  const std::int64_t w = raster % grid.columns;
  const std::int64_t h = raster / grid.columns % grid.rows;
  const std::int64_t t = raster / grid.columns / grid.rows;
  const std::int64_t vt = t / voxel.frames;
  const std::int64_t vh = h / voxel.rows;
  const std::int64_t vw = w / voxel.columns;
  if (vt >= grid.frames / voxel.frames) return {1, t, h, w, 0, 0, 0, 0};
  if (vh >= grid.rows / voxel.rows) return {2, t, h, w, 0, 0, 0, 0};
  if (vw >= grid.columns / voxel.columns) return {3, t, h, w, 0, 0, 0, 0};
  return {0, vt, vh, vw, t, h, w, 0};
}

TEST(TokenOrder, MatchesTheDescription) {
  for (const int group_size : {192, 128, 64}) {
    const Voxel voxel = voxel_of(group_size);
    EXPECT_EQ(voxel.num_tokens(), group_size);
    for (const TokenGrid& grid : kGrids) {
      const std::vector<std::int32_t> order = voxel_order(grid, voxel);
      ASSERT_EQ(std::ssize(order), grid.num_tokens());
      std::vector<std::int32_t> wanted(order.size());
      for (std::size_t i = 0; i < wanted.size(); ++i) wanted[i] = static_cast<std::int32_t>(i);
      std::ranges::sort(wanted, {}, [&](std::int32_t i) { return key_of(grid, voxel, i); });
      EXPECT_EQ(order, wanted) << grid.frames << " " << grid.rows << " " << grid.columns;
    }
  }
}

TEST(TokenOrder, TheInverseRestoresTheOrder) {
  for (const TokenGrid& grid : kGrids) {
    const std::vector<std::int32_t> order = voxel_order(grid, Voxel{});
    const std::vector<std::int32_t> positions = invert_order(order);
    for (std::size_t i = 0; i < order.size(); ++i) {
      EXPECT_EQ(positions[static_cast<std::size_t>(order[i])], static_cast<std::int32_t>(i));
    }
  }
}

TEST(TokenOrder, OtherGroupSizesAreRefused) { EXPECT_THROW(voxel_of(100), Error); }

}  // namespace
}  // namespace mochi
