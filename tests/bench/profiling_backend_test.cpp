// A profiled run does the work that is timed without a profile, on the same device.
#include "bench/profiling_backend.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace mochi::bench {
namespace {

class Profiling : public testing::Test {
 protected:
  const OpTotals* find(const std::string& name) const {
    const auto found = std::ranges::find(profiling_.totals(), name, &OpTotals::name);
    return found == profiling_.totals().end() ? nullptr : &*found;
  }

  std::unique_ptr<Backend> cpu_ = make_backend(Device::cpu());
  ProfilingBackend profiling_{*cpu_, /*is_timing=*/true};
};

// A video cut in other slices would be another program than the one that is timed.
TEST_F(Profiling, SharesTheDevice) { EXPECT_EQ(&profiling_.device(), &cpu_->device()); }

TEST_F(Profiling, CountsOperationsByNameAndComputesTheirResults) {
  const Tensor x(DType::kF32, {2, 3});
  const Tensor weight(DType::kF32, {4, 3});
  const Tensor out(DType::kF32, {2, 4});
  std::ranges::fill(x.view().f32(), 1.0F);
  std::ranges::fill(weight.view().f32(), 2.0F);
  for (int i = 0; i < 2; ++i) {
    profiling_.run(ops::Linear{.x = x, .weight = weight, .out = out});
  }
  profiling_.run(ops::Add{.a = out, .b = out, .out = out});
  EXPECT_EQ(out.view().f32()[7], 12.0F);
  const OpTotals* linear = find("linear 3→4");
  ASSERT_NE(linear, nullptr);
  EXPECT_EQ(linear->num_calls, 2);
  EXPECT_EQ(linear->kind, OpKind::kProduct);
  EXPECT_DOUBLE_EQ(linear->cost.flops, 2 * 2.0 * 2 * 3 * 4);
  EXPECT_GT(linear->seconds, 0);
  ASSERT_NE(find("add"), nullptr);
  EXPECT_DOUBLE_EQ(find("add")->cost.bytes, 3.0 * 4 * 8);
}

TEST_F(Profiling, MatricesInSmallerTypesAreWidenedInAnOperationOfTheirOwn) {
  const Tensor x(DType::kF32, {1, 32});
  std::ranges::fill(x.view().f32(), 1.0F);
  const Tensor stored(DType::kU8, {34 * 2});
  std::ranges::fill(std::span(stored.view().bytes(), stored.view().size_bytes()), std::byte{0});
  const Tensor out(DType::kF32, {1, 2});
  const MatrixView weight(BlockFormat::kQ8_0, stored, {}, {2, 32}, DType::kF32);
  profiling_.run(ops::Linear{.x = x, .weight = weight, .out = out});
  EXPECT_NE(find("widen Q8_0"), nullptr);
  EXPECT_NE(find("linear 32→2"), nullptr);
  EXPECT_EQ(out.view().f32()[1], 0.0F);
}

// Only transfers that are in progress are waited for.
TEST_F(Profiling, TransfersThatAreCompleteCountNothing) {
  Transfer none;
  profiling_.run(ops::Await{.transfer = none});
  EXPECT_TRUE(profiling_.totals().empty());
}

}  // namespace
}  // namespace mochi::bench
