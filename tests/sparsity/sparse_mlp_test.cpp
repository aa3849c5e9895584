// Sparse feed-forward layers over a series of steps whose inputs drift.
#include "sparsity/sparse_mlp.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <set>

#include "base/error.h"
#include "sparsity/column_sparse_policy.h"
#include "support/relative_error.h"

namespace mochi {
namespace {

constexpr TokenGrid kMlpGrid{5, 10, 6};  // 300 tokens: two blocks and a rest
constexpr std::int64_t kWidth = 24;
constexpr std::int64_t kHidden = 80;
constexpr Site kMlpSite{Branch::kCond, 3};

class SparseMlpPolicy : public testing::Test {
 protected:
  SparseMlpPolicy() {
    std::mt19937 generator(11);
    w1_ = random({2 * kHidden, kWidth}, generator);
    w2_ = random({kWidth, kHidden}, generator);
  }

  static Tensor random(const Shape& shape, std::mt19937& generator) {
    Tensor tensor(DType::kF32, shape);
    std::normal_distribution<float> normal;
    for (float& value : tensor.view().f32()) value = normal(generator);
    return tensor;
  }

  // The input at a step: a fixed part, and one that changes.
  static Tensor input_at(int step) {
    std::mt19937 fixed(1);
    std::mt19937 changing(static_cast<std::uint32_t>(100 + step));
    const Shape shape{kMlpGrid.num_tokens(), kWidth};
    Tensor x = random(shape, fixed);
    const Tensor change = random({1, kWidth}, changing);
    for (std::size_t i = 0; i < x.view().f32().size(); ++i) {
      x.view().f32()[i] += 0.3F * change.view().f32()[i % kWidth];
    }
    return x;
  }

  std::vector<float> run(BlockPolicy& policy, const Tensor& x, int step, Site site = kMlpSite) {
    const Arena::Scope scope(scratch_);
    policy.begin_forward(ctx_, site.branch, step);
    const TensorView out = policy.run_mlp(ctx_, site, step, {x, w1_, w2_});
    return {out.f32().begin(), out.f32().end()};
  }
  std::vector<float> dense(const Tensor& x) {
    DensePolicy policy;
    return run(policy, x, 0);
  }
  std::vector<float> run_steps(BlockPolicy& policy, int end) {
    std::vector<float> out;
    for (int step = 0; step < end; ++step) out = run(policy, input_at(step), step);
    return out;
  }

  static SparsityConfig make_config() {
    SparsityConfig config;
    config.attn.is_enabled = false;
    config.mlp.is_enabled = true;
    config.mlp.top_keys = 0.2;
    config.mlp.random_keys = 0;
    config.mlp.counts_multiple_of = 8;
    config.mlp.full_step_every = 5;
    return config;
  }
  ColumnSparsePolicy make_policy(const SparsityConfig& config, std::uint64_t seed = 0) {
    ColumnSparsePolicy policy(config, kMlpGrid, seed);
    const StateSizes sizes{.num_layers = 4,
                           .num_heads = 1,
                           .head_dim = kWidth,
                           .mlp_hidden = kHidden,
                           .num_tokens = {kMlpGrid.num_tokens(), kMlpGrid.num_tokens()}};
    policy.allocate(*backend_, sizes, 0, {});
    return policy;
  }

  // A part of what is kept of the site, or none.
  std::vector<std::int32_t> kept_bits(const ColumnSparsePolicy& policy, const std::string& part) {
    for (const StateTensor& saved : policy.save(*backend_)) {
      if (saved.name != "cond.3." + part) continue;
      const auto* first = reinterpret_cast<const std::int32_t*>(saved.tensor.view().bytes());
      return {first, first + saved.tensor.view().num_elements()};
    }
    return {};
  }

  static double error(const std::vector<float>& got, const std::vector<float>& want) {
    return relative_error(got, std::span<const float>(want));
  }

