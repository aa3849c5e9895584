// Types in which the linear layers of the transformer's blocks multiply.
#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>
#include <string_view>
#include <vector>

namespace mochi {

// In 8 bits, each row of the activations and each row of the weights has one scale.
enum class ComputeType : std::uint8_t {
  kBf16,  // "bf16": the engine's precision
  kInt8,  // "int8": integers from −127 to 127, summed exactly
  kFp8    // "fp8": E4M3, summed in fp32
};
inline constexpr std::array kComputeTypes{ComputeType::kBf16, ComputeType::kInt8,
                                          ComputeType::kFp8};
std::string_view name_of(ComputeType type);
std::optional<ComputeType> parse_compute_type(std::string_view name);

// The linear layers of a block, of visual and of text tokens alike.
enum class LayerGroup : std::uint8_t {
  kAttention,   // "attention": queries, keys and values, and the projection after attention
  kFeedForward  // "ffn": both layers of the feed-forward network
};
inline constexpr std::array kLayerGroups{LayerGroup::kAttention, LayerGroup::kFeedForward};
std::string_view name_of(LayerGroup group);

// Layers that multiply in another type than the others.
struct ComputeOverride {
  int first_block = 0;
  int last_block = std::numeric_limits<int>::max();  // inclusive
  std::optional<LayerGroup> layers = {};             // nothing: all
  ComputeType type = ComputeType::kBf16;
};

struct ComputePlan {
  ComputeType type = ComputeType::kBf16;
  std::vector<ComputeOverride> overrides = {};  // the last one that names a layer counts
};

}  // namespace mochi
