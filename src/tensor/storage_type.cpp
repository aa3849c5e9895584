#include "tensor/storage_type.h"

#include <algorithm>

#include "base/error.h"
#include "base/parallel_for.h"
#include "tensor/float_arrays.h"

namespace mochi {
namespace {

void widen_elements(const StorageType& type, std::span<const std::byte> elements,
                    std::span<float> values) {
  if (const auto* const format = std::get_if<BlockFormat>(&type)) {
    dequantize(*format, elements, values);
  } else {
    convert_to_f32(std::get<DType>(type), elements, values);
  }
}

}  // namespace

const char* storage_type_name(const StorageType& type) {
  const auto* const format = std::get_if<BlockFormat>(&type);
  return format != nullptr ? block_format_name(*format) : dtype_name(std::get<DType>(type));
}

std::size_t storage_bytes(const StorageType& type, std::int64_t num_elements) {
  const auto count = static_cast<std::size_t>(num_elements);
  const auto* const format = std::get_if<BlockFormat>(&type);
  if (format == nullptr) return count * dtype_bytes(std::get<DType>(type));
  if (count % elements_per_block(*format) != 0) {
    fail("{}: wanted a multiple of {} elements, found {}", block_format_name(*format),
         elements_per_block(*format), count);
  }
  return count / elements_per_block(*format) * bytes_per_block(*format);
}

bool is_compact(const StorageType& type) {
  const auto* const dtype = std::get_if<DType>(&type);
  if (dtype == nullptr) return true;
  return *dtype == DType::kF8E4M3 || *dtype == DType::kF8E5M2 || *dtype == DType::kI8;
}

void widen_rows(const StorageType& type, std::span<const std::byte> elements,
                std::span<const float> scales, std::int64_t num_rows, std::span<float> values) {
  if (num_rows == 0 || values.empty()) return;
  const std::size_t row_size = values.size() / static_cast<std::size_t>(num_rows);
  const std::size_t row_bytes = storage_bytes(type, static_cast<std::int64_t>(row_size));
  if (row_size * static_cast<std::size_t>(num_rows) != values.size() ||
      elements.size() != row_bytes * static_cast<std::size_t>(num_rows)) {
    fail("{}: {} rows of {} elements take {} bytes, found {}", storage_type_name(type), num_rows,
         row_size, row_bytes * static_cast<std::size_t>(num_rows), elements.size());
  }
  constexpr std::int64_t kGrainRows = 16;
  parallel_for(0, num_rows, kGrainRows, [&](std::int64_t begin, std::int64_t end) {
    for (auto row = static_cast<std::size_t>(begin); row < static_cast<std::size_t>(end); ++row) {
      const std::span<float> out = values.subspan(row * row_size, row_size);
      widen_elements(type, elements.subspan(row * row_bytes, row_bytes), out);
      if (scales.empty()) continue;
      const float scale = scales[scales.size() == 1 ? 0 : row];
      for (float& value : out) value *= scale;
    }
  });
}

}  // namespace mochi
