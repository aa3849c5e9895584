#include "tensor/arena.h"

#include <algorithm>

#include "base/error.h"

namespace mochi {

namespace {
constexpr std::size_t kAlignment = 256;
constexpr std::size_t kMinBlockBytes = std::size_t{16} << 20;
}  // namespace

TensorView Arena::allocate(DType dtype, const Shape& shape) {
  if (is_merge_due_) merge_blocks();
  const std::size_t wanted = static_cast<std::size_t>(shape.num_elements()) * dtype_bytes(dtype);
  const std::size_t rounded = (wanted + kAlignment - 1) / kAlignment * kAlignment;
  const auto fits = [&] {
    return block_idx_ < blocks_.size() && offset_ + rounded <= blocks_[block_idx_].size_bytes;
  };
  if (!fits() && offset_ > 0) {
    ++block_idx_;
    offset_ = 0;
  }
  if (!fits()) {
    // Nothing lives in the blocks from here on: too small, they only take up room.
    blocks_.resize(block_idx_);
    const std::size_t size_bytes = std::max(rounded, kMinBlockBytes);
    const Shape block_shape{static_cast<std::int64_t>(size_bytes)};
    blocks_.push_back({Tensor(DType::kU8, block_shape, allocator_), size_bytes});
  }
  std::byte* data = blocks_[block_idx_].memory.view().bytes() + offset_;
  offset_ += rounded;
  used_bytes_ += rounded;
  peak_bytes_ = std::max(peak_bytes_, used_bytes_);
  return {data, dtype, shape, allocator_.device()};
}

// An empty arena in several blocks becomes one that holds the most that was ever in use: memory
// does not fragment for good, and from then on nothing is allocated and addresses stay the same.
void Arena::merge_blocks() {
  is_merge_due_ = false;
  block_idx_ = 0;
  offset_ = 0;
  blocks_.clear();
  try {
    const Shape shape{static_cast<std::int64_t>(peak_bytes_)};
    blocks_.push_back({Tensor(DType::kU8, shape, allocator_), peak_bytes_});
    // No piece of memory may be that large any more; smaller blocks may still do.
  } catch (const OutOfMemory&) {  // NOLINT(bugprone-empty-catch)
  }
}

void Arena::release_to(std::size_t block_idx, std::size_t offset, std::size_t used_bytes) noexcept {
  block_idx_ = block_idx;
  offset_ = offset;
  used_bytes_ = used_bytes;
  // A destructor calls this, so the memory is taken later.
  if (used_bytes == 0 && blocks_.size() > 1) is_merge_due_ = true;
}

std::size_t Arena::capacity_bytes() const {
  std::size_t total = 0;
  for (const Block& block : blocks_) total += block.size_bytes;
  return total;
}

}  // namespace mochi
