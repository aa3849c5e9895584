#include "dit/dit.h"

#include <gtest/gtest.h>

#include "base/error.h"
#include "dit/dit_bench.h"
#include "io/json.h"
#include "support/golden.h"

namespace mochi {
namespace {

constexpr const char* kCasesOfA[] = {"text0", "text1", "text7", "text77", "text256"};
constexpr const char* kCasesOfB[] = {"text0", "text77"};

void expect_goldens(const std::string& model, std::span<const char* const> cases, DType dtype) {
  Bench bench("dit/" + model + "_weights", dtype);
  for (const char* name : cases) {
    const Golden golden("dit/" + model + "_" + name);
    const double error =
        relative_error(bench.velocity(golden, "input.text"), golden.values("output.final"));
    const double limit = dtype == DType::kF32 ? 1e-5 : 1.2 * golden.bf16_error("final");
    EXPECT_LE(error, limit) << model << " " << name;
    record_error(model + "_" + name, error);
  }
}

TEST(DitGolden, VelocityInF32) {
  expect_goldens("a", kCasesOfA, DType::kF32);
  expect_goldens("b", kCasesOfB, DType::kF32);
}

TEST(DitGolden, VelocityWithBf16Weights) {
  expect_goldens("a", kCasesOfA, DType::kBF16);
  expect_goldens("b", kCasesOfB, DType::kBF16);
}

// Compared with PyTorch's own bf16 run, in which both matrices and activations are BF16.
class DitGoldenOn : public OnDevice {
 protected:
  static void expect_velocity(const std::string& model, std::span<const char* const> cases) {
    Bench bench("dit/" + model + "_weights", GetParam().dtype, {}, make());
    for (const char* name : cases) {
      const Golden golden("dit/" + model + "_" + name);
      const double error =
          relative_error(bench.velocity(golden, "input.text"), golden.values("output.final"));
      record_error(model + "_" + name, error);
      EXPECT_LE(error, GetParam().dtype == DType::kF32 ? 1e-5 : golden.bf16_limit("final"))
          << model << " " << name;
    }
  }
};

TEST_P(DitGoldenOn, Velocity) {
  expect_velocity("a", kCasesOfA);
  expect_velocity("b", kCasesOfB);
}

INSTANTIATE_TEST_SUITE_P(Gpu, DitGoldenOn, cuda_backends(), name_of_case);

TEST(DitGolden, BranchesOfDifferentTextLength) {
  for (const std::string model : {"a", "b"}) {
    Bench bench("dit/" + model + "_weights");
    const Golden golden("dit/" + model + "_batch");
    int branch = 0;
    for (; golden.contains("input.text." + std::to_string(branch)); ++branch) {
      const std::string suffix = "." + std::to_string(branch);
      const std::vector<float> velocity = bench.velocity(golden, "input.text" + suffix);
      EXPECT_LE(relative_error(velocity, golden.values("output.final" + suffix)), 1e-5)
          << model << suffix;
    }
    EXPECT_GE(branch, 2);
  }
}

TEST(DitGolden, TextConditionAndRotaryTable) {
  Bench bench("dit/a_weights");
  const Golden golden("dit/a_text7");
  const TextCondition condition = bench.dit.condition(bench.ctx, golden.tensor("input.text"));
  EXPECT_LE(relative_error(condition.pooled.view().f32(), golden.values("output.pooled")), 1e-5);
  EXPECT_LE(relative_error(condition.tokens.view().f32(), golden.values("output.y_embed")), 1e-5);
  const Shape shape = golden.shape("input.latents");
  const DitRun run =
      bench.dit.prepare(*bench.backend, bench.dit.token_grid(shape[1], shape[2], shape[3]));
  EXPECT_LE(relative_error(run.rotary.cos.view().f32(), golden.values("output.rope_cos")), 1e-5);
  EXPECT_LE(relative_error(run.rotary.sin.view().f32(), golden.values("output.rope_sin")), 1e-5);
}

TEST(DitConfig, IsInferredFromShapes) {
  const Golden golden("dit/a_weights");
  const Json json = golden.config();
  JsonReader section(json.at("dit"), "golden", "dit");
  const DitConfig stated = parse_dit_config(section);
  const DitConfig inferred = infer_dit_config(*golden.weights());
  EXPECT_EQ(inferred.depth, stated.depth);
  EXPECT_EQ(inferred.num_heads, stated.num_heads);
  EXPECT_EQ(inferred.hidden_size_x, stated.hidden_size_x);
  EXPECT_EQ(inferred.hidden_size_y, stated.hidden_size_y);
  EXPECT_EQ(inferred.mlp_hidden_x, stated.mlp_hidden_x);
  EXPECT_EQ(inferred.mlp_hidden_y, stated.mlp_hidden_y);
  EXPECT_EQ(inferred.text_width, stated.text_width);
  EXPECT_EQ(inferred.timestep_features, stated.timestep_features);
}

TEST(DitConfig, RefusesSizesThatDoNotFit) {
  const auto parse = [](const char* text) {
    const Json json = parse_json(text, "config.json");
    JsonReader section(json, "config.json", "dit");
    return parse_dit_config(section);
  };
  EXPECT_THROW(parse(R"({"depth": 0})"), Error);
  EXPECT_THROW(parse(R"({"depth": 1025})"), Error);
  EXPECT_THROW(parse(R"({"patch_size": 65})"), Error);
  EXPECT_THROW(parse(R"({"num_heads": 7})"), Error);
  EXPECT_THROW(parse(R"({"hiden_size_x": 3072})"), Error);
}

TEST(Dit, RefusesLatentsThatDoNotDivideIntoPatches) {
  Bench bench("dit/b_weights");
  EXPECT_THROW(bench.dit.token_grid(1, 3, 4), Error);
}

}  // namespace
}  // namespace mochi
