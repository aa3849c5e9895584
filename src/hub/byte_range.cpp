#include "hub/byte_range.h"

#include <algorithm>

namespace mochi::hub {

void RangeSet::add(ByteRange range) {
  if (range.begin >= range.end) return;
  const auto first = std::ranges::lower_bound(ranges_, range.begin, {}, &ByteRange::end);
  auto last = first;
  for (; last != ranges_.end() && last->begin <= range.end; ++last) {
    range.begin = std::min(range.begin, last->begin);
    range.end = std::max(range.end, last->end);
  }
  if (first == last) {
    ranges_.insert(first, range);
    return;
  }
  *first = range;
  ranges_.erase(first + 1, last);
}

std::uint64_t RangeSet::num_bytes() const {
  std::uint64_t num_bytes = 0;
  for (const ByteRange& range : ranges_) num_bytes += range.size();
  return num_bytes;
}

std::uint64_t RangeSet::prefix_end() const {
  return ranges_.empty() || ranges_.front().begin > 0 ? 0 : ranges_.front().end;
}

std::vector<ByteRange> RangeSet::gaps(std::uint64_t size) const {
  std::vector<ByteRange> gaps;
  std::uint64_t begin = 0;
  for (const ByteRange& range : ranges_) {
    if (range.begin > begin) gaps.push_back({begin, std::min(range.begin, size)});
    begin = range.end;
    if (begin >= size) return gaps;
  }
  if (begin < size) gaps.push_back({begin, size});
  return gaps;
}

}  // namespace mochi::hub
