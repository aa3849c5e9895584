#include "job/contact_sheet.h"

#include <algorithm>
#include <cstddef>

#include "io/image.h"

namespace mochi::job {
namespace {

constexpr int kMaxColumns = 4;

}  // namespace

std::vector<std::int64_t> spaced_indices(std::int64_t count, std::int64_t most) {
  const std::int64_t num_indices = std::min(count, most);
  const std::int64_t num_gaps = std::max<std::int64_t>(num_indices - 1, 1);
  std::vector<std::int64_t> indices;
  indices.reserve(static_cast<std::size_t>(num_indices));
  for (std::int64_t i = 0; i < num_indices; ++i) {
    indices.push_back((i * (count - 1) + num_gaps / 2) / num_gaps);
  }
  return indices;
}

ContactSheet::ContactSheet(FrameSize cell, int num_cells)
    : cell_(cell),
      num_columns_(std::min(num_cells, kMaxColumns)),
      num_rows_((num_cells + num_columns_ - 1) / num_columns_),
      rgb_(static_cast<std::size_t>(size().width) * static_cast<std::size_t>(size().height) *
           kRgbChannels) {}

FrameSize ContactSheet::size() const {
  return {cell_.width * num_columns_, cell_.height * num_rows_};
}

void ContactSheet::put(int cell_idx, std::span<const std::uint8_t> rgb) {
  const std::ptrdiff_t row_bytes = static_cast<std::ptrdiff_t>(cell_.width) * kRgbChannels;
  const std::ptrdiff_t column = cell_idx % num_columns_;
  const std::ptrdiff_t top = static_cast<std::ptrdiff_t>(cell_idx / num_columns_) * cell_.height;
  for (std::ptrdiff_t y = 0; y < cell_.height; ++y) {
    std::copy_n(rgb.begin() + y * row_bytes, row_bytes,
                rgb_.begin() + ((top + y) * num_columns_ + column) * row_bytes);
  }
}

std::string ContactSheet::encode_jpeg(int quality) const {
  return mochi::encode_jpeg(size().width, size().height, rgb_, quality);
}

}  // namespace mochi::job
