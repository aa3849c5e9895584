// The visual tokens of a video as a grid.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mochi {

// Numbers of visual tokens along t, h and w. Tokens are in raster order unless stated otherwise.
struct TokenGrid {
  std::int64_t frames = 0, rows = 0, columns = 0;
  std::int64_t num_tokens() const { return frames * rows * columns; }
};

// Returns positions with positions[order[i]] = i.
std::vector<std::int32_t> invert_order(std::span<const std::int32_t> order);

}  // namespace mochi
