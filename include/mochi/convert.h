// Writes a network's weights in another precision.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mochi/mochi.h"
#include "mochi/weight_format.h"

namespace mochi {

enum class NetworkKind : std::uint8_t {
  kTransformer,  // "transformer"
  kTextEncoder,  // "text-encoder"
  kDecoder,      // "decoder"
  kEncoder       // "encoder"
};
inline constexpr std::array kNetworkKinds{NetworkKind::kTransformer, NetworkKind::kTextEncoder,
                                          NetworkKind::kDecoder, NetworkKind::kEncoder};
std::string_view name_of(NetworkKind kind);
std::optional<NetworkKind> parse_network_kind(std::string_view name);

struct ConvertOptions {
  std::filesystem::path input;   // a file of weights, an index of shards, or a model folder
  std::filesystem::path output;  // ends in .safetensors or .gguf
  WeightFormat format = WeightFormat::kBf16;
  // Must be given if the input holds several; a model folder's is otherwise the transformer.
  std::optional<NetworkKind> network;
  std::vector<Lora> loras;  // are added to the transformer's weights
};

struct ConvertReport {
  std::string network;                     // "transformer"
  std::int64_t num_tensors = 0;            // written to the output
  std::int64_t num_converted = 0;          // those in the wanted precision, or in Q8_0 instead
  std::uint64_t input_bytes = 0;           // size of the network's tensors
  std::uint64_t output_bytes = 0;          // size of the file
  std::vector<std::string> warnings = {};  // LoRAs without effect, one line each
};

// Throws InvalidRequest for options that do not fit together, Error naming a file or a tensor,
// Cancelled. The output appears when it is complete.
ConvertReport convert_weights(const ConvertOptions& options, Observer& observer);

}  // namespace mochi
