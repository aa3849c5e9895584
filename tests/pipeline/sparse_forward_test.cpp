// Series of sparse steps: captured, with caches on the host, continued from a checkpoint. Each must
// equal the plain series bit for bit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"
#include "base/noise.h"
#include "base/temp_folder.h"
#include "dit/dit.h"
#include "pipeline/step_cache.h"
#include "sparsity/column_sparse_policy.h"
#include "support/device_tensors.h"
#include "support/mirror_backend.h"

namespace mochi {
namespace {

constexpr int kNumSteps = 12;
constexpr int kNumText = 5;
// 5×4×7 tokens: a voxel and tails, two groups and a part of one.
constexpr std::int64_t kFrames = 5, kHeight = 8, kWidth = 14;

DitConfig small_config() {
  DitConfig config;
  config.depth = 5;
  config.num_heads = 2;
  config.hidden_size_x = 256;
  config.hidden_size_y = 32;
  config.mlp_hidden_x = 96;
  config.mlp_hidden_y = 48;
  config.text_width = 24;
  return config;
}

SparsityConfig sparse_config() {
  SparsityConfig config;
  config.attn.top_keys = 0.2;
  config.attn.group_size = 64;
  config.attn.counts_multiple_of = 16;
  config.attn.first_n_dense_layers = 1;
  config.attn.full_step_schedule = {0, 1, 4, 6, 9};  // the last two are captured and replayed
  config.attn.delta = DeltaKind::kHalfMerge;
  return config;
}

struct Way {
  bool is_captured = false, is_offloaded = false, is_streamed = false;
  int restart_at = 0;  // with a new policy; 0: never
};

class SparseForward : public OnDevice {
 protected:
  void SetUp() override {
    OnDevice::SetUp();
    if (!IsSkipped()) backend_ = make();
  }

  std::unique_ptr<ColumnSparsePolicy> make_policy(const SparsityConfig& config, const Dit& dit,
                                                  bool is_offloaded) const {
    auto policy = std::make_unique<ColumnSparsePolicy>(config, grid(dit), 3);
    const std::uint64_t available_bytes = is_offloaded ? 1 : 0;
    const std::string placement = policy->allocate(*backend_, sizes(dit), available_bytes, {});
    if (!is_offloaded) return policy;
    expect_contains(placement, "are kept in host memory");
    EXPECT_GT(policy->host_bytes(), 0U);
    return policy;
  }
  static TokenGrid grid(const Dit& dit) { return dit.token_grid(kFrames, kHeight, kWidth); }
  static StateSizes sizes(const Dit& dit) {
    const DitConfig& config = dit.config();
    const std::int64_t num_visual = grid(dit).num_tokens();
    return {.num_layers = static_cast<int>(config.depth),
            .num_heads = config.num_heads,
            .head_dim = config.head_dim(),
            .mlp_hidden = config.mlp_hidden_x,
            .mlp_dtype = dit.mlp_dtype(),
            .num_tokens = {num_visual + kNumText, num_visual}};
  }
  Tensor noise(const Shape& shape, std::uint64_t seed) const {
    const Tensor host(DType::kF32, shape);
    fill_normal(NoiseSource::kMochi, seed, host.view().f32());
    return to_device(*backend_, host);
  }

  // Returns the velocities of both branches at every step, concatenated.
  std::vector<float> run(const Way& way, const SparsityConfig& config = sparse_config());

