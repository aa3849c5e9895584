// Whole sparse generations of a tiny random model.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "base/error.h"
#include "base/temp_folder.h"
#include "mochi/mochi.h"
#include "pipeline/step_observer.h"
#include "pipeline/tiny_model.h"
#include "support/relative_error.h"

namespace mochi {
namespace {

class SparseEngine : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = std::make_unique<TempFolder>();
    write_tiny_model(*folder_ / "model",
                     std::filesystem::path(MOCHI_GOLDEN_DIR) / "tokenizer" / "spiece.model");
  }
  static void TearDownTestSuite() { folder_.reset(); }

  static Engine open() {
    return Engine(
        {.model_dir = *folder_ / "model", .precision = Precision::kFp32, .num_threads = 1});
  }

  // 5×4×8 tokens: two voxels of 64 and tails.
  static GenerateRequest dense_request(const Engine& engine) {
    GenerateRequest request = engine.model().default_request();
    request.prompt = "a small red ball moves slowly to the left";
    request.width = 128;
    request.height = 64;
    request.num_frames = 25;
    request.num_steps = 8;
    return request;
  }
  static GenerateRequest sparse_request(const Engine& engine) {
    GenerateRequest request = dense_request(engine);
    SparsityConfig config;
    config.attn.first_n_dense_layers = 0;
    config.attn.group_size = 64;
    config.attn.counts_multiple_of = 16;
    config.attn.top_keys = 0.2;
    config.attn.random_keys = 0.05;
    config.attn.full_step_schedule = {0, 1, 5};
    config.attn.delta = DeltaKind::kSubtract;
    request.sparsity = config;
    return request;
  }

  // One block of 128 tokens, and a rest; 48 hidden columns.
  static void make_mlp_sparse(GenerateRequest& request) {
    MlpSparsity& mlp = request.sparsity->mlp;
    mlp.is_enabled = true;
    mlp.first_n_dense_layers = 0;
    mlp.counts_multiple_of = 4;
    mlp.full_step_every = 5;
  }

  static inline std::unique_ptr<TempFolder> folder_;
};

// Order and deltas change nothing where nothing is left out.
TEST_F(SparseEngine, WithAllColumnsItIsTheDenseVideo) {
  Engine engine = open();
  const std::vector<float> dense = engine.sample(dense_request(engine)).values;
  for (const bool has_voxels : {true, false}) {
    GenerateRequest request = sparse_request(engine);
    request.sparsity->patchify_is_enabled = has_voxels;
    request.sparsity->attn.top_keys = 1;
    EXPECT_LE(relative_error(engine.sample(request).values, dense), 1e-5);
  }
  GenerateRequest request = sparse_request(engine);
  request.sparsity->attn.is_enabled = false;
  EXPECT_LE(relative_error(engine.sample(request).values, dense), 1e-5);
}

TEST_F(SparseEngine, SparseFeedForwardLayersStayNearTheDenseVideo) {
  Engine engine = open();
  const std::vector<float> dense = engine.sample(dense_request(engine)).values;
  GenerateRequest request = sparse_request(engine);
  request.sparsity->attn.is_enabled = false;
  make_mlp_sparse(request);
  double former = 0.3;
  for (const double top_keys : {0.3, 0.6, 0.9}) {
    request.sparsity->mlp.top_keys = top_keys;
    const double difference = relative_error(engine.sample(request).values, dense);
    EXPECT_GT(difference, 1e-5);
    EXPECT_LT(difference, former);
    former = difference;
  }
  request.sparsity->mlp.top_keys = 1;
  EXPECT_LE(relative_error(engine.sample(request).values, dense), 1e-5);
  // One branch alone, and the other one late.
  request.sparsity->mlp.top_keys = 0.3;
  request.cfg_schedule.assign(8, 1.0);
  const std::vector<float> unguided = engine.sample(request).values;
  request.cfg_schedule[3] = 2.0;
  EXPECT_NE(engine.sample(request).values, unguided);
}

