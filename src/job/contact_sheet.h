// Small pictures of equal size in one, row by row.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "io/resize.h"

namespace mochi::job {

// Returns at most `most` indices of 0 to count − 1 in order, evenly spaced, with the first and the
// last of them. `count` and `most` are at least 1.
std::vector<std::int64_t> spaced_indices(std::int64_t count, std::int64_t most);

class ContactSheet {
 public:
  ContactSheet() = default;  // without cells
  // Cells without a picture are black.
  ContactSheet(FrameSize cell, int num_cells);

  int num_columns() const { return num_columns_; }
  FrameSize size() const;

  // `rgb` is [cell.height, cell.width, 3].
  void put(int cell_idx, std::span<const std::uint8_t> rgb);
  // [size().height, size().width, 3].
  std::span<const std::uint8_t> rgb() const { return rgb_; }
  std::string encode_jpeg(int quality) const;

 private:
  FrameSize cell_;
  int num_columns_ = 0, num_rows_ = 0;
  std::vector<std::uint8_t> rgb_;
};

}  // namespace mochi::job
