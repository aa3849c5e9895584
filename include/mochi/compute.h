// Types in which the linear layers of the transformer's blocks multiply.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

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

}  // namespace mochi