TEST_F(SparseEngine, StaysNearTheDenseVideo) {
  Engine engine = open();
  const std::vector<float> dense = engine.sample(dense_request(engine)).values;
  for (const DeltaKind delta :
       {DeltaKind::kSubtract, DeltaKind::kWeighted, DeltaKind::kLseMerge, DeltaKind::kHalfMerge}) {
    GenerateRequest request = sparse_request(engine);
    request.sparsity->attn.delta = delta;
    const double difference = relative_error(engine.sample(request).values, dense);
    EXPECT_GT(difference, 1e-6);
    EXPECT_LT(difference, 0.2);
  }
}

TEST_F(SparseEngine, TheSecondGenerationDoesNotSeeTheFirst) {
  Engine engine = open();
  GenerateRequest request = sparse_request(engine);
  make_mlp_sparse(request);
  GenerateRequest other = request;
  other.prompt = "a cube";
  other.num_frames = 13;
  other.num_steps = 3;
  const std::vector<float> first = engine.sample(request).values;
  engine.sample(other);
  EXPECT_EQ(engine.sample(request).values, first);
  Engine fresh = open();
  EXPECT_EQ(fresh.sample(request).values, first);
}

TEST_F(SparseEngine, StepCachingRunsLessAndKeepsBranchesApart) {
  Engine engine = open();
  GenerateRequest request = sparse_request(engine);
  const std::vector<float> every_step = engine.sample(request).values;
  request.sparsity->step_caching = {.is_enabled = true, .skip_step_schedule = {3, 4, 5, 7}};
  const std::vector<float> skipping = engine.sample(request).values;
  EXPECT_NE(skipping, every_step);
  EXPECT_LT(relative_error(skipping, every_step), 0.3);
  // Without guidance the unconditional branch never runs; with it, that must not change the other.
  request.cfg_schedule.assign(8, 1.0);
  const std::vector<float> unguided = engine.sample(request).values;
  request.cfg_schedule[0] = 2.0;
  EXPECT_NE(engine.sample(request).values, unguided);
}

struct WatchedSample {
  std::vector<float> latents;
  std::vector<SamplerState> states;  // after each step but the last
};

WatchedSample sample_with_states(Engine& engine, const GenerateRequest& request) {
  WatchedSample result;
  StepObserver observer;
  observer.after_step = [&](const StepView& view) {
    if (const auto state = view.state()) result.states.push_back(*state);
  };
  result.latents = engine.sample(request, observer).values;
  return result;
}

// From every step, whatever is cached there.
TEST_F(SparseEngine, ResumesFromACheckpoint) {
  Engine engine = open();
  for (const DeltaKind delta : {DeltaKind::kSubtract, DeltaKind::kWeighted, DeltaKind::kLseMerge,
                                DeltaKind::kHalfMerge, DeltaKind::kNone}) {
    GenerateRequest request = sparse_request(engine);
    request.sparsity->attn.delta = delta;
    request.sparsity->attn.recompute_mask = delta != DeltaKind::kWeighted;
    if (delta != DeltaKind::kNone) make_mlp_sparse(request);
    request.sparsity->step_caching = {.is_enabled = true, .skip_step_schedule = {3, 6}};
    const auto [whole, states] = sample_with_states(engine, request);
    ASSERT_EQ(states.size(), 7U);
    for (const SamplerState& state : states) {
      EXPECT_EQ(engine.sample(request, {.start = &state}).values, whole) << state.num_steps_done;
    }
  }
}

// States that remain of samplings that are interrupted at every pause between blocks in turn.
struct Interruptions {
  int num_with_state = 0;
  std::set<int> steps_without_state;  // that were running
};

// Expects that each interruption gives the state after the last complete step, or none.
Interruptions interrupt_everywhere(Engine& engine, const GenerateRequest& request) {
  Interruptions result;
  const auto [whole, states] = sample_with_states(engine, request);
  for (int last_poll = 1;; ++last_poll) {
    StepObserver observer;
    int num_polls = 0;
    bool has_step = false;
    observer.after_step = [&](const StepView&) { has_step = true; };
    observer.stop = [&] { return has_step && ++num_polls == last_poll; };
    try {
      engine.sample(request, observer);
      return result;  // there are fewer pauses
    } catch (const Cancelled&) {
      EXPECT_EQ(observer.num_interruptions, 1);
    }
    const SamplerState& wanted = states[static_cast<std::size_t>(observer.num_done - 1)];
    EXPECT_EQ(observer.latents.values, wanted.latents.values);
    if (!observer.state) {
      result.steps_without_state.insert(observer.num_done);
      continue;
    }
    ++result.num_with_state;
    const auto is_equal = [](const CachedTensor& a, const CachedTensor& b) {
      return a.name == b.name && a.bytes == b.bytes;
    };
    EXPECT_TRUE(std::ranges::equal(observer.state->caches, wanted.caches, is_equal))
        << "after step " << observer.num_done;
  }
}

