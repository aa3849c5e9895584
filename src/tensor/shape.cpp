#include "tensor/shape.h"

#include <algorithm>
#include <limits>

#include "base/error.h"

namespace mochi {

Shape::Shape(std::initializer_list<std::int64_t> sizes)
    : Shape(std::span<const std::int64_t>(sizes.begin(), sizes.size())) {}

Shape::Shape(std::span<const std::int64_t> sizes) : rank_(static_cast<int>(sizes.size())) {
  if (sizes.size() > kMaxRank) throw Error("shape has more than 5 dimensions");
  std::copy(sizes.begin(), sizes.end(), sizes_.begin());
  std::int64_t product = 1;
  for (const std::int64_t size : sizes) {
    if (size < 0) throw Error("shape has a negative size: " + to_string());
    if (size > 0 && product > std::numeric_limits<std::int64_t>::max() / size) {
      throw Error("shape is too large: " + to_string());
    }
    product *= size;
  }
}

bool Shape::operator==(const Shape& other) const {
  return std::ranges::equal(sizes(), other.sizes());
}

std::string Shape::to_string() const {
  std::string text = "[";
  for (int dim = 0; dim < rank_; ++dim) {
    if (dim > 0) text += ", ";
    text += std::to_string(sizes_[static_cast<std::size_t>(dim)]);
  }
  return text + "]";
}

}  // namespace mochi
