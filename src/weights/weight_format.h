// The types that weights have in a precision: in memory, and in the files that `mochi convert`
// writes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "mochi/weight_format.h"
#include "tensor/shape.h"
#include "tensor/storage_type.h"

namespace mochi {

// Returns the format of the blocks, or nothing for a precision without blocks.
std::optional<BlockFormat> block_format_of(WeightFormat format);

// Returns the value of GGUF's general.file_type, as llama.cpp numbers them.
std::uint32_t gguf_file_type(WeightFormat format);

// Returns the type of the parameter `name` in this precision; nothing for one that is not rounded:
// vectors, small tensors, tables and, in the 8-bit and smaller precisions, the layers whose errors
// all others see. Matrices whose rows are not whole blocks of a format of 256 are Q8_0 instead, as
// are those that compute shifts and scales.
std::optional<StorageType> type_in_format(WeightFormat format, std::string_view name,
                                          const Shape& shape);

// A matrix in a type that is_compact().
struct CompactMatrix {
  std::vector<std::byte> elements;
  std::vector<float> scales;  // [rows] of I8 and F8_E4M3, by quantise_rows(); else none
};
// `type` is I8, F8_E4M3 or a format of blocks that quantize() writes, else Error. Values are
// finite.
CompactMatrix to_compact(std::span<const float> values, std::int64_t num_rows,
                         const StorageType& type);

}  // namespace mochi
