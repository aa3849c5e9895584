// The columns that a query group always keeps, independent of their scores.
#pragma once

#include <cstdint>
#include <vector>

#include "mochi/sparsity.h"
#include "sparsity/token_order.h"

namespace mochi {

// A bit for each column of each query group.
class ColumnBits {
 public:
  static constexpr std::int64_t kWordBits = 32;

  ColumnBits(std::int64_t num_groups, std::int64_t num_columns)
      : num_groups_(num_groups),
        num_columns_(num_columns),
        num_words_((num_columns + kWordBits - 1) / kWordBits),
        words_(static_cast<std::size_t>(num_groups * num_words_)) {}

  std::int64_t num_groups() const { return num_groups_; }
  std::int64_t num_columns() const { return num_columns_; }
  std::int64_t num_words() const { return num_words_; }  // words per group
  const std::vector<std::uint32_t>& words() const { return words_; }

  bool get(std::int64_t group, std::int64_t column) const {
    return (words_[word(group, column)] >> (column % kWordBits) & 1U) != 0;
  }
  void set(std::int64_t group, std::int64_t column) {
    words_[word(group, column)] |= std::uint32_t{1} << (column % kWordBits);
  }
  void set_range(std::int64_t group, std::int64_t begin, std::int64_t end) {
    for (std::int64_t column = begin; column < end; ++column) set(group, column);
  }

 private:
  std::size_t word(std::int64_t group, std::int64_t column) const {
    return static_cast<std::size_t>(group * num_words_ + column / kWordBits);
  }
  std::int64_t num_groups_, num_columns_, num_words_;
  std::vector<std::uint32_t> words_;
};

// Computes the columns that each group always sees. Columns are tokens: those of `grid` in the
// order of `config`, then num_text_tokens text tokens. Every group sees the text, the voxels around
// its own (groups outside whole voxels: as many of the last visual tokens) and the window along the
// token order. Groups that contain text see all columns.
ColumnBits find_static_columns(const SparsityConfig& config, const TokenGrid& grid,
                               std::int64_t num_text_tokens);

}  // namespace mochi
