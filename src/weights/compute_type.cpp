#include "weights/compute_type.h"

#include <algorithm>
#include <charconv>
#include <string>
#include <utility>

namespace mochi {
namespace {

constexpr std::array<std::string_view, kComputeTypes.size()> kTypeNames{"bf16", "int8", "fp8"};
constexpr std::array<std::string_view, kLayerGroups.size()> kGroupNames{"attention", "ffn"};

constexpr std::array<std::pair<std::string_view, LayerGroup>, 4> kLayers{{
    {".attn.qkv_", LayerGroup::kAttention},
    {".attn.proj_", LayerGroup::kAttention},
    {".mlp_x.", LayerGroup::kFeedForward},
    {".mlp_y.", LayerGroup::kFeedForward},
}};

ComputeType type_of(const ComputePlan& plan, const LayerPlace& place) {
  ComputeType found = plan.type;
  for (const ComputeOverride& entry : plan.overrides) {
    const bool is_named = place.block >= entry.first_block && place.block <= entry.last_block &&
                          entry.layers.value_or(place.layers) == place.layers;
    if (is_named) found = entry.type;
  }
  return found;
}

}  // namespace

std::string_view name_of(ComputeType type) { return kTypeNames.at(static_cast<std::size_t>(type)); }

std::optional<ComputeType> parse_compute_type(std::string_view name) {
  const auto* const found = std::ranges::find(kTypeNames, name);
  if (found == kTypeNames.end()) return std::nullopt;
  return kComputeTypes.at(static_cast<std::size_t>(found - kTypeNames.begin()));
}

std::string_view name_of(LayerGroup group) {
  return kGroupNames.at(static_cast<std::size_t>(group));
}

std::optional<LayerPlace> find_layer(std::string_view name) {
  constexpr std::string_view kPrefix = "blocks.";
  if (!name.starts_with(kPrefix) || !name.ends_with(".weight")) return std::nullopt;
  name.remove_prefix(kPrefix.size());
  int block = 0;
  const auto [rest, error] = std::from_chars(name.data(), name.data() + name.size(), block);
  if (error != std::errc()) return std::nullopt;
  name.remove_prefix(static_cast<std::size_t>(rest - name.data()));
  for (const auto& [layer, group] : kLayers) {
    if (name.starts_with(layer)) return LayerPlace{block, group};
  }
  return std::nullopt;
}

std::optional<DType> quantised_type(const ComputePlan& plan, std::string_view name) {
  const std::optional<LayerPlace> place = find_layer(name);
  const ComputeType type = place ? type_of(plan, *place) : ComputeType::kBf16;
  if (type == ComputeType::kBf16) return std::nullopt;
  return type == ComputeType::kInt8 ? DType::kI8 : DType::kF8E4M3;
}

}  // namespace mochi
