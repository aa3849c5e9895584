// A transformer in GGUF files that PyPI's gguf wrote, with tensors of several types.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>

#include "dit/dit_bench.h"
#include "dit/dit_weights.h"
#include "io/same_tensors.h"
#include "io/stored_source.h"
#include "support/fnv1a.h"

namespace mochi {
namespace {

const std::filesystem::path kGgufFolder = std::filesystem::path(MOCHI_GOLDEN_DIR) / "gguf";
constexpr const char* kFirstPart = "dit_split-00001-of-00003.gguf";

// The second one has no architecture, and is split into three.
class DitInGguf : public testing::TestWithParam<const char*> {
 protected:
  std::shared_ptr<StoredSource> source = open_weights(kGgufFolder / GetParam());
  Golden golden{"gguf/dit_case"};
};

TEST_P(DitInGguf, HasTheValuesThatGgufComputes) {
  const Json hashes = golden.config().at("fnv1a");
  std::set<std::string> types;
  EXPECT_EQ(source->names().size(), hashes.size());
  for (const std::string& name : source->names()) {
    types.insert(source->entry(name).dtype_name);
    const auto wanted = hashes.at(name).get<std::string>();
    EXPECT_EQ(fnv1a(read_all(*source, name)), std::strtoull(wanted.c_str(), nullptr, 16)) << name;
  }
  EXPECT_EQ(types, (std::set<std::string>{"BF16", "F16", "F32", "Q4_K", "Q6_K", "Q8_0"}));
}

TEST_P(DitInGguf, ComputesTheVelocityOfDiffusers) {
  const DitConfig config = infer_dit_config(*source);
  EXPECT_EQ(config.depth, golden_dit_config(golden).depth);
  EXPECT_EQ(config.mlp_hidden_x, golden_dit_config(golden).mlp_hidden_x);
  Bench bench(*source, golden_dit_config(golden));
  const std::vector<float> velocity = bench.velocity(golden, "input.text");
  EXPECT_LE(relative_error(velocity, golden.values("output.final")), 1e-5);
  EXPECT_TRUE(source->unread().empty());
}

INSTANTIATE_TEST_SUITE_P(Files, DitInGguf, testing::Values("dit_mixed.gguf", kFirstPart));

TEST(DitInGguf, ArchitectureDoesNotMatter) {
  EXPECT_EQ(open_weights(kGgufFolder / "dit_mixed.gguf")->metadata().at("general.architecture"),
            "pig");
  EXPECT_FALSE(open_weights(kGgufFolder / kFirstPart)->metadata().contains("general.architecture"));
}

}  // namespace
}  // namespace mochi
