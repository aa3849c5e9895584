// Reading and writing a chipmunk-config.yml.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "base/error.h"
#include "base/temp_folder.h"
#include "sparsity/config_keys.h"

namespace mochi {
namespace {

SparsityConfig parse(const std::string& text) {
  return parse_sparsity_config(text, "c.yml").config;
}

std::string message_of(const std::string& text) {
  try {
    parse(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(SparsityConfig, AnEmptyFileHasTheReferencesDefaultsExceptItsDelta) {
  const SparsityConfig config = parse("");
  EXPECT_EQ(config.attn.top_keys, 0.05);
  EXPECT_EQ(config.attn.full_step_every, 10);
  EXPECT_EQ(config.attn.delta, DeltaKind::kHalfMerge);
  EXPECT_EQ(parse("attn: {delta: subtract}").attn.delta, DeltaKind::kSubtract);
  EXPECT_FALSE(config.attn.full_step_schedule);
  EXPECT_TRUE(config.offloading.attn_out_cache);
  EXPECT_EQ(config.mlp.counts_multiple_of, 256);
  EXPECT_EQ(to_yaml(config), to_yaml(SparsityConfig{}));
  EXPECT_EQ(to_yaml(parse("attn:\nmlp:\n")), to_yaml(config));  // sections without keys
}

// The reference's own files have a tagged set, offloading keys with dots, and keys that have no
// effect here.
TEST(SparsityConfig, ReadsTheReferencesSpelling) {
  const std::string text = R"(
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
)";
  const LoadedSparsity loaded = parse_sparsity_config(text, "c.yml");
  const SparsityConfig& config = loaded.config;
  EXPECT_FALSE(config.patchify_is_enabled);
  EXPECT_EQ(config.attn.top_keys, 0.165);
  EXPECT_TRUE(config.attn.full_attn_to_3d_tail);
  EXPECT_EQ(config.attn.full_step_schedule, (std::set<int>{0, 1, 30}));
  EXPECT_FALSE(config.offloading.attn_out_cache);
  EXPECT_EQ(config.step_caching.skip_step_schedule, (std::set<int>{7, 11}));
  EXPECT_TRUE(loaded.warnings.empty());
  EXPECT_EQ(loaded.ignored_keys,
            (std::vector<std::string>{"num_model_invocations_per_inference_step", "world_size",
                                      "patchify.chunk_size_1", "attn.provider",
                                      "offloading.mlp.sparse_act_T", "tea_cache"}));
}

TEST(SparsityConfig, ReadsKeysThatTheReferenceLacks) {
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

TEST(SparsityConfig, WrittenFilesAreReadBack) {
  SparsityConfig config;
  config.attn.top_keys = 1.0 / 3;
  config.attn.full_step_schedule = {0, 1, 15};
  config.attn.delta = DeltaKind::kWeighted;
  config.attn.cache_dtype = CacheDType::kFp8;
  config.offloading.attn_indices = false;
  config.step_caching = {.is_enabled = true, .skip_step_schedule = {3}};
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
       "c.yml:3: attn.top_keys: wanted 0 to 1, found 1.5"},
      {"attn: {top_keys: dense}", "c.yml:1: attn.top_keys: wanted 0 to 1, found 'dense'"},
      {"attn: {top_keys: .nan}", "c.yml:1: attn.top_keys: wanted 0 to 1, found nan"},
      {"attn: {top_keys: [0.1]}", "c.yml:1: attn.top_keys: wanted 0 to 1, found a list"},
      {"attn: {mbm: 100}", "c.yml:1: attn.mbm: wanted 192, 128 or 64, found 100"},
      {"attn: {full_step_every: 2.5}",
       "c.yml:1: attn.full_step_every: wanted a whole number from 1 to 1000000, found '2.5'"},
      {"attn: {full_step_schedule: {0: x}}",
       "c.yml:1: attn.full_step_schedule: wanted steps, found 'x'"},
      {"attn: {full_step_schedule: [-1]}",
       "c.yml:1: attn.full_step_schedule: wanted a whole number from 0 to 1000000, found -1"},
      {"attn: {recompute_mask: maybe}",
       "c.yml:1: attn.recompute_mask: wanted true or false, found 'maybe'"},
      {"attn: {delta: add}",
       "c.yml:1: attn.delta: wanted subtract, weighted, lse_merge, half_merge or none, found "
       "'add'"},
      {"attn: {cache_dtype: int8}",
       "c.yml:1: attn.cache_dtype: wanted activation or fp8, found 'int8'"},
      {"overrides: [{cache_dtype: fp8}]", "c.yml:1: key 'overrides[0].cache_dtype' is not known; "},
      {"attn: 3", "c.yml:1: attn: wanted a map of keys, found '3'"},
      {"steps: 1\nsteps: 2", "c.yml:2: key 'steps' is given twice"},
      {"offloading:\n  attn.counts: true\n  attn: {counts: true}",
       "c.yml:3: key 'offloading.attn.counts' is given twice"},
      {"- 1", "c.yml:1: wanted a map of keys, found a list"},
      {"attn: {top_keys: 0.1", "c.yml:1: wanted YAML, found a syntax error at column "},
      {"attn:\n\t top_keys: 0.1", "c.yml:2: wanted YAML, found a syntax error at column "},
      {"overrides: [{layers: 5 to 9}]",
       "c.yml:1: overrides[0].layers: wanted a number or a range such as 0-5, found '5 to 9'"},
      {"overrides:\n- {layers: 1}\n- {top_p: 2}",
       "c.yml:3: overrides[1].top_p: wanted 0 to 1, found 2"},
      {"num_model_invocations_per_inference_step: many",
       "c.yml:1: num_model_invocations_per_inference_step: wanted a number, found 'many'"},
      {"attn: {should_compress_indices: 3}",
       "c.yml:1: attn.should_compress_indices: wanted true or false, found '3'"},
      {"attn: {top_keys: {low: 0.1}}", "c.yml:1: attn.top_keys: wanted a value, found a map"},
      {"overrides: 1", "c.yml:1: overrides: wanted a list, found '1'"},
      {"overrides: [{layers: 5-1}]",
       "c.yml:1: overrides[0].layers: wanted a range such as 0-5, found 5-1"},
      {"overrides: [{layer: 5}]",
       "c.yml:1: key 'overrides[0].layer' is not known; did you mean 'overrides[0].layers'?"},
      {"attn: {min_keys: 0.6}",
       "c.yml:1: attn.min_keys: wanted at most attn.max_keys = 0.5, found 0.6"},
      {"mlp: {is_enabled: true, is_fp8: true}",
       "c.yml:1: mlp.is_fp8: wanted false, found true: sparse feed-forward layers have no 8-bit "
       "matmuls"},
      {"mlp: {mbm: 0}", "c.yml:1: mlp.mbm: wanted a whole number from 1 to 4096, found 0"},
      {"steps: 1\n---\nsteps: 2",
       "c.yml: wanted one YAML document, found 2 with '---' between them"},
      {std::string(2000, '['), "c.yml:1: wanted YAML, found a syntax error at column "},
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
                    "cannot read '/nowhere/c.yml': No such file or folder");
          throw;
        }
      },
      Error);
}