TEST_F(SparseEngine, AnInterruptedFullStepGivesNoStateAndAnInterruptedSparseStepTheLastOne) {
  Engine engine = open();
  GenerateRequest request = sparse_request(engine);
  request.num_frames = 13;
  const Interruptions of_attention = interrupt_everywhere(engine, request);
  EXPECT_EQ(of_attention.steps_without_state, (std::set<int>{1, 5}));
  EXPECT_GT(of_attention.num_with_state, 5 * 2 * 2);  // 5 sparse steps, 2 branches, 2 layers
  // Every step rewrites the caches of feed-forward layers, and the hidden values of a step that
  // others repeat.
  make_mlp_sparse(request);
  const Interruptions of_both = interrupt_everywhere(engine, request);
  EXPECT_EQ(of_both.steps_without_state, (std::set<int>{1, 2, 3, 4, 5, 6, 7}));
  request.sparsity->mlp.is_enabled = false;
  request.sparsity->step_caching = {.is_enabled = true, .skip_step_schedule = {3, 6}};
  const Interruptions of_skipping = interrupt_everywhere(engine, request);
  EXPECT_EQ(of_skipping.steps_without_state, (std::set<int>{1, 2, 4, 5, 7}));
}

// A branch that no full step has run rewrites its caches at a sparse step.
TEST_F(SparseEngine, AnInterruptedStepThatRunsABranchForTheFirstTimeGivesNoState) {
  Engine engine = open();
  GenerateRequest request = sparse_request(engine);
  request.num_frames = 13;
  request.sparsity->attn.full_step_schedule = {0, 1};
  request.cfg_schedule = {1, 1, 1, 4, 4, 4, 1, 1};
  const Interruptions found = interrupt_everywhere(engine, request);
  EXPECT_EQ(found.steps_without_state, (std::set<int>{1, 3, 4}));
}

TEST_F(SparseEngine, AFailedFullStepGivesNoStateAndAFailedSparseStepTheLastOne) {
  Engine engine = open();
  GenerateRequest request = sparse_request(engine);
  request.cfg_schedule.assign(8, 6.0);
  const std::vector<float> whole = engine.sample(request).values;
  for (const int failing : {5, 6}) {
    GenerateRequest broken = request;
    broken.cfg_schedule[static_cast<std::size_t>(failing)] = 1e300;  // beyond the range of fp32
    StepObserver observer;
    EXPECT_THROW(engine.sample(broken, observer), NotFinite);
    EXPECT_EQ(observer.num_done, failing);
    ASSERT_EQ(observer.state.has_value(), failing == 6);
    if (!observer.state) continue;
    EXPECT_EQ(engine.sample(request, {.start = &*observer.state}).values, whole);
  }
}

// A device that was lost has kept them.
TEST_F(SparseEngine, ResumesWithoutItsCaches) {
  Engine engine = open();
  GenerateRequest request = sparse_request(engine);
  make_mlp_sparse(request);
  request.sparsity->step_caching = {.is_enabled = true, .skip_step_schedule = {3, 6}};
  auto [whole, states] = sample_with_states(engine, request);
  for (SamplerState& state : states) {
    state.caches.clear();
    EXPECT_LT(relative_error(engine.sample(request, {.start = &state}).values, whole), 0.3)
        << state.num_steps_done;
  }
}

