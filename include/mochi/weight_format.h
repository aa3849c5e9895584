// Precisions in which weights are kept in memory and written to files.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string_view>

namespace mochi {

enum class WeightFormat : std::uint8_t {
  kBf16,  // "bf16"
  kFp16,  // "fp16"; in files only
  kFp8,   // "fp8": E4M3 with one scale for each row
  kQ8_0,  // "q8_0"; this and the following are blocks as GGML defines them
  kQ6K,   // "q6_k"
  kQ5K,   // "q5_k"
  kQ4K,   // "q4_k"
  kQ4_0   // "q4_0"
};
inline constexpr std::array kWeightFormats{
    WeightFormat::kBf16, WeightFormat::kFp16, WeightFormat::kFp8, WeightFormat::kQ8_0,
    WeightFormat::kQ6K,  WeightFormat::kQ5K,  WeightFormat::kQ4K, WeightFormat::kQ4_0};
std::string_view name_of(WeightFormat format);
std::optional<WeightFormat> parse_weight_format(std::string_view name);

}  // namespace mochi