TEST(SparsityConfig, AFileOfAnotherKindIsNamed) {
  const TempFolder folder;
  const auto path = folder.write("c.yml", "version https://git-lfs.github.com/spec/v1\noid x\n");
  EXPECT_EQ(mochi::message_of<Error>([&] { load_sparsity_config(path); }),
            "'" + path.string() +
                "' is a Git LFS pointer, not a YAML file: run 'git lfs pull' in its folder");
}

TEST(SparsityConfig, ALargeFileIsRefused) {
  const std::string file = testing::TempDir() + "large.yml";
  std::ofstream(file) << std::string((1 << 20) + 1, '#');
  try {
    load_sparsity_config(file);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.what(), "cannot read '" + file +
                                "': wanted a text file of at most 1048576 bytes, found more");
  }
  std::filesystem::remove(file);
}

TEST(SparsityConfig, APipeIsReadAndItsWriterNotAwaitedForEver) {
  const TempFolder folder;
  const std::filesystem::path fifo = folder.make_fifo();
  std::thread writer([&] { std::ofstream(fifo) << "attn:\n  is_enabled: false\n"; });
  EXPECT_FALSE(load_sparsity_config(fifo).config.attn.is_enabled);
  writer.join();
  EXPECT_THROW(load_sparsity_config(fifo, [] { return true; }), Cancelled);
}

