#include "job/request.h"

#include <gtest/gtest.h>

#include <set>

#include "job/job_options.h"

namespace mochi::job {
namespace {

using Names = std::vector<std::string>;

TEST(VisitRequest, NamesEveryFieldOnceAndRefersToFieldsOnly) {
  std::set<std::string_view> names;
  std::set<std::string_view> referred;
  const Request request;
  visit_request(request, [&](const Field& field, const auto& value, auto /*target*/) {
    EXPECT_TRUE(names.insert(field.name).second) << field.name;
    EXPECT_FALSE(field.help.empty()) << field.name;
    EXPECT_FALSE(value.has_value()) << field.name;
    referred.insert(field.overruled_by);
    referred.insert(field.displaces.begin(), field.displaces.end());
  });
  referred.erase("");
  for (const std::string_view name : referred) EXPECT_TRUE(names.contains(name)) << name;
}

TEST(VisitRequest, TargetsHaveTheFieldsOfTheEnginesRequest) {
  Request request;
  request.num_steps = 7;
  request.prompt = "a red ball";
  GenerateRequest generate;
  visit_request(request, [&](const Field& /*field*/, const auto& value, auto target) {
    if constexpr (!std::is_null_pointer_v<decltype(target)>) {
      if (value) generate.*target = *value;
    }
  });
  EXPECT_EQ(generate.num_steps, 7);
  EXPECT_EQ(generate.prompt, "a red ball");
}

TEST(Overlay, TakesTheUpperValueAndKeepsTheOthers) {
  Request lower;
  lower.prompt = "lower";
  lower.width = 64;
  lower.fps = FrameRate{24, 1};
  Request upper;
  upper.prompt = "upper";
  upper.fps = FrameRate{24'000, 1001};
  const Request result = overlay(lower, upper);
  EXPECT_EQ(result.prompt, "upper");
  EXPECT_EQ(result.width, 64);
  EXPECT_EQ(result.fps, (FrameRate{24'000, 1001}));
  EXPECT_EQ(given_fields(result), (Names{"prompt", "width", "fps"}));
}

TEST(Overlay, AnEmptyTextIsAValue) {
  Request lower;
  lower.negative_prompt = "blurred";
  Request upper;
  upper.negative_prompt = "";
  EXPECT_EQ(overlay(lower, upper).negative_prompt, "");
}

TEST(Overlay, OneGuidanceReplacesTheOther) {
  Request scale;
  scale.cfg_scale = 3;
  Request schedule;
  schedule.cfg_schedule = {3, 1};
  EXPECT_EQ(given_fields(overlay(schedule, scale)), (Names{"cfg_scale"}));
  EXPECT_EQ(given_fields(overlay(scale, schedule)), (Names{"cfg_schedule"}));
}

TEST(Overlay, LinearStepsBelongToTheirNumberOfSteps) {
  Request lower;
  lower.num_steps = 64;
  lower.linear_steps = 32;
  Request upper;
  upper.num_steps = 8;
  EXPECT_FALSE(overlay(lower, upper).linear_steps);
  upper.linear_steps = 2;
  EXPECT_EQ(overlay(lower, upper).linear_steps, 2);
  Request schedule;
  schedule.cfg_schedule = {3, 1};
  EXPECT_FALSE(overlay(lower, schedule).linear_steps);
  Request prompt;
  prompt.prompt = "x";
  EXPECT_EQ(overlay(lower, prompt).linear_steps, 32);
}

TEST(Overlay, NoiseComesFromTheUpperSeedOrFile) {
  Request file;
  file.noise = "n.safetensors";
  Request seed;
  seed.seed = 3;
  Request source;
  source.noise_source = NoiseSource::kTorchCpu;
  EXPECT_EQ(given_fields(overlay(file, seed)), (Names{"seed"}));
  EXPECT_EQ(given_fields(overlay(file, source)), (Names{"noise_source"}));
  EXPECT_EQ(given_fields(overlay(overlay(seed, source), file)), (Names{"noise"}));
}

TEST(Overlay, OneSparsityReplacesTheOthers) {
  Request file;
  file.chipmunk_config = "c.yml";
  Request none;
  none.no_sparsity = true;
  Request recipe;
  recipe.sparsity = SparsityConfig{};
  EXPECT_EQ(given_fields(overlay(recipe, file)), (Names{"chipmunk_config"}));
  EXPECT_EQ(given_fields(overlay(recipe, none)), (Names{"no_sparsity"}));
  EXPECT_EQ(given_fields(overlay(file, none)), (Names{"no_sparsity"}));
  EXPECT_EQ(given_fields(overlay(none, file)), (Names{"chipmunk_config"}));
}

TEST(Overlay, ASwitchThatIsOffDisplacesNothing) {
  Request file;
  file.chipmunk_config = "c.yml";
  Request off;
  off.no_sparsity = false;
  EXPECT_TRUE(overlay(file, off).chipmunk_config);
}

TEST(FindOverruled, NamesBothFields) {
  Request request;
  request.seed = 3;
  request.cfg_scale = 2;
  EXPECT_TRUE(find_overruled(request).empty());
  request.cfg_schedule = {3, 1};
  request.noise = "n.safetensors";
  const std::vector<Overruled> found = find_overruled(request);
  ASSERT_EQ(found.size(), 2U);
  EXPECT_EQ(found[0].field, "seed");
  EXPECT_EQ(found[0].by, "noise");
  EXPECT_EQ(found[1].field, "cfg_scale");
  EXPECT_EQ(found[1].by, "cfg_schedule");
}

TEST(Overlay, PathsOfNetworksGoWithTheirModelFolder) {
  JobOptions lower;
  lower.engine.model_dir = "a";
  lower.engine.paths = {
      .dit = "lower_dit", .text_encoder = {}, .vae = "lower_vae", .tokenizer = {}};
  JobOptions upper;
  upper.engine.paths.vae = "upper_vae";
  EXPECT_EQ(overlay(lower, upper).engine.model_dir, "a");
  EXPECT_EQ(overlay(lower, upper).engine.paths.dit, "lower_dit");
  EXPECT_EQ(overlay(lower, upper).engine.paths.vae, "upper_vae");
  upper.engine.model_dir = "b";
  EXPECT_EQ(overlay(lower, upper).engine.paths.dit, "");
  EXPECT_EQ(overlay(lower, upper).engine.paths.vae, "upper_vae");
}

}  // namespace
}  // namespace mochi::job
