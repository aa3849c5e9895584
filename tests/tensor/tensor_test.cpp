#include "tensor/tensor.h"

#include <gtest/gtest.h>

#include <cstdint>

#include "base/error.h"
#include "tensor/arena.h"

namespace mochi {
namespace {

TEST(Shape, CountsAndPrints) {
  const Shape shape{2, 3, 4};
  EXPECT_EQ(shape.num_elements(), 24);
  EXPECT_EQ(shape.to_string(), "[2, 3, 4]");
  EXPECT_EQ(Shape{}.num_elements(), 1);
  EXPECT_FALSE(shape == (Shape{2, 3}));
}

TEST(Shape, RefusesInvalidSizes) {
  EXPECT_THROW((Shape{1, 2, 3, 4, 5, 6}), Error);
  EXPECT_THROW((Shape{2, -1}), Error);
  EXPECT_THROW((Shape{std::int64_t{1} << 40, std::int64_t{1} << 40}), Error);
}

TEST(TensorView, RowsAndReshapesShareMemory) {
  const Tensor tensor(DType::kF32, {4, 3});
  const TensorView rows = tensor.view().rows(1, 3);
  EXPECT_EQ(rows.shape(), (Shape{2, 3}));
  EXPECT_EQ(rows.bytes(), tensor.view().bytes() + 3 * sizeof(float));
  EXPECT_EQ(tensor.view().reshape({2, 6}).bytes(), tensor.view().bytes());
  EXPECT_THROW(tensor.view().rows(2, 5), Error);
  EXPECT_THROW(tensor.view().reshape({5, 3}), Error);
  EXPECT_THROW(Tensor(DType::kBF16, {2}).view().f32(), Error);
}

TEST(Arena, GivesBackAtTheEndOfAScope) {
  Arena arena;
  const Arena::Scope outer(arena);
  std::byte* first = nullptr;
  {
    const Arena::Scope scope(arena);
    first = arena.allocate(DType::kF32, {100}).bytes();
    EXPECT_NE(arena.allocate(DType::kF32, {100}).bytes(), first);
  }
  EXPECT_EQ(arena.allocate(DType::kF32, {7}).bytes(), first);
}

// An allocator that has no more than some number of bytes at once, in pieces of at most another.
class ScarceAllocator final : public Allocator {
 public:
  explicit ScarceAllocator(std::size_t largest_piece) : largest_piece_(largest_piece) {}
  void* allocate(std::size_t num_bytes) override {
    ++num_allocations;
    if (num_bytes > largest_piece_) throw OutOfMemory("out of memory");
    return host_allocator().allocate(num_bytes);
  }
  void deallocate(void* block) noexcept override { host_allocator().deallocate(block); }
  Device device() const override { return Device::cpu(); }

  int num_allocations = 0;

 private:
  std::size_t largest_piece_;
};

TEST(Arena, StopsAllocatingAfterTheFirstRound) {
  ScarceAllocator allocator(std::size_t{1} << 30);
  Arena arena(allocator);
  const auto round = [&arena] {
    const Arena::Scope scope(arena);
    const TensorView large = arena.allocate(DType::kF32, {6 << 20});
    const TensorView larger = arena.allocate(DType::kF32, {9 << 20});
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(large.bytes()) % 256, 0U);
    large.f32()[0] = 1.0F;
    larger.f32()[0] = 2.0F;
    EXPECT_EQ(large.f32()[0], 1.0F);
  };
  round();
  round();  // merges the blocks of the first round
  const int num_allocations = allocator.num_allocations;
  EXPECT_GT(num_allocations, 0);
  for (int i = 0; i < 3; ++i) round();
  EXPECT_EQ(allocator.num_allocations, num_allocations);
}

TEST(Arena, KeepsTheMostThatWasInUse) {
  ScarceAllocator allocator(std::size_t{1} << 30);
  Arena arena(allocator);
  constexpr std::int64_t kMegabyte = std::int64_t{1} << 20;
  {
    const Arena::Scope scope(arena);
    arena.allocate(DType::kU8, {10 * kMegabyte});
    {
      const Arena::Scope inner(arena);
      arena.allocate(DType::kU8, {20 * kMegabyte});  // does not fit after the first
    }
    arena.allocate(DType::kU8, {5 * kMegabyte});
  }
  EXPECT_EQ(arena.capacity_bytes(), static_cast<std::size_t>(36 * kMegabyte));
  // One allocation that fits in the merged block, and one that does not.
  const Arena::Scope scope(arena);
  arena.allocate(DType::kU8, {25 * kMegabyte});
  const int num_allocations = allocator.num_allocations;
  EXPECT_EQ(arena.capacity_bytes(), static_cast<std::size_t>(30 * kMegabyte));
  arena.allocate(DType::kU8, {6 * kMegabyte});
  EXPECT_GT(allocator.num_allocations, num_allocations);
}

void use_three_blocks(Arena& arena) {
  const Arena::Scope scope(arena);
  for (int i = 0; i < 3; ++i) arena.allocate(DType::kU8, {20 << 20});
}

TEST(Arena, EndOfAScopeTakesNoMemory) {
  ScarceAllocator allocator(std::size_t{100} << 20);
  Arena arena(allocator);
  use_three_blocks(arena);
  EXPECT_EQ(allocator.num_allocations, 3);
  use_three_blocks(arena);
  EXPECT_EQ(allocator.num_allocations, 4);  // one block for all from now on
}

TEST(Arena, GoesOnInPiecesWhereNoneIsLargeEnoughForAll) {
  ScarceAllocator allocator(std::size_t{30} << 20);
  Arena arena(allocator);
  for (int i = 0; i < 3; ++i) use_three_blocks(arena);
  EXPECT_EQ(arena.capacity_bytes(), std::size_t{60} << 20);
}

}  // namespace
}  // namespace mochi
