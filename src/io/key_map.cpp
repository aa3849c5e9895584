#include "io/key_map.h"

#include <fmt/core.h>

#include "base/error.h"

namespace mochi {

int KeyMapBuilder::count(const std::string& prefix, const std::string& suffix) const {
  int num_found = 0;
  while (has(fmt::format("{}{}{}", prefix, num_found, suffix))) ++num_found;
  return num_found;
}

void KeyMapBuilder::rename(const std::string& target, const std::string& source_name) {
  map_[target] = {{.source_name = source_name}};
}

void KeyMapBuilder::rename_layer(const std::string& target, const std::string& source_name) {
  rename(target + ".weight", source_name + ".weight");
  if (has(source_name + ".bias")) rename(target + ".bias", source_name + ".bias");
}

void KeyMapBuilder::concatenate(const std::string& target,
                                const std::vector<std::string>& source_names) {
  std::vector<RowRange> parts;
  parts.reserve(source_names.size());
  for (const std::string& name : source_names) parts.push_back({.source_name = name});
  map_[target] = std::move(parts);
}

void KeyMapBuilder::swap_halves(const std::string& target, const std::string& source_name) {
  const TensorInfo info = source_.info(source_name);
  if (info.shape.rank() == 0 || info.shape[0] % 2 != 0) {
    fail("tensor '{}' in '{}': wanted an even number of rows, found {}", source_name, info.origin,
         info.shape.to_string());
  }
  const std::int64_t half = info.shape[0] / 2;
  map_[target] = {{source_name, half, RowRange::kToEnd}, {source_name, 0, half}};
}

}  // namespace mochi
