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

TEST(Arena, StopsAllocatingAfterTheFirstRound) {
  Arena arena;
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
  const std::uint64_t epoch = arena.epoch();
  const std::size_t capacity = arena.capacity_bytes();
  EXPECT_GT(epoch, 0U);
  for (int i = 0; i < 3; ++i) round();
  EXPECT_EQ(arena.capacity_bytes(), capacity);
  EXPECT_EQ(arena.epoch(), epoch);
}

TEST(Arena, KeepsTheMostThatWasInUse) {
  Arena arena;
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
  const std::uint64_t epoch = arena.epoch();
  EXPECT_EQ(arena.capacity_bytes(), static_cast<std::size_t>(30 * kMegabyte));
  // One allocation that fits in the existing blocks, and one that does not.
  const Arena::Scope scope(arena);
  arena.allocate(DType::kU8, {25 * kMegabyte});
  EXPECT_EQ(arena.epoch(), epoch);
  arena.allocate(DType::kU8, {6 * kMegabyte});
  EXPECT_GT(arena.epoch(), epoch);
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
  Device device() const override { return Device::kCpu; }

  int num_allocations = 0;

 private:
  std::size_t largest_piece_;
};

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
