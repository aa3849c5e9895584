#include "weights/weights.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/noise.h"

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
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
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
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  WeightStore store(*backend, DType::kF32);
  TinyWeights first;
  TinyWeights again;
  TinyWeights other;
  store.init_random(first, 3);
  store.init_random(again, 3);
  store.init_random(other, 4);
  EXPECT_TRUE(
      std::ranges::equal(first.linear.weight.values().f32(), again.linear.weight.values().f32()));
  EXPECT_FALSE(
      std::ranges::equal(first.linear.weight.values().f32(), other.linear.weight.values().f32()));
}

TEST(WeightStore, StoresMatricesInTheWantedTypeAndVectorsInF32) {
  const std::unique_ptr<Backend> backend = make_backend(Device::cpu());
  WeightStore store(*backend, DType::kBF16);
  TinyWeights weights;
  store.init_random(weights, 3);
  EXPECT_EQ(weights.linear.weight.dtype(), DType::kBF16);
  EXPECT_EQ(weights.linear.bias.dtype(), DType::kF32);
  EXPECT_EQ(weights.norm.dtype(), DType::kF32);
}

// A file with the parameters of TinyWeights, of which the matrix has this type.
class TinySource final : public TensorSource {
 public:
  TinySource(const StorageType& type, std::vector<float> values) : type_(type) {
    const bool is_wide = type == StorageType(DType::kF32);
    const std::span<const float> floats(values);
    matrix_ = is_wide ? CompactMatrix{to_bytes(floats), {}} : to_compact(floats, 64, type);
  }
  std::string description() const override { return "'tiny'"; }
  std::vector<std::string> names() const override { return {}; }
  bool contains(std::string_view) const override { return true; }
  TensorInfo info(std::string_view name) const override {
    if (name == "linear.weight") return {type_, {64, 256}, "tiny", !matrix_.scales.empty()};
    return {DType::kF32, {64}, "tiny"};
  }
  std::vector<StoredRows> stored_rows(std::string_view name) const override {
    if (name != "linear.weight") return {{DType::kF32, {64}, std::as_bytes(std::span(vector_))}};
    // Two parts, as assembled tensors have them.
    const std::span<const std::byte> all(matrix_.elements);
    const std::span<const float> scales(matrix_.scales);
    std::vector<StoredRows> parts;
    for (std::size_t part = 0; part < 2; ++part) {
      const std::span<const float> own =
          scales.subspan(scales.empty() ? 0 : 32 * part, scales.empty() ? 0 : 32);
      parts.push_back({type_,
                       {32, 256},
                       all.subspan(part * all.size() / 2, all.size() / 2),
                       nullptr,
                       std::vector<float>(own.begin(), own.end())});
    }
    return parts;
  }
  std::vector<std::string> unread() const override { return {}; }

  const CompactMatrix& matrix() const { return matrix_; }

 private:
  static std::vector<std::byte> to_bytes(std::span<const float> values) {
    const auto bytes = std::as_bytes(values);
    return {bytes.begin(), bytes.end()};
  }
  StorageType type_;
  CompactMatrix matrix_;
  std::vector<float> vector_ = std::vector<float>(64, 0.5F);
};

class CompactWeights : public testing::TestWithParam<std::pair<WeightFormat, StorageType>> {
 protected:
  CompactWeights() : values_(64 * 256) { fill_normal(NoiseSource::kMochi, 1, values_); }

  static std::vector<std::byte> bytes_of(const TensorView& tensor) {
    return {tensor.bytes(), tensor.bytes() + tensor.size_bytes()};
  }
  static std::vector<float> scales_of(const MatrixView& matrix) {
    if (!matrix.scales()) return {};
    return {matrix.scales().f32().begin(), matrix.scales().f32().end()};
  }

  std::vector<float> values_;
  std::unique_ptr<Backend> backend_ = make_backend(Device::cpu());
};