  std::unique_ptr<Backend> backend_;
};

std::vector<float> SparseForward::run(const Way& way, const SparsityConfig& config) {
  Backend& backend = *backend_;
  WeightStore store(backend, backend.device().preferred_matrix_dtype());
  DitWeights weights(small_config());
  if (way.is_streamed) store.stream_layers(dit_layer_of);
  store.init_random(weights, 11);
  const Dit dit(weights, store.streamer());
  Arena scratch(backend.allocator());
  Context ctx{backend, scratch};
  std::unique_ptr<ColumnSparsePolicy> policy = make_policy(config, dit, way.is_offloaded);
  const std::vector<double> sigmas(kNumSteps, 0.5);
  const DitRun run = dit.prepare(backend, grid(dit), policy->token_order(), sigmas);
  const Tensor features(DType::kF32, {kNumText, 24});
  fill_normal(NoiseSource::kMochi, 1, features.view().f32());
  const Tensor no_features(backend.activation_dtype(), {0, 24}, backend.allocator());
  const TextCondition texts[2] = {dit.condition(ctx, to_activation(backend, features)),
                                  dit.condition(ctx, no_features)};
  const Shape shape{12, kFrames, kHeight, kWidth};
  const Tensor latents = noise(shape, 2);
  const Tensor velocity(DType::kF32, shape, backend.allocator());
  StepCache step_cache(config, backend, {grid(dit).num_tokens(), dit.config().hidden_size_x},
                       /*has_null=*/true);
  ForwardRecorder recorder;
  std::vector<float> values;
  for (int step = 0; step < kNumSteps; ++step) {
    if (step > 0 && step == way.restart_at) {
      const std::vector<StateTensor> saved = policy->save(backend);
      policy = make_policy(config, dit, way.is_offloaded);
      policy->restore(backend, saved);
      recorder = {};
    }
    for (const Branch branch : {Branch::kCond, Branch::kNull}) {
      DitCall call{.branch = branch, .step = step, .sigma = 0.5F};
      if (way.is_captured) call.recorder = &recorder;
      step_cache.prepare(call);
      dit.forward(ctx, run, call, texts[static_cast<std::size_t>(branch)], *policy, latents,
                  velocity);
      const std::vector<float> now = to_host(backend, velocity);
      values.insert(values.end(), now.begin(), now.end());
    }
    backend.run(ops::GuidedEuler{
        .v_cond = velocity, .v_null = velocity, .cfg = 1.0F, .dsigma = 0.1F, .z = latents});
  }
  return values;
}

INSTANTIATE_TEST_SUITE_P(On, SparseForward, all_backends(), name_of_case);

TEST_P(SparseForward, CapturedStepsChangeNothing) {
  const std::vector<float> plain = run({});
  EXPECT_TRUE(std::ranges::all_of(plain, [](float value) { return std::isfinite(value); }));
  EXPECT_TRUE(run({.is_captured = true}) == plain);
}

TEST_P(SparseForward, StepsThatDifferAreNotCaptured) {
  SparsityConfig config = sparse_config();
  config.overrides = {{.steps = {4, 7}, .top_keys = 0.4, .delta = DeltaKind::kSubtract},
                      {.layers = {0, 3}, .random_keys = 0.1}};
  const std::vector<float> plain = run({}, config);
  EXPECT_FALSE(plain == run({}));
  EXPECT_TRUE(run({.is_captured = true, .is_offloaded = true}, config) == plain);
  EXPECT_TRUE(run({.is_captured = true}, config) == plain);
}

TEST_P(SparseForward, CapturedFeedForwardLayersChangeNothing) {
  SparsityConfig config = sparse_config();
  config.mlp = {.is_enabled = true};
  config.mlp.top_keys = 0.3;
  config.mlp.random_keys = 0.1;
  config.mlp.counts_multiple_of = 8;
  config.mlp.first_n_dense_layers = 1;
  config.mlp.full_step_every = 3;
  config.mlp.block_mask_cache = 1;
  const std::vector<float> plain = run({}, config);
  EXPECT_FALSE(plain == run({}));
  EXPECT_TRUE(run({.is_captured = true}, config) == plain);
  EXPECT_TRUE(run({.is_captured = true, .restart_at = 5}, config) == plain);
  config.attn.is_enabled = false;
  config.mlp.full_step_every = 6;
  config.mlp.block_mask_cache = 2;
  EXPECT_TRUE(run({.is_captured = true}, config) == run({}, config));
}

TEST_P(SparseForward, CachesOnTheHostChangeNothing) {
  const std::vector<float> plain = run({});
  EXPECT_TRUE(run({.is_offloaded = true}) == plain);
  EXPECT_TRUE(run({.is_captured = true, .is_offloaded = true}) == plain);
  EXPECT_TRUE(run({.is_captured = true, .is_offloaded = true, .is_streamed = true}) == plain);
}

TEST_P(SparseForward, OneKindOfCacheMayStay) {
  SparsityConfig config = sparse_config();
  config.attn.recompute_mask = false;
  const std::vector<float> plain = run({}, config);
  EXPECT_TRUE(run({.is_offloaded = true}, config) == plain);
  config.offloading.attn_indices = false;
  EXPECT_TRUE(run({.is_captured = true, .is_offloaded = true}, config) == plain);
  config.offloading.attn_indices = true;
  config.offloading.attn_out_cache = false;
  EXPECT_TRUE(run({.is_captured = true, .is_offloaded = true}, config) == plain);
}

TEST_P(SparseForward, ContinuesFromSavedState) {
  const std::vector<float> plain = run({});
  EXPECT_TRUE(run({.restart_at = 3}) == plain);
  EXPECT_TRUE(run({.is_captured = true, .is_offloaded = true, .restart_at = 3}) == plain);
  EXPECT_TRUE(run({.is_offloaded = true, .is_streamed = true, .restart_at = 6}) == plain);
}

TEST_P(SparseForward, CachesOfEightBitsMayBeAnywhere) {
  SparsityConfig config = sparse_config();
  config.attn.cache_dtype = CacheDType::kFp8;
  const std::vector<float> plain = run({}, config);
  EXPECT_FALSE(plain == run({}));
  EXPECT_TRUE(run({.is_captured = true, .is_offloaded = true}, config) == plain);
  EXPECT_TRUE(run({.is_captured = true, .restart_at = 3}, config) == plain);
  EXPECT_TRUE(run({.is_offloaded = true, .is_streamed = true, .restart_at = 6}, config) == plain);
}

// An 8-bit cache takes a half or a quarter of a cache of activations.
TEST_P(SparseForward, CachesOfEightBitsTakeLessMemory) {
  WeightStore store(*backend_, backend_->device().preferred_matrix_dtype());
  DitWeights weights(small_config());
  store.init_random(weights, 11);
  const Dit dit(weights);
  SparsityConfig config = sparse_config();
  config.offloading.attn_indices = false;
  const auto host_bytes = [&](CacheDType cache_dtype) {
    config.attn.cache_dtype = cache_dtype;
    return make_policy(config, dit, /*is_offloaded=*/true)->host_bytes();
  };
  const auto num_values = static_cast<std::uint64_t>(4 * (2 * grid(dit).num_tokens() + kNumText) *
                                                     small_config().hidden_size_x);
  const std::uint64_t value_bytes = dtype_bytes(backend_->activation_dtype());
  const auto expect_near = [](std::uint64_t found, std::uint64_t wanted) {
    EXPECT_GE(found, wanted);
    EXPECT_LE(found, wanted + 8 * 256);  // each of 8 sites is aligned
  };
  expect_near(host_bytes(CacheDType::kActivation), num_values * value_bytes);
  expect_near(host_bytes(CacheDType::kFp8), num_values);
}

TEST_P(SparseForward, SkippedBlocksWorkWithCapturedSteps) {
  SparsityConfig config = sparse_config();
  config.step_caching = {.is_enabled = true, .skip_step_schedule = {3, 7, 10}};
  const std::vector<float> plain = run({}, config);
  EXPECT_TRUE(run({.is_captured = true}, config) == plain);
  EXPECT_TRUE(run({.is_captured = true, .is_offloaded = true}, config) == plain);
}

TEST_P(SparseForward, CachesThatMustStayButDoNotFitAreRefused) {
  WeightStore store(*backend_, backend_->device().preferred_matrix_dtype());
  DitWeights weights(small_config());
  store.init_random(weights, 11);
  const Dit dit(weights);
  SparsityConfig config = sparse_config();
  config.offloading.global_disable_offloading = true;
  ColumnSparsePolicy policy(config, grid(dit), 3);
  expect_contains(
      message_of<OutOfMemory>([&] { policy.allocate(*backend_, sizes(dit), 1000, {}); }),
      "sparse caches need");
  expect_contains(policy.allocate(*backend_, sizes(dit), std::uint64_t{1} << 40, {}),
                  "stay on the GPU");
  EXPECT_EQ(policy.host_bytes(), 0U);
}

// Counts the passes that would be captured.
class CountingRuntime final : public MirrorRuntime {
 public:
  using MirrorRuntime::MirrorRuntime;

