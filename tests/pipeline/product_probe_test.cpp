// Products in 8 bits: which layers have them, and their errors, measured in whole samplings of a
// tiny model.
#include <gtest/gtest.h>

#include <filesystem>
#include <memory>
#include <set>
#include <tuple>

#include "base/temp_folder.h"
#include "pipeline/step_observer.h"
#include "pipeline/tiny_model.h"
#include "weights/compute_type.h"

namespace mochi {
namespace {

class MeasuredProducts : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    write_tiny_model(*folder_ / "model",
                     std::filesystem::path(MOCHI_GOLDEN_DIR) / "tokenizer" / "spiece.model");
  }
  static void TearDownTestSuite() { folder_.reset(); }

  struct Result {
    std::vector<float> latents;
    std::vector<ProductReport> products;
  };
  static Result sample(const EngineOptions& given, bool is_measured) {
    EngineOptions options = given;
    options.model_dir = *folder_ / "model";
    options.device = DeviceKind::kCpu;
    Engine engine(options);
    GenerateRequest request = engine.model().default_request();
    request.num_steps = 10;
    request.prompt = "a red ball";
    Result result;
    StepObserver observer;
    if (is_measured) {
      observer.product = [&](const ProductReport& report) { result.products.push_back(report); };
    }
    result.latents = engine.sample(request, observer).values;
    return result;
  }

  static inline std::unique_ptr<TempFolder> folder_;
};

TEST_F(MeasuredProducts, AreThoseOfEveryGroupOfLayersAtAFewSteps) {
  const Result result = sample({.model_dir = {}, .precision = Precision::kFp32}, true);
  EXPECT_EQ(result.latents,
            sample({.model_dir = {}, .precision = Precision::kFp32}, false).latents);
  std::set<int> steps;
  std::set<std::tuple<int, bool, int, LayerGroup>> found;
  for (const ProductReport& report : result.products) {
    steps.insert(report.step);
    EXPECT_TRUE(
        found.emplace(report.step, report.is_null_branch, report.block, report.layers).second);
    const double int8 = report.errors.at(ComputeType::kInt8);
    const double fp8 = report.errors.at(ComputeType::kFp8);
    EXPECT_GT(int8, 0.002);
    EXPECT_LT(int8, 0.02);
    EXPECT_GT(fp8, 2 * int8);
    EXPECT_LT(fp8, 0.08);
  }
  EXPECT_EQ(steps, (std::set<int>{0, 2, 4, 6, 8}));
  EXPECT_EQ(found.size(), steps.size() * 2 * 2 * 2);  // branches, blocks, groups
}

TEST_F(MeasuredProducts, AreFoundForEveryPrecisionOfWeights) {
  const std::size_t num_products = sample({}, true).products.size();
  EXPECT_EQ(sample({.model_dir = {}, .precision = Precision::kBf16}, true).products.size(),
            num_products);
  for (const WeightFormat format : {WeightFormat::kFp8, WeightFormat::kQ8_0}) {
    const EngineOptions options{.model_dir = {}, .weights = format};
    const Result result = sample(options, true);
    EXPECT_EQ(result.products.size(), num_products) << name_of(format);
    EXPECT_EQ(result.latents, sample(options, false).latents) << name_of(format);
  }
}

TEST_F(MeasuredProducts, LeaveOutLayersThatAreIn8BitsAlready) {
  const ComputePlan plan{.type = ComputeType::kInt8,
                         .overrides = {{.first_block = 1, .layers = LayerGroup::kFeedForward}}};
  const Result result = sample({.model_dir = {}, .compute = plan}, true);
  EXPECT_FALSE(result.products.empty());
  for (const ProductReport& report : result.products) {
    EXPECT_EQ(report.block, 1);
    EXPECT_EQ(report.layers, LayerGroup::kFeedForward);
  }
}

TEST(ComputeType, QuantisesFourMatricesOfEachStream) {
  DitConfig config;
  config.depth = 3;
  DitWeights weights(config);
  int num_found = 0;
  weights.visit([&](const std::string& name, const WeightMember&, const Shape&, WeightRole) {
    if (quantised_type({.type = ComputeType::kInt8}, name)) ++num_found;
  });
  EXPECT_EQ(num_found, 3 * 8 - 3);  // the last text stream has queries, keys and values alone
}

}  // namespace
}  // namespace mochi