  std::unique_ptr<Backend> backend_ = make_backend(Device::cpu());
  Arena scratch_;
  Context ctx_{*backend_, scratch_};
  Tensor w1_, w2_;
};

TEST_F(SparseMlpPolicy, FullStepsAreDenseAndOthersAreNot) {
  ColumnSparsePolicy policy = make_policy(make_config());
  for (int step = 0; step <= 6; ++step) {
    const Tensor x = input_at(step);
    const double difference = error(run(policy, x, step), dense(x));
    if (step % 5 == 0) {
      EXPECT_LE(difference, 1e-6) << step;
    } else {
      EXPECT_GT(difference, 1e-3) << step;
    }
  }
}

TEST_F(SparseMlpPolicy, WithTheSameInputASparseStepIsDense) {
  ColumnSparsePolicy policy = make_policy(make_config());
  const Tensor x = input_at(0);
  run(policy, x, 0);
  EXPECT_LE(error(run(policy, x, 1), dense(x)), 1e-6);
}

TEST_F(SparseMlpPolicy, AllColumnsAreDenseAtEveryStep) {
  for (const int block_size : {128, 64, 400}) {
    SparsityConfig config = make_config();
    config.mlp.top_keys = 1;
    config.mlp.block_size = block_size;
    ColumnSparsePolicy policy = make_policy(config);
    for (int step = 0; step < 4; ++step) {
      const Tensor x = input_at(step);
      EXPECT_LE(error(run(policy, x, step), dense(x)), 3e-6) << step;
    }
  }
}

TEST_F(SparseMlpPolicy, MoreColumnsReduceTheError) {
  const Tensor x = input_at(1);
  double former = error(dense(input_at(0)), dense(x));  // nothing computed anew
  for (const double top_keys : {0.1, 0.3, 0.6, 0.9}) {
    SparsityConfig config = make_config();
    config.mlp.top_keys = top_keys;
    ColumnSparsePolicy policy = make_policy(config);
    const double now = error(run_steps(policy, 2), dense(x));
    EXPECT_LT(now, former) << top_keys;
    former = now;
  }
}

TEST_F(SparseMlpPolicy, EarlyAndDisabledLayersAreDense) {
  ColumnSparsePolicy early = make_policy(make_config());
  SparsityConfig config = make_config();
  config.mlp.is_enabled = false;
  ColumnSparsePolicy off = make_policy(config);
  for (int step = 0; step < 3; ++step) {
    const Tensor x = input_at(step);
    EXPECT_EQ(run(early, x, step, {Branch::kCond, 1}), dense(x));
    EXPECT_EQ(run(off, x, step), dense(x));
  }
}

// Means of gates and values over each block, literally.
std::vector<double> literal_means(const Tensor& x, const Tensor& w1, std::int64_t block_size) {
  std::vector<double> means;
  for (std::int64_t begin = 0; begin < kMlpGrid.num_tokens(); begin += block_size) {
    const std::int64_t end = std::min(begin + block_size, kMlpGrid.num_tokens());
    for (std::int64_t row = 0; row < 2 * kHidden; ++row) {
      double sum = 0;
      for (std::int64_t token = begin; token < end; ++token) {
        for (std::int64_t k = 0; k < kWidth; ++k) {
          sum += double{x.view().f32()[token * kWidth + k]} * w1.view().f32()[row * kWidth + k];
        }
      }
      means.push_back(sum / static_cast<double>(end - begin));
    }
  }
  return means;
}

TEST_F(SparseMlpPolicy, TheColumnsThatMovedMostAreChosen) {
  constexpr std::int64_t kWords = (kHidden + 31) / 32;
  SparsityConfig config = make_config();
  config.mlp.block_mask_cache = 1;
  ColumnSparsePolicy policy = make_policy(config);
  run(policy, input_at(0), 0);
  std::vector<double> kept = literal_means(input_at(0), w1_, 128);
  for (int step = 1; step < 5; ++step) {
    run(policy, input_at(step), step);
    const std::vector<std::int32_t> plan = kept_bits(policy, "mlp_plan");
    const std::vector<double> now = literal_means(input_at(step), w1_, 128);
    ASSERT_EQ(std::ssize(plan), 3 * kWords);
    for (std::int64_t block = 0; block < 3; ++block) {
      const auto movement = [&](std::int64_t j) {
        const std::int64_t gate = block * 2 * kHidden + j;
        return std::abs(now[gate] - kept[gate]) +
               std::abs(now[gate + kHidden] - kept[gate + kHidden]);
      };
      std::vector<std::int64_t> order(kHidden);
      std::iota(order.begin(), order.end(), 0);
      std::ranges::sort(order, std::greater(), movement);
      const std::set<std::int64_t> wanted(order.begin(), order.begin() + 16);  // 0.2 of 80
      std::set<std::int64_t> found;
      for (std::int64_t j = 0; j < kHidden; ++j) {
        if ((plan[block * kWords + j / 32] >> (j % 32) & 1) != 0) found.insert(j);
      }
      EXPECT_EQ(found, wanted) << step;
      // The next movement counts from the values that were computed again.
      for (const std::int64_t j : wanted) {
        for (const std::int64_t row : {j, kHidden + j}) {
          kept[block * 2 * kHidden + row] = now[block * 2 * kHidden + row];
        }
      }
    }
  }
}

TEST_F(SparseMlpPolicy, ColumnsAreKeptForTheConfiguredSteps) {
  SparsityConfig config = make_config();
  config.mlp.block_mask_cache = 2;
  ColumnSparsePolicy policy = make_policy(config);
  std::vector<std::vector<std::int32_t>> plans;
  for (int step = 0; step < 7; ++step) {
    run(policy, input_at(step), step);
    plans.push_back(kept_bits(policy, "mlp_plan"));
  }
  EXPECT_TRUE(plans[0].empty());  // full steps choose none
  EXPECT_FALSE(plans[1].empty());
  EXPECT_EQ(plans[2], plans[1]);
  EXPECT_NE(plans[3], plans[2]);
  EXPECT_EQ(plans[4], plans[3]);
  EXPECT_TRUE(plans[5].empty());
  EXPECT_NE(plans[6], plans[4]);
}

TEST_F(SparseMlpPolicy, TheSeedDecidesTheRandomColumns) {
  SparsityConfig config = make_config();
  config.mlp.random_keys = 0.1;
  const auto run_with = [&](std::uint64_t seed) {
    ColumnSparsePolicy policy = make_policy(config, seed);
    return run_steps(policy, 3);
  };
  EXPECT_EQ(run_with(1), run_with(1));
  EXPECT_NE(run_with(1), run_with(2));
  EXPECT_NE(plan_seed(1, PlanKind::kMlp, kMlpSite), plan_seed(1, PlanKind::kAttention, kMlpSite));
}

TEST_F(SparseMlpPolicy, BranchesAreIndependentAndMayBeginLate) {
  constexpr Site kNullSite{Branch::kNull, 3};
  ColumnSparsePolicy both = make_policy(make_config());
  ColumnSparsePolicy alone = make_policy(make_config());
  for (int step = 0; step < 5; ++step) {
    const std::vector<float> with_null = run(both, input_at(step), step);
    if (step == 2) {
      EXPECT_LE(error(run(both, input_at(50), step, kNullSite), dense(input_at(50))), 1e-6);
    }
    if (step > 2) run(both, input_at(50 + step), step, kNullSite);
    EXPECT_EQ(with_null, run(alone, input_at(step), step)) << step;
  }
}

// After any step; columns are chosen at steps 1, 4 and 6.
TEST_F(SparseMlpPolicy, ResumesFromSavedState) {
  SparsityConfig config = make_config();
  config.mlp.block_mask_cache = 3;
  config.mlp.random_keys = 0.1;
  for (int cut = 1; cut < 8; ++cut) {
    ColumnSparsePolicy whole = make_policy(config, 5);
    run_steps(whole, cut);
    ColumnSparsePolicy resumed = make_policy(config, 5);
    std::vector<StateTensor> saved = whole.save(*backend_);
    std::ranges::reverse(saved);  // in whatever order
    resumed.restore(*backend_, saved);
    for (int step = cut; step < 8; ++step) {
      const Tensor x = input_at(step);
      EXPECT_EQ(run(resumed, x, step), run(whole, x, step)) << cut << " " << step;
    }
  }
}

TEST_F(SparseMlpPolicy, RefusesStateThatDoesNotFit) {
  ColumnSparsePolicy policy = make_policy(make_config());
  run_steps(policy, 2);
  const auto message = [&](const std::string& part, const std::string& name, Tensor tensor) {
    std::vector<StateTensor> saved = policy.save(*backend_);
    *std::ranges::find(saved, "cond.3.mlp_" + part, &StateTensor::name) = {"cond.3.mlp_" + name,
                                                                           std::move(tensor)};
    try {
      make_policy(make_config()).restore(*backend_, saved);
    } catch (const Error& failure) {
      return std::string(failure.what());
    }
    return std::string("accepted");
  };
  const auto floats = [](const Shape& shape) {
    Tensor tensor(DType::kF32, shape);
    std::ranges::fill(tensor.view().f32(), 0.0F);
    return tensor;
  };
  const std::string tensor = "cached tensor 'cond.3.mlp_";
  EXPECT_EQ(message("out", "outs", floats({300, 24})), tensor + "outs': is not known");
  EXPECT_EQ(message("out", "out", floats({299, 24})),
            tensor + "out': wanted F32 [300, 24], found F32 [299, 24]");
  EXPECT_EQ(message("means", "means", floats({300, 160})),
            tensor + "means': wanted F32 [3, 160], found F32 [300, 160]");
  EXPECT_EQ(message("chosen_at", "chosen_at", floats({1})),
            tensor + "chosen_at': wanted I32 [1], found F32 [1]");
  EXPECT_EQ(message("plan", "plan", floats({1, 3, 3})),
            tensor + "plan': wanted I32 [1, 3, 3], found F32 [1, 3, 3]");
  EXPECT_EQ(message("activations", "out", floats({300, 24})), "accepted");  // computed again
}

}  // namespace
}  // namespace mochi