TEST_P(CompactWeights, StayAsTheFileHasThem) {
  const TinySource source(GetParam().second, values_);
  WeightStore store(*backend_, DType::kBF16);
  TinyWeights weights;
  store.load(weights, source);
  const MatrixView& matrix = weights.linear.weight;
  EXPECT_EQ(matrix.type(), GetParam().second);
  EXPECT_EQ(matrix.dtype(), DType::kBF16);
  EXPECT_EQ(bytes_of(matrix.values()), source.matrix().elements);
  EXPECT_EQ(scales_of(matrix), source.matrix().scales);
  EXPECT_EQ(store.num_parameters(), 64 * 256 + 64 + 64);
  EXPECT_EQ(store.size_bytes(), matrix.size_bytes() + 4U * (64 + 64));
  EXPECT_EQ(WeightStore::planned_bytes(TinyWeights(), &source, DType::kBF16), store.size_bytes());
}

TEST_P(CompactWeights, AreMadeFromFloatsOnLoading) {
  const TinySource compact(GetParam().second, values_);
  const TinySource wide(DType::kF32, values_);
  WeightStore store(*backend_, {DType::kF32, GetParam().first});
  TinyWeights weights;
  store.load(weights, wide);
  EXPECT_EQ(weights.linear.weight.type(), GetParam().second);
  EXPECT_EQ(bytes_of(weights.linear.weight.values()), compact.matrix().elements);
  EXPECT_EQ(scales_of(weights.linear.weight), compact.matrix().scales);
}

TEST_P(CompactWeights, AreWidenedOnLoadingIfWanted) {
  const TinySource source(GetParam().second, values_);
  WeightStore store(*backend_, {DType::kF32, WeightFormat::kBf16});
  TinyWeights weights;
  store.load(weights, source);
  ASSERT_TRUE(weights.linear.weight.is_dense());
  std::vector<float> wanted(values_.size());
  widen_rows(GetParam().second, source.matrix().elements, source.matrix().scales, 64, wanted);
  EXPECT_TRUE(std::ranges::equal(weights.linear.weight.values().f32(), wanted));
}

INSTANTIATE_TEST_SUITE_P(
    Formats, CompactWeights,
    testing::Values(std::pair{WeightFormat::kFp8, StorageType(DType::kF8E4M3)},
                    std::pair{WeightFormat::kQ8_0, StorageType(BlockFormat::kQ8_0)},
                    std::pair{WeightFormat::kQ4K, StorageType(BlockFormat::kQ4K)}));

TEST(TypeInFormat, KeepsWhatIsSmallOrSensitive) {
  const auto type = [](WeightFormat format, const char* name, const Shape& shape) {
    const auto found = type_in_format(format, name, shape);
    return std::string(found ? storage_type_name(*found) : "-");
  };
  EXPECT_EQ(type(WeightFormat::kQ4K, "blocks.0.attn.qkv_x.weight", {64, 512}), "Q4_K");
  EXPECT_EQ(type(WeightFormat::kQ4K, "blocks.0.attn.qkv_x.weight", {64, 96}), "Q8_0");
  EXPECT_EQ(type(WeightFormat::kQ4K, "blocks.0.attn.qkv_x.weight", {64, 100}), "-");
  EXPECT_EQ(type(WeightFormat::kQ4K, "blocks.0.mod_x.weight", {64, 512}), "Q8_0");
  EXPECT_EQ(type(WeightFormat::kFp8, "blocks.0.mod_x.weight", {64, 512}), "F8_E4M3");
  EXPECT_EQ(type(WeightFormat::kQ8_0, "blocks.0.attn.proj_x.bias", {4096}), "-");
  EXPECT_EQ(type(WeightFormat::kQ8_0, "x_embedder.proj.weight", {64, 512}), "-");
  EXPECT_EQ(type(WeightFormat::kQ8_0, "shared.weight", {64, 512}), "-");
  EXPECT_EQ(type(WeightFormat::kBf16, "shared.weight", {64, 512}), "BF16");
  EXPECT_EQ(type(WeightFormat::kQ8_0, "a.weight", {2, 512}), "-");
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
