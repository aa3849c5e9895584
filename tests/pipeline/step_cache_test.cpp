// Which steps use the cached tokens of each branch, and what is saved of them.
#include "pipeline/step_cache.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/error.h"

namespace mochi {
namespace {

class StepCacheTest : public testing::Test {
 protected:
  static SparsityConfig config() {
    SparsityConfig config;
    config.attn.full_step_schedule = {0, 1, 5};
    config.step_caching = {.is_enabled = true, .skip_step_schedule = {3, 5}};
    return config;
  }
  StepCache make(bool has_null = true) { return {config(), *backend_, {4, 8}, has_null}; }
  // Runs a step as the sampler does: its tokens are `value`.
  static DitCall run(StepCache& cache, Branch branch, int step, float value) {
    DitCall call{.branch = branch, .step = step};
    cache.prepare(call);
    if (call.kept_hidden) std::ranges::fill(call.kept_hidden.f32(), value);
    return call;
  }

  std::unique_ptr<Backend> backend_ = make_backend(Device::cpu());
};

TEST_F(StepCacheTest, EachBranchKeepsItsTokens) {
  StepCache cache = make();
  EXPECT_FALSE(run(cache, Branch::kCond, 3, 1).cached_hidden);  // nothing is there yet
  run(cache, Branch::kCond, 2, 1);
  run(cache, Branch::kNull, 2, 2);
  EXPECT_FALSE(run(cache, Branch::kCond, 5, 1).cached_hidden);  // a full step
  const DitCall cond = run(cache, Branch::kCond, 3, 9);
  EXPECT_FALSE(cond.kept_hidden);
  EXPECT_EQ(cond.cached_hidden.f32()[0], 1);
  EXPECT_EQ(run(cache, Branch::kNull, 3, 9).cached_hidden.f32()[31], 2);
}

TEST_F(StepCacheTest, DoesNothingUnlessEnabled) {
  StepCache cache({}, *backend_, {4, 8}, true);
  for (const int step : {2, 3}) {
    const DitCall call = run(cache, Branch::kCond, step, 1);
    EXPECT_FALSE(call.cached_hidden);
    EXPECT_FALSE(call.kept_hidden);
  }
  EXPECT_FALSE(cache.has_changed());
  EXPECT_TRUE(cache.save(*backend_).empty());
}

TEST_F(StepCacheTest, ResumesFromSavedTokens) {
  StepCache whole = make();
  run(whole, Branch::kCond, 2, 1);
  run(whole, Branch::kNull, 2, 2);
  EXPECT_TRUE(whole.has_changed());
  whole.begin_step();
  EXPECT_FALSE(whole.has_changed());
  const std::vector<StateTensor> saved = whole.save(*backend_);
  ASSERT_EQ(saved.size(), 2U);
  EXPECT_TRUE(StepCache::owns(saved[0].name));
  StepCache resumed = make();
  resumed.restore(*backend_, saved);
  EXPECT_EQ(run(resumed, Branch::kNull, 3, 9).cached_hidden.f32()[0], 2);
}

TEST_F(StepCacheTest, RefusesTensorsThatDoNotFit) {
  const auto message = [&](const std::string& name, const Shape& shape, bool has_null) {
    std::vector<StateTensor> saved;
    saved.push_back({name, Tensor(DType::kF32, shape)});
    StepCache cache = make(has_null);
    try {
      cache.restore(*backend_, saved);
    } catch (const Error& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  EXPECT_EQ(message("hidden.cond", {4, 8}, true), "accepted");
  EXPECT_EQ(message("hidden.cond", {4, 9}, true),
            "cached tensor 'hidden.cond': wanted F32 [4, 8], found F32 [4, 9]");
  EXPECT_EQ(message("hidden.null", {4, 8}, false), "cached tensor 'hidden.null': is not known");
  EXPECT_EQ(message("hidden.both", {4, 8}, true), "cached tensor 'hidden.both': is not known");
}

}  // namespace
}  // namespace mochi
