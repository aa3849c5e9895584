#include "dit/token_grid.h"

namespace mochi {

std::vector<std::int32_t> invert_order(std::span<const std::int32_t> order) {
  std::vector<std::int32_t> positions(order.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    positions[static_cast<std::size_t>(order[i])] = static_cast<std::int32_t>(i);
  }
  return positions;
}

}  // namespace mochi
