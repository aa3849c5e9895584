#include "weights/weight_format.h"

#include <algorithm>
#include <array>

#include "tensor/row_quantisation.h"

namespace mochi {
namespace {

constexpr std::array<std::string_view, kWeightFormats.size()> kFormatNames{
    "bf16", "fp16", "fp8", "q8_0", "q6_k", "q5_k", "q4_k", "q4_0"};
// Tensors of this size or less are not worth their error.
constexpr std::int64_t kMaxSmallElements = 1024;

// Matrices whose errors all others see; they are small next to the others.
constexpr std::array<std::string_view, 7> kSensitive{
    "x_embedder.", "t_embedder.",   "t5_y_embedder.",          "final_layer.linear.",
    "shared.",     "embed_tokens.", "relative_attention_bias."};
// Matrices that compute shifts and scales of whole layers.
constexpr std::array<std::string_view, 3> kModulations{".mod_x.", ".mod_y.", "final_layer.mod."};

bool has_any(std::string_view name, std::span<const std::string_view> parts) {
  return std::ranges::any_of(
      parts, [name](std::string_view part) { return name.find(part) != std::string_view::npos; });
}

bool is_exact(WeightFormat format, std::string_view name, const Shape& shape) {
  const bool is_half = format == WeightFormat::kBf16 || format == WeightFormat::kFp16;
  if (!name.ends_with(".weight") || shape.num_elements() <= kMaxSmallElements) return true;
  if (is_half) return shape.rank() < 2 || name.ends_with("relative_attention_bias.weight");
  return shape.rank() != 2 || has_any(name, kSensitive);
}

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

std::optional<StorageType> type_in_format(WeightFormat format, std::string_view name,
                                          const Shape& shape) {
  if (is_exact(format, name, shape)) return std::nullopt;
  if (format == WeightFormat::kBf16) return DType::kBF16;
  if (format == WeightFormat::kFp16) return DType::kF16;
  if (format == WeightFormat::kFp8) return DType::kF8E4M3;
  const BlockFormat wanted =
      has_any(name, kModulations) ? BlockFormat::kQ8_0 : block_format_of(format).value();
  // Rows that are not whole blocks of 256 may be whole blocks of 32.
  for (const BlockFormat block_format : {wanted, BlockFormat::kQ8_0}) {
    const auto block_size = static_cast<std::int64_t>(elements_per_block(block_format));
    if (shape[1] % block_size == 0) return block_format;
  }
  return std::nullopt;
}

CompactMatrix to_compact(std::span<const float> values, std::int64_t num_rows,
                         const StorageType& type) {
  CompactMatrix matrix;
  matrix.elements.resize(storage_bytes(type, std::ssize(values)));
  if (const auto* const format = std::get_if<BlockFormat>(&type)) {
    quantize(*format, values, matrix.elements);
    return matrix;
  }
  matrix.scales.resize(static_cast<std::size_t>(num_rows));
  quantise_rows(std::get<DType>(type), values, matrix.elements, matrix.scales);
  return matrix;
}

}  // namespace mochi
