#include "base/nearest.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <vector>

namespace mochi {
namespace {

constexpr std::size_t kMaxListed = 24;

}  // namespace

std::size_t edit_distance(std::string_view left, std::string_view right) {
  // row[j]: distance of left's first i bytes to right's first j.
  std::vector<std::size_t> row(right.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= left.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= right.size(); ++j) {
      const std::size_t above = row[j];
      const std::size_t replaced = diagonal + (left[i - 1] == right[j - 1] ? 0 : 1);
      row[j] = std::min({above + 1, row[j - 1] + 1, replaced});
      diagonal = above;
    }
  }
  return row.back();
}

std::string_view nearest_name(std::string_view name, std::span<const std::string> known) {
  std::string_view nearest;
  std::size_t least = 0;
  for (const std::string& candidate : known) {
    const std::size_t distance = edit_distance(name, candidate);
    if (nearest.empty() || distance < least) {
      nearest = candidate;
      least = distance;
    }
  }
  return nearest;
}

std::string suggest_name(std::string_view name, std::span<const std::string> known) {
  if (known.empty()) return "none is known";
  const std::string_view nearest = nearest_name(name, known);
  // Beyond half of the letters the nearest name is no longer a misspelling.
  if (2 * edit_distance(name, nearest) <= std::max(name.size(), nearest.size())) {
    return fmt::format("did you mean '{}'?", nearest);
  }
  const auto listed = known.first(std::min(known.size(), kMaxListed));
  return fmt::format("known are: {}{}", fmt::join(listed, ", "),
                     listed.size() < known.size() ? ", ..." : "");
}

}  // namespace mochi