TEST_F(SparseEngine, RefusesCachesThatDoNotFit) {
  Engine engine = open();
  const GenerateRequest request = sparse_request(engine);
  const SamplerState good = sample_with_states(engine, request).states[5];
  const auto message = [&](const auto& change) {
    SamplerState state = good;
    for (CachedTensor& cache : state.caches) {
      if (cache.name == "cond.1.plan") change(cache);
    }
    return message_of<Error>([&] { engine.sample(request, {.start = &state}); });
  };
  using Cache = CachedTensor;
  EXPECT_EQ(message([](Cache& cache) { cache.name = "cond.x.plan"; }),
            "cached tensor 'cond.x.plan': wanted a layer, found 'x'");
  EXPECT_EQ(message([](Cache& cache) { cache.name = "both.1.plan"; }),
            "cached tensor 'both.1.plan': wanted cond or null, found 'both'");
  EXPECT_EQ(message([](Cache& cache) { cache.name = "cond.1.plans"; }),
            "cached tensor 'cond.1.plans': is not known");
  EXPECT_EQ(message([](Cache& cache) { cache.bytes.pop_back(); }).substr(0, 36),
            "cached tensor 'cond.1.plan': wanted ");
  EXPECT_EQ(
      message([](Cache& cache) { std::ranges::fill(cache.bytes, std::byte{0xff}); }).substr(0, 48),
      "cached tensor 'cond.1.plan': wanted one or more ");
}

TEST_F(SparseEngine, RefusesConfigurationsThatNoFileMayHave) {
  Engine engine = open();
  const auto message = [&](const auto& change) {
    GenerateRequest request = sparse_request(engine);
    change(*request.sparsity);
    return message_of<InvalidRequest>([&] { engine.sample(request); });
  };
  expect_contains(message([](SparsityConfig& config) { config.attn.full_step_every = 0; }),
                  "attn.full_step_every: wanted a whole number from 1 to 1000000, found 0");
  expect_contains(message([](SparsityConfig& config) { config.attn.top_keys = std::nan(""); }),
                  "attn.top_keys: wanted 0 to 1, found nan");
  expect_contains(message([](SparsityConfig& config) { config.attn.group_size = 100; }),
                  "attn.mbm: wanted 192, 128 or 64, found 100");
}

// Watching a sampling changes none of its latents; and of what it did, everything is told.
TEST_F(SparseEngine, ObserversSeeEachSiteAndDoNotChangeTheLatents) {
  Engine engine = open();
  GenerateRequest request = sparse_request(engine);
  request.sparsity->step_caching = {.is_enabled = true, .skip_step_schedule = {3}};
  request.cfg_schedule.assign(8, 6.0);
  request.cfg_schedule[6] = 1.0;
  const std::vector<float> plain = engine.sample(request).values;
  std::map<int, int> num_sites;
  std::vector<std::vector<float>> latents;
  StepObserver observer;
  observer.site = [&](const SiteReport& site) { ++num_sites[site.step]; };
  observer.after_step = [&](const StepView& view) {
    latents.resize(static_cast<std::size_t>(view.num_done()));
    latents.back() = view.latents().values;
  };
  EXPECT_EQ(engine.sample(request, observer).values, plain);
  ASSERT_EQ(latents.size(), 8U);
  EXPECT_EQ(latents.back(), plain);
  EXPECT_NE(latents[6], plain);
  const int num_layers = num_sites[0] / 2;
  EXPECT_GT(num_layers, 0);
  for (int step = 0; step < 8; ++step) {
    const int num_branches = step == 3 ? 0 : step == 6 ? 1 : 2;
    EXPECT_EQ(num_sites[step], num_branches * num_layers) << step;
  }
  request.sparsity.reset();
  num_sites.clear();
  engine.sample(request, observer);
  EXPECT_TRUE(num_sites.empty());
}

TEST_F(SparseEngine, WarnsOfSettingsWithoutEffect) {
  Engine engine = open();
  GenerateRequest request = sparse_request(engine);
  EXPECT_TRUE(engine.model().warnings(request).empty());
  request.num_steps = 4;
  ASSERT_EQ(engine.model().warnings(request).size(), 1U);
  EXPECT_EQ(engine.model().warnings(request)[0],
            "attn.full_step_schedule: step 5 lies beyond the last of 4 steps and is ignored");
  request.sparsity.reset();
  EXPECT_TRUE(engine.model().warnings(request).empty());
}

}  // namespace
}  // namespace mochi
