#include "weights/layer_streamer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "weights/weights.h"

namespace mochi {
namespace {

struct StackWeights {
  explicit StackWeights(std::size_t num_layers, std::int64_t in_features = 24)
      : layers(num_layers), num_columns(in_features) {}

  TensorView first;
  std::vector<LinearWeights> layers;  // the last one is smaller
  TensorView last;
  std::int64_t num_columns;

  void visit(const WeightVisitor& visitor) {
    visitor("first.weight", first, {8, 8}, WeightRole::kMatrix);
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::int64_t width = i + 1 == layers.size() ? 16 : 32;
      layers[i].visit(visitor, "layer" + std::to_string(i), width, num_columns, /*has_bias=*/true);
    }
    visitor("last.weight", last, {8}, WeightRole::kVector);
  }
};

std::optional<std::size_t> layer_of(const std::string& name) {
  if (!name.starts_with("layer")) return std::nullopt;
  return std::stoul(name.substr(5));
}

bool are_equal(const TensorView& a, const TensorView& b) {
  return a.shape() == b.shape() && a.dtype() == b.dtype() &&
         std::memcmp(a.bytes(), b.bytes(), a.size_bytes()) == 0;
}

class LayerStreaming : public testing::TestWithParam<std::size_t> {};

// Covers numbers of layers that are not multiples of the slots or are smaller.
TEST_P(LayerStreaming, EveryLayerFindsItsOwnWeights) {
  const std::size_t num_layers = GetParam();
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  WeightStore resident_store(*backend, DType::kBF16);
  StackWeights resident(num_layers);
  resident_store.init_random(resident, 5);
  ASSERT_EQ(resident_store.streamer(), nullptr);

  WeightStore store(*backend, DType::kBF16);
  StackWeights weights(num_layers);
  store.stream_layers(layer_of);
  store.init_random(weights, 5);
  ASSERT_NE(store.streamer(), nullptr);
  EXPECT_EQ(store.num_parameters(), resident_store.num_parameters());
  EXPECT_TRUE(are_equal(weights.first, resident.first));
  EXPECT_TRUE(are_equal(weights.last, resident.last));
  for (int pass = 0; pass < 3; ++pass) {
    for (std::size_t i = 0; i < num_layers; ++i) {
      store.streamer()->begin(i);
      EXPECT_TRUE(are_equal(weights.layers[i].weight.values(), resident.layers[i].weight.values()))
          << i;
      EXPECT_TRUE(are_equal(weights.layers[i].bias, resident.layers[i].bias)) << i;
    }
  }
  store.streamer()->begin(num_layers - 1);  // out of order
  EXPECT_TRUE(
      are_equal(weights.layers.back().weight.values(), resident.layers.back().weight.values()));
}
INSTANTIATE_TEST_SUITE_P(Depths, LayerStreaming, testing::Values(1, 2, 3, 4, 5, 7));

TEST(LayerStreaming, CompactMatricesAreStreamedAsTheyAre) {
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  for (const WeightFormat format : {WeightFormat::kFp8, WeightFormat::kQ8_0}) {
    WeightStore resident_store(*backend, {DType::kF32, format});
    StackWeights resident(5, 64);
    resident_store.init_random(resident, 5);
    WeightStore store(*backend, {DType::kF32, format});
    StackWeights weights(5, 64);
    store.stream_layers(layer_of);
    store.init_random(weights, 5);
    for (std::size_t i = 0; i < 5; ++i) {
      store.streamer()->begin(i);
      const MatrixView& found = weights.layers[i].weight;
      const MatrixView& wanted = resident.layers[i].weight;
      EXPECT_EQ(found.type(), wanted.type());
      EXPECT_EQ(found.is_dense(), i == 4);  // the last one is too small
      EXPECT_TRUE(are_equal(found.values(), wanted.values())) << i;
      if (wanted.scales()) {
        EXPECT_TRUE(are_equal(found.scales(), wanted.scales())) << i;
      }
    }
  }
}

TEST(LayerStreaming, LayersAreOnTheHostAndInThreeSlots) {
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  WeightStore store(*backend, DType::kBF16);
  StackWeights weights(7);
  store.stream_layers(layer_of);
  store.init_random(weights, 5);
  // 32 x 24 BF16 and 32 F32, each a multiple of 256 when rounded up; the last layer has 16.
  EXPECT_EQ(store.streamer()->host_bytes(), 6U * (1536 + 256) + 768 + 256);
  EXPECT_EQ(weights.layers[0].weight.values().bytes(), weights.layers[3].weight.values().bytes());
  EXPECT_NE(weights.layers[0].weight.values().bytes(), weights.layers[1].weight.values().bytes());
}

}  // namespace
}  // namespace mochi
