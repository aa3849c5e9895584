// Ranges of bytes of a file, and sets of them.
#pragma once

#include <cstdint>
#include <vector>

namespace mochi::hub {

// The bytes [begin, end).
struct ByteRange {
  std::uint64_t begin = 0;
  std::uint64_t end = 0;

  std::uint64_t size() const { return end - begin; }
  bool operator==(const ByteRange&) const = default;
};

// Disjoint ranges in ascending order; ranges that touch are merged.
class RangeSet {
 public:
  RangeSet() = default;
  explicit RangeSet(const std::vector<ByteRange>& ranges) {
    for (const ByteRange& range : ranges) add(range);
  }

  void add(ByteRange range);

  const std::vector<ByteRange>& ranges() const { return ranges_; }
  std::uint64_t num_bytes() const;
  // Returns the number of bytes from the start of the file on that are all in the set.
  std::uint64_t prefix_end() const;
  // Returns the ranges of [0, size) that are not in the set.
  std::vector<ByteRange> gaps(std::uint64_t size) const;

 private:
  std::vector<ByteRange> ranges_;
};

}  // namespace mochi::hub
