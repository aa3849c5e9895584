// Scratch memory that is taken and given back in stack order, so that a step loop allocates nothing
// after its first step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tensor/tensor.h"

namespace mochi {

class Arena {
 public:
  explicit Arena(Allocator& allocator = host_allocator()) : allocator_(allocator) {}
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Undefined contents, 256-byte aligned; valid until the enclosing Scope ends.
  TensorView allocate(DType dtype, const Shape& shape);

  // Gives back, at its end, everything allocated since its beginning.
  class Scope {
   public:
    explicit Scope(Arena& arena)
        : arena_(arena),
          block_idx_(arena.block_idx_),
          offset_(arena.offset_),
          used_bytes_(arena.used_bytes_) {}
    ~Scope() { arena_.release_to(block_idx_, offset_, used_bytes_); }
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Arena& arena_;
    std::size_t block_idx_;
    std::size_t offset_;
    std::size_t used_bytes_;
  };

  std::size_t capacity_bytes() const;  // taken from the allocator so far

 private:
  void merge_blocks();
  void release_to(std::size_t block_idx, std::size_t offset, std::size_t used_bytes) noexcept;

  struct Block {
    Tensor memory;
    std::size_t size_bytes;
  };
  Allocator& allocator_;
  std::vector<Block> blocks_;
  std::size_t block_idx_ = 0;   // block in use
  std::size_t offset_ = 0;      // bytes used of it
  std::size_t used_bytes_ = 0;  // by all that is allocated
  std::size_t peak_bytes_ = 0;  // most that ever were
  bool is_merge_due_ = false;
};

}  // namespace mochi