  std::unique_ptr<CapturedGraph> capture(const std::function<void()>& fn) override {
    ++num_captured;
    fn();
    return std::make_unique<Nothing>();
  }
  int num_captured = 0;

 private:
  struct Nothing final : CapturedGraph {
    void replay() override {}
  };
};

// A kind of step is captured after a pass of it. The first two full steps have no columns yet, and
// are of kinds of their own.
TEST(SparseForwardOnCpu, FullAndSparseStepsAreCaptured) {
  const std::unique_ptr<Backend> cpu = make_backend(Device::cpu());
  const auto runtime = std::make_shared<CountingRuntime>(*cpu);
  const std::unique_ptr<Backend> backend = make_mirror_backend(*cpu, runtime);
  constexpr TokenGrid kSmallGrid{2, 4, 8};
  ColumnSparsePolicy policy(sparse_config(), kSmallGrid, 1);
  policy.allocate(*backend,
                  {.num_layers = 2, .num_heads = 2, .head_dim = 16, .num_tokens = {64, 0}}, 0, {});
  Arena scratch;
  Context ctx{*backend, scratch};
  const Tensor q(DType::kF32, {2, 64, 16});
  fill_normal(NoiseSource::kMochi, 1, q.view().f32());
  const AttentionInputs in{.q = q, .k = q, .v = q};
  const Tensor out(DType::kF32, {64, 32});
  ForwardRecorder recorder;
  std::vector<int> captured;
  for (int step = 0; step < kNumSteps; ++step) {
    const int before = runtime->num_captured;
    policy.begin_forward(ctx, Branch::kCond, step);
    const auto key = policy.graph_key(Branch::kCond, step);
    ASSERT_TRUE(key);
    recorder.run(*runtime, Branch::kCond, *key,
                 [&] { policy.attend(ctx, {Branch::kCond, 1}, step, in, out); });
    if (runtime->num_captured > before) captured.push_back(step);
  }
  EXPECT_EQ(captured, (std::vector<int>{3, 6}));
}

}  // namespace
}  // namespace mochi
