#include "pipeline/weight_format.h"

#include <algorithm>

namespace mochi {
namespace {

constexpr std::array<std::string_view, kWeightFormats.size()> kFormatNames{
    "bf16", "fp16", "fp8", "q8_0", "q6_k", "q5_k", "q4_k", "q4_0"};
constexpr std::array<std::string_view, kNetworkKinds.size()> kNetworkNames{
    "transformer", "text-encoder", "decoder", "encoder"};

}  // namespace

std::optional<BlockFormat> block_format_of(WeightFormat format) {
  switch (format) {
    case WeightFormat::kQ8_0:
      return BlockFormat::kQ8_0;
    case WeightFormat::kQ6K:
      return BlockFormat::kQ6K;
    case WeightFormat::kQ5K:
      return BlockFormat::kQ5K;
    case WeightFormat::kQ4K:
      return BlockFormat::kQ4K;
    case WeightFormat::kQ4_0:
      return BlockFormat::kQ4_0;
    case WeightFormat::kBf16:
    case WeightFormat::kFp16:
    case WeightFormat::kFp8:
      break;
  }
  return std::nullopt;
}

std::uint32_t gguf_file_type(WeightFormat format) {
  switch (format) {
    case WeightFormat::kFp16:
      return 1;
    case WeightFormat::kQ4_0:
      return 2;
    case WeightFormat::kQ8_0:
      return 7;
    case WeightFormat::kQ4K:
      return 14;
    case WeightFormat::kQ5K:
      return 16;
    case WeightFormat::kQ6K:
      return 18;
    case WeightFormat::kBf16:
    case WeightFormat::kFp8:
      break;
  }
  return 32;  // BF16
}

std::string_view name_of(WeightFormat format) {
  return kFormatNames.at(static_cast<std::size_t>(format));
}

std::optional<WeightFormat> parse_weight_format(std::string_view name) {
  const auto* const found = std::ranges::find(kFormatNames, name);
  if (found == kFormatNames.end()) return std::nullopt;
  return kWeightFormats.at(static_cast<std::size_t>(found - kFormatNames.begin()));
}

std::string_view name_of(NetworkKind kind) {
  return kNetworkNames.at(static_cast<std::size_t>(kind));
}

std::optional<NetworkKind> parse_network_kind(std::string_view name) {
  const auto* const found = std::ranges::find(kNetworkNames, name);
  if (found == kNetworkNames.end()) return std::nullopt;
  return kNetworkKinds.at(static_cast<std::size_t>(found - kNetworkNames.begin()));
}

}  // namespace mochi
