// chipmunk-config.yml: what is read, and what is refused with which words.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "base/error.h"
#include "sparsity/config_keys.h"

namespace mochi {
namespace {

SparsityConfig parse(const std::string& text) { return parse_sparsity_config(text, "c.yml"); }

std::string message_of(const std::string& text) {
  try {
    parse(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(SparsityConfig, AnEmptyFileIsTheReferencesDefaults) {
  const SparsityConfig config = parse("");
  EXPECT_EQ(config.attn.top_keys, 0.05);
  EXPECT_EQ(config.attn.full_step_every, 10);
  EXPECT_FALSE(config.attn.full_step_schedule);
  EXPECT_TRUE(config.offloading.attn_out_cache);
  EXPECT_EQ(config.mlp.counts_multiple_of, 256);
  EXPECT_EQ(to_yaml(config), to_yaml(SparsityConfig{}));
}

// In the spelling of the reference's own files: a tagged set, offloading keys with dots, and keys
// that say nothing here.
TEST(SparsityConfig, ReadsTheReferencesSpelling) {
  const SparsityConfig config = parse(R"(
num_model_invocations_per_inference_step: 2
world_size: 1
patchify:
  is_enabled: false
  chunk_size_1: 8
attn:
  top_keys: 0.165
  full_attn_to_3d_tail: true
  full_step_schedule: !!set
    ? 0
    ? 1
    ? 30
  provider: cuda
offloading:
  attn.out_cache: false
  mlp.sparse_act_T: true
tea_cache:
  threshold: 0.1
step_caching:
  is_enabled: true
  skip_step_schedule: !!set {7, 11}
)");
  EXPECT_FALSE(config.patchify_is_enabled);
  EXPECT_EQ(config.attn.top_keys, 0.165);
  EXPECT_TRUE(config.attn.full_attn_to_3d_tail);
  EXPECT_EQ(config.attn.full_step_schedule, (std::set<int>{0, 1, 30}));
  EXPECT_FALSE(config.offloading.attn_out_cache);
  EXPECT_TRUE(config.offloading.mlp_sparse_act_t);
  EXPECT_EQ(config.step_caching.skip_step_schedule, (std::set<int>{7, 11}));
}

TEST(SparsityConfig, ReadsWhatTheReferenceDoesNotHave) {
  const SparsityConfig config = parse(
      "attn: {delta: half_merge, cache_dtype: fp8, top_p: 0.9, score_queries: 4, mbm: 64, "
      "full_step_schedule: [0, 9]}\n"
      "overrides:\n- {layers: 0-5, top_keys: 0.3}\n- {layers: 2, steps: 10-20, delta: none}\n");
  EXPECT_EQ(config.attn.delta, DeltaKind::kHalfMerge);
  EXPECT_EQ(config.attn.cache_dtype, CacheDType::kFp8);
  EXPECT_EQ(config.attn.full_step_schedule, (std::set<int>{0, 9}));
  ASSERT_EQ(config.overrides.size(), 2U);
  EXPECT_TRUE(config.overrides[0].layers.contains(5));
  EXPECT_FALSE(config.overrides[0].layers.contains(6));
  EXPECT_TRUE(config.overrides[0].steps.contains(1000));
  EXPECT_EQ(config.overrides[0].top_keys, 0.3);
  EXPECT_FALSE(config.overrides[0].delta);
  EXPECT_EQ(config.overrides[1].layers.last, 2);
  EXPECT_EQ(config.overrides[1].delta, DeltaKind::kNone);
}

TEST(SparsityConfig, WhatIsWrittenReadsTheSame) {
  SparsityConfig config;
  config.attn.top_keys = 1.0 / 3;
  config.attn.full_step_schedule = {0, 1, 15};
  config.attn.delta = DeltaKind::kWeighted;
  config.attn.cache_dtype = CacheDType::kFp8;
  config.offloading.mlp_counts = true;
  config.step_caching.skip_step_schedule = {3};
  config.overrides = {{.layers = {1, 4}, .top_p = 0.25, .delta = DeltaKind::kSubtract}};
  const std::string yaml = to_yaml(config);
  const SparsityConfig read = parse(yaml);
  EXPECT_EQ(to_yaml(read), yaml);
  EXPECT_EQ(read.attn.top_keys, 1.0 / 3);
  EXPECT_EQ(read.attn.cache_dtype, CacheDType::kFp8);
  EXPECT_EQ(read.overrides[0].layers.last, 4);
  EXPECT_EQ(read.overrides[0].steps.last, 1'000'000);
  // JSON is YAML.
  EXPECT_EQ(to_yaml(parse(to_json(config))), yaml);
}

TEST(SparsityConfig, RefusesWithFileLineAndKey) {
  const std::pair<std::string, std::string> cases[] = {
      {"attn:\n  top_key: 0.1",
       "c.yml:2: key 'attn.top_key' is not known; did you mean 'attn.top_keys'?"},
      {"attn:\n  is_enabled: true\n  top_keys: 1.5",
       "c.yml:3: attn.top_keys: wanted 0 to 1, found '1.5'"},
      {"attn: {top_keys: dense}", "c.yml:1: attn.top_keys: wanted 0 to 1, found 'dense'"},
      {"attn: {top_keys: .nan}", "c.yml:1: attn.top_keys: wanted 0 to 1, found '.nan'"},
      {"attn: {top_keys: [0.1]}", "c.yml:1: attn.top_keys: wanted 0 to 1, found a list"},
      {"attn: {mbm: 100}", "c.yml: attn.mbm: wanted 192, 128 or 64, found 100"},
      {"attn: {full_step_every: 2.5}",
       "c.yml:1: attn.full_step_every: wanted a whole number from 1 to 1000000, found '2.5'"},
      {"attn: {full_step_schedule: {0: x}}",
       "c.yml:1: attn.full_step_schedule: wanted steps, found 'x'"},
      {"attn: {full_step_schedule: [-1]}",
       "c.yml:1: attn.full_step_schedule: wanted a whole number from 0 to 1000000, found '-1'"},
      {"attn: {recompute_mask: maybe}",
       "c.yml:1: attn.recompute_mask: wanted true or false, found 'maybe'"},
      {"attn: {delta: add}",
       "c.yml:1: attn.delta: wanted subtract, weighted, lse_merge, half_merge or none, found "
       "'add'"},
      {"attn: {cache_dtype: int8}",
       "c.yml:1: attn.cache_dtype: wanted activation or fp8, found 'int8'"},
      {"overrides: [{cache_dtype: fp8}]", "c.yml:1: key 'cache_dtype' is not known; "},
      {"attn: 3", "c.yml:1: key 'attn' is not known; known are: "},
      {"steps: 1\nsteps: 2", "c.yml:2: key 'steps' is there twice"},
      {"offloading:\n  attn.counts: true\n  attn: {counts: true}",
       "c.yml:3: key 'offloading.attn.counts' is there twice"},
      {"- 1", "c.yml:1: wanted a map of keys, found a list"},
      {"attn: {top_keys: 0.1", "c.yml:1: wanted YAML, found an error: "},
      {"attn:\n\t top_keys: 0.1", "c.yml:2: wanted YAML, found an error: "},
      {"overrides: 1", "c.yml:1: overrides: wanted a list, found '1'"},
      {"overrides: [{layers: 5-1}]",
       "c.yml:1: overrides.layers: wanted a number or a range such as 0-5, found '5-1'"},
      {"overrides: [{layer: 5}]", "c.yml:1: key 'layer' is not known; did you mean 'layers'?"},
      {"attn: {min_keys: 0.6}",
       "c.yml: attn.min_keys: wanted at most attn.max_keys = 0.5, found 0.6"},
      {"mlp: {is_enabled: true, is_fp8: true}", "c.yml: mlp.is_fp8: wanted false, found true"},
      {"mlp: {mbm: 0}", "c.yml:1: mlp.mbm: wanted a whole number from 1 to 4096, found '0'"},
      {std::string(2000, '['), "c.yml:1: wanted YAML, found an error: "},
  };
  for (const auto& [text, wanted] : cases) {
    EXPECT_EQ(message_of(text).substr(0, wanted.size()), wanted) << text;
  }
}

TEST(SparsityConfig, AMissingFileIsNamed) {
  EXPECT_THROW(
      {
        try {
          load_sparsity_config("/nowhere/c.yml");
        } catch (const Error& error) {
          EXPECT_EQ(std::string(error.what()),
                    "/nowhere/c.yml: cannot be read: No such file or directory");
          throw;
        }
      },
      Error);
}

std::string read_document(const std::string& name) {
  std::ifstream file(std::string(MOCHI_SOURCE_DIR) + "/" + name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(SparsityConfig, EveryKeyIsDocumented) {
  const std::string page = read_document("docs/sparsity.md");
  SparsityConfig config;
  visit_sparsity_keys(config, [&](const std::string& path, const auto&...) {
    EXPECT_NE(page.find("| `" + path + "` |"), std::string::npos) << path;
  });
  SparsityOverride entry;
  visit_override_keys(entry, [&](const std::string& key, const auto&...) {
    EXPECT_NE(page.find("`" + key + "`"), std::string::npos) << key;
  });
}

TEST(SparsityConfig, TheFileInTheBoxIsMochis) {
  const SparsityConfig config =
      load_sparsity_config(std::string(MOCHI_SOURCE_DIR) + "/chipmunk-config.yml");
  EXPECT_EQ(config.attn.top_keys, 0.15);
  EXPECT_EQ(config.attn.local_voxels, 1);
  EXPECT_EQ(config.attn.full_step_schedule, (std::set<int>{0, 1, 15, 30, 45, 60}));
  EXPECT_FALSE(config.step_caching.is_enabled);
  EXPECT_EQ(config.step_caching.skip_step_schedule.size(), 25U);
  EXPECT_TRUE(find_doubts(config, 64, 8, 512).empty());
}

TEST(SparsityConfig, TheMicroModelsFileIsSparseInAllItsLayers) {
  const SparsityConfig config =
      load_sparsity_config(std::string(MOCHI_MICRO_DIR) + "/chipmunk-config.yml");
  EXPECT_EQ(config.attn.delta, DeltaKind::kHalfMerge);
  EXPECT_EQ(config.attn.first_n_dense_layers, 0);
  EXPECT_EQ(list_full_steps(config, 64).size(), 6U);
  EXPECT_TRUE(find_doubts(config, 64, 8, 512).empty());
}

TEST(SparsityConfig, DoubtsNameStepsBeyondTheGeneration) {
  SparsityConfig config;
  config.attn.full_step_schedule = {0, 1, 60};
  config.attn.first_n_dense_layers = 8;
  const std::vector<std::string> doubts = find_doubts(config, 50, 8, 512);
  ASSERT_EQ(doubts.size(), 2U);
  EXPECT_EQ(doubts[0], "attn.full_step_schedule names step 60, and there are 50 (0 to 49)");
  EXPECT_EQ(doubts[1],
            "attn.first_n_dense_layers is 8, and there are 8 layers: all attention is dense");
}

TEST(SparsityConfig, DoubtsTellThatFeedForwardLayersStayDense) {
  SparsityConfig config;
  config.mlp.first_n_dense_layers = 8;
  EXPECT_TRUE(find_doubts(config, 64, 8, 512).empty());  // not enabled
  config.mlp.is_enabled = true;
  const std::vector<std::string> doubts = find_doubts(config, 64, 8, 512);
  ASSERT_EQ(doubts.size(), 2U);
  EXPECT_EQ(doubts[0],
            "mlp.first_n_dense_layers is 8, and there are 8 layers: all feed-forward layers are "
            "dense");
  EXPECT_EQ(doubts[1],
            "mlp.top_keys and mlp.random_keys, rounded to mlp.counts_multiple_of = 256, are all "
            "512 hidden columns: nothing is saved");
  config.mlp.first_n_dense_layers = 2;
  config.mlp.counts_multiple_of = 16;
  EXPECT_TRUE(find_doubts(config, 64, 8, 512).empty());
}

}  // namespace
}  // namespace mochi