TEST(SparsityConfig, AFolderIsRefused) {
  EXPECT_THROW(load_sparsity_config(testing::TempDir()), Error);
}

std::string read_document(const std::string& name) {
  std::ifstream file(std::string(MOCHI_SOURCE_DIR) + "/" + name);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

TEST(SparsityConfig, EveryKeyIsDocumented) {
  const std::string page =
      read_document("docs/sparsity.md") + read_document("docs/step-skipping.md");
  SparsityConfig config;
  visit_sparsity_keys(config, [&](const std::string& path, const auto&...) {
    EXPECT_NE(page.find("| `" + path + "` |"), std::string::npos) << path;
  });
  for (const IgnoredKey& key : kIgnoredKeys) {
    EXPECT_NE(page.find("`" + std::string(key.path) + "`"), std::string::npos) << key.path;
  }
  SparsityOverride entry;
  visit_override_keys(entry, [&](const std::string& key, const auto&...) {
    EXPECT_NE(page.find("`" + key + "`"), std::string::npos) << key;
  });
}

// yaml-cpp reads documents without end from the second text.
TEST(SparsityConfig, InvalidTextsEnd) {
  for (const std::string text : {"---\n---\n--- 5",
                                 "=,\"attn\":f\xff\xff"
                                 "ftype:f\xffs\": 0.1}}"}) {
    EXPECT_THROW(parse_sparsity_config(text, "c.yml"), Error) << text;
  }
  EXPECT_NO_THROW(parse_sparsity_config("%YAML 1.2\n---\n# a\nsteps: 64\n...\n", "c.yml"));
}

TEST(SparsityConfig, TheBundledFileIsForMochi) {
  const LoadedSparsity loaded =
      load_sparsity_config(std::string(MOCHI_SOURCE_DIR) + "/chipmunk-config.yml");
  EXPECT_EQ(loaded.config.attn.delta, DeltaKind::kHalfMerge);
  EXPECT_EQ(loaded.config.attn.top_keys, 0.15);
  EXPECT_EQ(loaded.config.attn.local_voxels, 1);
  EXPECT_EQ(loaded.config.attn.full_step_schedule, (std::set<int>{0, 1, 30, 36, 42, 50}));
  // The tier careful, which has no other place in the file's format.
  SparsityConfig careful;
  careful.step_skipping = make_step_skipping(SkipTier::kCareful, 64);
  SparsityConfig skipping;
  skipping.step_skipping = loaded.config.step_skipping;
  EXPECT_EQ(to_json(skipping), to_json(careful));
  EXPECT_FALSE(loaded.config.step_caching.is_enabled);
  EXPECT_TRUE(loaded.warnings.empty());
  EXPECT_TRUE(loaded.ignored_keys.empty());
  EXPECT_TRUE(sparsity_warnings(loaded.config, 64, 8, 512).empty());
}

TEST(SparsityConfig, TheMicroModelsFileIsSparseInAllItsLayers) {
  const LoadedSparsity loaded =
      load_sparsity_config(std::string(MOCHI_MICRO_DIR) + "/chipmunk-config.yml");
  EXPECT_EQ(loaded.config.attn.delta, DeltaKind::kHalfMerge);
  EXPECT_EQ(loaded.config.attn.first_n_dense_layers, 0);
  EXPECT_EQ(list_full_steps(loaded.config, 64).size(), 6U);
  EXPECT_TRUE(loaded.warnings.empty());
  EXPECT_TRUE(sparsity_warnings(loaded.config, 64, 8, 512).empty());
}

}  // namespace
}  // namespace mochi
