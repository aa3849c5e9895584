#include "weights/weights.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"

namespace mochi {
namespace {

struct TinyWeights {
  LinearWeights linear;
  TensorView norm;

  void visit(const WeightVisitor& visitor) {
    linear.visit(visitor, "linear", 64, 256, /*has_bias=*/true);
    visitor("norm.weight", norm, {64}, WeightRole::kVector);
  }
};

TEST(WeightStore, RandomWeightsHaveTheScaleOfTheirRole) {
  const std::unique_ptr<Backend> backend = make_backend(Device::kCpu);
  WeightStore store(*backend, DType::kF32);
  TinyWeights weights;
  store.init_random(weights, 3);
  EXPECT_EQ(store.num_parameters(), 64 * 256 + 64 + 64);
  EXPECT_EQ(store.size_bytes(), 4U * (64 * 256 + 64 + 64));
  double squares = 0.0;
  for (const float value : weights.linear.weight.values().f32())
    squares += static_cast<double>(value) * value;
  EXPECT_NEAR(squares / 64, 1.0, 0.05);  // rows of unit length
  double sum = 0.0;
  for (const float value : weights.norm.f32()) sum += value;
  EXPECT_NEAR(sum / 64, 1.0, 0.05);
}

TEST(WeightStore, RandomWeightsDependOnTheSeedAlone) {
  const std::unique_ptr<Backend> backend = make_backend(Device::kCpu);
  WeightStore store(*backend, DType::kF32);
  TinyWeights first;
  TinyWeights again;
  TinyWeights other;
  store.init_random(first, 3);
  store.init_random(again, 3);
  store.init_random(other, 4);
  EXPECT_TRUE(std::ranges::equal(first.linear.weight.values().f32(), again.linear.weight.values().f32()));
  EXPECT_FALSE(std::ranges::equal(first.linear.weight.values().f32(), other.linear.weight.values().f32()));
}

TEST(WeightStore, StoresMatricesInTheWantedTypeAndVectorsInF32) {
  const std::unique_ptr<Backend> backend = make_backend(Device::kCpu);
  WeightStore store(*backend, DType::kBF16);
  TinyWeights weights;
  store.init_random(weights, 3);
  EXPECT_EQ(weights.linear.weight.dtype(), DType::kBF16);
  EXPECT_EQ(weights.linear.bias.dtype(), DType::kF32);
  EXPECT_EQ(weights.norm.dtype(), DType::kF32);
}

TEST(ListParameters, NamesEveryParameterOnce) {
  const auto parameters = list_parameters(TinyWeights{});
  ASSERT_EQ(parameters.size(), 3U);
  EXPECT_EQ(parameters[0].first, "linear.weight");
  EXPECT_EQ(parameters[0].second, (Shape{64, 256}));
  EXPECT_EQ(parameters[2].first, "norm.weight");
}

}  // namespace
}  // namespace mochi
