#include "io/qweight_source.h"

#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "io/checkpoint.h"
#include "tensor/block_format.h"

namespace mochi {
namespace {

class Qweights : public testing::Test {
 protected:
  Qweights() {
    for (std::size_t i = 0; i < values_.size(); ++i) values_[i] = static_cast<float>(i) - 50.0F;
    quantize(BlockFormat::kQ8_0, values_, blocks_);
  }

  std::shared_ptr<StoredSource> open(const std::vector<NamedTensor>& tensors) const {
    write_safetensors(folder_ / "x.safetensors", tensors);
    return open_weights(folder_ / "x.safetensors");
  }

  NamedTensor qweight(const std::string& name, const Shape& shape) const {
    const auto num_bytes = static_cast<std::size_t>(shape.num_elements());
    return {name, DType::kU8, shape, std::span(blocks_).first(num_bytes)};
  }

  const TempFolder folder_;
  std::array<float, 128> values_{};
  std::array<std::byte, std::size_t{4} * 34> blocks_{};
};

TEST_F(Qweights, TakeThePlaceOfWeights) {
  const std::array<std::byte, 4> bias{};
  const auto source =
      open({qweight("layer.Q8_0_qweight", {2, 68}), {"layer.bias", DType::kF16, Shape{2}, bias}});
  EXPECT_EQ(source->names(), (std::vector<std::string>{"layer.bias", "layer.weight"}));
  EXPECT_TRUE(source->contains("layer.weight"));
  EXPECT_FALSE(source->contains("layer.Q8_0_qweight"));
  EXPECT_EQ(source->entry("layer.weight").dtype_name, "Q8_0");
  EXPECT_EQ(source->info("layer.weight").shape, (Shape{2, 64}));
  EXPECT_EQ(source->unread().size(), 2U);
  std::array<float, 128> found{};
  std::array<float, 128> wanted{};
  source->read_f32("layer.weight", found);
  dequantize(BlockFormat::kQ8_0, blocks_, wanted);
  EXPECT_EQ(found, wanted);
  EXPECT_EQ(source->unread(), (std::vector<std::string>{"layer.bias"}));
}

TEST_F(Qweights, RefuseRowsThatAreNotWholeBlocks) {
  expect_contains(message_of<Error>([&] { open({qweight("layer.Q8_0_qweight", {4, 33})}); }),
                  "a multiple of 34, found U8 [4, 33]");
  expect_contains(message_of<Error>([&] { open({qweight("layer.Q4_0_qweight", {1, 136})}); }),
                  "a multiple of 18, found U8 [1, 136]");
}

TEST_F(Qweights, HaveTheRowsOfTheirBiasIfTheyAreFlat) {
  const std::array<std::byte, 8> bias{};
  const auto open_flat = [&](const Shape& bias_shape) {
    const auto bytes = std::span(bias).first(static_cast<std::size_t>(bias_shape[0]) * 2);
    return open(
        {qweight("layer.Q8_0_qweight", {136}), {"layer.bias", DType::kF16, bias_shape, bytes}});
  };
  EXPECT_EQ(open_flat({2})->info("layer.weight").shape, (Shape{2, 64}));
  expect_contains(
      message_of<Error>([&] { open_flat({3}); }),
      "wanted [rows, bytes of a row], found [136], and no 'layer.bias' shows the number "
      "of rows");
  expect_contains(message_of<Error>([&] { open({qweight("layer.Q8_0_qweight", {136})}); }),
                  "and no 'layer.bias' shows");
}

TEST_F(Qweights, RefuseAWeightThatIsThereTwice) {
  const std::vector<NamedTensor> tensors{qweight("layer.Q8_0_qweight", {2, 68}),
                                         qweight("layer.weight", {2, 68})};
  expect_contains(message_of<Error>([&] { open(tensors); }), "holds 'layer.weight' twice");
}

TEST_F(Qweights, LeaveOtherFilesAsTheyAre) {
  const auto source = open({qweight("layer.IQ9_qweight", {2, 68})});
  EXPECT_NE(dynamic_cast<const Checkpoint*>(source.get()), nullptr);
}

}  // namespace
}  // namespace mochi
