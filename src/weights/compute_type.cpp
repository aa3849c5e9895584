#include "weights/compute_type.h"

#include <algorithm>

namespace mochi {
namespace {

constexpr std::array<std::string_view, kComputeTypes.size()> kTypeNames{"bf16", "int8", "fp8"};

constexpr std::array<std::string_view, 4> kLayers{".attn.qkv_", ".attn.proj_", ".mlp_x.",
                                                  ".mlp_y."};

}  // namespace

std::string_view name_of(ComputeType type) { return kTypeNames.at(static_cast<std::size_t>(type)); }

std::optional<ComputeType> parse_compute_type(std::string_view name) {
  const auto* const found = std::ranges::find(kTypeNames, name);
  if (found == kTypeNames.end()) return std::nullopt;
  return kComputeTypes.at(static_cast<std::size_t>(found - kTypeNames.begin()));
}

std::optional<DType> quantised_type(ComputeType type, std::string_view name) {
  const bool is_layer = name.starts_with("blocks.") && name.ends_with(".weight") &&
                        std::ranges::any_of(kLayers, [name](std::string_view layer) {
                          return name.find(layer) != std::string_view::npos;
                        });
  if (!is_layer || type == ComputeType::kBf16) return std::nullopt;
  return type == ComputeType::kInt8 ? DType::kI8 : DType::kF8E4M3;
}

}  // namespace mochi
