// Checks, suggestions and warnings about the keys of a configuration.
#include "sparsity/config_check.h"

#include <gtest/gtest.h>

#include <functional>

#include "base/error.h"

namespace mochi {
namespace {

std::string message_of(const std::function<void()>& run) {
  try {
    run();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

std::vector<std::string> warnings_of(const std::string& text) {
  return parse_sparsity_config(text, "c.yml").warnings;
}

TEST(SparsityCheck, AConfigurationFromAProgramIsCheckedLikeAFile) {
  const auto problem_of = [](const std::function<void(SparsityConfig&)>& change) {
    SparsityConfig config;
    change(config);
    return message_of([&] { validate(config); });
  };
  EXPECT_EQ(problem_of([](SparsityConfig&) {}), "accepted");
  EXPECT_EQ(problem_of([](SparsityConfig& c) { c.attn.top_keys = 1.5; }),
            "attn.top_keys: wanted 0 to 1, found 1.5");
  EXPECT_EQ(problem_of([](SparsityConfig& c) { c.mlp.full_step_every = 0; }),
            "mlp.full_step_every: wanted a whole number from 1 to 1000000, found 0");
  EXPECT_EQ(problem_of([](SparsityConfig& c) { c.attn.group_size = 100; }),
            "attn.mbm: wanted 192, 128 or 64, found 100");
  EXPECT_EQ(problem_of([](SparsityConfig& c) { c.attn.min_keys = 0.75; }),
            "attn.min_keys: wanted at most attn.max_keys = 0.5, found 0.75");
  EXPECT_EQ(problem_of([](SparsityConfig& c) { c.attn.full_step_schedule = std::set<int>{-2, 1}; }),
            "attn.full_step_schedule: wanted a whole number from 0 to 1000000, found -2");
  EXPECT_EQ(problem_of([](SparsityConfig& c) { c.attn.delta = static_cast<DeltaKind>(9); }),
            "attn.delta: wanted subtract, weighted, lse_merge, half_merge or none, found 9");
  EXPECT_EQ(
      problem_of([](SparsityConfig& c) { c.overrides = {{.layers = {0, 1}}, {.steps = {4, 2}}}; }),
      "overrides[1].steps: wanted a range such as 0-5, found 4-2");
  EXPECT_EQ(problem_of([](SparsityConfig& c) { c.overrides = {{.top_p = -1.0}}; }),
            "overrides[0].top_p: wanted 0 to 1, found -1");
}

TEST(SparsityCheck, SimilarKeysAreSuggested) {
  const std::pair<std::string, std::string> cases[] = {
      {"top_keys: 0.1", "attn.top_keys"},
      {"attn: {rk: 0.1}", "attn.random_keys"},
      {"mlp: {tk: 0.1}", "mlp.top_keys"},
      {"attn: {topkeys: 0.1}", "attn.top_keys"},
      {"mlp: {tpo_keys: 0.1}", "mlp.top_keys"},
      {"attn: {schedule: {0, 1}}", "attn.full_step_schedule"},
      {"attn: {dense_layers: 2}", "attn.first_n_dense_layers"},
      {"voxels: 2", "attn.local_voxels"},
      {"skip_step: [3]", "step_caching.skip_step_schedule"},
      {"attn: {block_mask_cache: 2}", "mlp.block_mask_cache"},
      {"delta: none", "attn.delta"},
      {"offloading: {attn.outcache: true}", "offloading.attn.out_cache"},
      {"overrides: [{rk: 0.1}]", "overrides[0].random_keys"},
  };
  for (const auto& [text, wanted] : cases) {
    const std::string message = message_of([&] { warnings_of(text); });
    EXPECT_NE(message.find("is not known; did you mean '" + wanted + "'?"), std::string::npos)
        << message;
  }
  const std::string message = message_of([] { warnings_of("quality: high"); });
  EXPECT_NE(message.find("; known are: "), std::string::npos) << message;
}

TEST(SparsityCheck, GivenKeysThatAnotherKeyOverrulesCauseWarnings) {
  const std::pair<std::string, std::string> cases[] = {
      {"attn:\n  full_step_schedule: [0, 1]\n  full_step_every: 5",
       "c.yml:3: attn.full_step_every has no effect, because attn.full_step_schedule is given"},
      {"attn: {top_keys: 0.1, top_p: 0.9}",
       "c.yml:1: attn.top_keys has no effect, because attn.top_p is above 0"},
      {"attn: {min_keys: 0.1, max_keys: 0.2}",
       "c.yml:1: attn.min_keys and attn.max_keys have no effect, because attn.top_p is 0"},
      {"attn: {delta: none, cache_dtype: fp8}",
       "c.yml:1: attn.cache_dtype has no effect, because attn.delta is none"},
      {"attn: {is_enabled: false, top_keys: 0.1, mbm: 64}",
       "c.yml:1: attn.top_keys has no effect, because attn.is_enabled is false"},
      {"attn: {is_enabled: false, full_step_every: 5}",
       "c.yml:1: attn.full_step_every has no effect, because attn.is_enabled is false"},
      {"mlp: {top_keys: 0.1, random_keys: 0.1, mbm: 64}",
       "c.yml:1: mlp.top_keys, mlp.random_keys and mlp.mbm have no effect, because mlp.is_enabled "
       "is false"},
      {"offloading: {global_disable_offloading: true, attn.indices: true}",
       "c.yml:1: offloading.attn.indices has no effect, because "
       "offloading.global_disable_offloading is true"},
      {"step_caching: {skip_step_schedule: [3]}",
       "c.yml:1: step_caching.skip_step_schedule has no effect, because step_caching.is_enabled is "
       "false"},
      {"attn: {is_enabled: false}\noverrides: [{top_keys: 0.1}]",
       "c.yml:2: overrides has no effect, because attn.is_enabled is false"},
      {"attn: {top_p: 0.9}\noverrides: [{top_keys: 0.1}]",
       "c.yml:2: overrides[0].top_keys has no effect, because attn.top_p is above 0"},
  };
  for (const auto& [text, wanted] : cases) {
    EXPECT_EQ(warnings_of(text), std::vector<std::string>{wanted}) << text;
  }
}

TEST(SparsityCheck, KeysThatStillHaveAnEffectCauseNoWarnings) {
  for (const char* text : {
           "attn: {full_step_every: 5, full_step_schedule: null}",
           "attn: {top_keys: 0.1, top_p: 0.9}\noverrides: [{layers: 3, top_p: 0}]",
           "attn: {min_keys: 0.1}\noverrides: [{layers: 3, top_p: 0.5}]",
           "attn: {delta: none, cache_dtype: fp8}\noverrides: [{delta: half_merge}]",
           "attn: {is_enabled: false, mbm: 64}",
           "attn: {is_enabled: false, full_step_every: 5}\nstep_caching: {is_enabled: true}",
           "patchify: {is_enabled: false}\nattn: {local_voxels: 2}",  // see sparsity_warnings()
       }) {
    EXPECT_EQ(warnings_of(text), std::vector<std::string>{}) << text;
  }
}

// So a written file causes no warnings when it is read.
TEST(SparsityCheck, OverruledKeysAreNotWritten) {
  SparsityConfig config;
  config.attn.full_step_schedule = {0, 1, 5};
  config.attn.top_p = 0.5;
  config.overrides = {{.layers = {1, 4}, .top_keys = 0.25, .random_keys = 0.5}};
  config.step_caching.skip_step_schedule = {3};
  const LoadedSparsity loaded = parse_sparsity_config(to_yaml(config), "c.yml");
  EXPECT_TRUE(loaded.warnings.empty());
  EXPECT_TRUE(loaded.ignored_keys.empty());
  EXPECT_TRUE(loaded.config.step_caching.skip_step_schedule.empty());
  EXPECT_FALSE(loaded.config.overrides.at(0).top_keys);
  EXPECT_EQ(loaded.config.overrides.at(0).random_keys, 0.5);
  EXPECT_EQ(to_yaml(loaded.config), to_yaml(config));
  config.attn.is_enabled = false;
  EXPECT_EQ(
      to_yaml(config),
      "patchify:\n  is_enabled: true\nattn:\n  is_enabled: false\n  mbm: 192\nmlp:\n"
      "  is_enabled: false\nstep_caching:\n  is_enabled: false\nstep_skipping:\n  rule: off\n");
}

}  // namespace
}  // namespace mochi
